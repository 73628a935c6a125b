//! The house that the daemon stands in: who reads its output, who signals it, where its peers are.

use std::fs;
use std::io::Read;
use std::process::ChildStderr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;
use serde_json::Value;

use super::fees::note;
use super::{Case, bitcoind, fees, refusals};
use crate::harness::World;
use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::tls::Certificate;
use crate::harness::{raw, wait};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "output-unread",
        about: "nobody reads what the daemon writes: payers are served, what is due is sent, it stops, and says what it dropped",
        run: output_unread,
    },
    Case {
        name: "sighup",
        about: "SIGHUP in the middle of an exchange: certificate and limits are read again, the exchange goes on",
        run: sighup,
    },
    Case {
        name: "stop-fast",
        about: "half a head, half a body and a bitcoind that hangs: the daemon has stopped a few seconds later",
        run: stop_fast,
    },
    Case {
        name: "bitcoind-blocksonly",
        about: "bitcoind hears of no transactions and estimates no fees: a channel opens all the same",
        run: bitcoind::blocks_only,
    },
    Case {
        name: "bitcoind-whitelist",
        about: "bitcoind lets the user call too little: the start names what is missing, and with that it works",
        run: bitcoind::whitelist,
    },
    Case {
        name: "bitcoind-busy",
        about: "bitcoind's work queue holds one call and is full: the start waits, and a payer gets his channel",
        run: bitcoind::busy,
    },
    Case {
        name: "bitcoind-behind",
        about: "bitcoind is in its initial block download: the start waits and says how far it is, and offers no code",
        run: bitcoind::behind,
    },
    Case {
        name: "fee-spike",
        about: "fees above the limits, and coins that may not help: reason and code name the limit and what would do",
        run: fees::spike,
    },
    Case {
        name: "peer-address",
        about: "a wrong address of a peer never takes the place of one that worked",
        run: peer_address,
    },
    Case {
        name: "config-refusals",
        about: "settings that cannot work, each with its message, and nothing is left behind",
        run: refusals::settings,
    },
];

const PATIENCE: Duration = Duration::from_secs(30);
/// What a pipe holds at least.
const PIPE: usize = 64 * 1024;

fn output_unread(world: &World<'_>) -> Result<()> {
    let options = Options { policy: "fallback_seconds = 8", poll_ms: Some(20), ..Options::default() };
    let (node, peer) = (world.daemon_with("node", options)?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    node.queue(&peer, "500000", &[])?;
    node.terminate()?;
    let stderr = node.restart_unread()?;
    node.await_peers(1)?;
    for _ in 0..300 {
        node.call(&["status"])?;
    }
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    payment.exchange(&world.tls)?;
    let original = payment.original()?;
    wait::until("the Original is sent", PATIENCE, || {
        Ok(world.chain.mempool()?.contains(&original.compute_txid()).then_some(()))
    })?;
    let unread = read_what_was_dropped(&node, stderr)?;
    // From here on nobody reads again.
    for _ in 0..300 {
        node.call(&["status"])?;
    }
    let took = node.terminate()?;
    ensure!(took < Duration::from_secs(15), "it took {took:?} to stop");
    drop(unread);
    node.restart()?;
    world.broadcast(&original)?;
    world.settle()
}

/// Somebody reads again, until he hears that something was dropped.
fn read_what_was_dropped(node: &Daemon, mut stderr: ChildStderr) -> Result<ChildStderr> {
    let reading = thread::spawn(move || {
        let (mut read, mut piece) = (Vec::new(), vec![0; PIPE]);
        while let Ok(length @ 1..) = stderr.read(&mut piece) {
            read.extend_from_slice(&piece[..length]);
            if String::from_utf8_lossy(&read).contains("lines of the log were dropped") {
                return (read.len(), stderr);
            }
        }
        (0, stderr)
    });
    wait::until("it says what it dropped", PATIENCE, || {
        node.call(&["status"])?;
        Ok(reading.is_finished().then_some(()))
    })?;
    let (length, unread) = reading.join().ok().context("the reader panicked")?;
    ensure!(length >= PIPE, "the pipe was never full, or nothing was said: {length}");
    Ok(unread)
}

fn sighup(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000, 400_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    limits_are_read_again(&node)?;

    // In the middle of an exchange.
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    peer.freeze()?;
    let mut payer = raw::begin(node.plain, &payment.request()?)?;
    node.await_intent(intent, "negotiating")?;
    node.change_settings(|text| text.replace("[policy]", "[policy]\nburial = 5"))?;
    node.signal("HUP")?;
    await_log(&node, "[policy] `burial` changed and need a restart")?;
    peer.thaw()?;
    let mut reply = String::new();
    payer.read_to_string(&mut reply)?;
    let proposal = reply.split_once("\r\n\r\n").context("no reply to the payer")?.1;
    ensure!(reply.starts_with("HTTP/1.1 200"), "the exchange did not go on: {reply}");
    world.broadcast(&payment.signed(proposal)?)?;
    node.await_intent(intent, "released")?;
    certificate_is_read_again(world, &node)?;
    world.settle()
}

fn limits_are_read_again(node: &Daemon) -> Result<()> {
    ensure!(note(node, 600_000)?.is_empty(), "something is in the way from the start");
    node.change_settings(|text| text.replace("[policy]", "[policy]\nmax_fee = 7"))?;
    node.signal("HUP")?;
    await_log(node, "[policy] `max_fee`")?;
    let told = note(node, 600_000)?;
    ensure!(told.contains("`max_fee` under [policy] is 7"), "the limit was not taken over: {told}");
    let good = fs::read_to_string(node.folder().join("payjoind.toml"))?;
    node.change_settings(|_| "[policy]\nmax_fee = many".to_owned())?;
    node.signal("HUP")?;
    await_log(node, "Nothing was changed")?;
    ensure!(note(node, 600_000)? == told, "a broken file changed something");
    node.change_settings(|_| good.replace("\nmax_fee = 7", ""))?;
    node.signal("HUP")?;
    wait::until("the limit is lifted", PATIENCE, || Ok(note(node, 600_000)?.is_empty().then_some(())))
}

/// By itself, and with its end told.
fn certificate_is_read_again(world: &World<'_>, node: &Daemon) -> Result<()> {
    let folder = world.folder("renewed")?;
    let renewed = Certificate::new(&folder)?;
    replace(&renewed, &world.tls)?;
    let code = world.receive(node, Some(100_000))?;
    let payment = Payment::new(world.payer(), &code.uri, Substitution::Allowed)?;
    let payjoin =
        wait::until("payers see the new certificate", PATIENCE, || Ok(payment.exchange(&renewed).ok()))?;
    world.broadcast(&payjoin)?;
    ensure!(node.call(&["status"])?["certificate_warning"].is_null(), "a certificate for years ends soon");
    replace(&Certificate::until(&folder, 2020)?, &world.tls)?;
    node.signal("HUP")?;
    let warning = wait::until("status tells that it has ended", PATIENCE, || {
        Ok(node.call(&["status"])?["certificate_warning"].as_str().map(str::to_owned))
    })?;
    ensure!(warning.contains("has ended"), "not that it has ended: {warning}");
    Ok(())
}

fn replace(new: &Certificate, old: &Certificate) -> Result<()> {
    for (new, old) in [(&new.certificate, &old.certificate), (&new.key, &old.key)] {
        fs::copy(new, old)?;
    }
    Ok(())
}

fn await_log(node: &Daemon, part: &str) -> Result<()> {
    wait::until(&format!("the log says {part:?}"), PATIENCE, || Ok(node.log()?.contains(part).then_some(())))
}

fn stop_fast(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[300_000])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let request = payment.request()?;
    let head = raw::begin(node.plain, b"POST / HTTP/1.1\r\nHost: local")?;
    let body = raw::begin(node.plain, &request[..request.len() - 100])?;
    thread::sleep(Duration::from_millis(500));
    let took = node.terminate()?;
    ensure!(took < Duration::from_secs(6), "beside half a head and half a body it took {took:?}");
    drop((head, body));

    node.restart()?;
    world.chain.freeze()?;
    let waiting = raw::begin(node.plain, &request)?;
    thread::sleep(Duration::from_secs(1));
    let took = node.terminate();
    world.chain.thaw()?;
    let took = took?;
    ensure!(took < Duration::from_secs(12), "beside a bitcoind that hangs it took {took:?}");
    drop(waiting);

    // Nothing was lost.
    node.restart()?;
    world.broadcast(&payment.exchange(&world.tls)?)?;
    node.step("broadcast")?;
    world.settle()
}

fn peer_address(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let id = peer.peer.split('@').next().unwrap_or_default();
    let wrong = format!("{id}@127.0.0.1:1");
    let refusal = node.refusal(&["peer", "connect", &wrong])?;
    ensure!(refusal.contains("no connection to 127.0.0.1:1"), "not what failed: {refusal}");
    let missed = node.call(&["peer", "list"])?;
    let missed = missed.list("peers")?.first().cloned().unwrap_or(Value::Null);
    ensure!(
        !missed.flag("connected")? && missed.text("error")?.contains("127.0.0.1:1"),
        "not told: {missed}"
    );

    let told = node.call(&["peer", "connect", &peer.peer])?;
    ensure!(told["note"].is_null(), "it is where it was looked for: {told}");
    let told = node.call(&["peer", "connect", &wrong])?;
    ensure!(
        told.text("note")?.contains("connected before"),
        "a live connection is no success of another address: {told}"
    );

    // A queued channel with the wrong address, too: after a restart the peer is reached, and the channel opens.
    let intent = node.queue_to(&wrong, "500000", &[])?;
    node.terminate()?;
    node.restart()?;
    node.await_peers(1)?;
    let all = node.call(&["peer", "list"])?;
    let there = all.list("peers")?.first().cloned().unwrap_or(Value::Null);
    ensure!(there.text("address")? == peer.peer, "not where it was reached: {there}");
    world.pay(&world.receive(&node, Some(600_000))?)?;
    world.mine(6)?;
    let channel = node.await_channel(node.funding(intent)?)?;
    ensure!(channel.text("peer")? == id, "a channel with somebody else: {channel}");

    invoices(&node, &peer)
}

/// One of our own is not paid, and none with another amount than its own.
fn invoices(node: &Daemon, peer: &Daemon) -> Result<()> {
    let ours = node.call(&["invoice", "1500"])?;
    let refusal = node.refusal(&["pay", ours.text("bolt11")?])?;
    ensure!(refusal.contains("an invoice of this node itself"), "not whose it is: {refusal}");
    let theirs = peer.call(&["invoice", "1500"])?;
    let refusal = node.refusal(&["pay", theirs.text("bolt11")?, "--amount", "1500"])?;
    ensure!(refusal.contains("asks for 1500 sat"), "not what it asks for: {refusal}");
    node.pay(peer, Amount::from_sat(1_500))
}
