//! What one exchange costs, next to payjoin-cli and next to the least that any receiver must do; and what open sessions
//! at a directory cost.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;
use clap::{Args, Subcommand};

use crate::bitcoind;
use crate::demo::Backend;
use crate::harness::{Certificate, Chain};
use coins::Bank;
use key::Key;
use originals::Request;
use payers::{Payers, Post};
use receivers::{Kind, Receiver, Site};
use report::{Report, Round};
use xtask_programs::{process, workspace};

mod channels;
mod coins;
mod floor;
mod key;
mod originals;
mod payers;
mod receivers;
mod report;
mod round_trips;
mod sessions;

/// Payers side by side.
const LEVELS: [usize; 3] = [1, 4, 16];

/// The receivers take turns so many times at each level: what else the machine does meanwhile hits all alike.
const TURNS: usize = 4;

/// Exchanges before the first measured one.
const WARM_UP: usize = 16;

/// Exchanges during which round trips are counted.
const COUNTED: usize = 32;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Requests per second and latency of one exchange, next to payjoin-cli and next to the floor
    #[command(after_help = EXCHANGE_HELP)]
    Exchange(Options),
    /// How long a payment waits that opens a channel, with the embedded node and beside others
    #[command(after_help = channels::HELP)]
    Channel(channels::Options),
    /// Memory, CPU and latency of open sessions at a BIP 77 directory
    #[command(after_help = sessions::HELP)]
    Sessions(sessions::Options),
    /// What amounts alone tell an observer of a payjoin, over 10,000 drawn payments and stocks; takes some minutes
    Privacy,
    /// Run the floor's receiver
    #[command(hide = true)]
    Floor(Box<floor::Settings>),
}

#[derive(Args)]
pub(crate) struct Options {
    /// Requests to each receiver at each number of payers
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(16..=4096))]
    requests: u16,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Measure only these receivers
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Measure payjoind beside this node, and with the embedded one in the same run
    #[arg(long, value_enum, conflicts_with = "only")]
    backend: Vec<Backend>,
    /// Measure the debug build: shows that it runs, and no more
    #[arg(long)]
    debug: bool,
    /// Coins in the wallet of payjoin-cli, which looks at all of them for each request; default: as many as in ours
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    foreign_coins: Option<u16>,
}

const EXCHANGE_HELP: &str = "\
One bitcoind, three receivers, the same Originals to each, at 1, 4 and 16 payers, every reply checked as the reference
sender checks it. Fails when any reply is bad. Builds everything in release mode first.

Examples:
  cargo xtask bench exchange
  cargo xtask bench exchange --requests 1000 --json
  cargo xtask bench exchange --only ours --only floor
  cargo xtask bench exchange --backend cln --backend lnd";

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Floor(settings) => floor::run(settings),
        Bench::Privacy => privacy(),
        Bench::Exchange(Options { debug: false, .. })
        | Bench::Channel(channels::Options { debug: false, .. })
        | Bench::Sessions(_)
            if cfg!(debug_assertions) =>
        {
            Err(become_release())
        }
        Bench::Exchange(options) => exchange(options),
        Bench::Channel(options) => channels::run(options),
        Bench::Sessions(options) => sessions::run(options),
    }
}

/// The draws are a test of the crate that decides: what it shows is shown at each change.
fn privacy() -> Result<()> {
    let test = ["test", "--workspace", "--locked", "--test", "it", "--", "--nocapture", "privacy::"];
    process::run(workspace::cargo().args(test).env("PRIVACY_DRAWS", "10000"))
}

/// Payers and floor are this program: it must be optimised as payjoind must. Returns only when that fails.
fn become_release() -> anyhow::Error {
    let mut build = workspace::cargo();
    // Tor has no part in it, and takes long to build.
    build.args(["build", "--release", "--locked", "--package", "payjoind", "--package", "xtask-e2e"]);
    build.args(["--no-default-features", "--features", "payjoind/cln,payjoind/lnd"]);
    let built = process::run(&mut build);
    if let Err(error) = built {
        return error;
    }
    let program = workspace::target().join("release/xtask-e2e");
    Command::new(program).args(env::args_os().skip(1)).exec().into()
}

fn exchange(options: &Options) -> Result<()> {
    let beside: Vec<Kind> = options.backend.iter().map(|backend| beside(*backend)).collect();
    let kinds = match (beside.is_empty(), options.only.is_empty()) {
        (false, _) => [&[Kind::Ours], &beside[..]].concat(),
        (true, true) => Kind::ALL.to_vec(),
        (true, false) => options.only.clone(),
    };
    in_a_folder(|dir| {
        let report = measure(&kinds, options, dir)?;
        if options.json {
            println!("{}", report.json())
        } else {
            println!("{report}")
        }
        ensure!(report.failures() == 0, "{} requests got no valid proposal", report.failures());
        Ok(())
    })
}

/// The receiver that stands beside this node.
fn beside(backend: Backend) -> Kind {
    match backend {
        Backend::Cln => Kind::OursCln,
        Backend::Lnd => Kind::OursLnd,
    }
}

/// The payjoind that is measured: built as this program is.
fn payjoind() -> PathBuf {
    workspace::target().join(if cfg!(debug_assertions) { "debug/payjoind" } else { "release/payjoind" })
}

/// Keeps the folder when the work fails.
fn in_a_folder<T>(work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    // Below target and not in /tmp, which may be in memory, where an fsync costs nothing.
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(workspace::target())?;
    work(dir.path())
        .map_err(|error| anyhow::anyhow!("{error:#}\neverything is kept in {}", dir.keep().display()))
}

fn measure(kinds: &[Kind], options: &Options, dir: &Path) -> Result<Report> {
    let requests = options.requests.into();
    let data = dir.join("bitcoind");
    fs::create_dir_all(&data)?;
    fs::write(data.join("bitcoin.conf"), "rpcthreads=16\nrpcworkqueue=256\n")?;
    let chain = Chain::start(&bitcoind::provide()?, dir)?;
    let tls = Certificate::new(dir)?;
    let bank = Bank::new(&chain, Amount::from_sat(4_000_000_000))?;
    let originals = WARM_UP + LEVELS.len() * requests + COUNTED;
    let foreign_coins = options.foreign_coins.map_or(originals, Into::into);
    eprintln!("starting receivers for {originals} Originals each");
    let site = Site { dir, chain: &chain, tls: &tls, bank: &bank, originals, foreign_coins };
    let mut lanes = lanes(&site, kinds)?;
    let payers = Payers::new(&tls.certificate)?;
    let mut report = Report { requests, originals, foreign_coins, rounds: Vec::new(), asked: Vec::new() };
    for lane in &mut lanes {
        lane.rehearse(&payers, WARM_UP, 4)?;
    }
    for level in LEVELS {
        eprintln!("{requests} requests to each receiver, payers side by side: {level}");
        report.rounds.extend(rounds(&mut lanes, &payers, requests, level)?);
    }
    for lane in &mut lanes {
        let log = data.join("regtest/debug.log");
        let mut done = Ok(());
        let work = || done = lane.rehearse(&payers, COUNTED, 1);
        let asked = round_trips::per_exchange(&chain, &log, COUNTED, work)?;
        done?;
        report.asked.push((lane.receiver.kind, asked));
    }
    Ok(report)
}

/// One round for each lane.
fn rounds(lanes: &mut [Lane], payers: &Payers, requests: usize, level: usize) -> Result<Vec<Round>> {
    let mut rounds: Vec<Round> = lanes.iter().map(|lane| Round::new(level, lane.receiver.kind)).collect();
    for turn in 0..TURNS {
        let count = requests * (turn + 1) / TURNS - requests * turn / TURNS;
        for (lane, round) in lanes.iter_mut().zip(&mut rounds) {
            lane.send(payers, count, level, round)?;
        }
    }
    Ok(rounds)
}

/// A receiver with the requests that it has still to get.
struct Lane {
    receiver: Receiver,
    requests: std::vec::IntoIter<Request>,
}

/// Starts the receivers and makes the Originals for all of them.
fn lanes(site: &Site<'_>, kinds: &[Kind]) -> Result<Vec<Lane>> {
    let receivers = site.start(kinds)?;
    let key = Key::payers()?;
    let mut queues: Vec<Vec<Request>> = receivers.iter().map(|_| Vec::new()).collect();
    for (number, coin) in
        site.bank.coins(&key.script, originals::COIN, site.originals)?.into_iter().enumerate()
    {
        let codes = receivers.iter().map(|receiver| receiver.codes.get(number).map(String::as_str));
        let codes: Vec<_> = codes.collect::<Option<_>>().context("a receiver has too few BIP 21 codes")?;
        let (original, requests) = originals::requests(&key, coin, &codes)?;
        // bitcoind remembers signatures: nobody is to be the first to ask.
        site.chain.accepts(&original)?;
        queues.iter_mut().zip(requests).for_each(|(queue, request)| queue.push(request));
    }
    let lanes = receivers.into_iter().zip(queues);
    Ok(lanes.map(|(receiver, queue)| Lane { receiver, requests: queue.into_iter() }).collect())
}

impl Lane {
    /// Sends the next requests, then checks the replies: by then checking costs the receiver nothing.
    fn send(&mut self, payers: &Payers, count: usize, side_by_side: usize, round: &mut Round) -> Result<()> {
        let requests: Vec<Request> = self.requests.by_ref().take(count).collect();
        ensure!(requests.len() == count, "no Originals are left");
        let posts: Vec<&Post> = requests.iter().map(|request| &request.post).collect();
        let (replies, elapsed) = payers.send(&posts, side_by_side, !self.receiver.kind.serves_many());
        round.elapsed += elapsed;
        for (request, reply) in requests.into_iter().zip(replies) {
            round.latencies.push(reply.latency);
            if let Err(error) = reply.body.and_then(|body| request.check(&body)) {
                eprintln!("{}: {error:#}", self.receiver.kind.name());
                round.failures += 1;
            }
        }
        Ok(())
    }

    /// Requests that are not measured, and that must succeed.
    fn rehearse(&mut self, payers: &Payers, count: usize, side_by_side: usize) -> Result<()> {
        let mut round = Round::new(side_by_side, self.receiver.kind);
        self.send(payers, count, side_by_side, &mut round)?;
        ensure!(round.failures == 0, "{} gives bad proposals", self.receiver.kind.name());
        Ok(())
    }
}
