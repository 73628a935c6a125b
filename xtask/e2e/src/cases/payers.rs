//! Payers that were written elsewhere, and payments that only some of them make.

use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};
use bitcoin::{Address, Amount, Script, ScriptBuf, Transaction};
use serde_json::json;

use super::Case;
use super::directory::{expect_channel, reachable};
use crate::harness::daemon::Daemon;
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Invoice, Need, World};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "payer-js-fresh",
        about: "a strict payer in JavaScript, and a node with one deposit",
        run: js_fresh,
    },
    Case {
        name: "payer-js-contribution",
        about: "the same payer offers to pay for our input",
        run: js_contribution,
    },
    Case { name: "payer-python", about: "a payer in Python with the payjoin crate of 2023", run: python },
    Case { name: "payer-cli-old", about: "payjoin-cli 0.2, the reference sender of 2025", run: cli_old },
    Case {
        name: "payer-unconfirmed",
        about: "the payer's coin is not confirmed: he reads so, nothing is locked, and once it is, a channel opens",
        run: unconfirmed,
    },
    Case { name: "plain-own-type", about: "of coins of both types, the payer's own", run: plain_own_type },
    Case {
        name: "beside-directory-v1",
        about: "a payer who knows only BIP 78 pays through the directory: our coins pay for a channel beside it",
        run: beside_directory_v1,
    },
    Case {
        name: "v2-too-long",
        about: "three channels would make the reply longer than a mailbox holds: fewer open",
        run: v2_too_long,
    },
    Case {
        name: "unified-code",
        about: "a code with a Lightning invoice is paid once: over Lightning, and then no payjoin; on chain, and then not",
        run: unified_code,
    },
    Case {
        name: "absorb",
        about: "a channel takes payment and coin whole: nothing comes back, and amounts split nothing",
        run: absorb,
    },
];

/// A fresh node, one deposit, and a payer who takes inputs of his own type alone.
fn js_fresh(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let paid = world.pay_by(Need::Js, &world.receive(&node, None)?, &[])?;
    expect_channel(world, &node, &peer, intent, paid.payjoin.compute_txid())
}

/// payjoin-client counts a contribution by whole rates and the size of its own inputs.
fn js_contribution(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000, 310_000])?;
    let intent = node.queue(&peer, "400000", &[])?;
    let invoice = world.receive(&node, None)?;
    let paid = world.pay_by(Need::Js, &invoice, &["offer"])?;
    let taken = taken(&paid.original, &paid.payjoin, &script(&invoice)?)?;
    ensure!(taken > Amount::ZERO, "nothing was taken of what the payer offered");
    expect_channel(world, &node, &peer, intent, paid.payjoin.compute_txid())
}

/// The payjoin crate of 2023 behind its Python bindings.
fn python(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let paid = world.pay_by(Need::Python, &world.receive(&node, None)?, &[])?;
    expect_channel(world, &node, &peer, intent, paid.payjoin.compute_txid())
}

/// payjoin-cli 0.2, by BIP 78 alone: for BIP 77 it takes no directory without TLS.
fn cli_old(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let txid = world.pay_old(&world.receive(&node, None)?)?;
    expect_channel(world, &node, &peer, intent, txid)
}

/// What the outputs that are not ours lost.
fn taken(original: &Transaction, payjoin: &Transaction, ours: &ScriptBuf) -> Result<Amount> {
    let mut taken = Amount::ZERO;
    for before in original.output.iter().filter(|output| output.script_pubkey != *ours) {
        let mut after = payjoin.output.iter().filter(|after| after.script_pubkey == before.script_pubkey);
        let after = after.next().context("an output of the payer is gone")?;
        taken += before.value.checked_sub(after.value).context("an output of the payer grew")?;
    }
    Ok(taken)
}

/// Of coins of both types a plain payjoin takes one of the payer's own.
fn plain_own_type(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[100_000, 110_000, 120_000, 130_000])?;
    world.give(&node, &[150_000, 400_000])?;
    for _ in 0..3 {
        let foreign = coins(&node, world, Script::is_p2tr)?;
        ensure!(foreign > 0, "the stock has no coin of another type: this shows nothing");
        let txid = world.pay(&world.receive(&node, Some(200_000))?)?;
        let payjoin = world.chain.transaction(txid)?;
        let spent = payjoin.input.iter().map(|input| world.chain.output(input.previous_output));
        let spent = spent.collect::<Result<Vec<_>>>()?;
        ensure!(spent.len() > 1, "no input of ours: it is no payjoin");
        let own = spent.iter().all(|spent| spent.script_pubkey.is_p2wpkh());
        ensure!(own, "an input of another type than the payer's: {payjoin:?}");
        world.mine(1)?;
    }
    Ok(())
}

/// How many coins of this type the wallet has.
fn coins(node: &Daemon, world: &World<'_>, is: impl Fn(&Script) -> bool) -> Result<usize> {
    let told = node.call(&["wallet", "coins"])?;
    let mut found = 0;
    for coin in told.list("coins")? {
        found += usize::from(is(&world.chain.output(coin.outpoint("outpoint")?)?.script_pubkey));
    }
    Ok(found)
}

/// A v1 payer behind a directory: our coins pay for a channel beside the payment. One who is refused reads why.
fn beside_directory_v1(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let (node, peer) = (reachable(world, &[relay.url()], &[directory.url()])?, world.daemon("peer")?);
    world.give(&node, &[700_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let txid = world.pay(&invoice)?;
    let payjoin = world.chain.transaction(txid)?;
    let script = script(&invoice)?;
    let kept =
        payjoin.output.iter().any(|output| output.script_pubkey == script && output.value >= invoice.amount);
    ensure!(kept, "the payment output was changed: {payjoin:?}");
    expect_channel(world, &node, &peer, intent, txid)?;

    let invoice = world.receive(&node, Some(600_000))?;
    let payer = world.payer();
    payer.call("sendall", json!([[payer.address("bech32")?]]))?;
    let payment = Payment::new(payer, &invoice.uri, Substitution::Allowed)?;
    let asked = Instant::now();
    let refusal = payment.exchange(&world.tls).err().context("an unconfirmed coin was accepted")?.to_string();
    ensure!(refusal.contains("rejected the original PSBT"), "{refusal}");
    ensure!(asked.elapsed() < V1_PATIENCE / 2, "the payer waited {:?}", asked.elapsed());
    Ok(())
}

/// How long a directory lets a payer wait who speaks BIP 78 only. BIP 77, "Backwards compatibility".
const V1_PATIENCE: Duration = Duration::from_secs(30);

/// The more channels, the more coins of ours, and the longer the reply: they are left out until it fits.
fn v2_too_long(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let node = reachable(world, &[relay.url()], &[directory.url()])?;
    world.give(&node, &[45_000; 15])?;
    // The coin that pays comes out of a large transaction, which the reply must carry.
    let payer = world.payer();
    let mut outputs = vec![(payer.address("bech32")?, Amount::from_sat(6_000_000))];
    for _ in 0..150 {
        outputs.push((payer.address("bech32")?, Amount::from_sat(2_000)));
    }
    world.fund(&outputs)?;
    let coins = payer.call("listunspent", json!([]))?;
    let others = coins.as_array().context("no coins")?.iter().filter(|coin| coin["amount"] != json!(0.06));
    let others: Vec<_> = others.map(|coin| json!({ "txid": coin["txid"], "vout": coin["vout"] })).collect();
    payer.call("lockunspent", json!([false, others]))?;

    let peers = [world.daemon("peer-a")?, world.daemon("peer-b")?, world.daemon("peer-c")?];
    let intents = peers.each_ref().map(|peer| node.queue(peer, "380000", &[]));
    let txid = world.finish(world.begin(&world.receive_by(&node, Some(290_000), &["--top-up"])?, &relay)?)?;
    let mut opened = 0;
    for (intent, peer) in intents.into_iter().zip(&peers) {
        let intent = intent?;
        if node.intent(intent)?.text("state")? == "queued" {
            continue;
        }
        expect_channel(world, &node, peer, intent, txid)?;
        opened += 1;
    }
    ensure!((1..3).contains(&opened), "{opened} of three channels opened: this shows nothing");
    Ok(())
}

/// A payer whose coin is not confirmed reads so, pays plainly or waits, and nothing is locked for him.
fn unconfirmed(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payer = world.payer();
    let all = payer.call("getbalance", json!([]))?;
    payer.call("sendall", json!([[payer.address("bech32")?]]))?;
    let payment = Payment::new(payer, &invoice.uri, Substitution::Allowed)?;
    let refusal = payment.exchange(&world.tls).err().context("an unconfirmed coin was accepted")?.to_string();
    ensure!(refusal.contains("original-psbt-rejected") && refusal.contains("not confirmed"), "{refusal}");
    ensure!(node.call(&["exchange", "list"])?.list("exchanges")?.is_empty(), "an exchange, {all} in all");
    node.expect_queued(intent)?;
    world.mine(1)?;
    let txid = world.broadcast(&payment.exchange(&world.tls)?)?;
    expect_channel(world, &node, &peer, intent, txid)
}

/// Paid over Lightning, then on chain; on chain, then over Lightning.
fn unified_code(world: &World<'_>) -> Result<()> {
    unified(world, &*world.daemon("node")?)
}

/// The same whatever node is behind the daemon.
pub(super) fn unified(world: &World<'_>, node: &Daemon) -> Result<()> {
    let peer = world.daemon("peer")?;
    world.give(node, &[300_000, 310_000])?;
    let told = node.refusal(&["receive", "--lightning", "--amount", "50000"])?;
    ensure!(told.contains("can receive 0 sat"), "not the reason that was expected: {told}");
    let intent = node.queue(&peer, "500000", &["--push", "200000"])?;
    let txid = world.pay(&world.receive(node, None)?)?;
    expect_channel(world, node, &peer, intent, txid)?;

    let ask = || {
        let code = world.receive_by(node, Some(50_000), &["--lightning"])?;
        let (_, bolt11) = code.uri.split_once("&lightning=").context("no invoice in the code")?;
        Ok::<_, Error>((Payment::new(world.payer(), &code.uri, Substitution::Allowed)?, bolt11.to_owned()))
    };
    let (payment, bolt11) = ask()?;
    peer.call(&["pay", &bolt11])?;
    node.step("paid over Lightning")?;
    let told = payment.exchange(&world.tls).err().context("paid twice")?.to_string();
    ensure!(told.contains("unavailable") && told.contains("has been paid"), "{told}");
    ensure!(node.call(&["exchange", "list"])?.list("exchanges")?.len() == 1, "an Original was kept");

    let (payment, bolt11) = ask()?;
    let payjoin = payment.exchange(&world.tls)?;
    let told = peer.refusal(&["pay", &bolt11])?;
    ensure!(told.contains("the payment failed"), "not the reason that was expected: {told}");
    world.broadcast(&payjoin)?;
    Ok(())
}

/// Payer's change and channel are all that comes out.
fn absorb(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let (node, peer) = (reachable(world, &[relay.url()], &[directory.url()])?, world.daemon("peer")?);
    // The smaller coin is shown, the other one is for the reserve.
    world.give(&node, &[100_000])?;
    let told = node.refusal(&["channel", "queue", &peer.peer, "500000", "--absorb"])?;
    ensure!(told.contains("--absorb goes with `rest`"), "not the reason that was expected: {told}");
    let intent = node.queue(&peer, "rest", &["--absorb"])?;
    ensure!(node.intent(intent)?["amount"] == "absorb", "it was queued as something else");
    let invoice = world.receive_by(&node, Some(400_000), &["--top-up"])?;
    let txid = world.finish(world.begin(&invoice, &relay)?)?;
    let payjoin = world.chain.transaction(txid)?;
    let channel = payjoin.output.iter().find(|output| output.script_pubkey.is_p2wsh());
    let channel = channel.context("no channel in the payjoin")?;
    ensure!(payjoin.output.len() == 2, "something comes back: {payjoin:?}");
    ensure!((490_000..500_000).contains(&channel.value.to_sat()), "the channel holds {}", channel.value);
    let exchange = node.exchange()?;
    ensure!(exchange.number("partitions")? == 0, "the amounts give it away: {exchange}");
    expect_channel(world, &node, &peer, intent, txid)
}

fn script(invoice: &Invoice) -> Result<ScriptBuf> {
    Ok(invoice.address.parse::<Address<_>>()?.assume_checked().script_pubkey())
}
