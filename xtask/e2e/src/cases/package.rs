//! The Debian package, installed into a folder that stands for a machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask_programs::process::{self, Server};

use super::Case;
use crate::deb::{self, Profile};
use crate::harness::{Fields, World, wait};

/// The cases.
pub(super) const CASES: &[Case] = &[Case {
    name: "deb-install",
    about: "the package in a scratch root: dpkg makes user and files, and what the unit starts runs with /etc and /run",
    run: install,
}];

const PATIENCE: Duration = Duration::from_secs(60);

/// What somebody who installs it finds, below `/`.
const FILES: &[&str] = &[
    "usr/bin/payjoind",
    "etc/payjoind/payjoind.toml",
    "usr/share/bash-completion/completions/payjoind",
    "usr/share/zsh/vendor-completions/_payjoind",
    "usr/share/fish/vendor_completions.d/payjoind.fish",
    "usr/share/man/man1/payjoind.1",
    "usr/share/man/man1/payjoind-channel-queue.1",
    UNIT,
];

const UNIT: &str = "usr/lib/systemd/system/payjoind.service";

fn install(world: &World<'_>) -> Result<()> {
    let root = world.folder("root")?;
    dpkg(&deb::build(Profile::Debug)?, &root)?;
    for file in FILES {
        ensure!(root.join(file).is_file(), "the package has no {file}");
    }
    let users = fs::read_to_string(root.join("etc/passwd"))?;
    ensure!(users.contains("payjoind:"), "there is no user: {users}");

    // What a person writes there first.
    let config = root.join("etc/payjoind/payjoind.toml");
    let shipped = fs::read_to_string(&config)?;
    let (url, cookie) = (world.chain.url(), world.chain.cookie());
    let settings =
        format!("{shipped}network = \"regtest\"\n[bitcoind]\nurl = {url:?}\ncookie = {cookie:?}\n");
    fs::write(&config, settings)?;
    runs(&started(&root)?, &root)
}

/// Installs it as on a machine with nothing else.
fn dpkg(package: &Path, root: &Path) -> Result<()> {
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for file in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
        fs::write(root.join(file), "")?;
    }
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("--root").arg(root).args(["--force-script-chrootless", "--force-depends", "--force-not-root"]);
    process::output(dpkg.arg("--install").arg(package)).map(drop)
}

/// What the unit starts, with this root in the place of `/`.
fn started(root: &Path) -> Result<Vec<PathBuf>> {
    let unit = fs::read_to_string(root.join(UNIT))?;
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).context("it starts nothing")?;
    let place = |word: &str| {
        let word = word.replace("%S", "/var/lib").replace("%t", "/run");
        word.strip_prefix('/').map_or_else(|| PathBuf::from(&word), |below| root.join(below))
    };
    let mut words: Vec<_> = start.split_whitespace().map(place).collect();
    let program = words.first_mut().context("it starts nothing")?;
    *program = root.join("usr/bin").join(&program);
    for folder in ["var/lib", "run/payjoind"] {
        fs::create_dir_all(root.join(folder))?;
    }
    Ok(words)
}

/// It answers at its socket, which is its group's, too.
fn runs(words: &[PathBuf], root: &Path) -> Result<()> {
    let (program, rest) = words.split_first().context("no words")?;
    let server =
        Server::start(Command::new(program).args(rest).stdout(Stdio::null()).stderr(Stdio::inherit()))?;
    let socket = root.join("run/payjoind/payjoind.sock");
    let ask = |command: &str| {
        let answer =
            process::output(Command::new(program).args(["--json", command, "--socket"]).arg(&socket))?;
        Ok::<Value, anyhow::Error>(serde_json::from_str(&answer)?)
    };
    let status = wait::until("the daemon answers at its socket", PATIENCE, || Ok(ask("status").ok()))?;
    ensure!(!status.text("node_id")?.is_empty(), "no node runs: {status}");
    let mode = fs::metadata(&socket)?.permissions().mode() & 0o777;
    ensure!(mode == 0o660, "the socket has mode {mode:o}");
    ask("stop")?;
    drop(server);
    ensure!(!socket.exists(), "it leaves its socket behind");
    Ok(())
}
