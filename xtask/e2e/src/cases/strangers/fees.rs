//! Fee rates below 1 sat/vB.

use anyhow::{Result, ensure};
use bitcoin::{Amount, FeeRate, Txid};

use crate::harness::daemon::Options;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Fields, World, raw};

/// bitcoind relays, replaces and mines from this rate on.
const LOW: [&str; 3] =
    ["-minrelaytxfee=0.000001", "-incrementalrelayfee=0.000001", "-blockmintxfee=0.000001"];
/// 0.5 sat/vB.
const HALF: FeeRate = FeeRate::from_sat_per_kwu(125);

pub(in super::super) fn below_one(world: &World<'_>) -> Result<()> {
    world.chain.stop()?;
    world.chain.restart_with(&LOW, &["payer", "nested"])?;
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::at(world.payer(), &invoice.uri, Substitution::Allowed, HALF)?;
    let txid = world.broadcast(&payment.exchange(&world.tls)?)?;
    expect_half(world, txid, "a payjoin")?;
    world.mine(6)?;
    node.await_channel(node.funding(intent)?)?;

    let options = Options { policy: "min_fee_rate = 0.7", ..Options::default() };
    let strict = world.daemon_with("strict", options)?;
    let invoice = world.receive(&strict, Some(200_000))?;
    let less = Payment::at(world.payer(), &invoice.uri, Substitution::Allowed, HALF)?;
    let reply = raw::send_and_stay(strict.plain, &less.request()?)?;
    ensure!(reply.text().contains("The fee rate is too low."), "at half a satoshi: {}", reply.text());
    let enough = FeeRate::from_sat_per_kwu(180);
    let enough = Payment::at(world.payer(), &invoice.uri, Substitution::Allowed, enough)?;
    world.broadcast(&enough.exchange(&world.tls)?)?;
    world.mine(6)?;

    let address = world.payer().address("bech32")?;
    let amount = Amount::from_sat(50_000);
    let uri = format!("bitcoin:{address}?amount={}", amount.to_btc());
    let spender = world.daemon("spender")?;
    world.give(&spender, &[200_000])?;
    let sent = spender.call(&["send", &uri, "--fee-rate", "0.5", "--wait", "20"])?;
    expect_half(world, sent.txid("txid")?, "a payment of ours")?;
    let refused = spender.refusal(&["send", &uri, "--fee-rate", "0"])?;
    ensure!(refused.contains("from 0.001 to 1000 sat/vB"), "{refused}");
    world.mine(6)?;
    // The ledger knows only payments at the usual rate.
    spender.call(&["stop"])?;
    spender.kill();
    Ok(())
}

/// It waits in the mempool, and pays half a satoshi for each virtual byte, or the little more that rounding takes.
fn expect_half(world: &World<'_>, txid: Txid, what: &str) -> Result<()> {
    let (fee, vsize) = world.chain.mempool_fee(txid)?;
    let rate = fee.to_sat() as f64 / vsize as f64;
    println!("  {what} pays {rate:.3} sat/vB");
    ensure!((0.5..0.52).contains(&rate), "{what} pays {fee} for {vsize} vB");
    Ok(())
}
