//! Money is seen: by the operator, and by his programs.

mod receiver;

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;
use serde_json::Value;
use xtask_programs::ports;
use xtask_programs::process::Server;

use super::Case;
use crate::harness::World;
use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::payer::FEE_RATE;
use crate::harness::wait;
use receiver::Receiver;

/// The cases.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "payments-seen",
        about: "terms before the payment, every payment with label and outcome after it, events and `wait` through a restart",
        run: payments_seen,
    },
    Case {
        name: "webhook",
        about: "the receiver is down for a while, the daemon is killed: each event arrives, in order and signed",
        run: webhook,
    },
];

const PATIENCE: Duration = Duration::from_secs(30);

fn payments_seen(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    let intent = terms(world, &node, &peer)?;
    // Too small for the channel: no coin of ours makes up for it.
    world.pay(&world.receive(&node, Some(10_000))?)?;
    node.expect_queued(intent)?;
    world.settle()?;
    let follower = Follower::start(&node)?;
    let names = ["--label", "order, \"17\"", "--id", "=17"];
    let invoice = world.receive_by(&node, Some(300_000), &names)?;
    let mut waiting = Waiter::start(&node, &invoice.id)?;
    let txid = world.pay(&invoice)?;
    let seen = follower.await_event("payment_seen", |event| event["txid"] == txid.to_string())?;
    ensure!(seen.text("label")? == "order, \"17\"" && seen.text("own_id")? == "=17", "no words: {seen}");
    ensure!(seen.number("amount_sat")? == 300_000, "another amount: {seen}");

    // What the restarted daemon tells is what it had told, and goes on.
    node.kill();
    world.mine(1)?;
    node.restart()?;
    follower.await_event("payment_confirmed", |event| event["txid"] == txid.to_string())?;
    ensure!(waiting.ended()? == 0, "`wait` does not say that it is paid");
    world.settle()?;
    follower.await_event("payment_settled", |event| event["detail"] == "payjoin")?;
    let usable = follower.await_event("channel_usable", |_| true)?;
    ensure!(usable.text("invoice")? == invoice.id, "whose channel? {usable}");
    let paid = row(&node, |row| row["txid"] == txid.to_string())?;
    ensure!(paid["way"] == "payjoin" && paid["outcome"] == "settled" && paid["direction"] == "in", "{paid}");
    ensure!(paid.list("channels")?.len() == 1 && paid.number("confirmations")? >= 6, "{paid}");
    ensure!(paid.number("fee_sat")? > 0 && paid.number("amount_sat")? == 300_000, "{paid}");
    paid.number("saved_sat")?;

    plain(world, &node, &follower)?;
    over_lightning(&node, &peer, &follower)?;
    expired(&node, &follower)?;
    spreadsheet(&node)?;
    follower.expect_no_gap()
}

/// What the payment will do is said before anybody pays.
fn terms(world: &World<'_>, node: &Daemon, peer: &Daemon) -> Result<u64> {
    let intent = node.queue(peer, "250000", &[])?;
    let text = |more: &[&str]| {
        let told = node.call(&[&["receive", "--amount", "10000"], more].concat())?;
        Ok::<_, anyhow::Error>((told["terms"].text("text")?.to_owned(), told))
    };
    let (poor, _) = text(&[])?;
    ensure!(poor.starts_with("opens no channel: the wallet has no confirmed coin"), "{poor}");
    world.give(node, &[300_000, 100_000])?;
    let (small, _) = text(&[])?;
    ensure!(
        small.contains("needs 240000 sat more than the payment") && small.contains("--top-up"),
        "{small}"
    );
    let (topped, told) = text(&["--top-up"])?;
    ensure!(topped.starts_with("opens 250000 sat with ") && topped.contains("240000 sat"), "{topped}");
    ensure!(told["terms"]["channels"][0].number("intent")? == intent, "{told}");
    let whole = node.call(&["receive", "--amount", "300000"])?;
    ensure!(whole["terms"].number("from_wallet_sat")? == 0, "{whole}");
    Ok(intent)
}

/// An ordinary wallet's payment.
fn plain(world: &World<'_>, node: &Daemon, follower: &Follower) -> Result<()> {
    let ordinary = world.receive(node, Some(70_000))?;
    let payer = world.payer();
    let plain = payer.payment(&ordinary.address, Amount::from_sat(70_000), FEE_RATE)?.extract_tx()?;
    let txid = world.broadcast(&plain)?;
    let seen = follower.await_event("payment_seen", |event| event["txid"] == txid.to_string())?;
    ensure!(seen["detail"] == "plain" && seen.number("amount_sat")? == 70_000, "{seen}");
    let told = row(node, |row| row["txid"] == txid.to_string())?;
    ensure!(told["way"] == "plain" && told["outcome"] == "pending", "{told}");
    let shown = node.call(&["payment", "show", &told.number("id")?.to_string()])?;
    ensure!(shown == told, "{shown} is not {told}");
    world.settle()
}

fn over_lightning(node: &Daemon, peer: &Daemon, follower: &Follower) -> Result<()> {
    node.pay(peer, Amount::from_sat(20_000))?;
    let sent = follower.await_event("lightning_sent", |_| true)?;
    ensure!(sent.number("amount_sat")? == 20_000, "{sent}");
    peer.pay(node, Amount::from_sat(5_000))?;
    let received = follower.await_event("lightning_received", |_| true)?;
    ensure!(received.number("amount_sat")? == 5_000, "{received}");
    for (direction, sat) in [("out", 20_000), ("in", 5_000)] {
        let told = row(node, |row| row["way"] == "lightning" && row["direction"] == direction)?;
        ensure!(told.number("amount_sat")? == sat && told["outcome"] == "settled", "{told}");
    }
    Ok(())
}

fn expired(node: &Daemon, follower: &Follower) -> Result<()> {
    let code = node.call(&["receive", "--amount", "9000", "--expires", "2s"])?;
    let code = code.text("invoice")?;
    let mut waiting = Waiter::start(node, code)?;
    ensure!(waiting.ended()? == 3, "`wait` does not say that it has expired");
    follower.await_event("code_expired", |event| event["invoice"] == code).map(drop)
}

/// A label that a spreadsheet would compute is shown to it as text.
fn spreadsheet(node: &Daemon) -> Result<()> {
    let csv = node.print(&["payment", "list", "--csv"])?;
    ensure!(csv.starts_with("id,created,direction,way,"), "no head: {csv}");
    ensure!(csv.contains("\"order, \"\"17\"\"\"") && csv.contains("\"'=17\""), "not harmless: {csv}");
    Ok(())
}

/// The payment that is so, once it is listed.
fn row(node: &Daemon, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    wait::until("the payment is listed", PATIENCE, || {
        let told = node.call(&["payment", "list"])?;
        Ok(told.list("payments")?.iter().find(|row| is_it(row)).cloned())
    })
}

/// `payjoind events --follow` with everything that it printed.
struct Follower {
    // Dropped with it: ends the process.
    _server: Server,
    printed: std::path::PathBuf,
}

impl Follower {
    fn start(node: &Daemon) -> Result<Self> {
        let printed = node.folder().with_file_name("events");
        let mut command = node.command();
        command.args(["events", "--follow", "--since", "0"]);
        let server = Server::start(command.stdout(File::create(&printed)?).stderr(Stdio::null()))?;
        Ok(Self { _server: server, printed })
    }

    fn events(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.printed)?;
        // The last line may be written just now.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    fn await_event(&self, kind: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(&format!("the event {kind}"), PATIENCE, || {
            Ok(self.events()?.into_iter().find(|event| event["kind"] == kind && is_it(event)))
        })
    }

    fn expect_no_gap(&self) -> Result<()> {
        let ids: Vec<u64> = self.events()?.iter().filter_map(|event| event["id"].as_u64()).collect();
        ensure!(ids == (1..=ids.len() as u64).collect::<Vec<_>>(), "a gap: {ids:?}");
        Ok(())
    }
}

/// `payjoind wait` for a code.
struct Waiter(Server);

impl Waiter {
    fn start(node: &Daemon, code: &str) -> Result<Self> {
        let mut command = node.command();
        command.args(["wait", code]);
        Ok(Self(Server::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?))
    }

    /// Its exit code.
    fn ended(&mut self) -> Result<i32> {
        let status = wait::until("`wait` ends", PATIENCE, || self.0.ended())?;
        status.code().context("it was killed")
    }
}

fn webhook(world: &World<'_>) -> Result<()> {
    let port = ports::free()?;
    let payjoin =
        format!("[webhook]\nurl = \"http://127.0.0.1:{port}/hook\"\nsecret = \"{}\"", receiver::SECRET);
    let receiver = Receiver::start(port)?;
    let node = world.daemon_with("node", Options { payjoin, ..Options::default() })?;
    let invoice = world.receive_by(&node, Some(200_000), &["--label", "tea"])?;
    let created = receiver.await_event("code_created")?;
    ensure!(created.text("label")? == "tea" && created.text("invoice")? == invoice.id, "{created}");

    // While it is down, a payment comes, and the daemon dies.
    let mut known = receiver.stop();
    let payment =
        world.payer().payment(&invoice.address, Amount::from_sat(200_000), FEE_RATE)?.extract_tx()?;
    world.broadcast(&payment)?;
    row(&node, |row| row["txid"] == payment.compute_txid().to_string())?;
    node.kill();
    world.mine(1)?;
    node.restart()?;
    let receiver = Receiver::start(port)?;
    receiver.await_event("payment_seen")?;
    receiver.await_event("payment_confirmed")?;
    world.settle()?;
    receiver.await_event("payment_settled")?;

    known.extend(receiver.stop());
    let ids: Vec<u64> = known.iter().filter_map(|event| event["id"].as_u64()).collect();
    ensure!(ids.is_sorted(), "not in order: {ids:?}");
    let mut once = ids.clone();
    once.dedup();
    ensure!(once == (1..=once.len() as u64).collect::<Vec<_>>(), "one is missing: {ids:?}");
    Ok(())
}
