//! `cargo xtask`: what must hold before a change goes in. Quick to build; knows nothing of Bitcoin.
//!
//! Everything that runs real programs is in `xtask/e2e`, a program of its own, which this one builds and becomes.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use xtask_programs::{process, workspace};

mod ci;
mod fuzz;
mod metadata;
mod tidy;

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
    Demo(Words),
    /// All tests: those of the crates, then every end-to-end case
    Test(Words),
    /// End-to-end cases: real bitcoind, real peers, a real sender
    E2e(Words),
    /// Payers, crashes and reorganisations by chance, until the time is up
    Soak(Words),
    /// Every gate besides the tests: format, tidy, supply, clippy, features, documentation, package and more
    #[command(after_help = CI_HELP)]
    Ci {
        /// Gates to run; all when none is named
        names: Vec<String>,
    },
    /// Rules that no compiler checks: dependency edges, circles, lengths, tests, clocks in the core, forbidden words
    #[command(after_help = TIDY_HELP)]
    Tidy,
    /// What strangers send, by libFuzzer: every target of fuzz/ for some time
    #[command(after_help = FUZZ_HELP)]
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Measure
    Bench(Words),
    /// Find or provision a real bitcoind and print its path
    Bitcoind(Words),
    /// Build the programs of other projects that tests need, and print their paths
    Tools(Words),
    /// Build the Debian package of the daemon and print its path
    Deb(Words),
    /// Start a private Tor network on loopback and keep it until Ctrl-C
    TorNetwork(Words),
}

/// Read by `xtask/e2e`, `--help` too.
#[derive(Args)]
#[command(disable_help_flag = true, after_help = "With --help, it says what it takes.")]
struct Words {
    #[arg(hide = true, allow_hyphen_values = true, trailing_var_arg = true)]
    words: Vec<OsString>,
}

const CI_HELP: &str = "\
Runs every gate, also after one has failed, and names those that did, with the seconds that each took:
  format, tidy    see `cargo xtask tidy --help`
  supply          licences, sources and duplicate versions by deny.toml; where cargo-deny is installed, it runs too
  oldest-rust     each library names the oldest Rust that it builds with, and builds on nothing that needs a newer one
  beside          payjoin-io without `sqlite` and ldk-node fit into one tree; asks the registry
  clippy          all crates and tests, as they are by default
  features        the same with no feature, and with each alone; unit tests of core, io and lightning run
  documentation   no link is broken
  package         each library can be packaged
  fuzz            the targets of fuzz/ with their seeds and what is near them

Examples:
  cargo xtask ci
  cargo xtask ci tidy features";

const FUZZ_HELP: &str = "\
Builds fuzz/ with stable Rust and a C++ compiler, and runs one target after the other, also after one has failed. What
they find is kept in target/fuzz: the corpus for the next run, and the input of each fault, which the target's program
takes as its argument. cargo-fuzz works there, too.

Example:
  cargo xtask fuzz --seconds 600";

const TIDY_HELP: &str = "\
Prints lines of code and of tests, and public items, of each crate, then file:line for each broken rule:
  - crates use each other only as core <- io <- tor, core <- lightning, all of them <- node <- payjoind; xtask none
  - no runtime, network or storage crate anywhere below payjoin-core, and no clock read in it
  - no Tor anywhere below payjoin-io, payjoin-lightning, and payjoind without its default features
  - no circle between files of a crate: a module and what is below it belong together
  - files have at most 400 lines and functions 40, tests not counted; files of tests 600; main.rs of a program 130;
    payjoind in all 2,200
  - each crate has at least half as many lines of tests as of code; end-to-end cases count for what they run
  - every test, case and file that docs/reliability.md and ARCHITECTURE.md name in a table's last column exists
  - no unfinished code, no ignored tests, no undocumented public item allowed, no names of registry hosts;
    no JSON by hand in bins/ outside of rendering

Example:
  cargo xtask tidy";

fn main() -> ExitCode {
    run(Arguments::parse().verb).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Ci { names } => ci::run(&names)?,
        Verb::Tidy => tidy::run()?,
        Verb::Fuzz { seconds } => fuzz::run(seconds)?,
        _ => match become_e2e()? {},
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns only when that fails.
fn become_e2e() -> Result<Infallible> {
    process::run(workspace::cargo().args(["build", "--locked", "--package", "xtask-e2e"]))?;
    let program = workspace::target().join("debug/xtask-e2e");
    Err(Command::new(program).args(env::args_os().skip(1)).exec().into())
}
