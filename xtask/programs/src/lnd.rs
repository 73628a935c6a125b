//! An LND of one's own on regtest. The only place that knows how to start one.

use std::path::{Path, PathBuf};

use crate::workspace;

/// LND's two programs.
#[derive(Clone, Debug)]
pub struct Lnd {
    /// The node.
    pub lnd: PathBuf,
    /// Its command line.
    pub lncli: PathBuf,
}

/// On loopback only, with looks at the chain that no test has to wait for.
const ARGUMENTS: &[&str] = &[
    "--bitcoin.regtest",
    "--bitcoin.node=bitcoind",
    "--bitcoind.rpcpolling",
    "--bitcoind.blockpollinginterval=200ms",
    "--bitcoind.txpollinginterval=200ms",
    "--noseedbackup",
    "--nobootstrap",
];

impl Lnd {
    /// Where the end-to-end cases build it.
    pub fn place() -> PathBuf {
        workspace::target().join("lnd")
    }

    /// The one that was built; `None` where it was not. `cargo xtask e2e peer-lnd-channel` builds it.
    pub fn find() -> Option<Self> {
        let found = Self { lnd: Self::place().join("lnd"), lncli: Self::place().join("lncli") };
        (found.lnd.is_file() && found.lncli.is_file()).then_some(found)
    }

    /// The words that start it with everything in `folder`; where it finds its bitcoind is still to be said. It listens on
    /// loopback at these ports: for peers, for its command line, and for its REST server, if it should have one.
    pub fn words(&self, folder: &Path, alias: &str, listen: u16, rpc: u16, rest: Option<u16>) -> Vec<String> {
        let mut words = vec![self.lnd.display().to_string(), format!("--lnddir={}", folder.display())];
        words.extend(ARGUMENTS.iter().map(|argument| (*argument).to_owned()));
        words.push(format!("--alias={alias}"));
        words.push(format!("--listen=127.0.0.1:{listen}"));
        words.push(format!("--rpclisten=127.0.0.1:{rpc}"));
        words.push(rest.map_or("--norest".to_owned(), |port| format!("--restlisten=127.0.0.1:{port}")));
        words
    }

    /// The words that its command line begins with.
    pub fn client_words(&self, folder: &Path, rpc: u16) -> Vec<String> {
        let own = format!("--lnddir={}", folder.display());
        let server = format!("--rpcserver=127.0.0.1:{rpc}");
        vec![self.lncli.display().to_string(), own, "--network=regtest".to_owned(), server]
    }
}
