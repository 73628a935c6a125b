//! LNDs on a regtest chain.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test support: failing is reporting")]

use std::fs;
use std::process::Command;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::{Amount, Network, OutPoint};
use payjoin_core::{ChannelAmount, ChannelSpec, NodeState};
use payjoin_lightning::lnd::{Lnd, LndAccess, LndConfig};
use payjoin_lightning::{LightningError, OwnNodeConfig};
use serde_json::Value;
use tempfile::TempDir;
use xtask_programs::lnd::Lnd as Programs;
use xtask_programs::process::{self, Server};

use crate::node_support::{Bitcoind, free_port};
use crate::state::State;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long our leases are in these tests.
pub(crate) const LEASE: Duration = Duration::from_secs(8);

/// Says that a test did nothing.
pub(crate) fn programs() -> Option<Programs> {
    let found = Programs::find();
    if found.is_none() {
        eprintln!("skipped: no LND here; `cargo xtask e2e peer-lnd-channel` builds one");
    }
    found
}

/// Waits until `look` finds something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A running LND.
pub(crate) struct Peer {
    server: Mutex<Option<Server>>,
    words: Vec<String>,
    client: Vec<String>,
    pub(crate) folder: TempDir,
    listen: u16,
    rest: u16,
}

impl Peer {
    pub(crate) async fn start(programs: &Programs, bitcoind: &Bitcoind, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listen, rpc, rest) = (free_port(), free_port(), free_port());
        let mut words = programs.words(folder.path(), name, listen, rpc, Some(rest));
        words.push(format!("--bitcoind.rpchost={}", bitcoind.address()));
        words.push(format!("--bitcoind.rpccookie={}", bitcoind.cookie().display()));
        let client = programs.client_words(folder.path(), rpc);
        let peer = Self { server: Mutex::default(), words, client, folder, listen, rest };
        peer.run();
        peer.ready(bitcoind).await;
        peer
    }

    /// Starts it, again after a kill.
    pub(crate) fn run(&self) {
        let log =
            fs::File::options().create(true).append(true).open(self.folder.path().join("out.log")).unwrap();
        let mut command = Command::new(&self.words[0]);
        let server =
            Server::start(command.args(&self.words[1..]).stdout(log.try_clone().unwrap()).stderr(log));
        *self.server.lock().unwrap() = Some(server.unwrap());
    }

    pub(crate) fn kill(&self) {
        self.server.lock().unwrap().take();
    }

    pub(crate) async fn ready(&self, bitcoind: &Bitcoind) {
        let (_, height) = bitcoind.tip().await;
        let what = "LND is ready";
        until(what, async || {
            let active = self.call(&["state"]).ok()?["state"] == "SERVER_ACTIVE";
            let info = self.call(&["getinfo"]).ok()?;
            (active && info["synced_to_chain"] == true && info["block_height"] == height).then_some(())
        })
        .await;
    }

    /// Runs `lncli`.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(&self.client[0]);
        let printed =
            process::output(command.args(&self.client[1..]).args(arguments)).map_err(|e| format!("{e:#}"))?;
        serde_json::from_str(&printed).map_err(|error| format!("{error}: {printed}"))
    }

    pub(crate) fn spec(&self, sat: u64) -> ChannelSpec {
        let id = self.call(&["getinfo"]).unwrap()["identity_pubkey"].as_str().unwrap().to_owned();
        ChannelSpec {
            peer: format!("{id}@127.0.0.1:{}", self.listen).parse().unwrap(),
            amount: ChannelAmount::Exact(Amount::from_sat(sat)),
            push: Amount::ZERO,
            announced: false,
        }
    }

    /// Channels that wait for their funding, with their notes.
    pub(crate) fn pending(&self) -> Vec<(OutPoint, String)> {
        let told = self.call(&["pendingchannels"]).unwrap();
        let channels = told["pending_open_channels"].as_array().unwrap().iter().map(|one| &one["channel"]);
        let read = |one: &Value| {
            (
                one["channel_point"].as_str().unwrap().parse().unwrap(),
                one["memo"].as_str().unwrap().to_owned(),
            )
        };
        channels.map(read).collect()
    }

    pub(crate) fn access(&self) -> LndAccess {
        LndAccess {
            address: format!("127.0.0.1:{}", self.rest),
            certificate: self.folder.path().join("tls.cert"),
            macaroon: self.folder.path().join("data/chain/bitcoin/regtest/admin.macaroon"),
        }
    }

    /// Our leases at it.
    pub(crate) fn leases(&self) -> Vec<OutPoint> {
        let told = self.call(&["wallet", "listleases"]).unwrap();
        let point = |lease: &Value| lease["outpoint"].as_str().unwrap().parse().unwrap();
        told.as_array().unwrap().iter().map(point).collect()
    }

    /// Gives it a confirmed coin.
    pub(crate) async fn earn(&self, bitcoind: &Bitcoind, sat: u64, taproot: bool) -> OutPoint {
        let kind = if taproot { "p2tr" } else { "p2wkh" };
        let address = self.call(&["newaddress", kind]).unwrap()["address"].as_str().unwrap().to_owned();
        let address = bitcoin::Address::from_str(&address).unwrap().assume_checked();
        let coin = bitcoind.fund(&address, sat).await;
        self.ready(bitcoind).await;
        coin
    }
}

pub(crate) fn config(state: &Arc<State>) -> OwnNodeConfig {
    OwnNodeConfig {
        network: Network::Regtest,
        held: Vec::new(),
        state: Arc::clone(state) as Arc<dyn NodeState>,
        wanted: None,
        once: None,
        events: None,
    }
}

pub(crate) async fn beside(peer: &Peer, config: OwnNodeConfig) -> Result<Arc<Lnd>, LightningError> {
    Lnd::start(LndConfig { access: peer.access(), lease: LEASE }, config).await
}
