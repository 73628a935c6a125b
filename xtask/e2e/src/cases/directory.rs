//! Payments that come through a relay and a directory (BIP 77).

use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use bitcoin::{Address, Amount, TxOut};

use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::mailroom::Mailroom;
use crate::harness::{Invoice, World, wait};

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1";

pub(super) fn channel(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let (node, peer) = (reachable(world, &[relay.url()], &[directory.url()])?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, None)?;
    let txid = world.finish(world.begin(&invoice, &relay)?)?;
    expect_channel(world, &node, &peer, intent, txid)?;
    let session = node.call(&["session", "show", &invoice.id])?;
    ensure!(session.text("state")? == "answered", "the session is not over: {session}");
    Ok(())
}

pub(super) fn batch(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let node = reachable(world, &[relay.url()], &[directory.url()])?;
    let peers = [world.daemon("peer-a")?, world.daemon("peer-b")?, world.daemon("peer-c")?];
    let wishes = [(&peers[0], "200000"), (&peers[1], "300000"), (&peers[2], "250000")];
    let intents = wishes.map(|(peer, amount)| node.queue(peer, amount, &[]));
    let invoice = world.receive(&node, Some(1_000_000))?;
    let txid = world.finish(world.begin(&invoice, &relay)?)?;
    world.mine(6)?;
    for ((peer, _), intent) in wishes.into_iter().zip(intents) {
        let funding = node.funding(intent?)?;
        ensure!(funding.txid == txid, "one channel is not in {txid}");
        node.await_channel(funding)?;
        peer.await_channel(funding)?;
    }
    Ok(())
}

pub(super) fn on_chain(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let node = reachable(world, &[relay.url()], &[directory.url()])?;
    let txid = world.finish(world.begin(&world.receive(&node, Some(700_000))?, &relay)?)?;
    ensure!(node.payjoin()? == txid, "the payer broadcast another transaction than {txid}");
    ensure!(world.chain.transaction(txid)?.input.len() > 1, "no input of ours: it is no payjoin");
    Ok(())
}

pub(super) fn offline_receiver(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let (node, peer) = (reachable(world, &[relay.url()], &[directory.url()])?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, None)?;
    node.kill();
    let sending = world.begin(&invoice, &relay)?;
    sleep(Duration::from_secs(2));
    node.restart()?;
    let txid = world.finish(sending)?;
    expect_channel(world, &node, &peer, intent, txid)
}

pub(super) fn relay_down(world: &World<'_>) -> Result<()> {
    let ([relay, directory], peer) = (world.mailrooms()?, world.daemon("peer")?);
    let node = reachable(world, &[NOBODY, relay.url()], &[NOBODY, directory.url()])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let txid = world.finish(world.begin(&world.receive(&node, None)?, &relay)?)?;
    expect_channel(world, &node, &peer, intent, txid).context("one of each never was")?;

    let mut relays = [relay, world.mailroom("mailroom-c")?];
    let mut directories = [directory, world.mailroom("mailroom-d")?];
    for relay in &relays {
        directories.iter().try_for_each(|directory| relay.meet(directory))?;
    }
    let node = reachable_as(
        world,
        "other",
        &relays.each_ref().map(Mailroom::url),
        &directories.each_ref().map(Mailroom::url),
    )?;
    world.give(&node, &[300_000])?;
    let ask = || Ok::<_, Error>((node.queue(&peer, "200000", &[])?, topped_up(world, &node)?));

    let (intent, invoice) = ask()?;
    relays[0].stop();
    wait::until("the node misses the relay", Duration::from_secs(30), || {
        Ok(node.log()?.contains("a relay, or the directory behind it, does not answer").then_some(()))
    })?;
    let txid = world.finish(world.begin(&invoice, &relays[1])?)?;
    expect_channel(world, &node, &peer, intent, txid).context("a relay died under the session")?;

    let first = directories.iter_mut().find(|directory| directory.url() == invoice.endpoint);
    first.context("the code is at no directory of ours")?.stop();
    // It keeps the keys of a directory for half a minute, and does not ask for them again.
    node.kill();
    node.restart()?;
    let (intent, second) = ask()?;
    ensure!(second.endpoint != invoice.endpoint, "the code is at the directory that died");
    let txid = world.finish(world.begin(&second, &relays[1])?)?;
    expect_channel(world, &node, &peer, intent, txid).context("a directory died")
}

pub(super) fn falls_back(world: &World<'_>) -> Result<()> {
    let relay = world.mailroom("mailroom-a")?;
    let (node, peer) = (reachable(world, &[relay.url()], &[NOBODY])?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let told = node.refusal(&["receive", "--via", "directory"])?;
    ensure!(told.contains("no relay reached the directory"), "not the reason that was expected: {told}");
    let invoice = world.receive(&node, None)?;
    ensure!(invoice.endpoint.starts_with("https://"), "the code leads elsewhere: {}", invoice.endpoint);
    ensure!(node.call(&["session", "list"])?.list("sessions")?.is_empty(), "a session without a directory");
    let txid = world.pay(&invoice)?;
    expect_channel(world, &node, &peer, intent, txid)
}

/// A code for less than the channel.
fn topped_up(world: &World<'_>, node: &Daemon) -> Result<Invoice> {
    world.receive_by(node, Some(190_000), &["--top-up"])
}

pub(super) fn cancelled(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let node = reachable(world, &[relay.url()], &[directory.url()])?;
    let invoice = world.receive(&node, Some(100_000))?;
    let open = node.call(&["session", "list"])?;
    ensure!(open["sessions"][0].text("invoice")? == invoice.id, "the session is not open: {open}");
    node.call(&["session", "cancel", &invoice.id])?;
    await_session(&node, &invoice, "cancelled")
}

pub(super) fn resume(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let node = reachable(world, &[relay.url()], &[directory.url()])?;
    // A peer takes four channels of one node.
    let peers = [world.daemon("peer-a")?, world.daemon("peer-b")?, world.daemon("peer-c")?];
    // A coin for each payjoin. The payments are smaller than the channels, so that no change is the next one's coin.
    world.give(&node, &[300_000; 10])?;

    for (turn, step) in STEPS.into_iter().enumerate() {
        let peer = &peers[turn / 4];
        let intent = node.queue(peer, "200000", &[])?;
        let invoice = topped_up(world, &node)?;
        node.kill_at(step);
        let sending = world.begin(&invoice, &relay)?;
        node.await_death()?;
        node.restart()?;
        let txid = world.finish(sending)?;
        // The exchange began afresh or its proposal was found again; either way the intent has one channel.
        expect_channel(world, &node, peer, intent, txid).with_context(|| format!("killed at {step}"))?;
    }
    killed_between(world, &node, &peers[2], &relay)
}

/// The same at moments that are no step of a session.
fn killed_between(world: &World<'_>, node: &Daemon, peer: &Daemon, relay: &Mailroom) -> Result<()> {
    let ask = || Ok::<_, Error>((node.queue(peer, "200000", &[])?, topped_up(world, node)?));

    let (intent, invoice) = ask()?;
    node.kill();
    node.restart()?;
    let txid = world.finish(world.begin(&invoice, relay)?)?;
    expect_channel(world, node, peer, intent, txid).context("killed when the code was shown")?;

    let (intent, invoice) = ask()?;
    let sending = world.begin(&invoice, relay)?;
    await_session(node, &invoice, "answered")?;
    node.kill();
    let txid = world.finish(sending)?;
    node.restart()?;
    await_session(node, &invoice, "answered")?;
    expect_channel(world, node, peer, intent, txid).context("killed when the reply was posted")?;

    let (intent, invoice) = ask()?;
    let txid = world.finish(world.begin(&invoice, relay)?)?;
    node.kill_at("confirmed");
    world.chain.mine(1)?;
    node.await_death()?;
    node.restart()?;
    expect_channel(world, node, peer, intent, txid).context("killed at the confirmation")
}

/// Steps of a session, from the payer's message on until he has broadcast.
const STEPS: [&str; 7] = [
    "Original PSBT",
    "open_channel",
    "accept_channel",
    "funding_created",
    "funding_signed",
    "Proposal PSBT",
    "broadcast",
];

pub(super) fn v1_payer(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let node = reachable(world, &[relay.url()], &[directory.url()])?;
    let peer = world.daemon("peer")?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let txid = world.pay(&invoice)?;
    let payjoin = world.chain.transaction(txid)?;
    let script = invoice.address.parse::<Address<_>>()?.assume_checked().script_pubkey();
    ensure!(payjoin.input.len() > 1, "no input of ours: it is no payjoin");
    ensure!(payjoin.output.iter().any(|output| output.script_pubkey == script), "an output was substituted");
    node.expect_queued(intent)
}

/// Nobody pays; then payers do, and the node dies with their messages and comes back when it is too late to answer.
pub(super) fn expired(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let (node, peer) = (reachable(world, &[relay.url()], &[directory.url()])?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let unpaid = world.receive_by(&node, Some(600_000), &["--expires", "3s"])?;
    await_session(&node, &unpaid, "expired")?;
    let late = world.begin(&unpaid, &relay)?.gave_up()?;
    ensure!(late.contains("expired"), "not the reason that was expected: {late}");
    ensure!(world.chain.mempool()?.is_empty(), "somebody paid");
    node.expect_queued(intent)?;

    for step in ["Original PSBT", "open_channel"] {
        let invoice = world.receive_by(&node, Some(600_000), &["--expires", "6s"])?;
        node.kill_at(step);
        let sending = world.begin(&invoice, &relay)?;
        node.await_death()?;
        sending.gave_up()?;
        ensure!(world.chain.mempool()?.is_empty(), "killed at {step}: the payer paid by himself");
        node.restart()?;
        await_session(&node, &invoice, "expired")?;
        let mempool = world.chain.mempool()?;
        ensure!(mempool.len() == 1, "killed at {step}: not one transaction: {mempool:?}");
        let paid = world.chain.transaction(mempool[0])?;
        let script = invoice.address.parse::<Address<_>>()?.assume_checked().script_pubkey();
        let pays = |output: &TxOut| output.script_pubkey == script && output.value == invoice.amount;
        ensure!(paid.output.iter().any(pays), "killed at {step}: not the Original: {paid:?}");
        world.settle()?;
        node.expect_queued(intent)?;
    }
    ensure!(node.channels()? == 0, "a channel without a payment");
    node.await_balance(Amount::from_sat(1_500_000))
}

/// The directory dies and comes back: under a session that waits, under a payer who waits, and with a new key.
pub(super) fn restart(world: &World<'_>) -> Result<()> {
    let [relay, mut directory] = world.mailrooms()?;
    let (node, peer) = (reachable(world, &[relay.url()], &[directory.url()])?, world.daemon("peer")?);
    // A coin for each payjoin.
    world.give(&node, &[300_000; 2])?;
    let ask = || Ok::<_, Error>((node.queue(&peer, "200000", &[])?, topped_up(world, &node)?));

    let (intent, invoice) = ask()?;
    directory.stop();
    sleep(Duration::from_secs(2));
    directory.run()?;
    let txid = world.finish(world.begin(&invoice, &relay)?)?;
    expect_channel(world, &node, &peer, intent, txid).context("a session waited")?;

    let (intent, invoice) = ask()?;
    node.kill();
    let sending = world.begin(&invoice, &relay)?;
    sleep(Duration::from_secs(2));
    directory.stop();
    // payjoin-cli asks no relay again that failed once. It can be resumed.
    sending.gave_up()?;
    directory.run()?;
    node.restart()?;
    let txid = world.finish(world.resume(&relay)?)?;
    expect_channel(world, &node, &peer, intent, txid).context("a payer waited")?;

    let old = topped_up(world, &node)?;
    directory.stop();
    directory.forget_key()?;
    directory.run()?;
    wait::until("the node has the new key", Duration::from_secs(30), || {
        Ok(node.log()?.contains("the directory has a new OHTTP key: show a new code").then_some(()))
    })?;
    world.begin(&old, &relay)?.gave_up()?;
    let (intent, invoice) = ask()?;
    let txid = world.finish(world.begin(&invoice, &relay)?)?;
    expect_channel(world, &node, &peer, intent, txid).context("the key is new")
}

fn await_session(node: &Daemon, invoice: &Invoice, state: &str) -> Result<()> {
    wait::until(&format!("the session is {state}"), Duration::from_secs(20), || {
        let session = node.call(&["session", "show", &invoice.id])?;
        Ok((session.text("state")? == state).then_some(()))
    })
}

/// A node with a coin that payers reach through these.
pub(super) fn reachable(world: &World<'_>, relays: &[&str], directories: &[&str]) -> Result<Rc<Daemon>> {
    reachable_as(world, "node", relays, directories)
}

fn reachable_as(
    world: &World<'_>,
    name: &'static str,
    relays: &[&str],
    directories: &[&str],
) -> Result<Rc<Daemon>> {
    let payjoin = format!("ohttp_relays = {relays:?}\ndirectories = {directories:?}");
    let node = world.daemon_with(name, Options { payjoin, ..Options::default() })?;
    world.give(&node, &[300_000])?;
    Ok(node)
}

pub(super) fn expect_channel(
    world: &World<'_>,
    node: &Daemon,
    peer: &Daemon,
    intent: u64,
    txid: bitcoin::Txid,
) -> Result<()> {
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the payer broadcast {txid}, the channel waits for {}", funding.txid);
    world.mine(6)?;
    node.await_channel(funding)?;
    peer.await_channel(funding)?;
    node.await_intent(intent, "open")?;
    Ok(())
}
