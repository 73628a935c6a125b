//! Fees above the limits of the operator.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::FeeRate;
use serde_json::Value;

use crate::harness::World;
use crate::harness::daemon::Daemon;
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::wait;

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn spike(world: &World<'_>) -> Result<()> {
    world.allow_fees(100_000);
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000, 250_000])?;
    node.queue(&peer, "500000", &[])?;
    node.terminate()?;
    node.change_settings(|text| format!("{text}\n[fees]\nfallback = 300\n"))?;
    node.restart()?;
    node.await_peers(1)?;
    let rate = "`max_fee_rate` under [policy] is 100: it would have to be ";
    expect(&note(&node, 600_000)?, &[&format!("{rate}300")])?;
    expect(&pay_at(world, &node, 300, 600_000)?, &[rate])?;

    limit(&node, "max_fee_rate = 1000\nmax_fee = 1000")?;
    let fee = "`max_fee` under [policy] is 1000: it would have to be ";
    expect(&note(&node, 600_000)?, &[fee])?;
    let reason = pay_at(world, &node, 300, 600_000)?;
    let needed =
        reason.split_once(fee).with_context(|| format!("not which limit: {reason}"))?.1.trim().to_owned();

    limit(&node, &format!("max_fee_rate = 1000\nmax_fee = {needed}\ntop_up = false"))?;
    let top_up = ["needs 100000 sat more", "`top_up` under [policy] is false"];
    expect(&note(&node, 400_000)?, &top_up)?;
    expect(&pay_at(world, &node, 5, 400_000)?, &top_up)?;

    // What it says would do, does.
    limit(&node, &format!("max_fee_rate = 1000\nmax_fee = {needed}\ntop_up = true"))?;
    let (invoice, rate) = (world.receive(&node, Some(600_000))?, FeeRate::from_sat_per_vb_u32(60));
    let payment = Payment::at(world.payer(), &invoice.uri, Substitution::Allowed, rate)?;
    world.broadcast(&payment.exchange(&world.tls)?)?;
    node.await_intent(1, "confirming").or_else(|_| node.await_intent(1, "released")).map(drop)
}

/// It names the limit, and what would do.
fn expect(told: &str, parts: &[&str]) -> Result<()> {
    let missing = parts.iter().find(|part| !told.contains(**part));
    ensure!(missing.is_none(), "it should say {missing:?}: {told}");
    Ok(())
}

/// What a code says of this payment.
pub(super) fn note(node: &Daemon, sat: u64) -> Result<String> {
    let code = node.call(&["receive", "--amount", &sat.to_string()])?;
    Ok(code["note"].as_str().unwrap_or_default().to_owned())
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
