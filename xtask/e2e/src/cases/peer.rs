//! Channels with nodes of other projects.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bitcoin::{Amount, OutPoint};

use super::Case;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Daemon, Fields, Foreign, Options, World, wait};

/// The cases.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "peer-lnd-channel",
        about: "channels with LND: push, private, payments both ways, closed and forced by each side",
        run: lnd_channel,
    },
    Case {
        name: "peer-lnd-restart-pending",
        about: "we restart while a channel with LND waits for its confirmations: it becomes usable all the same",
        run: lnd_restart_pending,
    },
    Case {
        name: "peer-cln-channel",
        about: "channels with Core Lightning: push, private, payments both ways, closed and forced by each side",
        run: cln_channel,
    },
    Case {
        name: "peer-cln-older",
        about: "an older copy of the database asks Core Lightning to close, and what is ours comes back",
        run: super::older::cln,
    },
    Case { name: "peer-lnd-two", about: "two channels queued to one LND", run: lnd_two },
    Case { name: "peer-lnd-ghost", about: "a payer never signs, LND keeps it", run: lnd_ghost },
    Case { name: "peer-cln-two", about: "two channels queued to one CLN", run: cln_two },
    Case {
        name: "peer-mixed",
        about: "one payment opens channels with LDK, Core Lightning and LND",
        run: mixed,
    },
];

/// What is asked for, and what of it is the peer's from the start.
const CHANNEL: u64 = 300_000;
const PUSH: u64 = 50_000;

/// What a place in a block costs, in sat/vB.
const CLOSING_RATE: u64 = 4;

/// Paid over each channel, there and half of it back.
const PAYMENT: Amount = Amount::from_sat(20_000);

fn lnd_channel(world: &World<'_>) -> Result<()> {
    // Without estimates LND asks for a closing fee of 25 sat/vB, which LDK does not pay.
    world.chain.learn_fees(CLOSING_RATE)?;
    channel(world, &*world.lnd("lnd", &[])?)
}

/// LND says nothing of a pending channel when it is connected to again: one more connection makes the channel usable.
fn lnd_restart_pending(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.lnd("lnd", &[])?);
    world.give(&node, &[200_000; 2])?;
    let funding = fund(world, &node, &*peer, &[])?;
    node.kill();
    node.restart()?;
    node.await_peers(1)?;
    world.mine(6)?;
    peer.await_channel(funding)?;
    node.await_channel(funding)?;
    ensure!(node.log()?.contains("connecting to its peer anew"), "it was usable at once: this shows nothing");
    pay_both_ways(&node, &*peer, funding)
}

fn cln_channel(world: &World<'_>) -> Result<()> {
    channel(world, &*world.cln("cln", &[])?)
}

/// One channel after another, each closed in another way.
fn channel(world: &World<'_>, peer: &dyn Foreign) -> Result<()> {
    let node = world.daemon("node")?;
    // Coins to add, also where an earlier one waits, and some to pay for closing.
    world.give(&node, &[200_000; 6])?;
    peer.give(&world.chain, Amount::from_sat(100_000))?;
    let push = PUSH.to_string();

    let public = open(world, &node, peer, &[])?;
    pay_both_ways(&node, peer, public)?;
    peer.kill();
    peer.run(&world.chain)?;
    peer.connect(&node.peer)?;
    pay_both_ways(&node, peer, public)?;
    node.close(public, false)?;
    world.closed(public, &[&node])?;

    let pushed = open(world, &node, peer, &["--push", &push, "--private"])?;
    ensure!(peer.await_channel(pushed)?.private, "the channel was announced");
    pay_both_ways(&node, peer, pushed)?;
    peer.close(pushed, false)?;
    world.closed(pushed, &[&node])?;

    for force in [force_by_us as Force, force_by_peer] {
        let funding = open(world, &node, peer, &["--push", &push])?;
        pay_both_ways(&node, peer, funding)?;
        world.forced(funding, &node, || force(&node, peer, funding))?;
    }
    Ok(())
}

type Force = fn(&Daemon, &dyn Foreign, OutPoint) -> Result<()>;

fn force_by_us(node: &Daemon, _: &dyn Foreign, funding: OutPoint) -> Result<()> {
    node.close(funding, true)
}

/// Core Lightning forces only while nobody answers.
fn force_by_peer(node: &Daemon, peer: &dyn Foreign, funding: OutPoint) -> Result<()> {
    node.freeze()?;
    let closed = peer.close(funding, true);
    node.thaw()?;
    closed
}

/// A payjoin that funds a channel to the peer is broadcast.
fn fund(world: &World<'_>, node: &Daemon, peer: &dyn Foreign, flags: &[&str]) -> Result<OutPoint> {
    let intent = node.queue_to(&peer.peer()?, &CHANNEL.to_string(), flags)?;
    let txid = world.pay(&world.receive(node, None)?)?;
    node.await_intent(intent, "released")?;
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the payer broadcast {txid}, the channel waits for {funding}");
    Ok(funding)
}

/// A payjoin opens a channel to the peer, and both can use it.
fn open(world: &World<'_>, node: &Daemon, peer: &dyn Foreign, flags: &[&str]) -> Result<OutPoint> {
    let funding = fund(world, node, peer, flags)?;
    world.mine(6)?;
    node.await_channel(funding)?;
    let told = peer.await_channel(funding)?;
    ensure!(told.capacity == Amount::from_sat(CHANNEL), "the peer tells another capacity: {told:?}");
    let pushed = if flags.contains(&"--push") { Amount::from_sat(PUSH) } else { Amount::ZERO };
    ensure!(told.theirs == pushed, "the peer should have {pushed}: {told:?}");
    Ok(funding)
}

fn pay_both_ways(node: &Daemon, peer: &dyn Foreign, funding: OutPoint) -> Result<()> {
    let before = peer.await_channel(funding)?.theirs;
    node.pay_invoice(&peer.invoice(PAYMENT)?)?;
    // It can pass on only what both sides have committed to.
    await_theirs(peer, funding, before + PAYMENT)?;
    peer.pay(&node.invoice(PAYMENT / 2)?)?;
    await_theirs(peer, funding, before + PAYMENT / 2)
}

fn await_theirs(peer: &dyn Foreign, funding: OutPoint, amount: Amount) -> Result<()> {
    wait::until(&format!("{} has {amount} in the channel", peer.name()), Duration::from_secs(20), || {
        Ok((peer.await_channel(funding)?.theirs == amount).then_some(()))
    })
}

fn lnd_two(world: &World<'_>) -> Result<()> {
    two(world, &*world.lnd("lnd", &[])?)
}

fn cln_two(world: &World<'_>) -> Result<()> {
    two(world, &*world.cln("cln", &[])?)
}

/// A peer that takes one opening at a time gets one with each payment, and none fails.
fn two(world: &World<'_>, peer: &dyn Foreign) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[200_000; 2])?;
    let queue = || node.queue_to(&peer.peer()?, &CHANNEL.to_string(), &[]);
    let intents = [queue()?, queue()?];
    for (at, intent) in intents.into_iter().enumerate() {
        let invoice = world.receive(&node, None)?;
        ensure!(invoice.amount < Amount::from_sat(2 * CHANNEL), "the code asks for {}", invoice.amount);
        let txid = world.pay(&invoice)?;
        node.await_intent(intent, "released")?;
        let funding = node.funding(intent)?;
        ensure!(funding.txid == txid, "no channel in {txid}");
        for later in &intents[at + 1..] {
            let waits = node.intent(*later)?;
            ensure!(waits["state"] == "queued" && waits["reason"].is_null(), "it failed: {waits}");
        }
        world.settle()?;
        node.await_channel(funding)?;
        peer.await_channel(funding)?;
    }
    Ok(())
}

/// LND counts a channel from `funding_created` on, for two weeks, whatever it is told.
fn lnd_ghost(world: &World<'_>) -> Result<()> {
    let options = Options { policy: "fallback_seconds = 3", ..Options::default() };
    let (node, ldk, peer) =
        (world.daemon_with("node", options)?, world.daemon("ldk")?, world.lnd("lnd", &[])?);
    world.give(&node, &[300_000; 3])?;
    let intent = node.queue_to(&peer.peer()?, &CHANNEL.to_string(), &[])?;
    let invoice = world.receive(&node, Some(400_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    payment.exchange(&world.tls)?;
    let original = payment.original()?.compute_txid();
    wait::until("the Original is broadcast", Duration::from_secs(20), || {
        Ok(world.chain.mempool()?.contains(&original).then_some(()))
    })?;
    world.settle()?;
    node.await_intent(intent, "queued")?;

    let code = node.call(&["receive"])?;
    ensure!(code["amount_sat"].is_null(), "the code asks for a channel that LND does not take: {code}");
    let ghost = node.intent(intent)?;
    ensure!(ghost.text("waits")?.contains("at block "), "until when does it wait? {ghost}");
    let other = node.queue(&ldk, "200000", &[])?;
    let txid = world.pay(&world.receive(&node, None)?)?;
    node.await_intent(other, "released")?;
    ensure!(node.funding(other)?.txid == txid, "no channel in {txid}");
    node.expect_queued(intent)?;
    world.settle()?;
    node.await_channel(node.funding(other)?).map(drop)
}

/// Three implementations in one transaction.
fn mixed(world: &World<'_>) -> Result<()> {
    let (node, ldk) = (world.daemon("node")?, world.daemon("ldk")?);
    let foreign: [Rc<dyn Foreign>; 2] = [world.cln("cln", &[])?, world.lnd("lnd", &[])?];
    world.give(&node, &[300_000])?;
    let mut intents = vec![node.queue(&ldk, &CHANNEL.to_string(), &[])?];
    for peer in &foreign {
        intents.push(node.queue_to(&peer.peer()?, &CHANNEL.to_string(), &[])?);
    }
    let txid = world.pay(&world.receive(&node, None)?)?;
    let mut fundings = Vec::new();
    for intent in intents {
        node.await_intent(intent, "released")?;
        fundings.push(node.funding(intent)?);
    }
    ensure!(
        fundings.iter().all(|funding| funding.txid == txid),
        "one channel is not in {txid}: {fundings:?}"
    );
    world.mine(6)?;
    for funding in &fundings {
        node.await_channel(*funding)?;
    }
    ldk.await_channel(fundings[0])?;
    node.pay(&ldk, PAYMENT)?;
    for (peer, funding) in foreign.iter().zip(&fundings[1..]) {
        peer.await_channel(*funding)?;
        pay_both_ways(&node, &**peer, *funding)?;
    }
    Ok(())
}
