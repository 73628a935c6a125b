//! Payments that open channels.

use std::time::Duration;

use anyhow::{Result, ensure};
use bitcoin::{Amount, OutPoint};

use crate::harness::{Daemon, Fields, Options, World, wait};

pub(super) fn one(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;

    let invoice = world.receive(&node, None)?;
    ensure!(invoice.amount >= Amount::from_sat(500_000), "the invoice asks for only {}", invoice.amount);
    let txid = world.pay(&invoice)?;
    node.await_intent(intent, "released")?;
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the payer broadcast {txid}, the channel waits for {}", funding.txid);

    world.mine(6)?;
    let channel = node.await_channel(funding)?;
    ensure!(channel.number("capacity_sat")? == 500_000, "wrong capacity: {channel}");
    peer.await_channel(funding)?;
    node.await_intent(intent, "open")?;
    node.pay(&peer, Amount::from_sat(50_000))
}

pub(super) fn batch(world: &World<'_>) -> Result<()> {
    let peers = [world.daemon("peer-a")?, world.daemon("peer-b")?];
    let options = Options { lightning: peers[0].several_at_once(), ..Options::default() };
    let node = world.daemon_with("node", options)?;
    world.give(&node, &[300_000])?;
    let wishes = [(&peers[0], "200000"), (&peers[1], "300000"), (&peers[0], "250000")];
    let intents = wishes.map(|(peer, amount)| node.queue(peer, amount, &[]));

    let invoice = world.receive(&node, Some(1_000_000))?;
    let txid = world.pay(&invoice)?;
    world.mine(6)?;
    for ((peer, amount), intent) in wishes.into_iter().zip(intents) {
        let funding = node.funding(intent?)?;
        ensure!(funding.txid == txid, "one channel is not in {txid}");
        let channel = node.await_channel(funding)?;
        ensure!(channel.number("capacity_sat")?.to_string() == amount, "wrong capacity: {channel}");
        peer.await_channel(funding)?;
    }
    let balance = node.call(&["wallet", "balance"])?;
    let (closable, channels) = (balance.number("closable")?, balance.number("channels")?);
    ensure!(
        channels == 3 && closable >= channels,
        "{closable} of {channels} channels keep a coin to close with"
    );
    let change = balance.number("confirmed_sat")?;
    ensure!((540_000..550_000).contains(&change), "300,000 + 1,000,000 - 750,000 sat became {change}");
    Ok(())
}

pub(super) fn rest(world: &World<'_>) -> Result<()> {
    let (node, peer, other) = (world.daemon("node")?, world.daemon("peer")?, world.daemon("other")?);
    world.give(&node, &[300_000])?;
    let exact = node.queue(&peer, "300000", &[])?;
    let rest = node.queue(&other, "rest", &[])?;

    let txid = world.pay(&world.receive(&node, Some(1_000_000))?)?;
    world.mine(6)?;
    let channel = node.await_channel(node.funding(exact)?)?;
    ensure!(channel.number("capacity_sat")? == 300_000, "wrong capacity: {channel}");
    let funding = node.funding(rest)?;
    ensure!(funding.txid == txid, "the rest is not in {txid}");
    let capacity = node.await_channel(funding)?.number("capacity_sat")?;
    ensure!((690_000..=700_000).contains(&capacity), "the rest of 700,000 sat became {capacity}");
    Ok(())
}

pub(super) fn many(world: &World<'_>) -> Result<()> {
    /// `MOST_CHANNELS` of payjoin-core.
    const MOST: usize = 16;
    let peer = world.daemon("peer")?;
    let options = Options { lightning: peer.several_at_once(), ..Options::default() };
    let node = world.daemon_with("node", options)?;
    for _ in 0..MOST {
        node.queue(&peer, "100000", &[])?;
    }
    let most = world.receive(&node, None)?.amount;
    node.queue(&peer, "100000", &[])?;
    let asked = world.receive(&node, None)?.amount;
    ensure!(asked == most, "the code asks for {asked}, one payment can use {most}");
    Ok(())
}

pub(super) fn payer_is_me(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;

    let mine = world.receive_by(&node, None, &["--payer-is-me"])?;
    let anybodys = world.receive(&node, None)?;
    world.pay(&anybodys)?;
    node.expect_queued(intent)?;
    ensure!(node.channels()? == 0, "the operator's word for one code served the payer of another");
    let txid = world.pay(&mine)?;
    world.mine(6)?;
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the channel is not in {txid}");
    node.await_channel(funding)?;
    let inputs = world.chain.transaction(txid)?.input.len();
    ensure!(inputs == 1, "an empty wallet cannot add one of {inputs} inputs");
    node.pay(&peer, Amount::from_sat(50_000))
}

/// Buried is not yet open.
pub(super) fn peer_away(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    world.pay(&world.receive(&node, None)?)?;
    node.await_intent(intent, "released")?;
    peer.kill();
    world.settle()?;
    node.await_intent(intent, "confirming")?;
    peer.restart()?;
    node.await_intent(intent, "open")?;
    Ok(())
}

pub(super) fn closed(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intents = [node.queue(&peer, "200000", &[])?, node.queue(&peer, "250000", &[])?];
    world.pay(&world.receive(&node, None)?)?;
    world.mine(6)?;
    for intent in intents {
        node.await_intent(intent, "open")?;
    }
    let [agreed, forced] = [node.funding(intents[0])?, node.funding(intents[1])?];
    let [first, second] = [channel(&node, agreed)?, channel(&node, forced)?];
    node.call(&["channel", "close", &first])?;
    node.step("channel_closed")?;
    world.closed(agreed, &[&node])?;
    expect_closed(world, &node, intents[0], agreed, "cooperative")?;
    // The peer ends the other one, and that is mined, while we are away.
    node.kill();
    peer.call(&["channel", "close", &second, "--force"])?;
    world.closed(forced, &[])?;
    node.restart()?;
    expect_closed(world, &node, intents[1], forced, "forced_by_peer")?;
    ensure!(node.call(&["channel", "list"])?.list("intents")?.is_empty(), "what is over is still in the way");
    ensure!(node.channels()? == 0, "which channel is left?");
    // What is swept is in no exchange.
    node.kill();
    peer.kill();
    Ok(())
}

fn channel(node: &Daemon, funding: OutPoint) -> Result<String> {
    Ok(node.await_channel(funding)?.text("channel_id")?.to_owned())
}

/// The intent says which transaction closed its channel, and why.
fn expect_closed(world: &World<'_>, node: &Daemon, intent: u64, funding: OutPoint, how: &str) -> Result<()> {
    node.await_intent(intent, "closed")?;
    let told = wait::until("the closing transaction is told", Duration::from_secs(20), || {
        let told = node.intent(intent)?;
        Ok((!told["closing_txid"].is_null()).then_some(told))
    })?;
    let closing = world.chain.transaction(told.txid("closing_txid")?)?;
    ensure!(closing.input.iter().any(|input| input.previous_output == funding), "not that one: {told}");
    ensure!(!told.text("reason")?.is_empty(), "nobody knows why: {told}");
    ensure!(told.text("how")? == how && told.number("ended")? > 0, "not {how}: {told}");
    ensure!(node.funding(intent)? == funding, "its funding is forgotten: {told}");
    Ok(())
}
