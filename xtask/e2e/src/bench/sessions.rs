//! Open sessions at a directory: what they cost while nobody pays, and how soon one that is paid answers.

mod payer;
mod report;
mod usage;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Address, Amount, Network};
use clap::Args;

use self::report::{Level, Report};
use self::usage::Usage;
use super::coins::Bank;
use super::in_a_folder;
use super::key::Key;
use super::originals::{self, PAYMENT};
use crate::harness::{self, Certificate, Chain, Daemon, Fields, Mailroom, wait};
use crate::{bitcoind, tools};
use xtask_programs::workspace;

/// Relays between daemon and directory. A relay needs two connections for each poll, and a process has a limit.
const RELAYS: usize = 3;

/// Seconds for which the directory holds a poll: its default.
const HOLD: u32 = 30;

/// The least coin that a payjoin can use, and some more.
const COIN: Amount = Amount::from_sat(50_000);

/// Commands to the daemon side by side.
const HANDS: usize = 4;

#[derive(Args)]
pub(crate) struct Options {
    /// Numbers of open sessions
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    levels: Vec<usize>,
    /// Payments at each level, one after the other
    #[arg(long, default_value_t = 50)]
    payers: usize,
    /// Seconds for which nothing happens while CPU is counted
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) const HELP: &str = "\
One payjoind with so many codes at one directory, reached through three relays, all on loopback. At each level: what
the process holds and does while nobody pays, then payers one after the other, at codes spread over all sessions.
Takes a quarter of an hour for the default levels. Builds everything in release mode first.

Examples:
  cargo xtask bench sessions
  cargo xtask bench sessions --levels 100,1000 --idle 30 --json";

pub(super) fn run(options: &Options) -> Result<()> {
    ensure!(options.levels.is_sorted(), "levels must grow");
    let report = in_a_folder(|dir| measure(options, dir))?;
    if options.json {
        println!("{}", report.json())
    } else {
        println!("{report}")
    }
    Ok(())
}

fn measure(options: &Options, dir: &Path) -> Result<Report> {
    let chain = Chain::start(&bitcoind::provide()?, dir)?;
    let (tls, bank) = (Certificate::new(dir)?, Bank::new(&chain, Amount::from_sat(100_000_000))?);
    let program = tools::mailroom_release()?;
    let directory = Mailroom::start(&program, dir, "directory", HOLD)?;
    let relays = (0..RELAYS).map(|number| Mailroom::start(&program, dir, &format!("relay-{number}"), HOLD));
    let relays = relays.collect::<Result<Vec<_>>>()?;
    let payments = options.payers * options.levels.len();
    let daemon = daemon(dir, &chain, &tls, &bank, (&relays, &directory), payments)?;
    let key = Key::payers()?;
    let mut coins = bank.coins(&key.script, originals::COIN, payments)?;
    let before = Usage::of(&daemon)?;
    let (mut codes, mut levels) = (Vec::new(), Vec::new());
    for sessions in &options.levels {
        eprintln!("opening sessions up to {sessions}");
        codes.extend(open(&daemon, sessions.saturating_sub(codes.len()))?);
        let (idle, cpu) = idle(&daemon, *sessions, &before, options.idle)?;
        eprintln!("{} payers at {sessions} open sessions", options.payers);
        let mut latencies = Vec::new();
        for payer in 0..options.payers {
            let code = codes.remove(payer * codes.len() / options.payers);
            let coin = coins.pop().context("no coin for a payer")?;
            latencies.push(payer::pay(&key, coin, &code, relays[payer % RELAYS].url())?);
        }
        levels.push(Level { sessions: *sessions, idle, cpu, latencies });
    }
    Ok(Report { before, levels })
}

/// With a coin for every payment: coins once shown stay locked.
fn daemon(
    dir: &Path,
    chain: &Chain,
    tls: &Certificate,
    bank: &Bank<'_>,
    (relays, directory): (&[Mailroom], &Mailroom),
    payments: usize,
) -> Result<Daemon> {
    let relays: Vec<_> = relays.iter().map(Mailroom::url).collect();
    let payjoin = format!("ohttp_relays = {relays:?}\ndirectories = [{:?}]", directory.url());
    // No payer ever broadcasts here: keep the Originals out of the mempool.
    let options =
        harness::Options { payjoin, policy: "fallback_seconds = 86400", ..harness::Options::default() };
    let program = workspace::target().join("release/payjoind");
    let daemon = Daemon::start(&program, dir, "ours", options, chain, tls)?;
    let address = daemon.call(&["wallet", "address"])?.text("address")?.to_owned();
    let address: Address<_> = address.parse()?;
    let script = address.require_network(Network::Regtest)?.script_pubkey();
    bank.coins(&script, COIN, payments)?;
    let total = COIN * payments as u64;
    wait::until("payjoind sees its coins", Duration::from_secs(60), || {
        Ok((daemon.call(&["wallet", "balance"])?.sat("confirmed_sat")? >= total).then_some(()))
    })?;
    Ok(daemon)
}

/// Makes so many codes.
fn open(daemon: &Daemon, count: usize) -> Result<Vec<String>> {
    let (begun, codes) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)));
    let amount = PAYMENT.to_sat().to_string();
    let make = || -> Result<()> {
        while begun.fetch_add(1, Ordering::Relaxed) < count {
            let code = daemon.call(&["receive", "--amount", &amount])?.text("uri")?.to_owned();
            codes.lock().map_err(|_| anyhow::anyhow!("another hand failed"))?.push(code);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(make)).collect();
        hands
            .into_iter()
            .try_for_each(|hand| hand.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a hand failed"))))
    })?;
    Ok(codes.into_inner()?)
}

/// Waits until every session has its poll standing and memory has settled, then looks on. Returns what the daemon holds
/// and the CPU seconds that it takes in a minute.
fn idle(daemon: &Daemon, sessions: usize, before: &Usage, seconds: u64) -> Result<(Usage, f64)> {
    wait::until("every session polls", Duration::from_secs(120), || {
        Ok((Usage::of(daemon)?.files >= before.files + sessions).then_some(()))
    })?;
    thread::sleep(Duration::from_secs(HOLD.into()));
    let start = Usage::of(daemon)?;
    thread::sleep(Duration::from_secs(seconds));
    let end = Usage::of(daemon)?;
    let cpu = (end.cpu - start.cpu).as_secs_f64() * 60.0 / seconds as f64;
    Ok((end, cpu))
}
