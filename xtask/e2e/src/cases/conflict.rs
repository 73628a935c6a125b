//! A payer who spends his coins elsewhere, too.

use std::time::Duration;

use anyhow::{Result, ensure};
use bitcoin::{Transaction, Txid};

use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{World, wait};

/// Short, so that Originals are due at once.
const POLICY: &str = "fallback_seconds = 3";

pub(super) fn outbid(world: &World<'_>) -> Result<()> {
    let node = world.daemon_with("node", Options { policy: POLICY, ..Options::default() })?;
    let peer = world.daemon("peer")?;
    world.give(&node, &[300_000])?;

    // He never broadcasts the payjoin. The Original pays 5 sat/vB: it beats the first conflict alone, not the second.
    for (number, rate, children) in [(1, 1, 0), (2, 40, 1)] {
        let invoice = world.receive(&node, Some(600_000))?;
        let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
        payment.exchange(&world.tls)?;
        let original = payment.original()?;
        let conflict = world.double_spend(&invoice, &original, rate)?;
        expect_instead(world, conflict, original.compute_txid(), children)?;
        expect_settled(world, &node, number, "original", original.compute_txid())?;
    }

    // He broadcasts the payjoin, and takes it back: it returns with a child out of our change, and its channel opens.
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(700_000))?;
    let payjoin = world.pay(&invoice)?;
    node.step("broadcast")?;
    let conflict = world.double_spend(&invoice, &world.chain.transaction(payjoin)?, 40)?;
    expect_instead(world, conflict, payjoin, 1)?;
    expect_settled(world, &node, 3, "payjoin", payjoin)?;
    node.await_channel(node.funding(intent)?)?;

    // At this price the payment is not worth it.
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    payment.exchange(&world.tls)?;
    let conflict = world.double_spend(&invoice, &payment.original()?, 1_500)?;
    wait::until("the payment is given up", Duration::from_secs(15), || {
        let log = node.log()?;
        Ok((log.contains("is not defended") && log.contains("the most that we spend on it")).then_some(()))
    })?;
    ensure!(world.chain.mempool()? == [conflict], "something was sent after all");
    expect_settled(world, &node, 4, "conflict", conflict)?;
    end(&[&node, &peer])
}

pub(super) fn outbid_v2(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let payjoin = format!("ohttp_relays = {:?}\ndirectories = {:?}", [relay.url()], [directory.url()]);
    let node = world.daemon_with("node", Options { payjoin, ..Options::default() })?;
    world.give(&node, &[300_000])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payjoin = world.finish(world.begin(&invoice, &relay)?)?;
    node.step("broadcast")?;
    // What it saw outlives it.
    node.kill();
    let conflict = world.double_spend(&invoice, &world.chain.transaction(payjoin)?, 40)?;
    node.restart()?;
    expect_instead(world, conflict, payjoin, 1)?;
    expect_settled(world, &node, 1, "payjoin", payjoin)?;
    end(&[&node])
}

/// The mempool has the payment with so many children, and the conflict no more.
pub(super) fn expect_instead(
    world: &World<'_>,
    conflict: Txid,
    payment: Txid,
    children: usize,
) -> Result<()> {
    wait::until("the conflict is outbid", Duration::from_secs(15), || {
        Ok(world.chain.mempool()?.contains(&payment).then_some(()))
    })?;
    let mempool = world.chain.mempool()?;
    ensure!(!mempool.contains(&conflict), "both are there");
    let spends = |child: &Transaction| child.input.iter().any(|input| input.previous_output.txid == payment);
    let mut found = 0;
    for txid in mempool {
        found += usize::from(spends(&world.chain.transaction(txid)?));
    }
    ensure!(found == children, "{found} children of {payment}");
    Ok(())
}

/// The exchange ends like this, and names the transaction that was mined.
fn expect_settled(world: &World<'_>, node: &Daemon, exchange: u64, outcome: &str, mined: Txid) -> Result<()> {
    world.settle()?;
    let all = node.call(&["exchange", "list"])?;
    let told = all.list("exchanges")?.iter().find(|told| told["id"].as_u64() == Some(exchange));
    let told = told.cloned().unwrap_or_default();
    ensure!(told["settled"] == outcome, "exchange {exchange} did not end as {outcome}: {all}");
    ensure!(told.txid("mined_txid")? == mined, "{mined} was mined: {told}");
    ensure!(node.locked()?.to_sat() == 0, "a coin is locked for nothing");
    Ok(())
}

/// The ledger knows no children.
pub(super) fn end(nodes: &[&Daemon]) -> Result<()> {
    for node in nodes {
        node.call(&["stop"])?;
        node.kill();
    }
    Ok(())
}
