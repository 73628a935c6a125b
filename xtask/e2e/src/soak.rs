//! A long run of chance: payers of every kind, kills, reorganisations, peers that stand still, in any order until the
//! time is up. The ledger must hold after every act, and once more when everything is buried.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bitcoin::Amount;
use bitcoin::secp256k1::rand::rngs::StdRng;
use bitcoin::secp256k1::rand::{Rng, SeedableRng, thread_rng};
use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::mailroom::Mailroom;
use crate::harness::world::{PAYERS, World};
use crate::harness::{Programs, ledger, wait};
use crate::run::in_a_world;

mod payments;

/// Payers who do not come back are waited for so long; peers that stand still for less.
const POLICY: &str = "fallback_seconds = 8\nchannel_seconds = 3\nwasted_a_day = 1000000\ntop_up = true";
const FALLBACK: Duration = Duration::from_secs(8);

/// For what is under way in a daemon when the ledger looks.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most channels that wait at a time.
const MOST_QUEUED: usize = 6;

/// Channels with one peer, of the four that it takes, from which on we close some.
const MANY_CHANNELS: usize = 2;

/// Coins of the payer at the beginning, and ours.
const PAYER_COINS: usize = 150;
const OUR_COINS: usize = 12;

type Act = fn(&mut Soak<'_>) -> Result<()>;

/// What can happen next, and how likely it is.
const ACTS: [(u32, &str, Act); 11] = [
    (20, "queue", |soak| soak.queue()),
    (30, "pay", |soak| soak.pay_one()),
    (12, "crowd", |soak| soak.pay_many()),
    (10, "pay by v2", |soak| soak.pay_by_directory()),
    (16, "mine", |soak| soak.mine()),
    (5, "reorganise", |soak| soak.reorganise()),
    (5, "kill", |soak| soak.kill()),
    (6, "peer stands still", |soak| soak.freeze_peer()),
    (8, "pay by Lightning", |soak| soak.pay_by_lightning()),
    (20, "close", |soak| soak.close()),
    (2, "restart bitcoind", |soak| soak.restart_bitcoind()),
];

/// Runs for so long. The same seed makes the same choices; what they meet depends on the machine.
pub(crate) fn run(minutes: u32, seed: Option<u64>) -> Result<()> {
    let seed = seed.unwrap_or_else(|| thread_rng().gen_range(0..1_000_000));
    let programs = Programs::provide(&[])?;
    eprintln!("soak of {minutes} min, --seed {seed}");
    let end = Instant::now() + Duration::from_secs(60 * u64::from(minutes));
    let held = in_a_world("soak", &programs, |world| {
        let mut soak = Soak::new(world, seed)?;
        while Instant::now() < end {
            soak.act()?;
        }
        soak.finish()
    });
    ensure!(held.is_ok(), "the soak failed; `--seed {seed}` makes the same choices again");
    Ok(())
}

struct Soak<'a> {
    world: &'a World<'a>,
    rng: StdRng,
    begun: Instant,
    node: Rc<Daemon>,
    peers: [Rc<Daemon>; 3],
    relay: Mailroom,
    directory: Mailroom,
    /// How often what happened.
    tally: BTreeMap<String, u32>,
}

impl<'a> Soak<'a> {
    fn new(world: &'a World<'a>, seed: u64) -> Result<Self> {
        let [relay, directory] = world.mailrooms()?;
        let payjoin = format!("ohttp_relays = [{:?}]\ndirectories = [{:?}]", relay.url(), directory.url());
        let node = world.daemon_with("node", Options { policy: POLICY, payjoin, ..Options::default() })?;
        let peer = |name| {
            world.daemon_with(name, Options { lightning: "max_inbound = 1000".into(), ..Options::default() })
        };
        let peers = [peer("peer-a")?, peer("peer-b")?, peer("peer-c")?];
        let wallet = world.payer();
        // A message of BIP 77 has room for small previous transactions only.
        for _ in 0..PAYER_COINS / 10 {
            let coins = (0..10).map(|_| Ok((wallet.address("bech32")?, Amount::from_sat(1_000_000))));
            world.chain.give(&coins.collect::<Result<Vec<_>>>()?)?;
        }
        world.give(&node, &[300_000; OUR_COINS])?;
        let (rng, begun, tally) = (StdRng::seed_from_u64(seed), Instant::now(), BTreeMap::new());
        Ok(Self { world, rng, begun, node, peers, relay, directory, tally })
    }

    /// One act, and the ledger after it.
    fn act(&mut self) -> Result<()> {
        let total = ACTS.iter().map(|(weight, ..)| weight).sum();
        let mut drawn = self.rng.gen_range(0..total);
        for (weight, name, act) in ACTS {
            if drawn < weight {
                eprintln!("{:7.1} s  {name}", self.begun.elapsed().as_secs_f32());
                self.count(name);
                act(self).context(name)?;
                return self.check().with_context(|| format!("the ledger after \"{name}\""));
            }
            drawn -= weight;
        }
        bail!("{drawn} is more than all weights")
    }

    /// A daemon may be at work while the ledger reads it, so what does not hold now must hold soon.
    fn check(&self) -> Result<()> {
        let mut last = Ok(());
        let held = wait::until("the ledger holds", PATIENCE, || {
            last = ledger::check(self.world);
            Ok(last.is_ok().then_some(()))
        });
        held.or(last)
    }

    fn count(&mut self, what: &str) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
    }

    fn queue(&mut self) -> Result<()> {
        let all = self.node.call(&["channel", "list"])?;
        if all.list("intents")?.iter().filter(|intent| intent["state"] == "queued").count() >= MOST_QUEUED {
            return Ok(());
        }
        let peer = self.rng.gen_range(0..self.peers.len());
        let amount = match self.rng.gen_range(0..5) {
            0 => "rest".to_owned(),
            _ => self.rng.gen_range(100_000..400_000).to_string(),
        };
        // The peer may be away.
        let private = self.rng.gen_bool(0.3);
        let flags: &[&str] =
            if private { &["--unchecked", "--private", "--push", "5000"] } else { &["--unchecked"] };
        self.node.queue(&self.peers[peer], &amount, flags).map(drop)
    }

    fn mine(&mut self) -> Result<()> {
        let blocks = self.rng.gen_range(1..=3);
        self.world.mine(blocks)
    }

    /// The last blocks turn out not to be the last. What was in them waits again.
    fn reorganise(&mut self) -> Result<()> {
        // LDK closes a channel that is in use when its funding is mined no more, and after three blocks it is in use.
        let depth = self.rng.gen_range(1..=2);
        let chain = &self.world.chain;
        let first = chain.call("getblockhash", json!([chain.height()? + 1 - depth]))?;
        chain.call("invalidateblock", json!([first]))?;
        self.world.mine(u32::try_from(depth)? + 1)
    }

    fn kill(&mut self) -> Result<()> {
        let chosen = self.rng.gen_range(0..=self.peers.len());
        let daemon = self.peers.get(chosen).unwrap_or(&self.node);
        daemon.kill();
        if self.rng.gen_bool(0.5) {
            self.world.chain.mine(1)?;
        }
        daemon.restart()?;
        daemon.wait_for_height(self.world.chain.height()?)
    }

    fn freeze_peer(&mut self) -> Result<()> {
        let peer = Rc::clone(&self.peers[self.rng.gen_range(0..self.peers.len())]);
        peer.freeze()?;
        let paid = self.pay_many();
        peer.thaw()?;
        paid
    }

    /// Over the first channel that bears it.
    fn pay_by_lightning(&mut self) -> Result<()> {
        let channels = self.node.call(&["channel", "list"])?;
        for channel in channels.list("channels")? {
            let peer =
                self.peers.iter().find(|peer| peer.peer.starts_with(channel["peer"].as_str().unwrap_or("?")));
            if channel.flag("usable")? && channel.number("outbound_msat")? > 60_000_000 {
                let sat = Amount::from_sat(self.rng.gen_range(1_000..50_000));
                return self.node.pay(peer.context("a channel with a stranger")?, sat);
            }
        }
        Ok(())
    }

    /// A channel with each peer that has many, by agreement. What comes back counts as a gift.
    fn close(&mut self) -> Result<()> {
        let channels = self.node.call(&["channel", "list"])?;
        let (channels, mut tries) = (channels.list("channels")?, 0);
        for peer in self.peers.clone() {
            let with_peer =
                |channel: &&Value| channel["peer"].as_str().is_some_and(|id| peer.peer.starts_with(id));
            let usable = channels.iter().filter(with_peer).filter(|channel| channel["usable"] == true);
            let usable: Vec<_> = usable.collect();
            if usable.len() >= MANY_CHANNELS {
                let chosen = usable[self.rng.gen_range(0..usable.len())];
                self.node.call(&["channel", "close", chosen.text("channel_id")?])?;
                let funding = chosen.outpoint("funding")?;
                while let Err(error) = self.world.closed(funding, &[&self.node, &peer]) {
                    // Their estimates of a fair fee may be too far apart; with new ones they negotiate again.
                    self.count("no agreement on the fee of a closing transaction");
                    self.node.kill();
                    self.node.restart()?;
                    tries += 1;
                    ensure!(tries < 4, "{error:#}");
                }
            }
        }
        Ok(())
    }

    fn restart_bitcoind(&mut self) -> Result<()> {
        self.world.chain.stop()?;
        sleep(Duration::from_millis(self.rng.gen_range(0..1000)));
        self.world.chain.restart(&PAYERS.map(|(name, _)| name))?;
        self.world.mine(1)
    }

    /// Everything that is owed is paid and buried, and every channel stands.
    fn finish(&mut self) -> Result<()> {
        sleep(FALLBACK);
        self.world.settle()?;
        for daemon in self.world.running() {
            wait::until(
                &format!("every channel of {} is ready", daemon.name),
                Duration::from_secs(60),
                || {
                    let channels = daemon.call(&["channel", "list"])?;
                    let mut ready = channels.list("channels")?.iter().map(|channel| channel.flag("ready"));
                    Ok(ready
                        .try_fold(true, |all, ready| Ok::<_, anyhow::Error>(all && ready?))?
                        .then_some(()))
                },
            )?;
        }
        for exchange in self.node.call(&["exchange", "list", "--limit", "100000"])?.list("exchanges")? {
            if let Some(reason) = exchange["reason"].as_str() {
                self.count(&format!("reason: {reason}"));
            }
        }
        for (what, times) in &self.tally {
            println!("{times:6}  {what}");
        }
        Ok(())
    }
}
