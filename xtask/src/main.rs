//! `cargo xtask`: demo, tests, end-to-end cases and gates.
//!
//! Nothing here uses a crate of ours. Programs are started and spoken to as a user would.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bitcoind;
mod process;
mod tools;
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
    /// Find or provision a real bitcoind and print its path
    #[command(after_help = BITCOIND_HELP)]
    Bitcoind,
}

const BITCOIND_HELP: &str = "\
Looks, in this order, at $BITCOIND_EXE, at PATH, and at target/bitcoind. If all fail on a Debian-like machine, it
takes bitcoind and the libraries it needs from the archive that this machine's apt already uses, signatures checked,
into target/bitcoind. Needs no root and changes nothing on the system.

Examples:
  cargo xtask bitcoind
  BITCOIND_EXE=/opt/bitcoin/bin/bitcoind cargo xtask bitcoind";

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Bitcoind => bitcoind::provide().map(|path| println!("{}", path.display())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
