//! A Core Lightning on a regtest chain.
#![allow(clippy::unwrap_used, reason = "test support: failing is reporting")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use xtask_programs::cln::Cln as Programs;
use xtask_programs::process::{self, Server};

use crate::node_support::{Bitcoind, free_port};
use crate::until;

/// One that runs until it goes.
pub(crate) struct Lightningd {
    _server: Server,
    client: Vec<String>,
    folder: TempDir,
}

impl Lightningd {
    pub(crate) async fn start(programs: &Programs, bitcoind: &Bitcoind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cookie = fs::read_to_string(bitcoind.cookie()).unwrap();
        let login = cookie.split_once(':').unwrap();
        let words =
            programs.words(folder.path(), "own", free_port(), bitcoind.address().parse().unwrap(), login);
        let log = File::create(folder.path().join("out.log")).unwrap();
        let mut command = Command::new(&words[0]);
        let server =
            Server::start(command.args(&words[1..]).stdout(log.try_clone().unwrap()).stderr(log)).unwrap();
        let own = Self { _server: server, client: programs.client_words(folder.path()), folder };
        let (_, height) = bitcoind.tip().await;
        until("lightningd is ready", async || {
            let told = own.call(&["getinfo"]).ok()?;
            let waits = ["warning_bitcoind_sync", "warning_lightningd_sync"];
            let behind = waits.iter().any(|name| told.get(name).is_some());
            (!behind && told["blockheight"] == height).then_some(())
        })
        .await;
        own
    }

    /// Runs `lightning-cli`.
    fn call(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(&self.client[0]);
        let printed = process::output(command.args(&self.client[1..]).args(arguments));
        serde_json::from_str(&printed.map_err(|error| format!("{error:#}"))?).map_err(|e| e.to_string())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        Programs::socket(self.folder.path())
    }
}
