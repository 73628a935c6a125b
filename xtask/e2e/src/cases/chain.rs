//! Blocks that cannot be had.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use bitcoin::Amount;

use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Pruned, World};
use crate::harness::{raw, wait};

/// A minute without a block, and what a busy machine adds.
const STALL: Duration = Duration::from_secs(100);

pub(super) fn stall(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[300_000])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;

    node.freeze()?;
    world.chain.mine(1_001)?;
    let file = world.chain.cookie().with_file_name("blocks").join("blk00000.dat");
    let away = file.with_extension("away");
    fs::rename(&file, &away)?;
    node.thaw()?;
    let trouble = wait::until("status tells why no block arrives", STALL, || chain_error(&node))?;
    ensure!(trouble.contains("block ") && trouble.contains("-reindex"), "not what to do: {trouble}");
    let refusal = node.refusal(&["receive", "--amount", "250000"])?;
    ensure!(refusal.contains("-reindex"), "a code is refused for another reason: {refusal}");
    let reply = raw::send_and_stay(node.plain, &payment.request()?)?;
    ensure!(reply.status() == Some(503), "expected 503: {}", reply.text());

    fs::rename(&away, &file)?;
    catch_up(world, &node)?;
    wait::until("all is well", Duration::from_secs(20), || Ok(chain_error(&node)?.is_none().then_some(())))?;
    world.broadcast(&payment.exchange(&world.tls)?)?;
    node.step("broadcast")?;
    world.settle()
}

/// Blocks until bitcoind has files that it may prune, and so many that more than a thousand are missed.
const BEHIND: u32 = 600;
const LONG: u32 = 1_050;

pub(super) fn pruned_behind(world: &World<'_>) -> Result<()> {
    let pruned = world.pruned()?;
    let options = Options { policy: "fallback_seconds = 3", ..Options::default() };
    let node = world.daemon_on(&pruned.chain, "node", options)?;
    world.give(&node, &[300_000])?;
    // bitcoind's peer gives back what is missing.
    node.freeze()?;
    fall_behind(world, &pruned, LONG)?;
    node.thaw()?;
    catch_up(world, &node)?;

    // There is none: the start waits, and what is due goes out.
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    payment.exchange(&world.tls)?;
    let original = payment.original()?;
    node.kill();
    fall_behind(world, &pruned, BEHIND)?;
    pruned.disconnect()?;
    node.restart()?;
    expect_waiting(&node)?;
    wait::until("the Original is sent", Duration::from_secs(20), || {
        Ok(pruned.chain.mempool()?.contains(&original.compute_txid()).then_some(()))
    })?;

    // It can be stopped while it waits.
    node.call(&["stop"])?;
    node.kill();
    node.restart()?;
    expect_waiting(&node)?;
    pruned.connect(&world.chain)?;
    node.step("ready")?;
    ensure!(chain_error(&node)?.is_none(), "it still waits");
    // Among bitcoinds that were not connected when it was sent it is passed on later.
    world.broadcast(&original)?;
    world.settle()?;
    ensure!(node.exchange()?.text("settled")? == "original", "not settled by the Original");
    node.await_balance(Amount::from_sat(900_000))
}

/// One block after another, which takes longer than usual.
fn catch_up(world: &World<'_>, node: &Daemon) -> Result<()> {
    let height = world.chain.height()?;
    wait::until("the node has all blocks", Duration::from_secs(180), || {
        Ok((node.call(&["status"])?.number("height")? >= height).then_some(()))
    })
}

/// Blocks come that the node does not see, and the first of them is pruned.
fn fall_behind(world: &World<'_>, pruned: &Pruned, blocks: u32) -> Result<()> {
    let next = world.chain.height()? + 1;
    world.chain.mine(blocks)?;
    pruned.follow(&world.chain)?;
    pruned.forget(next)
}

/// The start of this node tells what it waits for, and gives no codes.
fn expect_waiting(node: &Daemon) -> Result<()> {
    let trouble = wait::until("status tells what is waited for", STALL, || chain_error(node))?;
    ensure!(trouble.contains("pruned") && trouble.contains("0 peers"), "not why: {trouble}");
    let refusal = node.refusal(&["receive", "--amount", "250000"])?;
    ensure!(refusal.contains("pruned"), "a code is refused for another reason: {refusal}");
    Ok(())
}

fn chain_error(node: &Daemon) -> Result<Option<String>> {
    let status = node.call(&["status"])?;
    if status["chain_error"].is_null() {
        return Ok(None);
    }
    Ok(Some(status.text("chain_error")?.to_owned()))
}
