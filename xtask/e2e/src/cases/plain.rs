//! Payments that stay on chain.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Address, Amount, OutPoint, Txid};
use serde_json::Value;

use crate::harness::World;
use crate::harness::daemon::Daemon;
use crate::harness::json::Fields;
use crate::harness::payer::{FEE_RATE, Payment, Substitution};
use crate::harness::wait;

pub(super) fn on_chain(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[300_000])?;
    let ours = only_coin(&node)?;
    let txid = world.pay(&world.receive(&node, Some(700_000))?)?;
    ensure!(node.payjoin()? == txid, "the payer broadcast another transaction than {txid}");
    expect_input(world, txid, ours)?;
    world.mine(1)?;
    let balance = node.call(&["wallet", "balance"])?.number("confirmed_sat")?;
    ensure!((999_000..=1_000_000).contains(&balance), "300,000 and 700,000 sat became {balance}");
    Ok(())
}

pub(super) fn ordinary(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    let invoice = world.receive(&node, Some(700_000))?;
    let paid = |sat| {
        Ok::<_, anyhow::Error>(
            world.payer().payment(&invoice.address, Amount::from_sat(sat), FEE_RATE)?.extract_tx()?,
        )
    };
    // In the mempool, in a block while we are away, and less than was asked for.
    let first = world.broadcast(&paid(700_000)?)?;
    await_plain(&node, first, |told| told["state"] == "plain")?;
    let told = node.step("plain payment")?;
    ensure!(told.text("invoice")? == invoice.id && told.number("amount_sat")? == 700_000, "{told}");
    node.kill();
    world.mine(1)?;
    let second = world.broadcast(&paid(300_000)?)?;
    world.mine(1)?;
    node.restart()?;
    world.settle()?;
    await_plain(&node, first, |told| told["settled"] == "plain" && told["reason"].is_null())?;
    let told = await_plain(&node, second, |told| told["settled"] == "plain")?;
    ensure!(told.number("plain_sat")? == 300_000, "what did it pay? {told}");
    ensure!(
        told.text("reason")?.contains("asks for 700000 sat"),
        "nobody says that it is too little: {told}"
    );
    // A payjoin at the same code is one all the same.
    let payjoin = world.pay(&invoice)?;
    world.settle()?;
    let told = node.call(&["exchange", "list"])?;
    ensure!(told.list("exchanges")?.len() == 3, "not three payments: {told}");
    let newest = &told.list("exchanges")?[0];
    ensure!(newest["settled"] == "payjoin" && newest.txid("mined_txid")? == payjoin, "no payjoin: {newest}");
    Ok(())
}

/// The exchange of a payment without payjoin, once it is so.
fn await_plain(node: &Daemon, txid: Txid, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    let found = wait::until("the payment is told", Duration::from_secs(20), || {
        last = node.call(&["exchange", "list"])?;
        let exchanges = last.list("exchanges")?.iter();
        let mut ours = exchanges.filter(|told| told["original_txid"] == txid.to_string());
        Ok(ours.find(|told| is_so(told)).cloned())
    });
    found.with_context(|| format!("last seen: {last}"))
}

pub(super) fn empty_wallet(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let note = || Ok::<_, anyhow::Error>(node.call(&["receive"])?["note"].clone());
    ensure!(note()?.as_str().is_some_and(|note| note.contains("no confirmed coin")), "{}", note()?);
    let invoice = world.receive(&node, Some(600_000))?;
    let txid = world.pay(&invoice)?;
    ensure!(world.chain.transaction(txid)?.input.len() == 1, "an empty wallet added an input");
    expect_passed_over(&node, intent, "no free coin")?;
    world.mine(1)?;
    node.await_balance(invoice.amount)?;
    ensure!(note()?.is_null(), "the wallet has a coin now: {}", note()?);
    Ok(())
}

pub(super) fn substitution_off(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let ours = only_coin(&node)?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;

    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Forbidden)?;
    let payjoin = payment.exchange(&world.tls)?;
    let txid = world.broadcast(&payjoin)?;
    expect_input(world, txid, ours)?;
    let script = invoice.address.parse::<Address<_>>()?.assume_checked().script_pubkey();
    let kept = payjoin.output.iter().any(|o| o.script_pubkey == script && o.value >= invoice.amount);
    ensure!(kept, "the payment output was changed against the payer's word");
    expect_passed_over(&node, intent, "substitution")
}

pub(super) fn beside(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[700_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Forbidden)?;
    let payjoin = payment.exchange(&world.tls)?;
    let txid = world.broadcast(&payjoin)?;
    let script = invoice.address.parse::<Address<_>>()?.assume_checked().script_pubkey();
    let kept = payjoin.output.iter().any(|o| o.script_pubkey == script && o.value >= invoice.amount);
    ensure!(kept, "the payment output was changed against the payer's word");
    world.mine(6)?;
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the channel is not in {txid}");
    node.await_channel(funding)?;
    peer.await_channel(funding)?;
    Ok(())
}

pub(super) fn nested_segwit(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let ours = only_coin(&node)?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    // payjoin-cli cannot send from such a wallet.
    let payment = Payment::new(world.chain.known_wallet("nested"), &invoice.uri, Substitution::Allowed)?;
    let payjoin = payment.exchange(&world.tls)?;
    let mixed = payjoin.input.iter().any(|input| input.previous_output == ours);
    ensure!(!mixed, "an input of another type, which many such wallets refuse");
    world.broadcast(&payjoin)?;
    expect_passed_over(&node, intent, "native segwit")?;
    ensure!(node.channels()? == 0, "a channel stands on a transaction id that could change");
    world.mine(1)
}

/// The channel waits, and the operator is told why.
fn expect_passed_over(node: &Daemon, intent: u64, why: &str) -> Result<()> {
    node.expect_queued(intent)?;
    let exchange = node.exchange()?;
    ensure!(exchange.text("reason")?.contains(why), "not the reason that was expected: {exchange}");
    Ok(())
}

fn only_coin(node: &Daemon) -> Result<OutPoint> {
    let coins = node.call(&["wallet", "coins"])?;
    let coins = coins.list("coins")?;
    ensure!(coins.len() == 1, "expected one coin: {coins:?}");
    coins[0].outpoint("outpoint")
}

/// Our coin is among the inputs: this is a payjoin, not the plain payment.
fn expect_input(world: &World<'_>, txid: Txid, ours: OutPoint) -> Result<()> {
    let transaction = world.chain.transaction(txid)?;
    let found = transaction.input.iter().any(|input| input.previous_output == ours);
    ensure!(found, "{txid} does not spend our coin {ours}: it is no payjoin");
    Ok(())
}
