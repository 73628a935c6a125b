//! `cargo xtask`: demo, tests, end-to-end cases and gates.
//!
//! Nothing here uses a crate of ours. Programs are started and spoken to as a user would.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use demo::Way;

mod bench;
mod bitcoind;
mod ci;
mod debian;
mod demo;
mod e2e;
mod process;
mod test;
mod tidy;
mod tools;
mod tor;
mod workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Build tasks of this workspace")]
#[command(after_help = "First time here? Run `cargo xtask demo`, then `cargo xtask test`.")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// A payment becomes a Lightning channel, step by step, on this machine
    #[command(after_help = DEMO_HELP)]
    Demo {
        /// The payment comes through an OHTTP relay and a directory (BIP 77).
        #[arg(long)]
        v2: bool,
        /// The payment comes through Tor to an onion service that the node runs itself.
        #[arg(long, conflicts_with = "v2")]
        onion: bool,
    },
    /// All tests: those of the crates, then every end-to-end case
    #[command(after_help = TEST_HELP)]
    Test,
    /// End-to-end cases: real bitcoind, real peers, a real sender
    #[command(after_help = E2E_HELP)]
    E2e {
        /// Cases to run; all when none is named
        names: Vec<String>,
        /// Print the names of all cases with what each shows
        #[arg(long, conflicts_with = "names")]
        list: bool,
    },
    /// Payers, crashes and reorganisations by chance, until the time is up
    #[command(after_help = SOAK_HELP)]
    Soak {
        /// How long
        #[arg(long, default_value_t = 10)]
        minutes: u32,
        /// Makes the choices of an earlier run again
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Every gate besides the tests: format, tidy, supply, clippy, features, documentation, package
    #[command(after_help = CI_HELP)]
    Ci,
    /// Rules that no compiler checks: dependency edges, lengths, clocks in the core, forbidden words
    #[command(after_help = TIDY_HELP)]
    Tidy,
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Find or provision a real bitcoind and print its path
    #[command(after_help = BITCOIND_HELP)]
    Bitcoind,
    /// Build the programs of other projects that tests need, and print their paths
    #[command(after_help = TOOLS_HELP)]
    Tools,
    /// Start a private Tor network on loopback and keep it until Ctrl-C
    #[command(after_help = TOR_HELP)]
    TorNetwork,
    /// Keeps the network namespace of a case
    #[command(hide = true)]
    Cell {
        /// Where its files are
        dir: PathBuf,
        /// What answers in it
        open: Vec<SocketAddr>,
    },
}

const DEMO_HELP: &str = "\
Starts a regtest bitcoind, two Lightning nodes and a payer, all on loopback. The payer pays one BIP 21 code, and the
payment opens the channel. Ends with the size of that transaction and of the two that it replaced. Takes well under
a minute once everything is built; the first time, a few minutes.

Example:
  cargo xtask demo
  cargo xtask demo --v2
  cargo xtask demo --onion";

const TEST_HELP: &str = "\
Builds what is missing, runs `cargo test` over the workspace, then every end-to-end case. The last line counts the
end-to-end cases.

Example:
  cargo xtask test";

const E2E_HELP: &str = "\
Each case runs in a world of its own: a fresh chain, fresh nodes, a fresh payer, all on loopback, two worlds at a
time. After each case the ledger is checked: every satoshi, lock, intent and channel must be accounted for. When a
case fails, the end of every log is shown and its folder is kept. Cases named onion-* share one private Tor network,
and two of them need network namespaces.

Examples:
  cargo xtask e2e --list
  cargo xtask e2e v1-channel v1-batch
  cargo xtask e2e";

const SOAK_HELP: &str = "\
Payers who pay, vanish or cheat, by BIP 78 and BIP 77, alone and side by side; kill -9 while they wait; peers that stand
still; reorganisations; restarts of bitcoind. After each act the ledger is checked as after a case of `e2e`, and at the
end everything is buried and it is checked again. Prints how often what happened.

Examples:
  cargo xtask soak
  cargo xtask soak --minutes 60
  cargo xtask soak --seed 42";

const CI_HELP: &str = "\
Runs every gate, also after one has failed, and names those that did. `supply` checks licences, sources and duplicate
versions by deny.toml; where cargo-deny is installed, it runs too.

Example:
  cargo xtask ci";

const TIDY_HELP: &str = "\
Prints file:line for each broken rule:
  - crates use each other only as core <- io <- tor, core <- lightning, bins -> all; xtask uses none of ours
  - no runtime, network or storage crate anywhere below payjoin-core, and no clock read in it
  - no Tor anywhere below payjoin-io, payjoin-lightning, and payjoind without its default features
  - files have at most 400 lines and functions 40, tests not counted; main.rs of a program 130
  - no unfinished code, no ignored tests, no names of registry hosts

Example:
  cargo xtask tidy";

const BITCOIND_HELP: &str = "\
Looks, in this order, at $BITCOIND_EXE, at PATH, and at target/bitcoind. If all fail on a Debian-like machine, it
takes bitcoind and the libraries it needs from the archive that this machine's apt already uses, signatures checked,
into target/bitcoind. Needs no root and changes nothing on the system.

Examples:
  cargo xtask bitcoind
  BITCOIND_EXE=/opt/bitcoin/bin/bitcoind cargo xtask bitcoind";

const TOOLS_HELP: &str = "\
payjoin-cli (a wallet) and payjoin-mailroom (a relay and directory), at pinned versions, into target/tools. Takes a few
minutes the first time; `cargo xtask test` and `e2e` do it by themselves.

Example:
  cargo xtask tools";

const TOR_HELP: &str = "\
Three authorities, two exits and a client, all on loopback, ready in half a minute. Prints the client's SOCKS port and a
file with arti's settings. Takes tor and tor-gencert from PATH, else as `bitcoind` does from the archive that this
machine's apt already uses, into target/tor.

Example:
  cargo xtask tor-network
  cargo run -p payjoin-tor --example onion_receiver -- /tmp/receiver target/tor/network/arti.toml
  curl --socks5-hostname <SOCKS port> http://<address>.onion/";

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    process::end_together().and_then(|()| run(verb)).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Demo { onion: true, .. } => demo::run(Way::Onion)?,
        Verb::Demo { v2: true, .. } => demo::run(Way::Directory)?,
        Verb::Demo { .. } => demo::run(Way::Direct)?,
        Verb::Test => return test::run(),
        Verb::E2e { list: true, .. } => e2e::list(),
        Verb::E2e { names, .. } => return Ok(e2e::run(&names)?.close()),
        Verb::Soak { minutes, seed } => e2e::soak::run(minutes, seed)?,
        Verb::Ci => ci::run()?,
        Verb::Tidy => tidy::run()?,
        Verb::TorNetwork => tor::run()?,
        Verb::Cell { dir, open } => e2e::keep(&dir, &open)?,
        Verb::Bench(bench) => bench::run(&bench)?,
        Verb::Bitcoind => println!("{}", bitcoind::provide()?.display()),
        Verb::Tools => {
            for program in [tools::payjoin_cli()?, tools::mailroom()?] {
                println!("{}", program.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
