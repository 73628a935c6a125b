//! The daemon uses the operator's own node: its coins, its channels.

use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint};
use serde_json::json;

use super::Case;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::raw::{self, Reply};
use crate::harness::{Daemon, Fields, Foreign, Options, World, ledger, wait};

/// The cases.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "cln-channel",
        about: "our node is a Core Lightning: a payjoin opens its channel, which carries payments and closes",
        run: channel,
    },
    Case {
        name: "cln-batch",
        about: "our node is a Core Lightning: one payjoin opens channels to two peers, one of them gone: the other opens",
        run: batch,
    },
    Case { name: "cln-onchain", about: "plain payjoins with Core Lightning's coins", run: on_chain },
    Case { name: "cln-v2", about: "a payment through a directory opens its channel", run: directory },
    Case {
        name: "cln-crash",
        about: "kill -9 of payjoind and of lightningd at each step: never two channels, nothing left, the last one opens",
        run: crash,
    },
    Case {
        name: "cln-locks",
        about: "a coin that was offered stays reserved in Core Lightning, is reserved anew, and is missed when it is spent",
        run: locks,
    },
    Case {
        name: "cln-away",
        about: "Core Lightning is away: said with what to do, a payment arrives on chain, what is due is sent",
        run: away,
    },
];

const OURS: Amount = Amount::from_sat(300_000);
/// Stays to close channels, as Core Lightning wants it.
const SMALL: Amount = Amount::from_sat(100_000);
const CHANNEL: u64 = 500_000;
/// Paid over the channel, there and half of it back.
const PAYMENT: Amount = Amount::from_sat(50_000);
const PATIENCE: Duration = Duration::from_secs(20);

/// A node of the operator's with a coin, and the daemon beside it.
struct Scene<'a> {
    world: &'a World<'a>,
    own: Rc<dyn Foreign>,
    node: Rc<Daemon>,
}

impl<'a> Scene<'a> {
    fn new(world: &'a World<'a>, options: Options) -> Result<Self> {
        let own = world.cln("own", &[])?;
        let node = world.daemon_with("node", Options { own: Some(own.own()?), ..options })?;
        world.give(&node, &[OURS.to_sat(), SMALL.to_sat()])?;
        Ok(Self { world, own, node })
    }

    /// What lightningd tells of its channels, buried or not.
    fn channels(&self) -> Result<usize> {
        Ok(self.own.ask(&["listpeerchannels"])?.list("channels")?.len())
    }

    fn await_forgotten(&self) -> Result<()> {
        wait::until("lightningd has forgotten the channel", PATIENCE, || {
            Ok((self.channels()? == 0).then_some(()))
        })
    }

    /// Until which block lightningd keeps the coin for us.
    fn reserved(&self, coin: OutPoint) -> Result<Option<u64>> {
        let funds = self.own.ask(&["listfunds"])?;
        let found = funds.list("outputs")?.iter().find(|output| {
            output["txid"] == coin.txid.to_string() && output["output"].as_u64() == Some(coin.vout.into())
        });
        let found = found.with_context(|| format!("the wallet lacks {coin}"))?;
        Ok(found["reserved_to_block"].as_u64())
    }

    fn expect_channel(&self, peer: &Daemon, intent: u64) -> Result<OutPoint> {
        let funding = self.node.funding(intent)?;
        self.world.mine(6)?;
        self.node.await_channel(funding)?;
        peer.await_channel(funding)?;
        self.node.await_intent(intent, "open")?;
        Ok(funding)
    }

    /// The coin that is offered first.
    fn smallest(&self) -> Result<OutPoint> {
        let coins = self.node.call(&["wallet", "coins"])?;
        let is_it = |coin: &&serde_json::Value| coin.sat("amount_sat").is_ok_and(|sat| sat == SMALL);
        let found = coins.list("coins")?.iter().find(is_it);
        found.with_context(|| format!("no such coin: {coins}"))?.outpoint("outpoint")
    }

    /// The operator has lightningd keep a coin for so many blocks less.
    fn unreserve(&self, coin: OutPoint, blocks: u32) -> Result<()> {
        let input = json!({ "txid": coin.txid, "vout": coin.vout });
        let naming = self.world.chain.call("createpsbt", json!([[input], [{ "data": "00" }]]))?;
        let naming = format!("psbt={}", naming.as_str().context("no PSBT")?);
        self.own.ask(&["-k", "unreserveinputs", &naming, &format!("reserve={blocks}")]).map(drop)
    }

    /// The operator spends a coin.
    fn withdraw(&self, coin: OutPoint) -> Result<()> {
        let to = format!("destination={}", self.world.payer().address("bech32")?);
        let coin = format!("utxos=[\"{}:{}\"]", coin.txid, coin.vout);
        self.own.ask(&["-k", "withdraw", &to, "satoshi=all", "feerate=5000perkb", &coin]).map(drop)
    }

    fn restart_own(&self) -> Result<()> {
        self.own.kill();
        self.own.run(&self.world.chain)
    }
}

fn channel(world: &World<'_>) -> Result<()> {
    let (scene, peer) = (Scene::new(world, Options::default())?, world.daemon("peer")?);
    let node = &scene.node;
    let intent = node.queue(&peer, &CHANNEL.to_string(), &["--push", "100000", "--private"])?;
    let invoice = world.receive(node, None)?;
    let txid = world.pay(&invoice)?;
    node.await_intent(intent, "released")?;
    let funding = scene.expect_channel(&peer, intent)?;
    ensure!(funding.txid == txid, "the payer broadcast {txid}, the channel waits for {}", funding.txid);
    let told = node.await_channel(funding)?;
    ensure!(told.number("capacity_sat")? == CHANNEL, "wrong capacity: {told}");
    node.pay(&peer, PAYMENT)?;
    peer.pay(node, PAYMENT / 2)?;
    ledger::check(world)?;

    // A second one with the same peer, now that the first is locked in.
    let second = node.queue(&peer, "200000", &[])?;
    world.pay(&world.receive(node, None)?)?;
    node.await_intent(second, "released")?;
    scene.expect_channel(&peer, second)?;
    ledger::check(world)?;

    // Not with the peer: without estimates lightningd offers a closing fee that LDK does not take.
    node.close(funding, true)?;
    world.closed(funding, &[])?;
    let told = node.await_intent(intent, "closed")?;
    ensure!(!told.text("reason")?.is_empty(), "nobody knows why: {told}");
    // What comes back from a channel is in no exchange.
    node.kill();
    peer.kill();
    Ok(())
}

fn batch(world: &World<'_>) -> Result<()> {
    let scene =
        Scene::new(world, Options { lightning: "accept_seconds = 4".to_owned(), ..Options::default() })?;
    let peers = [world.daemon("peer-a")?, world.daemon("peer-b")?, world.daemon("gone")?];
    let node = &scene.node;
    let intents = peers.each_ref().map(|peer| node.queue(peer, "250000", &[]));
    let [first, second, third] = intents;
    let (intents, gone) = ([first?, second?], third?);
    let invoice = world.receive(node, Some(900_000))?;
    peers[2].kill();
    let txid = world.pay(&invoice)?;
    for intent in intents {
        ensure!(node.await_intent(intent, "released")?.txid("txid")? == txid, "not in {txid}");
    }
    node.expect_queued(gone)?;
    world.mine(6)?;
    for (intent, peer) in intents.into_iter().zip(&peers) {
        let funding = node.funding(intent)?;
        node.await_channel(funding)?;
        peer.await_channel(funding)?;
        node.await_intent(intent, "open")?;
    }
    ensure!(scene.channels()? == 2, "not two channels");
    Ok(())
}

fn on_chain(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, Options::default())?;
    for round in 0..2 {
        let txid = world.pay(&world.receive(&scene.node, Some(400_000))?)?;
        let inputs = world.chain.transaction(txid)?.input.len();
        ensure!(inputs == 2, "round {round}: no coin of ours in {txid}");
        world.settle()?;
        ledger::check_settled(world)?;
    }
    let coins = scene.own.ask(&["listfunds"])?;
    let reserved = coins.list("outputs")?.iter().any(|output| output["reserved"] == true);
    ensure!(!reserved, "a coin stays reserved when all is settled: {coins}");
    Ok(())
}

fn directory(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let payjoin = format!("ohttp_relays = [{:?}]\ndirectories = [{:?}]", relay.url(), directory.url());
    let (scene, peer) =
        (Scene::new(world, Options { payjoin, ..Options::default() })?, world.daemon("peer")?);
    let intent = scene.node.queue(&peer, &CHANNEL.to_string(), &[])?;
    let invoice = world.receive(&scene.node, None)?;
    let txid = world.finish(world.begin(&invoice, &relay)?)?;
    scene.node.await_intent(intent, "released")?;
    let funding = scene.expect_channel(&peer, intent)?;
    ensure!(funding.txid == txid, "the payer broadcast {txid}, the channel waits for {}", funding.txid);
    scene.node.pay(&peer, PAYMENT)
}

/// A payment that opens a channel, and its payer's side.
struct Crash<'a> {
    scene: Scene<'a>,
    peer: Rc<Daemon>,
    intent: u64,
    payment: Payment<'a>,
}

impl Crash<'_> {
    fn post(&self) -> Result<Reply> {
        raw::send_and_stay(self.scene.node.plain, &self.payment.request()?)
    }

    /// Posts the Original beside what follows.
    fn post_aside(&self) -> Result<JoinHandle<Result<Reply>>> {
        let (address, request) = (self.scene.node.plain, self.payment.request()?);
        Ok(thread::spawn(move || raw::send_and_stay(address, &request)))
    }

    /// lightningd dies while the peer is asked: the payer gets no channel, and is told of no reason.
    fn own_dies(&self) -> Result<()> {
        let Scene { world, own, node } = &self.scene;
        self.peer.freeze()?;
        let reply = self.post_aside()?;
        node.step("open_channel")?;
        own.kill();
        let reply = reply.join().ok().context("the payer panicked")??;
        ensure!(reply.status() != Some(200), "a proposal without the node: {}", reply.text());
        self.peer.thaw()?;
        own.run(&world.chain)?;
        wait::until("the node answers again", PATIENCE, || {
            Ok(node.call(&["status"])?["lightning_error"].is_null().then_some(()))
        })
    }

    /// The exchange failed; neither the daemon nor lightningd has anything of it.
    fn expect_nothing(&self) -> Result<()> {
        let node = &self.scene.node;
        let exchange = node.exchange()?;
        ensure!(exchange.text("state")? == "failed", "not released, so it failed: {exchange}");
        node.expect_queued(self.intent)?;
        self.scene.await_forgotten()?;
        wait::until("no coin is kept back", PATIENCE, || Ok((node.locked()? == Amount::ZERO).then_some(())))?;
        ledger::check(self.scene.world)
    }
}

fn crash(world: &World<'_>) -> Result<()> {
    let (scene, peer) = (Scene::new(world, Options::default())?, world.daemon("peer")?);
    let intent = scene.node.queue(&peer, &CHANNEL.to_string(), &[])?;
    let invoice = world.receive(&scene.node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let crash = Crash { scene, peer, intent, payment };
    let node = &crash.scene.node;
    for step in ["open_channel", "accept_channel", "funding_created"] {
        node.kill_at(step);
        crash.post()?;
        node.await_death()?;
        node.restart()?;
        crash.expect_nothing().with_context(|| format!("payjoind killed at {step}"))?;
    }
    crash.own_dies()?;
    crash.expect_nothing().context("lightningd killed while the peer is asked")?;

    // Released: everything dies, and the same Original gets the same bytes.
    let first = crash.post()?;
    ensure!(first.status() == Some(200), "not served: {}", first.text());
    node.await_intent(intent, "released")?;
    node.kill();
    crash.scene.restart_own()?;
    node.restart()?;
    let second = crash.post()?;
    ensure!(first.body() == second.body(), "the same Original got other bytes");
    ensure!(crash.scene.channels()? == 1, "not exactly one channel");
    ensure!(node.locked()? == SMALL, "the offered coin is not locked");
    let payjoin = crash.payment.signed(&second.body())?;
    world.broadcast(&payjoin)?;
    crash.scene.own.connect(&crash.peer.peer)?;
    let funding = crash.scene.expect_channel(&crash.peer, intent)?;
    ensure!(funding.txid == payjoin.compute_txid(), "another payjoin");
    ensure!(crash.scene.channels()? == 1, "not exactly one channel");
    node.pay(&crash.peer, PAYMENT)
}

fn locks(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, Options { policy: "fallback_seconds = 3600", ..Options::default() })?;
    let node = &scene.node;
    let coin = scene.smallest()?;
    let invoice = world.receive(node, Some(700_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    payment.exchange(&world.tls)?;
    let until = scene.reserved(coin)?.context("the coin that was offered is not reserved")?;
    let height = world.chain.height()?;
    ensure!(until >= height + 72, "reserved for {} blocks only", until - height);

    // The reservation comes near its end.
    scene.unreserve(coin, 100)?;
    ensure!(scene.reserved(coin)? < Some(height + 72), "it is as long as before");
    wait::until("the coin is reserved anew", PATIENCE, || {
        Ok((scene.reserved(coin)? >= Some(until)).then_some(()))
    })?;
    // Both start again, and somebody frees the coin meanwhile.
    node.kill();
    scene.restart_own()?;
    scene.unreserve(coin, 100_000)?;
    ensure!(scene.reserved(coin)?.is_none(), "it is still reserved");
    node.restart()?;
    ensure!(scene.reserved(coin)?.is_some(), "after a start the coin is not reserved");
    ensure!(node.locked()? == SMALL, "after a start the coin is not locked");

    // The operator spends it all the same: the payjoin is impossible, and the Original goes at once.
    node.kill();
    scene.unreserve(coin, 100_000)?;
    scene.withdraw(coin)?;
    world.chain.mine(1)?;
    node.restart()?;
    await_original(world, &payment)?;
    world.settle()?;
    ensure!(node.exchange()?.text("settled")? == "original", "not settled by the Original");
    // The coin that the operator spent is in no exchange.
    node.kill();
    Ok(())
}

fn await_original(world: &World<'_>, payment: &Payment<'_>) -> Result<()> {
    let original = payment.original()?.compute_txid();
    wait::until("the Original is sent", PATIENCE, || {
        Ok(world.chain.mempool()?.contains(&original).then_some(()))
    })
}

/// The daemon says that its node is away, and what to do, and makes no code.
fn expect_away(node: &Daemon) -> Result<()> {
    let told = wait::until("the daemon says that its node is away", PATIENCE, || {
        Ok(node.call(&["status"])?["lightning_error"].as_str().map(str::to_owned))
    })?;
    ensure!(told.contains("lightningd has ended") || told.contains("start lightningd"), "what to do? {told}");
    let refused = node.refusal(&["receive", "--amount", "600000"])?;
    ensure!(refused.contains("nothing is offered now"), "a code without a node: {refused}");
    Ok(())
}

fn away(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, Options { policy: "fallback_seconds = 4", ..Options::default() })?;
    let (node, own) = (&scene.node, &scene.own);
    let peer = world.daemon("peer")?;
    let intent = node.queue(&peer, &CHANNEL.to_string(), &[])?;
    let (owed, plain) = (world.receive(node, Some(600_000))?, world.receive(node, Some(650_000))?);
    let offered = Payment::new(world.payer(), &owed.uri, Substitution::Allowed)?;
    offered.exchange(&world.tls)?;
    world.payer().lock(&offered.original()?)?;
    own.kill();
    expect_away(node)?;
    ensure!(node.diagnosis()?.contains("lightningd"), "doctor finds no fault with lightningd");
    // Who has a code already pays it plainly.
    let payment = Payment::new(world.payer(), &plain.uri, Substitution::Allowed)?;
    let reply = raw::send_and_stay(node.plain, &payment.request()?)?;
    ensure!(reply.status() != Some(200), "a proposal without the node: {}", reply.text());
    ensure!(reply.text().contains("unavailable"), "the payer reads: {}", reply.text());
    world.broadcast(&payment.original()?)?;
    // A start waits for the node; what is due goes out meanwhile.
    node.kill();
    node.restart()?;
    let told = node.call(&["status"])?;
    ensure!(told.text("chain_error")?.contains("lightningd"), "what does it wait for? {told}");
    await_original(world, &offered)?;
    world.chain.mine(1)?;
    own.run(&world.chain)?;
    wait::until("the daemon has its node", PATIENCE, || {
        Ok(node.call(&["status"])?.get("node_id").is_some().then_some(()))
    })?;
    world.settle()?;
    node.await_balance(OURS + SMALL + owed.amount + plain.amount)?;
    node.expect_queued(intent)?;
    scene.await_forgotten()?;

    // And with it there, everything goes on.
    world.pay(&world.receive(node, None)?)?;
    node.await_intent(intent, "released")?;
    scene.expect_channel(&peer, intent).map(drop)
}
