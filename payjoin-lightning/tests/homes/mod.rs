//! Where the nodes of the contract live: each starts, is killed, and starts again with what was durable.
#![allow(clippy::unwrap_used, reason = "test support: failing is reporting")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bitcoin::OutPoint;
use payjoin_core::{Holder, StateWrite};
use payjoin_lightning::cln::{Cln, ClnAccess};
use payjoin_lightning::node::{ManagerState, NodeConfig, NodeStore as _};
use payjoin_lightning::{LightningNode, OwnNodeConfig};
use tempfile::TempDir;
use xtask_programs::cln::Cln as ClnPrograms;

use crate::cln_support::Lightningd;
use crate::lnd_support::{self, Peer};
use crate::node_support::{self, Bitcoind, MemStore};
use crate::state::State;

/// Coins on record, by holder.
pub(crate) type Held = Vec<(Holder, Vec<OutPoint>)>;

/// What of one process the next one finds.
#[async_trait]
pub(crate) trait Home: Send + Sync {
    /// Starts the node with these locks on record; again after [`Home::kill`].
    async fn start(&self, bitcoind: &Bitcoind, held: Held) -> Arc<dyn LightningNode>;

    /// What runs in this process ends. All that is not durable now is lost.
    async fn kill(&self, node: Arc<dyn LightningNode>);

    /// What a release writes beside the proposal.
    fn write(&self, state: Vec<StateWrite>);
}

/// The node in this process.
pub(crate) async fn embedded(_: &Bitcoind) -> Option<Box<dyn Home>> {
    Some(Box::new(Embedded { folder: tempfile::tempdir().unwrap(), store: Mutex::default() }))
}

/// A Core Lightning; none, with a word, where the machine lacks it.
pub(crate) async fn cln(bitcoind: &Bitcoind) -> Option<Box<dyn Home>> {
    let Some(programs) = ClnPrograms::find() else {
        eprintln!("skipped: {}", ClnPrograms::MISSING);
        return None;
    };
    let lightningd = Lightningd::start(&programs, bitcoind).await;
    Some(Box::new(OwnCln { lightningd, state: Arc::default() }))
}

/// An LND; none, with a word, where the machine lacks it.
pub(crate) async fn lnd(bitcoind: &Bitcoind) -> Option<Box<dyn Home>> {
    let lnd = Peer::start(&lnd_support::programs()?, bitcoind, "own").await;
    Some(Box::new(OwnLnd { lnd, state: Arc::default() }))
}

struct Embedded {
    folder: TempDir,
    store: Mutex<Arc<MemStore>>,
}

#[async_trait]
impl Home for Embedded {
    async fn start(&self, bitcoind: &Bitcoind, held: Held) -> Arc<dyn LightningNode> {
        let config = NodeConfig { held, ..node_support::config(&self.folder) };
        let store = Arc::clone(&self.store.lock().unwrap());
        node_support::run_with(bitcoind, config, &store).await
    }

    async fn kill(&self, node: Arc<dyn LightningNode>) {
        let left = self.store.lock().unwrap().snapshot();
        node.stop().await;
        *self.store.lock().unwrap() = left;
    }

    fn write(&self, state: Vec<StateWrite>) {
        for StateWrite { generation, value: bytes, .. } in state {
            self.store.lock().unwrap().write_manager(ManagerState { generation, bytes }).unwrap();
        }
    }
}

struct OwnCln {
    lightningd: Lightningd,
    state: Arc<State>,
}

#[async_trait]
impl Home for OwnCln {
    async fn start(&self, _: &Bitcoind, held: Held) -> Arc<dyn LightningNode> {
        let config = OwnNodeConfig { held, ..lnd_support::config(&self.state) };
        let node = Cln::start(ClnAccess::Socket(self.lightningd.socket()), config).await.unwrap();
        node.meet_peers();
        node
    }

    async fn kill(&self, node: Arc<dyn LightningNode>) {
        node.stop().await;
    }

    fn write(&self, state: Vec<StateWrite>) {
        assert!(state.is_empty(), "Core Lightning keeps its channels itself");
    }
}

struct OwnLnd {
    lnd: Peer,
    state: Arc<State>,
}

#[async_trait]
impl Home for OwnLnd {
    async fn start(&self, _: &Bitcoind, held: Held) -> Arc<dyn LightningNode> {
        let config = OwnNodeConfig { held, ..lnd_support::config(&self.state) };
        lnd_support::beside(&self.lnd, config).await.unwrap()
    }

    async fn kill(&self, node: Arc<dyn LightningNode>) {
        node.stop().await;
    }

    fn write(&self, state: Vec<StateWrite>) {
        assert!(state.is_empty(), "LND keeps its channels itself");
    }
}
