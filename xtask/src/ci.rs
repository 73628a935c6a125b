//! Every gate that a change must pass, besides the tests.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{process, tidy, workspace};

mod supply;

/// A gate: its name and what it runs.
struct Gate {
    name: &'static str,
    run: fn() -> Result<()>,
}

const GATES: &[Gate] = &[
    Gate { name: "format", run: || cargo(&["fmt", "--all", "--check"]) },
    Gate { name: "tidy", run: tidy::run },
    Gate { name: "supply", run: supply::check },
    Gate {
        name: "clippy",
        run: || cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    },
    Gate { name: "features", run: features },
    Gate { name: "documentation", run: documentation },
    Gate { name: "package", run: package },
];

/// Our libraries. Each must build alone and without its default features.
const LIBRARIES: &[&str] = &["payjoin-core", "payjoin-io", "payjoin-lightning", "payjoin-tor"];

/// Runs all gates, also after one has failed, and says which did.
pub(crate) fn run() -> Result<()> {
    let mut failed = Vec::new();
    for gate in GATES {
        eprintln!("--- {}", gate.name);
        let start = Instant::now();
        if let Err(error) = (gate.run)() {
            eprintln!("--- {} FAILED: {error:#}", gate.name);
            failed.push(gate.name);
        } else {
            eprintln!("--- {} ok, {:.0} s", gate.name, start.elapsed().as_secs_f32());
        }
    }
    if !failed.is_empty() {
        bail!("failed gates: {}", failed.join(", "));
    }
    println!("all {} gates passed", GATES.len());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    process::run(workspace::cargo().args(arguments))
}

/// The daemon builds without Tor, and with proof of work.
fn features() -> Result<()> {
    let clippy = |package: &str, features: &[&str]| {
        let always = ["clippy", "--locked", "--all-targets", "--package", package];
        cargo(&[&always, features, &["--", "-D", "warnings"]].concat())
    };
    for package in LIBRARIES.iter().chain(&["payjoind"]) {
        clippy(package, &["--no-default-features"])?;
    }
    clippy("payjoind", &["--features", "pow"])
}

fn documentation() -> Result<()> {
    process::run(
        workspace::cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Each library can be packaged. What the packages build is what the other gates have built already.
fn package() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["package", "--locked", "--no-verify", "--allow-dirty"]);
    for library in LIBRARIES {
        command.args(["--package", library]);
    }
    process::run(&mut command)
}
