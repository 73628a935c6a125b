//! Payments of which one peer does not do its part, or whose payer leaves.

use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bitcoin::Txid;

use crate::harness::World;
use crate::harness::daemon::{Daemon, Options, several_at_once};
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{raw, wait};

pub(super) fn offline(world: &World<'_>) -> Result<()> {
    salvage(world, |peer| {
        peer.kill();
        Ok(())
    })
}

/// A peer that stands still costs the payer no more than the time it has to accept.
pub(super) fn frozen(world: &World<'_>) -> Result<()> {
    salvage(world, Daemon::freeze)
}

/// One of three peers does not take its channel: the other two open theirs.
fn salvage(world: &World<'_>, strike: fn(&Daemon) -> Result<()>) -> Result<()> {
    let options = Options { lightning: "accept_seconds = 3".to_owned(), ..Options::default() };
    let node = world.daemon_with("node", options)?;
    let peers = [world.daemon("peer-a")?, world.daemon("peer-b")?, world.daemon("peer-c")?];
    world.give(&node, &[300_000])?;
    let mut intents = Vec::new();
    for peer in &peers {
        intents.push(node.queue(peer, "200000", &[])?);
    }
    let invoice = world.receive(&node, Some(700_000))?;
    strike(&peers[1])?;
    let begun = Instant::now();
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let payjoin = payment.exchange(&world.tls)?;
    ensure!(begun.elapsed() < Duration::from_secs(8), "the payer waited {:?}", begun.elapsed());
    let txid = world.broadcast(&payjoin)?;
    let failed = node.await_intent(intents[1], "queued")?;
    ensure!(!failed.text("reason")?.is_empty(), "left out without a reason: {failed}");
    usable(world, &node, &peers, &intents, txid)?;
    // For the look at the books.
    if peers[1].is_running() { peers[1].thaw() } else { Ok(()) }
}

/// Of two peers with slots to spare one stands still when it should sign. The other one comes back with a new channel; a
/// third, of whom nobody knows how many channels it takes, is asked to sign once, and last.
pub(super) fn at_funding(world: &World<'_>) -> Result<()> {
    let peers = [world.daemon("slow")?, world.daemon("still")?, world.daemon("scarce")?];
    let spare = several_at_once(&[&peers[0], &peers[1]]);
    let lightning = format!("accept_seconds = 20\nsign_seconds = 2\n{spare}");
    let options = Options { lightning, policy: "channel_seconds = 40", ..Options::default() };
    let node = world.daemon_with("node", options)?;
    world.give(&node, &[300_000])?;
    let mut intents = Vec::new();
    for peer in &peers {
        intents.push(node.queue(peer, "200000", &[])?);
    }
    node.await_peers(3)?;
    let payment =
        Payment::new(world.payer(), &world.receive(&node, Some(700_000))?.uri, Substitution::Allowed)?;
    let reply = still_at_funding(&node, &peers, &payment)?;
    let txid = world.broadcast(&payment.signed(&reply)?)?;

    let failed = node.await_intent(intents[1], "queued")?;
    ensure!(failed.text("reason")?.contains("in time"), "left out without the reason: {failed}");
    let openings = peers.each_ref().map(|peer| node.steps_with("open_channel", peer));
    ensure!(openings == [2, 1, 1], "asked for so many channels: {openings:?}");
    let given = node.steps_with("funding_created", &peers[2]);
    ensure!(given == 1, "the scarce one was given {given} transactions");
    peers[1].thaw()?;
    usable(world, &node, &peers, &intents, txid)?;
    wait::until("nobody keeps what nobody pays for", Duration::from_secs(20), || {
        Ok((peers[0].channels()? == 1 && peers[1].channels()? == 0).then_some(()))
    })
}

/// Gives the proposal. The first peer holds the others up until the second has accepted, and then that one stands still.
fn still_at_funding(node: &Daemon, peers: &[Rc<Daemon>; 3], payment: &Payment<'_>) -> Result<String> {
    let (address, request) = (node.plain, payment.request()?);
    peers[0].freeze()?;
    let reply = thread::spawn(move || raw::send_and_stay(address, &request));
    for peer in &peers[1..] {
        wait::until(&format!("{} accepts", peer.name), Duration::from_secs(20), || {
            Ok((node.steps_with("accept_channel", peer) > 0).then_some(()))
        })?;
    }
    peers[1].freeze()?;
    peers[0].thaw()?;
    let reply = reply.join().ok().context("the payer panicked")??;
    ensure!(reply.status() == Some(200), "not served: {}", reply.text());
    Ok(reply.body())
}

/// The first and the last channel are in this transaction, and can be used.
fn usable(
    world: &World<'_>,
    node: &Daemon,
    peers: &[Rc<Daemon>; 3],
    intents: &[u64],
    txid: Txid,
) -> Result<()> {
    world.chain.mine(6)?;
    for at in [0, 2] {
        let funding = node.funding(intents[at])?;
        ensure!(funding.txid == txid, "channel {at} is not in {txid}");
        node.await_channel(funding)?;
        peers[at].await_channel(funding)?;
    }
    Ok(())
}

/// No peer is asked to sign a channel for a payer who has left: of the proposal he never hears, and LND would keep the channel
/// for two weeks.
pub(super) fn payer_hangs_up(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    node.await_peers(1)?;
    let payment =
        Payment::new(world.payer(), &world.receive(&node, Some(600_000))?.uri, Substitution::Allowed)?;
    peer.freeze()?;
    let connection = raw::begin(node.plain, &payment.request()?)?;
    node.step("open_channel")?;
    drop(connection);
    peer.thaw()?;
    let back = node.await_intent(intent, "queued")?;
    ensure!(back.text("reason")?.contains("does not wait"), "queued again without the reason: {back}");
    ensure!(node.steps_with("funding_created", &peer) == 0, "the peer was asked to sign");
    let exchange = node.exchange()?;
    ensure!(exchange.text("state")? == "released", "he may come back for a plain payjoin: {exchange}");
    ensure!(node.channels()? + peer.channels()? == 0, "a channel that nobody pays for");

    // He does. The channel waits for the next payment.
    let txid = world.broadcast(&payment.exchange(&world.tls)?)?;
    ensure!(node.payjoin()? == txid, "another payjoin than the one that he missed");
    world.settle()?;
    let txid = world.pay(&world.receive(&node, None)?)?;
    node.await_intent(intent, "released")?;
    ensure!(node.funding(intent)?.txid == txid, "no channel in {txid}");
    world.settle()
}
