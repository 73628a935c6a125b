//! How many channels a peer is asked to take, and when an intent is left in peace.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, Transaction};

use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Daemon, Fields, Options, World, wait};

pub(super) fn one_per_peer(world: &World<'_>) -> Result<()> {
    let peers = [world.daemon("peer-a")?, world.daemon("peer-b")?];
    let node = world.daemon("node")?;
    // One to add to each payment, and one for each channel that is open by then.
    world.give(&node, &[300_000; 4])?;
    // Asked for both at once it would accept both.
    let first = node.queue(&peers[0], "100000", &["--unchecked"])?;
    let second = node.queue(&peers[0], "150000", &["--unchecked"])?;
    let other = node.queue(&peers[1], "200000", &[])?;

    let invoice = world.receive(&node, None)?;
    let asked = Amount::from_sat(300_000)..Amount::from_sat(400_000);
    ensure!(asked.contains(&invoice.amount), "the code asks for {}", invoice.amount);
    let txid = world.pay(&invoice)?;
    for intent in [first, other] {
        node.await_intent(intent, "released")?;
        ensure!(node.funding(intent)?.txid == txid, "one channel is not in {txid}");
    }
    let waits = node.intent(second)?;
    ensure!(waits["state"] == "queued" && waits["reason"].is_null(), "it did not fail: {waits}");
    world.settle()?;
    let txid = world.pay(&world.receive(&node, None)?)?;
    node.await_intent(second, "released")?;
    ensure!(node.funding(second)?.txid == txid, "the next payment {txid} does not open the other one");
    several(world, &peers)
}

/// Two channels with one peer in one payment.
fn several(world: &World<'_>, peers: &[Rc<Daemon>; 2]) -> Result<()> {
    let both = |node: &Daemon, peer: &Daemon, flags: &[&str], why: &str| {
        world.give(node, &[300_000])?;
        let intents = [node.queue(peer, "100000", flags)?, node.queue(peer, "150000", flags)?];
        node.kill();
        node.restart()?;
        let txid = world.pay(&world.receive(node, None)?)?;
        for intent in intents {
            node.await_intent(intent, "released")?;
            ensure!(node.funding(intent)?.txid == txid, "one channel is not in {txid}: {why}");
        }
        world.settle()
    };
    let options = Options { lightning: peers[0].several_at_once(), ..Options::default() };
    let told = world.daemon_with("told", options)?;
    both(&told, &peers[0], &["--unchecked"], "the operator said that the peer takes both")?;
    both(
        &*world.daemon("asking")?,
        &peers[1],
        &[],
        "the peer accepted two side by side when they were queued",
    )
}

pub(super) fn preflight(world: &World<'_>) -> Result<()> {
    let wants = Options { lightning: "min_inbound = 400000".to_owned(), ..Options::default() };
    let (node, peer, strict) =
        (world.daemon("node")?, world.daemon("peer")?, world.daemon_with("strict", wants)?);
    let queue = |peer: &Daemon, flags: &[&str]| {
        node.call(&[&["channel", "queue", &peer.peer, "300000"], flags].concat())
    };
    let queued = queue(&peer, &[])?;
    let terms = &queued["terms"];
    ensure!(terms.sat("reserve_sat")? > Amount::ZERO, "no reserve: {queued}");
    ensure!(terms.number("confirmations")? == 3 && terms.number("delay")? > 0, "which terms? {queued}");
    ensure!(peer.channels()? == 0, "the peer keeps what nobody pays for");

    let refused = node.refusal(&["channel", "queue", &strict.peer, "300000"])?;
    ensure!(refused.contains("does not want this channel"), "it is not told why: {refused}");
    ensure!(refused.contains("--unchecked"), "nor what to do: {refused}");
    strict.kill();
    let away = node.refusal(&["channel", "queue", &strict.peer, "300000"])?;
    ensure!(away.contains("no connection"), "the peer is away: {away}");
    ensure!(queue(&strict, &["--unchecked"])?["terms"].is_null(), "terms of a peer that nobody asked");
    let intents = node.call(&["channel", "list"])?;
    ensure!(intents.list("intents")?.len() == 2, "what was refused is queued: {intents}");
    Ok(())
}

pub(super) fn queue_pause(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "200000", &[])?;
    node.await_peers(1)?;
    peer.kill();
    node.await_peers(0)?;
    for count in 1..=3 {
        let before = node.intent(intent)?;
        ensure!(before["waits"].is_null(), "given up after {} failures: {before}", count - 1);
        world.pay(&world.receive(&node, Some(250_000))?)?;
        world.settle()?;
        node.expect_queued(intent)?;
    }
    let paused = node.intent(intent)?;
    ensure!(paused.text("waits")?.contains("failed too often"), "not paused: {paused}");
    ensure!(!paused.text("reason")?.is_empty(), "no reason: {paused}");
    let code = node.call(&["receive"])?;
    ensure!(code["amount_sat"].is_null(), "the code asks for a channel that is paused: {code}");
    ensure!(code.text("note")?.contains("failed too often"), "the code does not say why: {code}");
    node.kill();
    node.restart()?;
    ensure!(node.intent(intent)?["waits"] == paused["waits"], "a restart ends the pause");

    peer.restart()?;
    node.await_peers(1)?;
    wait::until("the pause ends", Duration::from_secs(20), || {
        Ok(node.intent(intent)?["waits"].is_null().then_some(()))
    })?;
    let txid = world.pay(&world.receive(&node, None)?)?;
    node.await_intent(intent, "released")?;
    ensure!(node.funding(intent)?.txid == txid, "no channel in {txid}");
    world.settle()
}

/// An LDK peer holds four channels whose funding nobody has seen.
const ROOM: usize = 4;

pub(super) fn account(world: &World<'_>) -> Result<()> {
    let room = Options { lightning: "inbound_per_peer = 20".to_owned(), ..Options::default() };
    let (node, peer) = (world.daemon("node")?, world.daemon_with("peer", room)?);
    // One to add to each payment, and one for each channel that is open by then.
    world.give(&node, &[200_000; 2 * ROOM + 4])?;
    let payer = world.payer();
    let coins = (0..ROOM + 4).map(|_| Ok((payer.address("bech32")?, Amount::from_sat(400_000))));
    world.fund(&coins.collect::<Result<Vec<_>>>()?)?;

    let mut payjoins = Vec::new();
    for number in 1..=ROOM {
        let intent = node.queue(&peer, "100000", &[])?;
        payjoins.push(proposal(world, &node)?);
        node.await_intent(intent, "released").with_context(|| format!("channel {number}"))?;
    }
    let queued = node.call(&["channel", "queue", &peer.peer, "100000"])?;
    ensure!(queued.text("note")?.contains("takes no further channel"), "the refusal is not read: {queued}");
    let intent = queued.number("intent")?;
    payjoins.push(proposal(world, &node)?);
    let full = node.intent(intent)?;
    ensure!(full["state"] == "queued" && full["reason"].is_null(), "a fifth channel: {full}");
    stays_full(world, &node, intent)?;

    let txid = world.broadcast(&payjoins[0])?;
    world.mine(6)?;
    wait::until("a slot is free", Duration::from_secs(20), || {
        Ok(node.intent(intent)?["waits"].is_null().then_some(()))
    })
    .with_context(|| format!("{txid} is buried"))?;
    let payjoin = proposal(world, &node)?;
    node.await_intent(intent, "released")?;
    for payjoin in payjoins[1..].iter().chain([&payjoin]) {
        world.broadcast(payjoin)?;
    }
    world.settle()
}

/// The peer is known to be full, also after kill -9.
fn stays_full(world: &World<'_>, node: &Daemon, intent: u64) -> Result<()> {
    let height = world.chain.height()? + 2016;
    let is_known = |node: &Daemon| {
        let full = node.intent(intent)?;
        ensure!(full.text("waits")?.contains(&format!("block {height}")), "until when? {full}");
        let code = node.call(&["receive"])?;
        ensure!(code["amount_sat"].is_null(), "the code asks for a channel that nobody takes: {code}");
        Ok(())
    };
    is_known(node)?;
    node.kill();
    node.restart()?;
    is_known(node).context("after kill -9")
}

/// A payer gets a proposal and signs it. Nobody broadcasts it yet.
fn proposal(world: &World<'_>, node: &Daemon) -> Result<Transaction> {
    let invoice = world.receive(node, Some(150_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    world.payer().lock(&payment.original()?)?;
    payment.exchange(&world.tls)
}
