//! Every test there is: those of the crates, then every end-to-end case.

use anyhow::{Result, ensure};

use crate::{bitcoind, e2e, process, tools, workspace};

/// Runs all tests and ends with one line about the end-to-end cases.
pub(crate) fn run() -> Result<()> {
    // First, so that a machine that cannot provide them says so at once.
    let bitcoind = bitcoind::provide()?;
    let (payjoin_cli, mailroom) = (tools::payjoin_cli()?, tools::mailroom()?);
    let crates = process::run(
        workspace::cargo()
            .args(["test", "--workspace", "--locked", "--no-fail-fast"])
            .env(bitcoind::VARIABLE, bitcoind)
            .env("PAYJOIN_CLI_EXE", payjoin_cli)
            .env("PAYJOIN_MAILROOM_EXE", mailroom),
    );
    let outcome = e2e::run(&[])?;
    println!("{} passed, {} failed", outcome.passed, outcome.failed);
    crates?;
    ensure!(outcome.failed == 0, "end-to-end cases failed");
    Ok(())
}
