//! Payments of ours to somebody else's receiver.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint, Transaction};
use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::mailroom::Mailroom;
use crate::harness::wait;

const PRICE: u64 = 150_000;
const COINS: [u64; 2] = [300_000, 250_000];

pub(super) fn v1(world: &World<'_>) -> Result<()> {
    let options = Options { payjoin: trusting(world), ..Options::default() };
    let node = world.daemon_with("node", options)?;
    world.give(&node, &COINS)?;
    let receiver = world.receiving(PRICE).v1(&world.tls)?;
    let told = world.send(&node, &receiver.uri, receiver.amount, 60)?;
    expect_payjoin(world, &node, &told)
}

pub(super) fn v2(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    // The second relay is the directory itself and refuses: the first one stands in for it.
    let node = daemon(world, &[&relay, &directory])?;
    let receiver = world.receiving(PRICE).v2(&relay, &directory, 600)?;
    let told = world.send(&node, &receiver.uri, receiver.amount, 60)?;
    expect_payjoin(world, &node, &told)
}

pub(super) fn fallback(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let node = daemon(world, &[&relay])?;
    let receiver = world.receiving(PRICE).v2(&relay, &directory, 7)?;
    let (uri, amount) = (receiver.uri.clone(), receiver.amount);
    drop(receiver);

    let told = world.send(&node, &uri, amount, 0)?;
    ensure!(told.text("status")? == "pending", "nobody can have answered: {told}");
    let locked = node.locked()?;
    ensure!(locked >= amount, "the coins of the payment are not locked: {locked}");
    // A post that breaks off leaves the directory with half a message, which it never replaces.
    node.step("posted")?;
    node.kill();
    node.restart()?;
    ensure!(node.locked()? == locked, "the restart changed the locks");

    let told = world.send(&node, &uri, amount, 15)?;
    expect_original(world, &told, "the payment request has expired")?;
    world.settle()?;
    ensure!(node.locked()? == Amount::ZERO, "a buried payment still locks coins");
    let again = world.send(&node, &uri, amount, 0)?;
    ensure!(again == told, "the code was paid twice, or the story changed: {again}");
    Ok(())
}

pub(super) fn double_spent(world: &World<'_>) -> Result<()> {
    let options = Options { payjoin: trusting(world), ..Options::default() };
    let node = world.daemon_with("node", options)?;
    world.give(&node, &COINS)?;
    let receiver = world.receiving(PRICE).v1(&world.tls)?;
    let told = world.send(&node, &receiver.uri, receiver.amount, 60)?;
    ensure!(told.text("status")? == "payjoin", "no payjoin: {told}");

    let payjoin = told.txid("txid")?;
    let theirs = inputs_of_payer(world, &world.chain.transaction(payjoin)?)?;
    let coin = theirs.first().context("no input of the receiver")?;
    let rest = world.chain.output(*coin)?.value - Amount::from_sat(30_000);
    let output = json!({ world.payer().address("bech32")?: rest.to_btc() });
    let input = json!([{ "txid": coin.txid, "vout": coin.vout }]);
    let theft = world.chain.call("createpsbt", json!([input, [output]]))?;
    let theft = world.payer().sign(&theft.as_str().context("no PSBT")?.parse()?)?.extract_tx()?;
    world.chain.broadcast(&theft)?;
    ensure!(world.chain.confirmations(payjoin)?.is_none(), "the payjoin was not replaced");
    world.mine(1)?;

    let told = wait::until("the Original is paid instead", Duration::from_secs(10), || {
        let told = world.send(&node, &receiver.uri, receiver.amount, 0)?;
        Ok((told.text("status")? == "original").then_some(told))
    })?;
    expect_original(world, &told, "the network refuses the payjoin")?;
    world.settle()?;
    ensure!(node.locked()? == Amount::ZERO, "a buried payment still locks coins");
    Ok(())
}

pub(super) fn relay_down(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let node = daemon(world, &[&relay])?;
    let receiver = world.receiving(PRICE).v2(&relay, &directory, 5)?;
    drop(relay);
    let told = world.send(&node, &receiver.uri, receiver.amount, 15)?;
    expect_original(world, &told, "the receiver could not be reached")?;

    let address = world.payer().address("bech32")?;
    let told =
        world.send(&node, &format!("bitcoin:{address}?amount=0.001"), Amount::from_sat(100_000), 15)?;
    expect_original(world, &told, "the receiver does not ask for a payjoin")
}

pub(super) fn directory_restart(world: &World<'_>) -> Result<()> {
    let [relay, mut directory] = world.mailrooms()?;
    let node = daemon(world, &[&relay])?;
    let receiving = world.receiving(PRICE);
    let receiver = receiving.v2(&relay, &directory, 600)?;
    let (uri, amount) = (receiver.uri.clone(), receiver.amount);
    drop(receiver);
    let told = world.send(&node, &uri, amount, 0)?;
    ensure!(told.text("status")? == "pending", "nobody can have answered: {told}");
    node.step("posted")?;

    directory.stop();
    sleep(Duration::from_secs(4));
    directory.run()?;
    let _receiver = receiving.resume(&relay)?;
    let told = world.send(&node, &uri, amount, 60)?;
    expect_payjoin(world, &node, &told)
}

/// Its wallet has coins and it knows these relays.
fn daemon(world: &World<'_>, relays: &[&Mailroom]) -> Result<std::rc::Rc<Daemon>> {
    let relays: Vec<_> = relays.iter().map(|relay| relay.url()).collect();
    let options = Options { payjoin: format!("ohttp_relays = {relays:?}"), ..Options::default() };
    let node = world.daemon_with("node", options)?;
    world.give(&node, &COINS)?;
    Ok(node)
}

fn trusting(world: &World<'_>) -> String {
    format!("root_certificate = {:?}", world.tls.certificate)
}

/// A coin of the receiver's is in the transaction, and ours are locked until it is buried.
fn expect_payjoin(world: &World<'_>, node: &Daemon, told: &Value) -> Result<()> {
    ensure!(told.text("status")? == "payjoin" && told["reason"].is_null(), "no payjoin: {told}");
    let payjoin = world.chain.transaction(told.txid("txid")?)?;
    ensure!(!inputs_of_payer(world, &payjoin)?.is_empty(), "no input of the receiver: it is no payjoin");
    ensure!(node.call(&["status"])?.number("payments")? == 1, "the payment is not followed");
    world.settle()?;
    ensure!(node.locked()? == Amount::ZERO, "a buried payment still locks coins");
    Ok(())
}

fn inputs_of_payer(world: &World<'_>, transaction: &Transaction) -> Result<Vec<OutPoint>> {
    let mut theirs = Vec::new();
    for input in &transaction.input {
        if world.payer().owns(&world.chain.output(input.previous_output)?)? {
            theirs.push(input.previous_output);
        }
    }
    Ok(theirs)
}

fn expect_original(world: &World<'_>, told: &Value, reason: &str) -> Result<()> {
    ensure!(told.text("status")? == "original", "no plain payment: {told}");
    ensure!(told.text("reason")?.starts_with(reason), "not the reason that was expected: {told}");
    ensure!(world.chain.confirmations(told.txid("txid")?)? == Some(0), "the Original is not on its way");
    Ok(())
}
