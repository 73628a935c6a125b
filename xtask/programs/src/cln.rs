//! A Core Lightning of one's own on regtest. The only place that knows how to start one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::process;

/// Core Lightning's programs, and the one by which it reads the chain.
#[derive(Clone, Debug)]
pub struct Cln {
    /// The node.
    pub lightningd: PathBuf,
    /// Its command line.
    pub lightning_cli: PathBuf,
    /// It is run for each question about the chain.
    pub bitcoin_cli: PathBuf,
}

/// On loopback only, with looks at the chain that no test has to wait for long. For each look lightningd starts half a dozen
/// programs: a busy machine would do nothing else if it looked each second.
const ARGUMENTS: &[&str] = &[
    "--network=regtest",
    "--developer",
    "--dev-fast-gossip",
    "--dev-bitcoind-poll=3",
    "--log-level=debug",
    // It reads the chain through a program that it starts for each question.
    "--rescan=1",
];

impl Cln {
    /// How to get it.
    pub const MISSING: &str =
        "Core Lightning: install it so that `lightningd`, `lightning-cli` and `bitcoin-cli` are on PATH";

    /// The one on PATH.
    pub fn find() -> Option<Self> {
        Some(Self {
            lightningd: process::on_path("lightningd")?,
            lightning_cli: process::on_path("lightning-cli")?,
            bitcoin_cli: process::on_path("bitcoin-cli")?,
        })
    }

    /// The words that start it with everything in `folder`, on the chain of the bitcoind at this address, for a user and his
    /// password. It listens for peers at this port of loopback.
    pub fn words(
        &self,
        folder: &Path,
        alias: &str,
        listen: u16,
        bitcoind: SocketAddr,
        (user, password): (&str, &str),
    ) -> Vec<String> {
        let mut words = vec![self.lightningd.display().to_string(), own(folder)];
        words.extend(ARGUMENTS.iter().map(|argument| (*argument).to_owned()));
        words.extend([
            format!("--alias={alias}"),
            format!("--addr=127.0.0.1:{listen}"),
            format!("--bitcoin-cli={}", self.bitcoin_cli.display()),
            format!("--bitcoin-rpcconnect={}", bitcoind.ip()),
            format!("--bitcoin-rpcport={}", bitcoind.port()),
            format!("--bitcoin-rpcuser={user}"),
            format!("--bitcoin-rpcpassword={password}"),
        ]);
        words
    }

    /// The words that its command line begins with.
    pub fn client_words(&self, folder: &Path) -> Vec<String> {
        let words = [own(folder), "--network=regtest".to_owned(), "--notifications=none".to_owned()];
        std::iter::once(self.lightning_cli.display().to_string()).chain(words).collect()
    }

    /// The socket of its JSON-RPC.
    pub fn socket(folder: &Path) -> PathBuf {
        folder.join("regtest/lightning-rpc")
    }
}

fn own(folder: &Path) -> String {
    format!("--lightning-dir={}", folder.display())
}
