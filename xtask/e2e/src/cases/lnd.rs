//! A daemon beside the operator's own LND: its coins are offered, its channels opened.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint};
use xtask_programs::workspace;

use super::Case;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Daemon, Fields, Lnd, Options, World, ledger, raw, wait};

/// The cases.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "lnd-channel",
        about: "beside the operator's LND: a payjoin opens its channel, which carries payments and closes",
        run: channel,
    },
    Case {
        name: "lnd-batch",
        about: "beside LND: one payjoin opens channels with an LDK and an LND peer",
        run: batch,
    },
    Case {
        name: "lnd-onchain",
        about: "beside LND: a payjoin with its coin and without a channel; a payer who never signs, and the lock ends",
        run: on_chain,
    },
    Case { name: "lnd-v2", about: "beside LND: a channel through relay and directory", run: v2 },
    Case {
        name: "lnd-crash",
        about: "beside LND: kill -9 of payjoind and of LND at each step; nothing is left behind, one channel opens",
        run: crash,
    },
    Case {
        name: "lnd-locks",
        about: "beside LND: a lock is renewed, ends without us, and is taken again at the start",
        run: locks,
    },
    Case {
        name: "lnd-away",
        about: "beside LND: it is away, comes back with another certificate, is awaited at a start; nothing is lost",
        run: away,
    },
    Case {
        name: "lnd-macaroon",
        about: "beside LND: a macaroon with too many, too few and no rights, each with its word",
        run: macaroon,
    },
];

const PATIENCE: Duration = Duration::from_secs(60);

/// LND, and the daemon beside it with the smallest macaroon.
pub(super) struct Scene<'a> {
    world: &'a World<'a>,
    lnd: Rc<Lnd>,
    pub(super) node: Rc<Daemon>,
    macaroon: PathBuf,
}

impl<'a> Scene<'a> {
    pub(super) fn new(world: &'a World<'a>, options: Options, table: &str) -> Result<Self> {
        let lnd = world.own_lnd("own", &[])?;
        let macaroon = lnd.macaroon("payjoind");
        lnd.bake(&bake_line()?, &macaroon)?;
        let own = Some(lnd.beside(&macaroon, table)?);
        let node = world.daemon_with("node", Options { own, ..options })?;
        Ok(Self { world, lnd, node, macaroon })
    }

    /// Starts LND again, and waits until the daemon knows.
    fn lnd_is_back(&self) -> Result<()> {
        self.lnd.as_foreign().run(&self.world.chain)?;
        wait::until("the daemon knows that LND is back", PATIENCE, || {
            Ok(self.node.call(&["status"])?["lightning_error"].is_null().then_some(()))
        })
    }

    fn trouble(&self) -> Result<String> {
        wait::until("the daemon sees LND's trouble", PATIENCE, || {
            Ok(self.node.call(&["status"])?["lightning_error"].as_str().map(str::to_owned))
        })
    }

    /// The daemon has told why it ended.
    fn await_word(&self, word: &str) -> Result<()> {
        wait::until(&format!("the daemon says: {word}"), PATIENCE, || {
            Ok(self.node.told()?.contains(word).then_some(()))
        })
    }

    fn await_leases(&self, coins: &[OutPoint]) -> Result<()> {
        let mut coins = coins.to_vec();
        coins.sort_unstable();
        wait::until(&format!("LND has leased {coins:?}"), PATIENCE, || {
            let mut leases = self.lnd.leases()?;
            leases.sort_unstable();
            Ok((leases == coins).then_some(()))
        })
    }

    fn await_pending(&self, count: usize) -> Result<()> {
        wait::until(&format!("{count} channels wait at LND"), PATIENCE, || {
            Ok((self.lnd.pending()?.len() == count).then_some(()))
        })
    }

    /// Buries everything; the ledger waits until LND, too, has dealt with it.
    fn settle(&self) -> Result<()> {
        self.world.settle()?;
        ledger::check_settled(self.world)
    }

    /// LND says nothing of a pending channel to a peer that connects again: one more connection makes it usable.
    fn await_usable(&self, funding: OutPoint) -> Result<()> {
        wait::until(&format!("channel {funding} can be used"), 2 * PATIENCE, || {
            let all = self.node.call(&["channel", "list"])?;
            let mut channels = all.list("channels")?.iter();
            Ok(channels
                .any(|one| one["funding"] == funding.to_string() && one["usable"] == true)
                .then_some(()))
        })
    }

    /// The outpoint of the only coin.
    fn coin(&self) -> Result<OutPoint> {
        let coins = self.node.call(&["wallet", "coins"])?;
        coins.list("coins")?.first().context("no coin")?.outpoint("outpoint")
    }

    /// After a crash between the two writes.
    fn expect_nothing_left(&self, intent: u64) -> Result<()> {
        let exchange = self.node.exchange()?;
        ensure!(exchange.text("state")? == "failed", "not released, so it failed: {exchange}");
        self.node.expect_queued(intent)?;
        self.await_pending(0)?;
        self.await_leases(&[])?;
        ledger::check(self.world)
    }

    /// LND dies while it asks the peer for a channel: nothing is offered, and nothing is left when it is back.
    fn kill_lnd_while_opening(&self, peer: &Daemon, payment: &Payment<'_>) -> Result<()> {
        peer.freeze()?;
        let (address, request) = (self.node.plain, payment.request()?);
        let reply = std::thread::spawn(move || raw::send_and_stay(address, &request));
        self.node.step("open_channel")?;
        self.lnd.as_foreign().kill();
        let reply = reply.join().ok().context("the payer panicked")??;
        peer.thaw()?;
        ensure!(reply.status() != Some(200), "an offer of coins whose LND is away: {}", reply.text());
        self.lnd_is_back()?;
        self.await_pending(0)
    }

    /// The payer of a code that asks for this much.
    fn payment(&self, sat: u64) -> Result<Payment<'a>> {
        let invoice = self.world.receive(&self.node, Some(sat))?;
        Payment::new(self.world.payer(), &invoice.uri, Substitution::Allowed)
    }
}

/// The line of the operator's page.
fn bake_line() -> Result<String> {
    let page = fs::read_to_string(workspace::root().join("docs/lnd.md"))?;
    let line = page.lines().find(|line| line.starts_with("lncli bakemacaroon")).map(str::to_owned);
    line.context("docs/lnd.md has no line that bakes a macaroon")
}

fn channel(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, Options::default(), "")?;
    let (node, peer) = (&scene.node, world.daemon("peer")?);
    world.give(node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &["--push", "20000"])?;
    let invoice = world.receive(node, None)?;
    let txid = world.pay(&invoice)?;
    node.await_intent(intent, "released")?;
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the payer broadcast {txid}, the channel waits for {funding}");
    world.mine(6)?;
    let channel = node.await_channel(funding)?;
    ensure!(channel.number("capacity_sat")? == 500_000, "wrong capacity: {channel}");
    peer.await_channel(funding)?;
    node.await_intent(intent, "open")?;
    node.pay(&peer, Amount::from_sat(50_000))?;
    peer.pay(node, Amount::from_sat(30_000))?;
    scene.settle()?;
    scene.await_leases(&[])?;

    node.close(funding, false)?;
    wait::until("the closing transaction is sent", PATIENCE, || {
        Ok((!world.chain.mempool()?.is_empty()).then_some(()))
    })?;
    world.mine(6)?;
    let closed = node.await_intent(intent, "closed")?;
    ensure!(closed.text("reason")?.contains("both sides"), "nobody knows why: {closed}");
    // What comes back is in no exchange.
    node.kill();
    peer.kill();
    Ok(())
}

fn batch(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, Options::default(), "")?;
    let (node, ldk, lnd) = (&scene.node, world.daemon("ldk")?, world.lnd("lnd", &[])?);
    world.give(node, &[300_000, 100_000])?;
    let wishes = [(ldk.peer.clone(), "300000"), (lnd.peer()?, "250000")];
    let intents = wishes.each_ref().map(|(peer, amount)| node.queue_to(peer, amount, &[]));
    let txid = world.pay(&world.receive(node, Some(700_000))?)?;
    let mut fundings = Vec::new();
    for intent in intents {
        let intent = intent?;
        node.await_intent(intent, "released")?;
        fundings.push(node.funding(intent)?);
    }
    ensure!(fundings.iter().all(|funding| funding.txid == txid), "not in {txid}: {fundings:?}");
    world.mine(6)?;
    for funding in &fundings {
        node.await_channel(*funding)?;
    }
    ldk.await_channel(fundings[0])?;
    lnd.await_channel(fundings[1])?;
    node.pay(&ldk, Amount::from_sat(50_000))?;
    node.pay_invoice(&lnd.invoice(Amount::from_sat(40_000))?)?;
    scene.settle()
}

fn on_chain(world: &World<'_>) -> Result<()> {
    let options = Options { policy: "fallback_seconds = 5", ..Options::default() };
    let scene = Scene::new(world, options, "")?;
    world.give(&scene.node, &[200_000])?;
    let coin = scene.coin()?;
    let txid = world.pay(&world.receive(&scene.node, Some(300_000))?)?;
    ensure!(scene.node.payjoin()? == txid, "the payer broadcast another transaction than {txid}");
    let spends = |input: &bitcoin::TxIn| input.previous_output == coin;
    ensure!(world.chain.transaction(txid)?.input.iter().any(spends), "no coin of LND's in it");
    scene.await_leases(&[coin])?;
    scene.settle()?;
    scene.await_leases(&[])?;

    // A payer who never signs.
    let coin = scene.coin()?;
    let payment = scene.payment(400_000)?;
    payment.exchange(&world.tls)?;
    scene.await_leases(&[coin])?;
    let original = payment.original()?.compute_txid();
    wait::until("the Original is broadcast", PATIENCE, || {
        Ok(world.chain.mempool()?.contains(&original).then_some(()))
    })?;
    scene.settle()?;
    scene.await_leases(&[])
}

fn v2(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let payjoin = format!("ohttp_relays = [{:?}]\ndirectories = [{:?}]", relay.url(), directory.url());
    let scene = Scene::new(world, Options { payjoin, ..Options::default() }, "")?;
    let (node, peer) = (&scene.node, world.daemon("peer")?);
    world.give(node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let txid = world.finish(world.begin(&world.receive(node, None)?, &relay)?)?;
    node.await_intent(intent, "released")?;
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the channel is not in {txid}");
    world.mine(6)?;
    node.await_channel(funding)?;
    peer.await_channel(funding)?;
    node.pay(&peer, Amount::from_sat(50_000))?;
    scene.settle()
}

/// Both are killed, at each step.
fn crash(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, Options::default(), "")?;
    let (node, peer) = (&scene.node, world.daemon("peer")?);
    world.give(node, &[300_000])?;
    let coin = scene.coin()?;
    let intent = node.queue(&peer, "500000", &[])?;
    let payment = scene.payment(600_000)?;
    for step in ["open_channel", "accept_channel", "funding_created"] {
        node.kill_at(step);
        // The answer of a daemon that dies says nothing.
        let _ = raw::send_and_stay(node.plain, &payment.request()?)?;
        node.await_death()?;
        node.restart()?;
        scene.expect_nothing_left(intent).with_context(|| format!("killed at {step}"))?;
    }
    scene.kill_lnd_while_opening(&peer, &payment)?;
    ledger::check(world).context("LND was killed")?;

    let payjoin = payment.exchange(&world.tls)?;
    node.await_intent(intent, "released")?;
    // Both die after the release: the channel and the lock live on.
    node.kill();
    scene.lnd.as_foreign().kill();
    scene.lnd.as_foreign().run(&world.chain)?;
    node.restart()?;
    scene.await_pending(1)?;
    scene.await_leases(&[coin])?;
    world.broadcast(&payjoin)?;
    world.mine(6)?;
    let funding = node.funding(intent)?;
    scene.await_usable(funding)?;
    peer.await_channel(funding)?;
    node.await_intent(intent, "open")?;
    node.pay(&peer, Amount::from_sat(50_000))?;
    // It keeps what LND has abandoned: nobody told it.
    peer.kill();
    scene.settle()
}

fn locks(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, Options::default(), "lease_seconds = 10")?;
    let node = &scene.node;
    world.give(node, &[300_000])?;
    let coin = scene.coin()?;
    let payment = scene.payment(600_000)?;
    let payjoin = payment.exchange(&world.tls)?;
    scene.await_leases(&[coin])?;
    sleep(Duration::from_secs(14));
    ensure!(scene.lnd.leases()? == [coin], "the lock was not renewed");
    node.kill();
    scene.await_leases(&[]).context("a lock ends when nobody needs it")?;
    node.restart()?;
    ensure!(scene.lnd.leases()? == [coin], "the lock was not taken again before the daemon answers");
    world.broadcast(&payjoin)?;
    scene.settle()?;
    scene.await_leases(&[])
}

fn away(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, Options::default(), "")?;
    let node = &scene.node;
    world.give(node, &[300_000])?;
    let payment = scene.payment(400_000)?;
    scene.lnd.as_foreign().kill();
    let trouble = scene.trouble()?;
    ensure!(trouble.contains("does not answer") && trouble.contains("restlisten"), "no remedy: {trouble}");
    ensure!(node.diagnosis()?.contains("does not answer"), "doctor has another word");
    let refusal = node.refusal(&["receive"])?;
    ensure!(refusal.contains("does not answer"), "a code without an LND: {refusal}");
    let reply = raw::send_and_stay(node.plain, &payment.request()?)?;
    ensure!(reply.status() != Some(200), "an offer without an LND: {}", reply.text());
    // He pays plainly, and nothing is lost.
    world.broadcast(&payment.original()?)?;

    // LND comes back with another certificate.
    scene.lnd.forget_certificate()?;
    scene.lnd_is_back()?;
    scene.settle()?;

    // A start waits for LND, and says so.
    node.kill();
    scene.lnd.as_foreign().kill();
    node.restart()?;
    let waits = node.call(&["status"])?.to_string();
    ensure!(waits.contains("does not answer"), "for what does it wait? {waits}");
    scene.lnd.as_foreign().run(&world.chain)?;
    wait::until("the start goes on", PATIENCE, || {
        Ok((!node.call(&["status"])?["node_id"].is_null()).then_some(()))
    })?;
    world.pay(&world.receive(node, Some(100_000))?)?;
    scene.settle()
}

fn macaroon(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world, Options::default(), "")?;
    let (node, file) = (&scene.node, &scene.macaroon);
    let small = fs::read(file)?;
    ensure!(!node.log()?.contains("allows everything"), "the smallest macaroon is called too great");
    node.kill();
    fs::copy(scene.lnd.macaroon("admin"), file)?;
    node.restart()?;
    ensure!(node.log()?.contains("allows everything"), "nothing is said of a macaroon for administrators");

    // One with too few rights while it runs, and then at a start.
    fs::copy(scene.lnd.macaroon("readonly"), file)?;
    node.kill();
    ensure!(node.restart().is_err(), "it starts with a macaroon that only reads");
    scene.await_word("lacks the right uri:/")?;
    ensure!(node.diagnosis()?.contains("lacks the right uri:/"), "doctor has another word");
    fs::write(file, b"no macaroon at all")?;
    ensure!(node.restart().is_err(), "it starts without a macaroon");
    scene.await_word("does not accept the macaroon")?;
    ensure!(node.diagnosis()?.contains("does not accept the macaroon"), "doctor has another word");
    fs::write(file, small)?;
    node.restart()?;

    world.give(node, &[300_000])?;
    world.pay(&world.receive(node, Some(100_000))?)?;
    scene.settle()
}
