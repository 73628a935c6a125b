//! Debian's `tor` and `tor-gencert`, on any machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::debian::{Archive, Package};
use xtask_programs::{process, workspace};

const PACKAGE: Package = Package { name: "tor", programs: &["tor", "tor-gencert"], arguments: "" };

const INSTRUCTIONS: &str = "\
no tor found, and this machine cannot provision one by itself. Do one of:
  - install Tor 0.4.8 or later so that `tor` and `tor-gencert` are on PATH; its service may stay off
  - on Debian-like machines: install the package debian-archive-keyring";

pub(crate) struct Programs {
    pub(crate) tor: PathBuf,
    pub(crate) gencert: PathBuf,
}

impl Programs {
    /// Finds the programs on PATH or in target/tor, or provisions them there. Installs nothing on the system.
    pub(crate) fn provide() -> Result<Self> {
        if let (Some(tor), Some(gencert)) = (process::on_path("tor"), process::on_path("tor-gencert"))
            && check(&tor).is_ok()
        {
            return Ok(Self { tor, gencert });
        }
        let prefix = folder().join("debian");
        let programs = Self { tor: prefix.join("bin/tor"), gencert: prefix.join("bin/tor-gencert") };
        let _lock = process::lock(&folder().join("debian.lock"))?;
        if check(&programs.tor).is_err() {
            let archive = Archive::find().context(INSTRUCTIONS)?;
            archive
                .install(&PACKAGE, &prefix)
                .with_context(|| format!("cannot provision tor\n{INSTRUCTIONS}"))?;
            check(&programs.tor).context("the provisioned tor does not run")?;
        }
        Ok(programs)
    }
}

/// Where everything about Tor is kept.
pub(super) fn folder() -> PathBuf {
    workspace::target().join("tor")
}

fn check(tor: &Path) -> Result<()> {
    let version = process::output(Command::new(tor).arg("--version"))?;
    ensure!(version.starts_with("Tor version"), "{} does not call itself Tor", tor.display());
    Ok(())
}
