//! The daemon as a plugin of Core Lightning's.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint};
use serde_json::Value;
use xtask_programs::ports;

use super::Case;
use crate::harness::payer::amount_of;
use crate::harness::{Certificate, Fields, Foreign, Invoice, World, wait};

/// The cases.
pub(super) const CASES: &[Case] = &[Case {
    name: "cln-plugin",
    about: "lightningd starts payjoind as its plugin: queue, receive, a channel, a clean stop; a broken setting ends nothing",
    run: plugin,
}];

const PATIENCE: Duration = Duration::from_secs(60);

/// The settings of the plugin: how payers reach it. All else comes from lightningd.
fn settings(tls: &Certificate) -> Result<String> {
    let (Certificate { certificate, key, .. }, port) = (tls, ports::free()?);
    Ok(format!(
        "[http]\nlisten = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\n\
         public_endpoint = \"https://localhost:{port}\"\nrate_per_minute = 0\n\
         [bitcoind]\nblock_poll_ms = 200\nmempool_poll_ms = 200\n"
    ))
}

fn plugin(world: &World<'_>) -> Result<()> {
    let folder = world.folder("plugin")?;
    fs::write(folder.join("payjoind.toml"), settings(&world.tls)?)?;
    let words =
        [format!("--plugin={}", world.payjoind().display()), format!("--payjoin-dir={}", folder.display())];
    let own = world.cln("own", &words.each_ref().map(String::as_str))?;
    await_node(&own)?;
    for amount in [300_000, 100_000] {
        own.give(&world.chain, Amount::from_sat(amount))?;
    }

    let peer = world.daemon("peer")?;
    let queued = own.ask(&["payjoin-queue", &peer.peer, "500000"])?;
    ensure!(queued.text("state")? == "queued", "not queued: {queued}");
    let txid = world.pay(&code(&own)?)?;
    let intent = await_intent(&own, "released")?;
    ensure!(intent.txid("txid")? == txid, "the channel is not in {txid}: {intent}");
    let funding = OutPoint { txid, vout: u32::try_from(intent.number("vout")?)? };
    world.mine(6)?;
    peer.await_channel(funding)?;
    own.await_channel(funding)?;
    await_intent(&own, "open")?;
    own.pay(&peer.invoice(Amount::from_sat(50_000))?)?;
    let refused = own.ask(&["payjoin-receive", "much"]).err().context("no amount")?;
    ensure!(format!("{refused:#}").contains("payjoin-receive:"), "what is wrong? {refused:#}");

    // lightningd waits until it has ended.
    own.stop()?;
    ensure!(!folder.join("payjoind.sock").exists(), "the plugin did not end in peace");
    ensure!(own.log()?.contains("plugin-payjoind"), "nothing of it is in lightningd's log");
    own.run(&world.chain)?;
    await_node(&own)?;
    await_intent(&own, "open")?;
    own.stop()?;
    broken(world, &own, &folder)
}

/// What cannot be used is told, in the log and to whoever asks, and lightningd goes on.
fn broken(world: &World<'_>, own: &Rc<dyn Foreign>, folder: &Path) -> Result<()> {
    fs::write(folder.join("payjoind.toml"), "[http]\nlisten = \"127.0.0.1:1\"\n")?;
    own.run(&world.chain)?;
    let told = own.ask(&["payjoin-status"]).err().context("it runs with a broken setting")?;
    ensure!(format!("{told:#}").contains("`listen` is for TLS"), "what is wrong? {told:#}");
    wait::until("lightningd's log says it", PATIENCE, || {
        Ok(own.log()?.contains("payjoind does not run: ").then_some(()))
    })?;
    own.ask(&["getinfo"]).map(drop)
}

/// Waits until the node behind the plugin answers.
fn await_node(own: &Rc<dyn Foreign>) -> Result<()> {
    let mut last = String::new();
    let told = wait::until("the plugin has its node", PATIENCE, || {
        let told = own.ask(&["payjoin-status"]);
        last = format!("{told:?}");
        Ok(told.ok().filter(|told| told["node_id"].is_string()).map(drop))
    });
    told.with_context(|| format!("last: {last}"))
}

/// The only intent, in this state.
fn await_intent(own: &Rc<dyn Foreign>, state: &str) -> Result<Value> {
    wait::until(&format!("the channel is {state}"), PATIENCE, || {
        let told = own.ask(&["payjoin-list"])?;
        let intent = told.list("intents")?.first().cloned().context("no intent")?;
        Ok((intent["state"] == state).then_some(intent))
    })
}

/// A code for as much as the channel needs, once the wallet has its coins.
fn code(own: &Rc<dyn Foreign>) -> Result<Invoice> {
    let told = wait::until("there is a code", PATIENCE, || {
        let told = own.ask(&["payjoin-receive"])?;
        Ok(told["note"].is_null().then_some(told))
    })?;
    let uri = told.text("uri")?.to_owned();
    Ok(Invoice {
        id: told.text("invoice")?.to_owned(),
        endpoint: told.text("endpoint")?.to_owned(),
        address: told.text("address")?.to_owned(),
        amount: amount_of(&uri)?,
        uri,
    })
}
