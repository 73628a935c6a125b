//! Payments that open channels.

use anyhow::{Result, ensure};
use bitcoin::Amount;

use super::super::World;
use super::super::json::Fields;

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
    let node = world.daemon("node")?;
    let peers = [world.daemon("peer-a")?, world.daemon("peer-b")?];
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
    let change = node.call(&["wallet", "balance"])?.number("confirmed_sat")?;
    ensure!((540_000..550_000).contains(&change), "300,000 + 1,000,000 - 750,000 sat became {change}");
    Ok(())
}

pub(super) fn rest(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let exact = node.queue(&peer, "300000", &[])?;
    let rest = node.queue(&peer, "rest", &[])?;

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
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    for _ in 0..MOST {
        node.queue(&peer, "100000", &[])?;
    }
    let most = world.receive(&node, None)?.amount;
    node.queue(&peer, "100000", &[])?;
    let asked = world.receive(&node, None)?.amount;
    ensure!(asked == most, "the code asks for {asked}, one payment can use {most}");
    Ok(())
}

pub(super) fn bootstrap(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &["--payer-is-me"])?;

    let invoice = world.receive(&node, None)?;
    let txid = world.pay(&invoice)?;
    world.mine(6)?;
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the channel is not in {txid}");
    node.await_channel(funding)?;
    let inputs = world.chain.transaction(txid)?.input.len();
    ensure!(inputs == 1, "an empty wallet cannot add one of {inputs} inputs");
    node.pay(&peer, Amount::from_sat(50_000))
}
