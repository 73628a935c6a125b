//! A regtest bitcoind of one's own. The only place that knows how to start one.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Server};
use crate::workspace;

/// Names a bitcoind to use before any other.
pub const VARIABLE: &str = "BITCOIND_EXE";

/// On loopback only: left to itself, a build may start the machine's own Tor and ask the gateway for a port. Nothing
/// here outlives the run, so wallets need not wait for the disk: a hundred times faster.
const ARGUMENTS: &[&str] = &[
    "-regtest",
    "-listen=0",
    "-listenonion=0",
    "-natpmp=0",
    "-printtoconsole=0",
    "-addresstype=bech32",
    "-changetype=bech32",
    "-fallbackfee=0.0001",
    "-keypool=10",
    "-unsafesqlitesync",
];

const PATIENCE: Duration = Duration::from_secs(30);

/// A bitcoind that runs: `$BITCOIND_EXE`, which must be one if it is set, else the one on PATH, else the one that
/// `cargo xtask bitcoind` put into the target folder.
pub fn find() -> Result<Option<PathBuf>> {
    if let Some(path) = env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        check(&path).with_context(|| format!("${VARIABLE} is set to {path:?} but that does not work"))?;
        return Ok(Some(path));
    }
    let candidates = process::on_path("bitcoind").into_iter().chain([prefix().join("bin/bitcoind")]);
    Ok(candidates.into_iter().find(|path| check(path).is_ok()))
}

/// Where `cargo xtask bitcoind` puts one.
pub fn prefix() -> PathBuf {
    workspace::target().join("bitcoind")
}

fn check(path: &Path) -> Result<()> {
    let version = process::output(Command::new(path).arg("--version"))?;
    ensure!(version.contains("Bitcoin"), "{} does not call itself a Bitcoin node", path.display());
    Ok(())
}

/// A chain on disk, and how its bitcoind is started.
#[derive(Debug)]
pub struct Regtest {
    program: PathBuf,
    data: PathBuf,
    port: u16,
    more: Vec<String>,
}

impl Regtest {
    /// Keeps everything in `data`, and what bitcoind prints in a file beside it; RPC at this port of loopback, with
    /// a cookie. `more` arguments win over ours.
    pub fn new(program: &Path, data: &Path, port: u16, more: &[&str]) -> Result<Self> {
        fs::create_dir_all(data)?;
        let more = more.iter().map(|argument| (*argument).to_owned()).collect();
        Ok(Self { program: program.to_owned(), data: data.to_owned(), port, more })
    }

    /// The same for a test of a crate, with the bitcoind that is there.
    pub fn for_a_test(data: &Path, port: u16) -> Result<Self> {
        let program =
            find()?.with_context(|| format!("no bitcoind: set {VARIABLE}, or run `cargo xtask bitcoind`"))?;
        Self::new(&program, data, port, &[])
    }

    /// Starts bitcoind and returns when it answers. It ends when the server is dropped.
    pub fn start(&self) -> Result<Server> {
        self.start_with(&[])
    }

    /// The same with arguments for this time, which win over all others.
    pub fn start_with(&self, arguments: &[&str]) -> Result<Server> {
        let started = self.data.join("started");
        // Fails only when there is none.
        let _ = fs::remove_file(&started);
        let log = File::options().create(true).append(true).open(self.data.with_extension("log"))?;
        let mut server = Server::start(
            Command::new(&self.program)
                .args(ARGUMENTS)
                .arg(format!("-datadir={}", self.data.display()))
                .arg(format!("-rpcport={}", self.port))
                .arg(format!("-startupnotify=touch '{}'", started.display()))
                .args(&self.more)
                .args(arguments)
                .stdout(log.try_clone()?)
                .stderr(Stdio::from(log)),
        )?;
        let begun = Instant::now();
        while !started.exists() {
            if let Some(status) = server.ended()? {
                bail!("bitcoind ended at once ({status}); see {}", self.data.with_extension("log").display());
            }
            ensure!(begun.elapsed() < PATIENCE, "bitcoind is not ready after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Where its RPC server listens, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Holds `user:password`; new at each start.
    pub fn cookie(&self) -> PathBuf {
        self.data.join("regtest/.cookie")
    }
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
