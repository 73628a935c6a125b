//! What the machine does to us: disks that are full, damaged or gone.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, Transaction};
use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::world::{Invoice, World};
use crate::harness::{raw, wait};

pub(super) fn disk_full(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;

    node.fill_disk()?;
    for _ in 0..2 {
        let reply = raw::send_and_stay(node.plain, &payment.request()?)?;
        ensure!(reply.status() == Some(503), "expected 503: {}", reply.text());
        let error: Value = serde_json::from_str(&reply.body())?;
        ensure!(error.text("errorCode")? == "unavailable", "not `unavailable`: {error}");
    }
    let refused = node.refusal(&["receive", "--amount", "250000"])?;
    ensure!(refused.contains("database") || refused.contains("store"), "why? {refused}");
    ensure!(node.locked()? == Amount::ZERO, "a coin is locked by a refused payment");
    ensure!(node.call(&["exchange", "list"])?.list("exchanges")?.is_empty(), "an exchange that is not saved");
    ensure!(node.channels()? == 0, "a channel that is not saved");
    node.expect_queued(intent)?;

    node.clear_disk()?;
    node.kill();
    node.restart()?;
    world.broadcast(&payment.exchange(&world.tls)?)?;
    world.mine(6)?;
    node.await_channel(node.funding(intent)?)?;
    node.pay(&peer, Amount::from_sat(50_000))
}

pub(super) fn database_damaged(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    let mut owed = Vec::new();
    for _ in 0..2 {
        let invoice = world.receive(&node, Some(600_000))?;
        let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
        payment.exchange(&world.tls)?;
        owed.push(payment.original()?);
        // The next payment takes other coins.
        world.payer().lock(owed.last().context("just pushed")?)?;
    }
    node.kill();
    let rescued = node.call(&["rescue"])?;
    let originals = rescued.list("originals")?.iter().map(|original| {
        let transaction: Transaction = deserialize_hex(original.text("hex")?)?;
        ensure!(original.txid("txid")? == transaction.compute_txid(), "not its id: {original}");
        Ok(transaction)
    });
    ensure!(originals.collect::<Result<Vec<_>>>()? == owed, "rescued something else: {rescued}");
    owed.iter().try_for_each(|original| world.chain.accepts(original))?;

    let database = node.folder().join("payjoind.sqlite");
    let log = database.with_extension("sqlite-wal");
    let kept = [database.with_extension("kept"), log.with_extension("kept-wal")];
    fs::rename(&database, &kept[0])?;
    fs::rename(&log, &kept[1])?;
    fs::write(&database, "no database any more, for a page or so; ".repeat(100))?;
    let told = node.refusal(&["run"])?;
    ensure!(told.contains("damaged") && told.contains("payjoind rescue"), "what to do? {told}");
    let told = node.refusal(&["rescue"])?;
    ensure!(told.contains("payjoind.sqlite"), "which file? {told}");

    fs::rename(&kept[0], &database)?;
    fs::rename(&kept[1], &log)?;
    node.restart()?;
    owed.iter().try_for_each(|original| world.broadcast(original).map(drop))
}

pub(super) fn seed_restored(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[300_000, 200_000])?;
    // Codes that nobody paid: the coin after them lies far from the others.
    for _ in 0..30 {
        node.call(&["receive", "--amount", "250000"])?;
    }
    world.give(&node, &[100_000])?;
    let identity = node.call(&["status"])?.text("node_id")?.to_owned();
    world.mine(10)?;
    node.kill();
    for entry in fs::read_dir(node.folder())? {
        let path = entry?.path();
        if !path.ends_with("seed") && !path.ends_with("payjoind.toml") {
            fs::remove_file(path)?;
        }
    }
    let told = node.refusal(&["run"])?;
    ensure!(told.contains("birthday"), "nothing tells what is missing: {told}");

    let settings = node.folder().join("payjoind.toml");
    let text = fs::read_to_string(&settings)?.replace("[lightning]", "[lightning]\nbirthday = 100");
    fs::write(&settings, text)?;
    node.restart()?;
    node.await_balance(world.given(&node))?;
    ensure!(node.call(&["status"])?.text("node_id")? == identity, "another node");
    // Found coins are as good as others, and stay found.
    node.kill();
    node.restart()?;
    node.await_balance(world.given(&node))?;
    world.pay(&world.receive(&node, Some(600_000))?)?;
    world.mine(1)
}

pub(super) fn original_bumped(world: &World<'_>) -> Result<()> {
    let options = Options { policy: "fallback_seconds = 3", ..Options::default() };
    let node = world.daemon_with("node", options)?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    payment.exchange(&world.tls)?;
    let original = payment.original()?;
    let refused = node.refusal(&["exchange", "bump", "1", "--fee-rate", "50"])?;
    ensure!(refused.contains("may still pay"), "raised before its time: {refused}");
    let txid = original.compute_txid();
    wait::until("the Original is broadcast", Duration::from_secs(15), || {
        Ok(world.chain.mempool()?.contains(&txid).then_some(()))
    })?;
    let refused = node.refusal(&["exchange", "bump", "1", "--fee-rate", "2"])?;
    ensure!(refused.contains("by itself"), "paid for nothing: {refused}");

    raised(world, &node, &invoice, 30)?;
    let last = raised(world, &node, &invoice, 50)?;
    ensure!(world.chain.mempool()?.len() == 2, "the first child is still there");
    world.settle()?;
    node.await_balance(last.output[0].value)?;
    let refused = node.refusal(&["exchange", "bump", "1", "--fee-rate", "90"])?;
    ensure!(refused.contains("mined"), "raised when it was mined: {refused}");
    // The ledger knows no children.
    node.call(&["stop"])?;
    node.kill();
    let log = node.folder().join("payjoind.sqlite-wal");
    ensure!(!log.exists(), "after a stop the database is one file");
    Ok(())
}

pub(super) fn payjoin_bumped(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    // The second one closes what takes the second payment whole.
    world.give(&node, &[300_000, 100_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let txid = world.pay(&world.receive(&node, Some(600_000))?)?;
    let child = raise(world, &node, "1", 30)?.0;
    ensure!(child.input[0].previous_output.txid == txid, "the child spends something else");
    ensure!(world.chain.mempool()?.contains(&txid), "the payjoin is gone");
    world.mine(6)?;
    node.await_channel(node.funding(intent)?)?;

    let rest = node.queue(&peer, "rest", &[])?;
    world.pay(&world.receive_by(&node, Some(200_000), &["--payer-is-me"])?)?;
    node.await_intent(rest, "released")?;
    let refused = node.refusal(&["exchange", "bump", "2", "--fee-rate", "30"])?;
    // Where the payment stands before the payer's change, its script stays with the least that can be spent.
    let least = refused.contains("all of it is channels") || refused.contains("330 sat");
    ensure!(least, "raised with what? {refused}");
    // The ledger knows no children.
    node.call(&["stop"])?;
    node.kill();
    peer.kill();
    Ok(())
}

/// The payer pays with many small coins, at a rate that is soon too low.
pub(super) fn large_parent_bumped(world: &World<'_>) -> Result<()> {
    let options = Options { policy: "fallback_seconds = 3", ..Options::default() };
    let node = world.daemon_with("node", options)?;
    let payer = world.payer();
    let great = payer.call("listunspent", json!([]))?;
    let great = great.as_array().into_iter().flatten();
    let great: Vec<_> = great.map(|coin| json!({ "txid": coin["txid"], "vout": coin["vout"] })).collect();
    payer.call("lockunspent", json!([false, great]))?;
    // A few in each transaction: a payer shows them whole.
    for _ in 0..10 {
        let addresses = (0..16).map(|_| payer.address("bech32"));
        let coin = |address| Ok((address?, Amount::from_sat(20_000)));
        world.fund(&addresses.map(coin).collect::<Result<Vec<_>>>()?)?;
    }
    let invoice = world.receive(&node, Some(2_900_000))?;
    let payment = Payment::new(payer, &invoice.uri, Substitution::Allowed)?;
    payment.exchange(&world.tls)?;
    let original = payment.original()?;
    ensure!(original.vsize() > 10_000, "only {} vB", original.vsize());
    wait::until("the Original is broadcast", Duration::from_secs(15), || {
        Ok(world.chain.mempool()?.contains(&original.compute_txid()).then_some(()))
    })?;
    let child = raised(world, &node, &invoice, 120)?;
    let fee = invoice.amount - child.output[0].value;
    let users = Amount::from_sat(10_000 * child.vsize() as u64);
    ensure!(fee > users, "bitcoind allows users {users}, it pays {fee}");
    // The ledger knows no children.
    node.call(&["stop"])?;
    node.kill();
    Ok(())
}

/// The child that raises the Original to so many sat/vB.
fn raised(world: &World<'_>, node: &Daemon, invoice: &Invoice, rate: u64) -> Result<Transaction> {
    let (child, fee) = raise(world, node, "1", rate)?;
    ensure!(child.output[0].value + fee == invoice.amount, "what did it cost? {fee}");
    Ok(child)
}

/// The child that raises an exchange to so many sat/vB, and its fee.
pub(super) fn raise(
    world: &World<'_>,
    node: &Daemon,
    exchange: &str,
    rate: u64,
) -> Result<(Transaction, Amount)> {
    let told = node.call(&["exchange", "bump", exchange, "--fee-rate", &rate.to_string()])?;
    let child = world.chain.transaction(told.txid("txid")?)?;
    let entry = world.chain.call("getmempoolentry", json!([child.compute_txid()]))?;
    let paid = Amount::from_btc(entry["fees"]["ancestor"].as_f64().context("no fee")?)?.to_sat();
    let size = entry.number("ancestorsize")?;
    ensure!((rate * size..(rate + 1) * size).contains(&paid), "{paid} sat for {size} vB at {rate}");
    Ok((child, told.sat("fee_sat")?))
}
