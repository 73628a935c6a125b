//! A real bitcoind for the tests, on any machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::{Archive, Package};
use crate::{process, workspace};

/// Names a bitcoind to use before any other.
pub(crate) const VARIABLE: &str = "BITCOIND_EXE";

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
    if let Some(path) = env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        check(&path).with_context(|| format!("${VARIABLE} is set to {:?} but that does not work", path))?;
        return Ok(path);
    }
    if let Some(path) = process::on_path("bitcoind").filter(|path| check(path).is_ok()) {
        return Ok(path);
    }
    let prefix = workspace::target().join("bitcoind");
    let cached = prefix.join("bin/bitcoind");
    let _lock = process::lock(&workspace::target().join("bitcoind.lock"))?;
    if check(&cached).is_err() {
        let archive = Archive::find().with_context(|| INSTRUCTIONS)?;
        archive
            .install(&PACKAGE, &prefix)
            .with_context(|| format!("cannot provision bitcoind\n{INSTRUCTIONS}"))?;
        check(&cached).context("the provisioned bitcoind does not run")?;
    }
    Ok(cached)
}

fn check(path: &Path) -> Result<()> {
    let version = process::output(Command::new(path).arg("--version"))?;
    if !version.contains("Bitcoin") {
        bail!("{} does not call itself a Bitcoin node", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_or_is_no_bitcoind_is_refused() {
        assert!(check(Path::new("/nonexistent/bitcoind")).is_err());
        assert!(check(Path::new("/bin/sh")).is_err());
        assert!(check(Path::new("/bin/echo")).is_err());
    }
}
