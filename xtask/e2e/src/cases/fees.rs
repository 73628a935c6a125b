//! Fees above the limits of the operator.

use anyhow::{Context, Result, ensure};
use bitcoin::FeeRate;
use serde_json::Value;

use super::house::{PATIENCE, note};
use crate::harness::World;
use crate::harness::daemon::Daemon;
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::wait;

pub(super) fn spike(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000, 250_000])?;
    node.queue(&peer, "500000", &[])?;
    node.terminate()?;
    node.change_settings(|text| format!("{text}\n[fees]\nfallback = 300\n"))?;
    node.restart()?;
    node.await_peers(1)?;
    let told = note(&node, 600_000)?;
    ensure!(
        told.contains("`max_fee_rate` under [policy] is 100: it would have to be 300"),
        "not which limit: {told}"
    );
    let reason = pay_at(world, &node, 300, 600_000)?;
    ensure!(
        reason.contains("`max_fee_rate` under [policy] is 100: it would have to be "),
        "not which limit: {reason}"
    );

    limit(&node, "max_fee_rate = 1000\nmax_fee = 1000")?;
    let told = note(&node, 600_000)?;
    ensure!(
        told.contains("`max_fee` under [policy] is 1000: it would have to be"),
        "not which limit: {told}"
    );
    let reason = pay_at(world, &node, 300, 600_000)?;
    let needed = reason.split_once("`max_fee` under [policy] is 1000: it would have to be ");
    let needed = needed.with_context(|| format!("not which limit: {reason}"))?.1.trim().to_owned();

    limit(&node, &format!("max_fee_rate = 1000\nmax_fee = {needed}\ntop_up = false"))?;
    let told = note(&node, 400_000)?;
    ensure!(told.contains("needs 100000 sat more") && told.contains("`top_up`"), "not which limit: {told}");
    let reason = pay_at(world, &node, 5, 400_000)?;
    ensure!(
        reason.contains("needs 100000 sat more") && reason.contains("`top_up`"),
        "not which limit: {reason}"
    );

    // What it says would do, does.
    limit(&node, &format!("max_fee_rate = 1000\nmax_fee = {needed}\ntop_up = true"))?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment =
        Payment::at(world.payer(), &invoice.uri, Substitution::Allowed, FeeRate::from_sat_per_vb_u32(120))?;
    world.broadcast(&payment.exchange(&world.tls)?)?;
    node.await_intent(1, "confirming").or_else(|_| node.await_intent(1, "released")).map(drop)
}

/// Other limits, without a restart.
fn limit(node: &Daemon, policy: &str) -> Result<()> {
    node.change_settings(|text| {
        let (before, rest) = text.split_once("[policy]\n").unwrap_or((&text, ""));
        let rest = rest.find("\n[").map_or("", |at| &rest[at..]);
        format!("{before}[policy]\n{policy}{rest}")
    })?;
    let count = |log: &str| log.matches("settings were read again").count();
    let before = count(&node.log()?);
    node.signal("HUP")?;
    wait::until("the settings are read again", PATIENCE, || Ok((count(&node.log()?) > before).then_some(())))
}

/// Pays a fresh code by payjoin, at this rate, and returns why no channel opened. A block follows.
fn pay_at(world: &World<'_>, node: &Daemon, fee_rate: u32, sat: u64) -> Result<String> {
    let invoice = world.receive(node, Some(sat))?;
    let payment = Payment::at(
        world.payer(),
        &invoice.uri,
        Substitution::Allowed,
        FeeRate::from_sat_per_vb_u32(fee_rate),
    )?;
    world.broadcast(&payment.exchange(&world.tls)?)?;
    world.mine(1)?;
    let all = node.call(&["exchange", "list"])?;
    let newest = all.list("exchanges")?.first().cloned().unwrap_or(Value::Null);
    Ok(newest.text("reason")?.to_owned())
}
