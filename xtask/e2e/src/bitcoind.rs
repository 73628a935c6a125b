//! A real bitcoind for the tests, on any machine.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xtask_programs::bitcoind::{find, prefix};
use xtask_programs::{process, workspace};

use crate::debian::{Archive, Package};

/// Left to itself, this build starts the machine's own Tor and asks the gateway for a port.
const PACKAGE: Package =
    Package { name: "bitcoin-knots", programs: &["bitcoind"], arguments: "-listenonion=0 -natpmp=0" };

const INSTRUCTIONS: &str = "\
no bitcoind found, and this machine cannot provision one by itself. Do one of:
  - install Bitcoin Core 25 or later (with wallet) so that `bitcoind` is on PATH
  - set BITCOIND_EXE to the full path of a bitcoind
  - on Debian-like machines: install the package debian-archive-keyring";

/// Finds or provisions a bitcoind that runs.
pub(crate) fn provide() -> Result<PathBuf> {
    if let Some(found) = find()? {
        return Ok(found);
    }
    let _lock = process::lock(&workspace::target().join("bitcoind.lock"))?;
    // Another run may have been quicker.
    if let Some(found) = find()? {
        return Ok(found);
    }
    let archive = Archive::find().with_context(|| INSTRUCTIONS)?;
    let installed = archive.install(&PACKAGE, &prefix());
    installed.with_context(|| format!("cannot provision bitcoind\n{INSTRUCTIONS}"))?;
    find()?.context("the provisioned bitcoind does not run")
}
