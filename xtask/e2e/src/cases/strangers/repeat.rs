//! One payment in several shapes, and several payments of one code.

use anyhow::{Context, Result, ensure};
use bitcoin::psbt::raw::ProprietaryKey;
use bitcoin::{Amount, OutPoint, Psbt};

use crate::harness::payer::{Payment, Substitution};
use crate::harness::raw::{self, Reply};
use crate::harness::{Daemon, Fields, Invoice, World};

const OFFER: &str = "additionalfeeoutputindex";

pub(in super::super) fn anew(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000, 200_000, 400_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    world.payer().lock(&payment.original()?)?;

    let first = post(&node, &payment.target()?, payment.psbt())?;
    ensure!(first.status() == Some(200), "no proposal: {}", first.text());
    let locked = node.locked()?;
    ensure!(locked == Amount::from_sat(200_000), "the smallest coin serves; {locked} is shown");
    same_answer(&node, &payment, &first)?;
    other_terms(&node, &payment)?;
    ensure!(node.locked()? == locked, "another coin was shown");
    ensure!(node.call(&["exchange", "list"])?.list("exchanges")?.len() == 1, "it is one attempt");

    let shown = ours(&payment, &first.body().parse()?)?;
    another(world, &node, &invoice, &shown)?;
    let payjoin = payment.signed(&first.body())?;
    world.broadcast(&payjoin)?;
    // What was shown is spent: there is nothing to show.
    another(world, &node, &invoice, &[])?;
    world.mine(6)?;
    node.await_channel(node.funding(intent)?)?;
    node.pay(&peer, Amount::from_sat(50_000))?;
    for daemon in [&node, &peer] {
        let log = daemon.log()?;
        let error = log.lines().find(|line| line.contains(" ERROR "));
        ensure!(error.is_none(), "{}: a channel that was only asked for is an error: {error:?}", daemon.name);
    }
    // It is owed the Originals of those who only looked; the ledger knows none.
    node.call(&["stop"])?;
    node.kill();
    Ok(())
}

fn post(node: &Daemon, target: &str, psbt: &Psbt) -> Result<Reply> {
    let body = psbt.to_string();
    let head = "Host: localhost\r\nContent-Type: text/plain";
    let request = format!("POST {target} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    raw::send_and_stay(node.plain, request.as_bytes())
}

/// Encoded anew, and with another query that allows the same.
fn same_answer(node: &Daemon, payment: &Payment<'_>, first: &Reply) -> Result<()> {
    let mut encoded = payment.psbt().clone();
    encoded.proprietary.insert(ProprietaryKey { prefix: b"x".to_vec(), subtype: 1, key: vec![] }, vec![1]);
    let (target, asks_less) = (payment.target()?, format!("{}&z=1", payment.target()?));
    for (target, psbt) in [(&target, payment.psbt()), (&target, &encoded), (&asks_less, &encoded)] {
        let again = post(node, target, psbt)?;
        ensure!(again.body() == first.body(), "another answer to {target}: {}", again.text());
    }
    Ok(())
}

/// What was answered breaks what these ask for.
fn other_terms(node: &Daemon, payment: &Payment<'_>) -> Result<()> {
    let target = payment.target()?;
    ensure!(target.contains(OFFER), "no offer in {target}");
    let without = target.replace(OFFER, "x");
    for target in [
        format!("{target}&disableoutputsubstitution=true"),
        without,
        target.replace("minfeerate=", "minfeerate=9"),
    ] {
        let refused = post(node, &target, payment.psbt())?;
        let text = refused.text();
        ensure!(refused.status() == Some(400) && text.contains("on other terms"), "{target}: {text}");
    }
    Ok(())
}

/// Another payment of the same code, with other coins of the payer's, gets these coins of ours and no others.
fn another(world: &World<'_>, node: &Daemon, invoice: &Invoice, coins: &[OutPoint]) -> Result<()> {
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let reply = post(node, &payment.target()?, payment.psbt())?;
    ensure!(reply.status() == Some(200), "no proposal: {}", reply.text());
    world.payer().lock(&payment.original()?)?;
    let shown = ours(&payment, &reply.body().parse()?)?;
    ensure!(shown == coins, "{shown:?} is shown instead of {coins:?}");
    Ok(())
}

/// What a proposal spends beside the payer's coins.
fn ours(payment: &Payment<'_>, proposal: &Psbt) -> Result<Vec<OutPoint>> {
    let theirs: Vec<_> = payment.original()?.input.iter().map(|input| input.previous_output).collect();
    let all = proposal.unsigned_tx.input.iter().map(|input| input.previous_output);
    let ours: Vec<_> = all.filter(|coin| !theirs.contains(coin)).collect();
    proposal.inputs.first().context("a proposal without inputs")?;
    Ok(ours)
}
