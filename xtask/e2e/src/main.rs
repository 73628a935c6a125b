//! Demo, tests, end-to-end cases, bench and soak: `cargo xtask` builds this program and becomes it.
//!
//! Nothing here uses a crate of ours. Programs are started and spoken to as a user would.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use demo::Way;

mod bench;
mod bitcoind;
mod cases;
mod deb;
mod debian;
mod demo;
mod harness;
mod payers;
mod peers;
mod run;
mod soak;
mod test;
mod tools;
mod tor;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
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
        /// The node behind the daemon is another program: `cln` is Core Lightning, from PATH.
        #[arg(long)]
        backend: Option<demo::Backend>,
    },
    /// All tests: those of the crates, then every end-to-end case
    #[command(after_help = TEST_HELP)]
    Test(Skipping),
    /// End-to-end cases: real bitcoind, real peers, a real sender
    #[command(after_help = E2E_HELP)]
    E2e {
        /// Cases to run; all when none is named
        names: Vec<String>,
        /// Print the names of all cases with what each shows
        #[arg(long, conflicts_with = "names")]
        list: bool,
        #[command(flatten)]
        skipping: Skipping,
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
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Find or provision a real bitcoind and print its path
    #[command(after_help = BITCOIND_HELP)]
    Bitcoind,
    /// Build the programs of other projects that tests need, and print their paths
    #[command(after_help = TOOLS_HELP)]
    Tools,
    /// Build the Debian package of the daemon and print its path
    #[command(after_help = DEB_HELP)]
    Deb,
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

#[derive(Args)]
struct Skipping {
    /// A case that is skipped for want of a program counts as a failure
    #[arg(long)]
    no_skip: bool,
}

const DEMO_HELP: &str = "\
Starts a regtest bitcoind, two Lightning nodes and a payer, all on loopback. The payer pays one BIP 21 code, and the
payment opens the channel. Ends with the size of that transaction and of the two that it replaced. Takes well under
a minute once everything is built; the first time, a few minutes.

Example:
  cargo xtask demo
  cargo xtask demo --v2
  cargo xtask demo --onion
  cargo xtask demo --backend cln
  cargo xtask demo --backend lnd";

const TEST_HELP: &str = "\
Builds what is missing, runs `cargo test` over the workspace, then every end-to-end case. The last line counts the
end-to-end cases.

Example:
  cargo xtask test";

const E2E_HELP: &str = "\
Each case runs in a world of its own: a fresh chain, fresh nodes, a fresh payer, all on loopback, two worlds at a
time. After each case the ledger is checked: every satoshi, lock, intent and channel must be accounted for. When a
case fails, the end of every log is shown and its folder is kept. Cases named peer-lnd-* and lnd-*, peer-cln-* and
cln-* need LND, which is built where Go is found, and Core Lightning on PATH; those named payer-js-* and payer-python need Node.js and Python,
and install packages of other projects into target/payers. Without them they are skipped, and the last line counts
them. Cases named onion-* share one private Tor network, and two of them need network namespaces.

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

const DEB_HELP: &str = "\
A release build of payjoind with its unit, a user and group `payjoind`, /etc/payjoind/payjoind.toml, completions and manual
pages. It needs no Debian; cargo-deb is built into target/tools-deb the first time.

Example:
  cargo xtask deb
  sudo apt install ./target/debian/payjoind_0.1.0-1_amd64.deb";

const TOR_HELP: &str = "\
Three authorities, two exits and a client, all on loopback, ready in half a minute. Prints the client's SOCKS port and a
file with arti's settings. Takes tor and tor-gencert from PATH, else as `bitcoind` does from the archive that this
machine's apt already uses, into target/tor.

Example:
  cargo xtask tor-network
  cargo run -p payjoin-tor --example onion_receiver -- /tmp/receiver target/tor/network/arti.toml
  curl --socks5-hostname <SOCKS port> http://<address>.onion/";

fn main() -> ExitCode {
    act(Arguments::parse().verb).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn act(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Demo { onion: true, backend, .. } => demo::run(Way::Onion, backend)?,
        Verb::Demo { v2: true, backend, .. } => demo::run(Way::Directory, backend)?,
        Verb::Demo { backend, .. } => demo::run(Way::Direct, backend)?,
        Verb::Test(skipping) => return test::run(!skipping.no_skip),
        Verb::E2e { list: true, .. } => run::list(),
        Verb::E2e { names, skipping, .. } => return Ok(run::run(&names)?.close(!skipping.no_skip)),
        Verb::Soak { minutes, seed } => soak::run(minutes, seed)?,
        Verb::TorNetwork => tor::run()?,
        Verb::Cell { dir, open } => harness::keep(&dir, &open)?,
        Verb::Bench(bench) => bench::run(&bench)?,
        Verb::Bitcoind => println!("{}", bitcoind::provide()?.display()),
        Verb::Deb => println!("{}", deb::build(deb::Profile::Release)?.display()),
        Verb::Tools => {
            for program in [tools::payjoin_cli()?, tools::mailroom()?] {
                println!("{}", program.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
