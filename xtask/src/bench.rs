//! What one exchange costs: ours next to payjoin-cli, and next to the least that any receiver must do.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use bitcoin::Amount;
use clap::{Args, Subcommand};

use crate::e2e::{Certificate, Chain};
use crate::{bitcoind, process, workspace};
use coins::Bank;
use key::Key;
use originals::Request;
use payers::{Payers, Post};
use receivers::{Kind, Receiver, Site};
use report::{Report, Round};

mod coins;
mod floor;
mod key;
mod originals;
mod payers;
mod receivers;
mod report;
mod round_trips;

/// Payers side by side.
const LEVELS: [usize; 3] = [1, 4, 16];

/// Exchanges before the first measured one.
const WARM_UP: usize = 16;

/// Exchanges during which round trips are counted.
const COUNTED: usize = 32;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Requests per second and latency of one exchange, next to payjoin-cli and next to the floor
    #[command(after_help = EXCHANGE_HELP)]
    Exchange(Options),
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
}

const EXCHANGE_HELP: &str = "\
One bitcoind, three receivers, the same Originals to each, at 1, 4 and 16 payers, every reply checked as the reference
sender checks it. Fails when any reply is bad. Builds everything in release mode first.

Examples:
  cargo xtask bench exchange
  cargo xtask bench exchange --requests 1000 --json
  cargo xtask bench exchange --only ours --only floor";

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Floor(settings) => floor::run(settings),
        Bench::Exchange(_) if cfg!(debug_assertions) => Err(become_release()),
        Bench::Exchange(options) => exchange(options),
    }
}

/// Payers and floor are this program: it must be optimised as payjoind must. Returns only when that fails.
fn become_release() -> anyhow::Error {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--locked", "--package", "payjoind", "--package", "xtask"]);
    let built = process::run(&mut build);
    if let Err(error) = built {
        return error;
    }
    let program = workspace::target().join("release/xtask");
    Command::new(program).args(env::args_os().skip(1)).exec().into()
}

fn exchange(options: &Options) -> Result<()> {
    let kinds = if options.only.is_empty() { &Kind::ALL[..] } else { &options.only };
    // Below target and not in /tmp, which may be in memory, where an fsync costs nothing.
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(workspace::target())?;
    let report = match measure(kinds, options.requests.into(), dir.path()) {
        Ok(report) => report,
        Err(error) => bail!("{error:#}\neverything is kept in {}", dir.keep().display()),
    };
    if options.json {
        println!("{}", report.json())
    } else {
        println!("{report}")
    }
    ensure!(report.failures() == 0, "{} requests got no valid proposal", report.failures());
    Ok(())
}

fn measure(kinds: &[Kind], requests: usize, dir: &Path) -> Result<Report> {
    let data = dir.join("bitcoind");
    fs::create_dir_all(&data)?;
    fs::write(data.join("bitcoin.conf"), "rpcthreads=16\nrpcworkqueue=256\n")?;
    let chain = Chain::start(&bitcoind::provide()?, dir)?;
    let tls = Certificate::new(dir)?;
    let bank = Bank::new(&chain, Amount::from_sat(4_000_000_000))?;
    let originals = WARM_UP + LEVELS.len() * requests + COUNTED;
    eprintln!("starting receivers for {originals} Originals each");
    let site = Site { dir, chain: &chain, tls: &tls, bank: &bank, originals };
    let mut lanes = lanes(&site, kinds)?;
    let payers = Payers::new(&tls.certificate)?;
    let mut report = Report { requests, rounds: Vec::new(), asked: Vec::new() };
    for lane in &mut lanes {
        let warm = lane.round(&payers, WARM_UP, 4)?;
        ensure!(warm.failures == 0, "{} gives bad proposals", lane.receiver.kind.name());
    }
    for level in LEVELS {
        for lane in &mut lanes {
            eprintln!("{requests} requests to {}, payers side by side: {level}", lane.receiver.kind.name());
            report.rounds.push(lane.round(&payers, requests, level)?);
        }
    }
    for lane in &mut lanes {
        let log = data.join("regtest/debug.log");
        let mut round = None;
        let asked = round_trips::per_exchange(&chain, log, COUNTED, || {
            round = Some(lane.round(&payers, COUNTED, 1))
        })?;
        let round = round.context("nothing was counted")??;
        ensure!(round.failures == 0, "{} gives bad proposals", lane.receiver.kind.name());
        report.asked.push((lane.receiver.kind, asked));
    }
    Ok(report)
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
    /// Sends the next requests and checks the replies, in this order: checking costs the receiver nothing.
    fn round(&mut self, payers: &Payers, count: usize, side_by_side: usize) -> Result<Round> {
        let requests: Vec<Request> = self.requests.by_ref().take(count).collect();
        ensure!(requests.len() == count, "no Originals are left");
        let posts: Vec<&Post> = requests.iter().map(|request| &request.post).collect();
        let (replies, elapsed) = payers.send(&posts, side_by_side);
        let latencies = replies.iter().map(|reply| reply.latency).collect();
        let kind = self.receiver.kind;
        let mut failures = 0;
        for (request, reply) in requests.into_iter().zip(replies) {
            if let Err(error) = reply.body.and_then(|body| request.check(&body)) {
                eprintln!("{}: {error:#}", kind.name());
                failures += 1;
            }
        }
        Ok(Round::new(side_by_side, kind, latencies, elapsed, failures))
    }
}
