//! Peers and payers that do not do their part.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;

use crate::harness::World;
use crate::harness::daemon::Options;
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::wait;

pub(super) fn peer_offline(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let others = [world.daemon("other-a")?, world.daemon("other-b")?];
    let first = node.queue(&peer, "300000", &[])?;
    let invoice = world.receive(&node, Some(800_000))?;
    peer.kill();

    world.pay(&invoice)?;
    let back = node.await_intent(first, "queued")?;
    ensure!(!back.text("reason")?.is_empty(), "the intent came back without a reason: {back}");
    ensure!(node.channels()? == 0, "a channel to a peer that is gone");

    world.mine(1)?;
    let others = [node.queue(&others[0], "200000", &[])?, node.queue(&others[1], "100000", &[])?];
    world.pay(&world.receive(&node, Some(800_000))?)?;
    for intent in others {
        node.await_intent(intent, "released").context("the peer that is gone holds up the other")?;
    }
    node.expect_queued(first)
}

pub(super) fn peer_waits(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    node.await_peers(1)?;
    peer.kill();
    node.await_peers(0)?;
    peer.restart()?;
    node.await_peers(1)?;
    node.kill();
    node.restart()?;
    node.await_peers(1)?;
    let txid = world.pay(&world.receive(&node, None)?)?;
    ensure!(node.funding(intent)?.txid == txid, "no channel in {txid}");
    Ok(())
}

pub(super) fn fallback(world: &World<'_>) -> Result<()> {
    let options = Options { policy: "fallback_seconds = 3", ..Options::default() };
    let (node, peer) = (world.daemon_with("node", options)?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;

    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let proposal = payment.exchange(&world.tls)?;
    node.await_intent(intent, "released")?;
    ensure!(
        node.funding(intent)?.txid == proposal.compute_txid(),
        "the channel waits for another transaction"
    );
    ensure!(node.locked()? == Amount::from_sat(300_000), "the offered coin is not locked");

    let original = payment.original()?.compute_txid();
    wait::until("the Original is broadcast", Duration::from_secs(15), || {
        Ok(world.chain.mempool()?.contains(&original).then_some(()))
    })?;
    ensure!(node.locked()? == Amount::from_sat(300_000), "unlocked before the Original was buried");
    world.settle()?;
    ensure!(node.exchange()?.text("settled")? == "original", "the exchange did not end with the Original");
    node.expect_queued(intent)?;
    ensure!(node.channels()? == 0, "the channel was not forgotten");
    ensure!(node.locked()? == Amount::ZERO, "the coin is still locked");
    let balance = node.call(&["wallet", "balance"])?;
    ensure!(balance.sat("reserve_sat")? == Amount::ZERO, "kept back for no channel: {balance}");
    node.await_balance(Amount::from_sat(900_000))
}
