//! The daemon is killed. After each restart one row of "After a crash" in ARCHITECTURE.md is true, and the ledger too.

use std::net::SocketAddr;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;

use crate::harness::World;
use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::raw::{self, Reply};
use crate::harness::{ledger, wait};

const OURS: Amount = Amount::from_sat(300_000);

/// A node with a coin and a queued channel, connected to the peer, and a payment on its way.
struct Scene<'a> {
    world: &'a World<'a>,
    node: Rc<Daemon>,
    peer: Rc<Daemon>,
    intent: u64,
    payment: Payment<'a>,
}

impl<'a> Scene<'a> {
    fn new(world: &'a World<'a>, policy: &'static str) -> Result<Self> {
        let options = Options { policy, ..Options::default() };
        let (node, peer) = (world.daemon_with("node", options)?, world.daemon("peer")?);
        world.give(&node, &[OURS.to_sat()])?;
        let intent = node.queue(&peer, "500000", &[])?;
        let invoice = world.receive(&node, Some(600_000))?;
        // The code is good although everything else is gone.
        node.kill();
        node.restart()?;
        // A peer that stands still cannot take a connection later.
        node.call(&["peer", "connect", &peer.peer])?;
        let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
        Ok(Self { world, node, peer, intent, payment })
    }

    fn post(&self) -> Result<Reply> {
        raw::send_and_stay(self.node.plain, &self.payment.request()?)
    }

    /// Posts the Original and kills the daemon while it waits for the peer's answer to `open_channel`.
    fn kill_while_opening(&self) -> Result<()> {
        self.peer.freeze()?;
        let reply = post_aside(self.node.plain, self.payment.request()?);
        self.node.await_intent(self.intent, "negotiating")?;
        self.node.step("open_channel")?;
        self.node.kill();
        let reply = reply.join().ok().context("the payer panicked")??;
        ensure!(reply.status().is_none(), "an answer from a dead daemon: {}", reply.text());
        Ok(())
    }

    /// Posts the Original, kills the daemon as soon as it reports this step, and starts it again. Gives what came back.
    fn kill_at(&self, step: &'static str) -> Result<Reply> {
        self.node.kill_at(step);
        let reply = self.post()?;
        self.node.await_death()?;
        self.node.restart()?;
        Ok(reply)
    }

    /// Between the two writes: the Original is owed, nothing else is left of the exchange. A frozen peer goes on after it.
    fn expect_unreleased(&self) -> Result<()> {
        let exchange = self.node.exchange()?;
        ensure!(exchange.text("state")? == "failed", "not released, so it failed: {exchange}");
        ensure!(exchange["payjoin_txid"].is_null(), "a payjoin without a release: {exchange}");
        let intent = self.node.intent(self.intent)?;
        ensure!(intent.text("state")? == "queued", "the intent should wait: {intent}");
        ensure!(!intent.text("reason")?.is_empty(), "the intent came back without a reason: {intent}");
        ensure!(self.node.locked()? == Amount::ZERO, "a coin is locked without a release");
        ensure!(self.node.channels()? == 0, "a channel without a release");
        ensure!(self.node.call(&["status"])?.number("obligations")? == 1, "the Original is forgotten");
        self.peer.thaw()?;
        ledger::check(self.world)
    }

    /// After write 2: the same bytes, the coin locked, one channel.
    fn expect_released(&self) -> Result<String> {
        let replies = [self.post()?, self.post()?];
        let [first, second] = replies.each_ref().map(Reply::body);
        ensure!(replies[0].status() == Some(200), "not served: {}", replies[0].text());
        ensure!(first == second, "the same Original got other bytes");
        let exchange = self.node.exchange()?;
        ensure!(exchange.text("state")? == "released", "not released: {exchange}");
        self.node.await_intent(self.intent, "released")?;
        ensure!(self.node.locked()? == OURS, "the offered coin is not locked");
        ensure!(self.node.channels()? == 1, "not exactly one channel");
        ledger::check(self.world)?;
        Ok(first)
    }

    /// Mines the payjoin; the channel opens and carries a payment, and it is the only one.
    fn expect_channel(&self) -> Result<()> {
        self.world.mine(6)?;
        let funding = self.node.funding(self.intent)?;
        self.node.await_channel(funding)?;
        self.peer.await_channel(funding)?;
        self.node.await_intent(self.intent, "open")?;
        for daemon in [&self.node, &self.peer] {
            ensure!(daemon.channels()? == 1, "{} has not exactly one channel", daemon.name);
        }
        self.node.pay(&self.peer, Amount::from_sat(50_000))
    }
}

fn post_aside(address: SocketAddr, request: Vec<u8>) -> JoinHandle<Result<Reply>> {
    thread::spawn(move || raw::send_and_stay(address, &request))
}

pub(super) fn admitted(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, "")?;
    scene.kill_while_opening()?;
    scene.node.restart()?;
    scene.expect_unreleased()?;

    let payjoin = scene.payment.exchange(&world.tls)?;
    scene.node.exchange().context("the same Original makes no second exchange")?;
    world.broadcast(&payjoin)?;
    scene.expect_channel()
}

pub(super) fn deadline(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, "fallback_seconds = 4")?;
    let begun = Instant::now();
    scene.kill_while_opening()?;
    scene.node.restart()?;
    scene.expect_unreleased()?;
    let original = scene.payment.original()?.compute_txid();
    wait::until("the Original is broadcast", Duration::from_secs(10), || {
        Ok(world.chain.mempool()?.contains(&original).then_some(()))
    })?;
    // It was admitted later than that, at a time in whole seconds.
    ensure!(begun.elapsed() >= Duration::from_secs(3), "broadcast before its time");
    world.settle()?;
    ensure!(scene.node.exchange()?.text("settled")? == "original", "not settled by the Original");
    scene.node.expect_queued(scene.intent)
}

pub(super) fn away(world: &World<'_>) -> Result<()> {
    // No block has come since its first start.
    let node = world.daemon("node")?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let reply = raw::send_and_stay(node.plain, &payment.request()?)?;
    ensure!(reply.status() == Some(200), "not served: {}", reply.text());
    node.kill();
    world.broadcast(&payment.original()?)?;
    world.chain.mine(1)?;
    node.restart()?;
    world.settle()?;
    ensure!(!node.exchange()?.text("settled")?.is_empty(), "not settled");
    node.await_balance(invoice.amount)
}

pub(super) fn unreleased(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, "")?;
    // Between the writes: the peer's signature is out or here.
    for step in ["open_channel", "accept_channel", "funding_created"] {
        scene.kill_at(step)?;
        scene.expect_unreleased().with_context(|| format!("killed at {step}"))?;
    }
    // The monitor is durable. The release follows within milliseconds, and now and then it is faster than we are.
    scene.kill_at("funding_signed")?;
    match scene.node.exchange()?.text("state")? {
        "released" => scene.expect_released().map(drop)?,
        _ => scene.expect_unreleased().context("killed at funding_signed")?,
    }
    let payjoin = scene.payment.exchange(&world.tls)?;
    world.broadcast(&payjoin)?;
    scene.expect_channel()
}

pub(super) fn released(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, "")?;
    // The answer may have left or not.
    let early = scene.kill_at("Proposal PSBT")?.body();
    let proposal = scene.expect_released()?;
    ensure!(early.is_empty() || early == proposal, "the payer got two different proposals");

    let payjoin = scene.payment.exchange(&world.tls)?;
    scene.node.kill();
    let txid = world.broadcast(&payjoin)?;
    scene.node.restart()?;
    ensure!(scene.expect_released()? == proposal, "the proposal changed");
    scene.node.step("broadcast")?;
    scene.node.kill();
    // Mined while nobody looks.
    world.chain.mine(1)?;
    scene.node.restart()?;
    ensure!(scene.node.await_intent(scene.intent, "confirming")?.txid("txid")? == txid, "another payjoin");
    scene.expect_channel()
}
