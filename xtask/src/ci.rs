//! Every gate that a change must pass, besides the tests.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{fuzz, metadata, tidy};
use xtask_programs::{process, workspace};

mod beside;
mod features;
mod oldest;
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
    Gate { name: "oldest-rust", run: oldest::check },
    Gate { name: "beside", run: beside::check },
    Gate {
        name: "clippy",
        run: || cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    },
    Gate { name: "features", run: features::check },
    Gate { name: "documentation", run: documentation },
    Gate { name: "package", run: package },
    Gate { name: "fuzz", run: fuzz::check },
];

/// Runs the named gates, or all of them, also after one has failed, and says which did.
pub(crate) fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| GATES.iter().all(|gate| gate.name != **name)) {
        bail!("no gate is called {unknown}; see --help");
    }
    let chosen = GATES.iter().filter(|gate| names.is_empty() || names.iter().any(|name| name == gate.name));
    let (begun, mut failed, mut passed) = (Instant::now(), Vec::new(), 0);
    for gate in chosen {
        eprintln!("--- {}", gate.name);
        let start = Instant::now();
        if let Err(error) = (gate.run)() {
            eprintln!("--- {} FAILED, {:.0} s: {error:#}", gate.name, start.elapsed().as_secs_f32());
            failed.push(gate.name);
        } else {
            passed += 1;
            eprintln!("--- {} ok, {:.0} s", gate.name, start.elapsed().as_secs_f32());
        }
    }
    if !failed.is_empty() {
        bail!("failed gates: {}", failed.join(", "));
    }
    println!("{passed} gates passed in {:.0} s", begun.elapsed().as_secs_f32());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    process::run(workspace::cargo().args(arguments))
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
    for library in metadata::packages(&metadata::read(false)?).iter().filter(|package| package.is_published) {
        command.args(["--package", &library.name]);
    }
    process::run(&mut command)
}
