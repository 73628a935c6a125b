//! Channels that close while something is in the way.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint, Transaction};
use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{World, wait};

const PATIENCE: Duration = Duration::from_secs(40);

const CHANNEL: &str = "500000";
/// What of a channel is the peer's from the start.
const PUSH: Amount = Amount::from_sat(60_000);

/// What everybody else pays in a full mempool, in sat/vB.
const RATE: u64 = 30;

/// A payjoin opens a channel from one daemon to another, and it is buried.
fn open(world: &World<'_>, from: &Daemon, to: &Daemon) -> Result<OutPoint> {
    let intent = from.queue(to, CHANNEL, &["--push", &PUSH.to_sat().to_string()])?;
    world.pay(&world.receive(from, None)?)?;
    world.mine(6)?;
    let funding = from.funding(intent)?;
    from.await_channel(funding)?;
    to.await_channel(funding)?;
    Ok(funding)
}

/// Two daemons, the first with a coin.
fn pair(world: &World<'_>, names: [&'static str; 2]) -> Result<[Rc<Daemon>; 2]> {
    let [first, second] = [world.daemon(names[0])?, world.daemon(names[1])?];
    world.give(&first, &[300_000])?;
    Ok([first, second])
}

/// The transaction of the mempool that spends an output, once it is there.
fn await_spend(world: &World<'_>, spent: OutPoint) -> Result<Transaction> {
    wait::until(&format!("the mempool has a spend of {spent}"), PATIENCE, || {
        world.chain.spender(|outpoint| outpoint == spent)
    })
}

/// The only channel that is closing.
fn closing(node: &Daemon) -> Result<Option<Value>> {
    Ok(node.call(&["channel", "list"])?.list("closing")?.first().cloned())
}

/// The peer paid for the channel: our wallet has no coin.
pub(super) fn without_coins(world: &World<'_>) -> Result<()> {
    let [peer, node] = pair(world, ["peer", "node"])?;
    let funding = open(world, &peer, &node)?;
    peer.kill();
    world.forced(funding, &node, || close_without_coins(world, &node, funding))
}

fn close_without_coins(world: &World<'_>, node: &Daemon, funding: OutPoint) -> Result<()> {
    node.close(funding, true)?;
    let commitment = await_spend(world, funding)?.compute_txid();
    let needs = wait::until("it says what it needs", PATIENCE, || {
        Ok(closing(node)?.and_then(|closing| closing["needs_sat"].as_u64()))
    })?;
    let listed = closing(node)?.context("it is in no list")?;
    ensure!(listed.outpoint("funding")? == funding && listed.sat("sat")? == PUSH, "wrong: {listed}");
    let balance = node.call(&["wallet", "balance"])?;
    ensure!(balance.sat("closing_sat")? == PUSH, "it counts as nothing: {balance}");

    // No miner takes it alone. With the coin that was asked for it gets its child.
    let cheaper = |sat: i64| world.chain.call("prioritisetransaction", json!([commitment, 0, sat])).map(drop);
    cheaper(-1_000_000)?;
    let address = node.call(&["wallet", "address"])?.text("address")?.to_owned();
    world.fund(&[(address, Amount::from_sat(needs))])?;
    wait::until("a child pays for it", PATIENCE, || world.chain.spender(|spent| spent.txid == commitment))?;
    cheaper(1_000_000)
}

/// The peer ends the channel while the payer still holds the payjoin back, and both nodes die.
pub(super) fn before_funding(world: &World<'_>) -> Result<()> {
    let [node, peer] = pair(world, ["node", "peer"])?;
    let intent = node.queue(&peer, CHANNEL, &[])?;
    let invoice = world.receive(&node, None)?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let payjoin = payment.exchange(&world.tls)?;
    node.await_intent(intent, "released")?;
    let funding = node.funding(intent)?;
    wait::until("the peer has the channel", PATIENCE, || Ok((peer.channels()? == 1).then_some(())))?;
    peer.close(funding, false)?;
    [&node, &peer].into_iter().try_for_each(|daemon| daemon.await_no_channel())?;
    peer.kill();
    node.kill();
    node.restart()?;
    ensure!(world.chain.mempool()?.is_empty(), "a closing transaction of nothing");

    world.broadcast(&payjoin)?;
    node.step("broadcast")?;
    world.mine(1)?;
    world.closed(funding, &[&node])
}

/// Two channels: one ends with its peer, one alone.
pub(super) fn while_bitcoind_is_away(world: &World<'_>) -> Result<()> {
    let [node, peer] = pair(world, ["node", "peer"])?;
    let other = world.daemon("other")?;
    let intents = [node.queue(&peer, CHANNEL, &[])?, node.queue(&other, CHANNEL, &[])?];
    world.pay(&world.receive(&node, None)?)?;
    world.mine(6)?;
    let [together, alone] = intents.map(|intent| node.funding(intent));
    let (together, alone) = (together?, alone?);
    for funding in [together, alone] {
        node.await_channel(funding)?;
    }
    peer.await_channel(together)?;
    other.kill();

    world.chain.stop()?;
    node.close(together, false)?;
    peer.await_no_channel()?;
    // What comes is ours.
    peer.kill();
    world.chain.restart(&["payer", "nested"])?;
    world.closed(together, &[&node])?;

    world.forced(alone, &node, || {
        world.chain.stop()?;
        node.close(alone, true)?;
        node.await_no_channel()?;
        world.chain.restart(&["payer", "nested"])
    })
}

/// The commitment pays too little to enter alone.
pub(super) fn in_a_full_mempool(world: &World<'_>) -> Result<()> {
    let [node, peer] = pair(world, ["node", "peer"])?;
    let funding = open(world, &node, &peer)?;
    world.give(&node, &[200_000])?;
    peer.kill();
    world.chain.fill_mempool(RATE, &["payer", "nested"])?;
    // It asks for fee rates when it starts, and every now and then.
    node.kill();
    node.restart()?;
    world.forced(funding, &node, || {
        node.close(funding, true)?;
        expect_package(world, &await_spend(world, funding)?)
    })
}

/// It has a child, without which it would not be there.
fn expect_package(world: &World<'_>, commitment: &Transaction) -> Result<()> {
    let txid = commitment.compute_txid();
    world.chain.spender(|spent| spent.txid == txid)?.context("it entered without a child")?;
    let entry = world.chain.call("getmempoolentry", json!([txid]))?;
    let paid = Amount::from_btc(entry["fees"]["base"].as_f64().context("no fee")?)?.to_sat();
    ensure!(paid < RATE * commitment.vsize() as u64, "it could have entered alone: {entry}");
    Ok(())
}
