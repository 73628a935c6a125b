//! A regtest bitcoind, and nodes over it.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "test support: failing is reporting")]

use std::os::unix::fs::PermissionsExt;

use bitcoin::Network;
use payjoin_lightning::node::{Rpc, RpcAuth};
use payjoin_node::settings::{Bitcoind, Http, PlainListen};
use payjoin_node::{Node, Request, RequestError, Response, Settings};
use tempfile::TempDir;
use xtask_programs::bitcoind::Regtest;
use xtask_programs::process::Server;

/// A chain of one block, ended when dropped.
pub(crate) struct Chain {
    regtest: Regtest,
    rpc: Rpc,
    _server: Server,
    _folder: TempDir,
}

impl Chain {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let regtest = Regtest::for_a_test(&folder.path().join("bitcoind"), free_port()).unwrap();
        let server = regtest.start().unwrap();
        let rpc = Rpc::new(regtest.url(), RpcAuth::Cookie(regtest.cookie())).unwrap();
        rpc.call("generatetodescriptor", serde_json::json!([1, "raw(51)"])).await.unwrap();
        Self { regtest, rpc, _server: server, _folder: folder }
    }

    /// Mines blocks that pay to this address.
    pub(crate) async fn mine(&self, blocks: u32, to: &bitcoin::Address) {
        self.rpc.call("generatetoaddress", serde_json::json!([blocks, to])).await.unwrap();
    }

    /// Waits until a node has dealt with the best block.
    pub(crate) async fn until_followed_by(&self, node: &Node) {
        let height = self.rpc.call("getblockcount", serde_json::json!([])).await.unwrap();
        loop {
            match ask(node, "\"status\"").await.unwrap() {
                Response::Status(status) if height == status.height => return,
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    }

    /// Settings of a node over this chain, in this folder: payers reach it through a proxy.
    pub(crate) fn settings(&self, folder: &TempDir) -> Settings {
        let (url, cookie) = (Some(self.regtest.url()), Some(self.regtest.cookie()));
        let listen = PlainListen::Tcp(([127, 0, 0, 1], free_port()).into());
        Settings {
            datadir: folder.path().into(),
            network: Network::Regtest,
            bitcoind: Bitcoind { url, cookie, block_poll_ms: 50, mempool_poll_ms: 50, ..Bitcoind::default() },
            http: Http {
                plain_listen: Some(listen),
                public_endpoint: Some("https://pay.example".into()),
                ..Http::default()
            },
            ..Settings::default()
        }
    }
}

pub(crate) fn free_port() -> u16 {
    xtask_programs::ports::free().unwrap()
}

/// A folder that only its owner can enter.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// Asks with the JSON that comes through the control socket.
pub(crate) async fn ask(node: &Node, json: &str) -> Result<Response, RequestError> {
    node.request(serde_json::from_str::<Request>(json).unwrap()).await
}
