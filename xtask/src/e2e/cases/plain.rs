//! Payments that stay on chain.

use anyhow::{Result, ensure};
use bitcoin::{Address, OutPoint, Txid};

use super::super::World;
use super::super::daemon::Daemon;
use super::super::json::Fields;
use super::super::payer::{Payment, Substitution};

pub(super) fn on_chain(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[300_000])?;
    let ours = only_coin(&node)?;
    let txid = world.pay(&world.receive(&node, Some(700_000))?)?;
    ensure!(node.payjoin()? == txid, "the payer broadcast another transaction than {txid}");
    expect_input(world, txid, ours)?;
    world.mine(1)?;
    let balance = node.call(&["wallet", "balance"])?.number("confirmed_sat")?;
    ensure!((999_000..=1_000_000).contains(&balance), "300,000 and 700,000 sat became {balance}");
    Ok(())
}

pub(super) fn empty_wallet(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let note = || Ok::<_, anyhow::Error>(node.call(&["receive"])?["note"].clone());
    ensure!(note()?.as_str().is_some_and(|note| note.contains("no confirmed coin")), "{}", note()?);
    let invoice = world.receive(&node, Some(600_000))?;
    let txid = world.pay(&invoice)?;
    ensure!(world.chain.transaction(txid)?.input.len() == 1, "an empty wallet added an input");
    expect_passed_over(&node, intent, "no free coin")?;
    world.mine(1)?;
    node.await_balance(invoice.amount)?;
    ensure!(note()?.is_null(), "the wallet has a coin now: {}", note()?);
    Ok(())
}

pub(super) fn substitution_off(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let ours = only_coin(&node)?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;

    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Forbidden)?;
    let payjoin = payment.exchange(&world.tls)?;
    let txid = world.broadcast(&payjoin)?;
    expect_input(world, txid, ours)?;
    let script = invoice.address.parse::<Address<_>>()?.assume_checked().script_pubkey();
    let kept = payjoin.output.iter().any(|o| o.script_pubkey == script && o.value >= invoice.amount);
    ensure!(kept, "the payment output was changed against the payer's word");
    expect_passed_over(&node, intent, "substitution")
}

pub(super) fn nested_segwit(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let ours = only_coin(&node)?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    // payjoin-cli cannot send from such a wallet.
    let payment = Payment::new(world.chain.known_wallet("nested"), &invoice.uri, Substitution::Allowed)?;
    let txid = world.broadcast(&payment.exchange(&world.tls)?)?;
    expect_input(world, txid, ours)?;
    expect_passed_over(&node, intent, "native segwit")?;
    ensure!(node.channels()? == 0, "a channel stands on a transaction id that could change");
    world.mine(1)
}

/// The channel waits, and the operator is told why.
fn expect_passed_over(node: &Daemon, intent: u64, why: &str) -> Result<()> {
    node.expect_queued(intent)?;
    let exchange = node.exchange()?;
    ensure!(exchange.text("reason")?.contains(why), "not the reason that was expected: {exchange}");
    Ok(())
}

fn only_coin(node: &Daemon) -> Result<OutPoint> {
    let coins = node.call(&["wallet", "coins"])?;
    let coins = coins.list("coins")?;
    ensure!(coins.len() == 1, "expected one coin: {coins:?}");
    coins[0].outpoint("outpoint")
}

/// Our coin is among the inputs: this is a payjoin, not the plain payment.
fn expect_input(world: &World<'_>, txid: Txid, ours: OutPoint) -> Result<()> {
    let transaction = world.chain.transaction(txid)?;
    let found = transaction.input.iter().any(|input| input.previous_output == ours);
    ensure!(found, "{txid} does not spend our coin {ours}: it is no payjoin");
    Ok(())
}
