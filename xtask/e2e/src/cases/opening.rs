//! Channels from coins of the wallet alone.

use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint};

use super::Case;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Daemon, Fields, Options, World, ledger, raw, wait};

/// The cases.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "channel-open",
        about: "the wallet opens a channel at once; without coins it says what is missing; a code that is out is paid plainly",
        run: at_once,
    },
    Case {
        name: "channel-open-crash",
        about: "kill -9 at each step of an opening: nothing is left, never two, and the order is carried out",
        run: crash,
    },
    Case {
        name: "queue-within",
        about: "no payment came in time: the wallet opens the channel, across a restart, never while a payment has it",
        run: within,
    },
    Case {
        name: "queue-first-payment",
        about: "the first payment to an empty wallet becomes a channel once it is mined",
        run: first_payment,
    },
    Case { name: "cln-channel-open", about: "Core Lightning's coins open a channel at once", run: by_cln },
    Case { name: "lnd-channel-open", about: "LND's coins open a channel at once", run: by_lnd },
];

const CHANNEL: &str = "500000";
const PAYMENT: Amount = Amount::from_sat(50_000);
const PATIENCE: Duration = Duration::from_secs(30);

fn open(node: &Daemon, peer: &Daemon) -> Result<(u64, OutPoint)> {
    let told = super::operator::show(node, &["channel", "open"], &[&peer.peer, CHANNEL])?;
    ensure!(told["waits"].is_null(), "it was not sent: {told}");
    let funding = OutPoint { txid: told.txid("txid")?, vout: u32::try_from(told.number("vout")?)? };
    Ok((told.number("intent")?, funding))
}

/// Buried, open, and good for a payment.
fn expect_open(world: &World<'_>, node: &Daemon, peer: &Daemon, intent: u64) -> Result<()> {
    let funding = node.funding(intent)?;
    world.mine(6)?;
    let channel = node.await_channel(funding)?;
    ensure!(channel.number("capacity_sat")?.to_string() == CHANNEL, "wrong capacity: {channel}");
    peer.await_channel(funding)?;
    node.await_intent(intent, "open")?;
    node.pay(peer, PAYMENT)
}

fn at_once(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    let refusal = node.refusal(&["channel", "open", &peer.peer, CHANNEL])?;
    ensure!(refusal.contains("sat are missing"), "not what is missing: {refusal}");
    let refusal = node.refusal(&["channel", "open", &peer.peer, "rest"])?;
    ensure!(refusal.contains("nobody pays here"), "not why: {refusal}");
    let told = node.call(&["channel", "list", "--all"])?;
    ensure!(told.list("intents")?.iter().all(|one| one["state"] == "cancelled"), "still wanted: {told}");

    world.give(&node, &[700_000, 300_000])?;
    let invoice = world.receive(&node, Some(200_000))?;
    let (intent, funding) = open(&node, &peer)?;
    node.step("opening")?;
    node.await_intent(intent, "released")?;
    ensure!(node.funding(intent)? == funding, "another funding output");
    wait::until("the mempool has it", PATIENCE, || {
        Ok(world.chain.mempool()?.contains(&funding.txid).then_some(()))
    })?;
    ensure!(node.locked()? == Amount::from_sat(700_000), "not the smallest coin that serves");
    let told = node.call(&["channel", "list"])?;
    let why = told.list("channels")?.first().context("no channel")?.text("why")?.to_owned();
    ensure!(why.starts_with("not confirmed yet: 0/"), "not why it cannot be used: {why}");
    let slots = told.list("slots")?.first().with_context(|| format!("no slot is taken: {told}"))?;
    ensure!(slots.number("taken")? == 1 && slots.number("free_at")? > 2_000, "wrong slots: {slots}");
    ledger::check(world)?;
    // The other coin is free, and the queue is empty: a plain payjoin.
    world.pay(&invoice)?;
    expect_open(world, &node, &peer, intent)?;
    world.settle()?;
    let told = node.call(&["exchange", "list"])?;
    let settled: Vec<_> = told.list("exchanges")?.iter().map(|one| &one["settled"]).collect();
    ensure!(settled == ["payjoin", "payjoin"], "not two that came to an end: {told}");
    peer.kill();
    wait::until("the channel says that its peer is away", PATIENCE, || {
        let told = node.call(&["channel", "list"])?;
        let why = told.list("channels")?.first().and_then(|one| one["why"].as_str());
        Ok(why.is_some_and(|why| why.starts_with("its peer is away for")).then_some(()))
    })
}

/// A node with a coin that was told to open a channel, and its peer.
struct Scene<'a> {
    world: &'a World<'a>,
    node: Rc<Daemon>,
    peer: Rc<Daemon>,
}

impl Scene<'_> {
    fn intent(&self) -> Result<u64> {
        let told = self.node.call(&["channel", "list"])?;
        let [intent] = told.list("intents")? else { anyhow::bail!("not one intent: {told}") };
        intent.number("id")
    }

    /// Not released: nothing is left but the order, which waits for the peer.
    fn expect_nothing(&self) -> Result<()> {
        let intent = self.intent()?;
        wait::until("all is given back", PATIENCE, || {
            let waits = self.node.intent(intent)?["state"] == "queued";
            let free = self.node.locked()? == Amount::ZERO && self.node.channels()? == 0;
            Ok((waits && free && self.node.call(&["status"])?.number("obligations")? == 0).then_some(()))
        })?;
        ensure!(world_is_quiet(self.world)?, "something was sent");
        ledger::check(self.world)
    }

    /// Starts again without its peer, which comes afterwards.
    fn restart(&self) -> Result<()> {
        self.peer.kill();
        self.node.restart()
    }

    /// Kills the daemon at this step of the next attempt, which a block begins.
    fn kill_at(&self, step: &'static str) -> Result<()> {
        self.peer.restart()?;
        self.node.call(&["peer", "connect", &self.peer.peer])?;
        self.node.kill_at(step);
        self.world.chain.mine(1)?;
        self.node.await_death()
    }
}

fn world_is_quiet(world: &World<'_>) -> Result<bool> {
    Ok(world.chain.mempool()?.is_empty())
}

fn crash(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[700_000])?;
    let scene = Scene { world, node, peer };
    scene.node.kill_at("open_channel");
    ensure!(open(&scene.node, &scene.peer).is_err(), "an answer from a dead daemon");
    scene.restart()?;
    scene.expect_nothing()?;
    for step in ["accept_channel", "funding_created"] {
        scene.kill_at(step)?;
        scene.restart()?;
        scene.expect_nothing().with_context(|| format!("killed at {step}"))?;
    }
    // On record: it is sent, and the coin stays locked until it is buried.
    scene.kill_at("opening")?;
    scene.restart()?;
    let intent = scene.intent()?;
    scene.node.await_intent(intent, "released")?;
    let funding = scene.node.funding(intent)?;
    wait::until("the transaction is sent", PATIENCE, || {
        Ok(world.chain.mempool()?.contains(&funding.txid).then_some(()))
    })?;
    ensure!(scene.node.locked()? == Amount::from_sat(700_000), "the coin is not locked");
    scene.peer.restart()?;
    expect_open(world, &scene.node, &scene.peer, intent)?;
    ensure!(scene.node.channels()? == 1 && scene.peer.channels()? == 1, "not exactly one channel");
    world.settle()
}

fn within(world: &World<'_>) -> Result<()> {
    let lightning = "accept_seconds = 15".to_owned();
    let node = world.daemon_with("node", Options { lightning, ..Options::default() })?;
    let (peer, other) = (world.daemon("peer")?, world.daemon("other")?);
    world.give(&node, &[700_000, 100_000, 300_000])?;
    let refusal = node.refusal(&["channel", "queue", &peer.peer, "rest", "--within", "1d"])?;
    ensure!(refusal.contains("--within goes with an amount"), "{refusal}");

    // A payment has the channel in hand when its moment comes.
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let first = node.queue(&other, CHANNEL, &["--within", "3s"])?;
    other.freeze()?;
    let (address, request) = (node.plain, payment.request()?);
    let posted = thread::spawn(move || raw::send_and_stay(address, &request));
    node.await_intent(first, "negotiating")?;
    let open_by = node.intent(first)?.number("open_by")?;
    wait::until("its moment comes", PATIENCE, || Ok((now() > open_by + 1).then_some(())))?;
    ensure!(node.intent(first)?.text("state")? == "negotiating", "the payment lost its channel");
    ensure!(world_is_quiet(world)?, "the wallet opened it, too");
    other.thaw()?;
    let reply = posted.join().ok().context("the payer panicked")??;
    ensure!(reply.status() == Some(200), "not served: {}", reply.text());
    node.await_intent(first, "released")?;
    world.broadcast(&payment.signed(&reply.body())?)?;
    expect_open(world, &node, &other, first)?;

    // Nobody pays, and the moment comes while we are away.
    let second = node.queue(&peer, CHANNEL, &["--within", "2s"])?;
    node.kill();
    let due = now() + 3;
    wait::until("the moment passes", PATIENCE, || Ok((now() > due).then_some(())))?;
    node.restart()?;
    node.await_intent(second, "released")?;
    expect_open(world, &node, &peer, second)?;
    world.settle()
}

/// Seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

fn first_payment(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    let intent = node.queue(&peer, CHANNEL, &["--within", "2d"])?;
    world.pay(&world.receive(&node, Some(600_000))?)?;
    node.expect_queued(intent)?;
    world.mine(1)?;
    node.await_intent(intent, "released")?;
    expect_open(world, &node, &peer, intent)?;
    world.settle()
}

fn by_cln(world: &World<'_>) -> Result<()> {
    let own = world.cln("own", &[])?;
    let options = Options { own: Some(own.own()?), ..Options::default() };
    by_own(world, world.daemon_with("node", options)?)
}

fn by_lnd(world: &World<'_>) -> Result<()> {
    by_own(world, super::lnd::Scene::new(world, Options::default(), "")?.node)
}

/// The operator's own node has the coins.
fn by_own(world: &World<'_>, node: Rc<Daemon>) -> Result<()> {
    let peer = world.daemon("peer")?;
    let refusal = node.refusal(&["channel", "open", &peer.peer, CHANNEL])?;
    ensure!(refusal.contains("sat are missing"), "not what is missing: {refusal}");
    world.give(&node, &[700_000, 100_000])?;
    let (intent, _) = open(&node, &peer)?;
    expect_open(world, &node, &peer, intent)?;
    world.settle()
}
