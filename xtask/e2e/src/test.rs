//! Every test there is: those of the crates, then every end-to-end case.

use std::process::ExitCode;

use anyhow::Result;

use xtask_programs::bitcoind::VARIABLE;
use xtask_programs::{process, workspace};

use crate::{bitcoind, peers, run, tools};

/// Runs all tests, also after some have failed, and ends with one line about the end-to-end cases.
pub(crate) fn run(may_skip: bool) -> Result<ExitCode> {
    // First, so that a machine that cannot provide them says so at once.
    let bitcoind = bitcoind::provide()?;
    let (payjoin_cli, mailroom) = (tools::payjoin_cli()?, tools::mailroom()?);
    // Tests of the crates that need one do nothing without it. The cases that are skipped then are named at the end.
    peers::lnd()?;
    let crates = process::run(
        workspace::cargo()
            .args(["test", "--workspace", "--locked", "--no-fail-fast"])
            .env(VARIABLE, bitcoind)
            .env("PAYJOIN_CLI_EXE", payjoin_cli)
            .env("PAYJOIN_MAILROOM_EXE", mailroom),
    );
    let cases = run::run(&[])?;
    if let Err(error) = &crates {
        eprintln!("error: tests of the crates, see above: {error:#}");
    }
    let verdict = cases.close(may_skip);
    Ok(if crates.is_ok() { verdict } else { ExitCode::FAILURE })
}
