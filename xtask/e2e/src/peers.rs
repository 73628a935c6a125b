//! Lightning nodes of other projects: where their programs are. What is missing is told with how to get it.

use std::fs;

use anyhow::{Context, Result};
use xtask_programs::lnd::Lnd;
use xtask_programs::{process, workspace};

/// What LND is built with. `signrpc` and the like are needed by its own command line.
const TAGS: &str = "-tags=signrpc walletrpc chainrpc invoicesrpc peersrpc routerrpc";

pub(crate) const NO_LND: &str =
    "LND: install Go 1.25 or later so that `go` is on PATH; it is built once, in ten minutes";

/// LND, built from the module in `xtask/e2e/lnd` where Go is found.
pub(crate) fn lnd() -> Result<Option<Lnd>> {
    let Some(go) = process::on_path("go") else { return Ok(None) };
    let (module, target) = (workspace::root().join("xtask/e2e/lnd"), Lnd::place());
    let _lock = process::lock(&target.join("lock"))?;
    let (wanted, record) = (fs::read(module.join("go.mod"))?, target.join("built-from"));
    if let (Some(found), true) = (Lnd::find(), fs::read(&record).is_ok_and(|built| built == wanted)) {
        return Ok(Some(found));
    }
    eprintln!("building LND (about eight minutes on two cores, once)");
    let mut build = std::process::Command::new(go);
    build.current_dir(&module).args(["build", "-trimpath", TAGS, "-o"]).arg(&target).arg("tool");
    process::run(&mut build).context("cannot build LND")?;
    fs::write(record, wanted)?;
    Ok(Lnd::find())
}
