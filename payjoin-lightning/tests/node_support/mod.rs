//! A regtest bitcoind, a store in memory, and nodes over both.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test support: failing is reporting")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash;
use bitcoin::psbt::Input;
use bitcoin::{
    Address, Amount, BlockHash, Network, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
};
use lightning::io;
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE, KVStoreSync,
};
use payjoin_core::{Broadcast, Chain, ChannelAmount, ChannelSpec, ExchangeId, Holder};
use payjoin_lightning::node::{self, ChainSource, ManagerState, Node, NodeConfig, NodeStore, Rpc, RpcAuth};
use payjoin_lightning::{ChannelKey, CoinInfo};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask_programs::bitcoind::{self, Regtest};
use xtask_programs::process::Server;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `done` says so.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A bitcoind of its own.
pub(crate) struct Bitcoind {
    // Ends before its folder goes.
    server: Mutex<Option<Server>>,
    folder: TempDir,
    regtest: Regtest,
    pub(crate) chain: Arc<node::Bitcoind>,
    rpc: Rpc,
    miner: Rpc,
}

pub(crate) fn free_port() -> u16 {
    xtask_programs::ports::free().unwrap()
}

impl Bitcoind {
    /// Starts bitcoind with a wallet `miner` that owns 101 blocks.
    pub(crate) async fn start() -> Self {
        let bitcoind = Self::without_blocks().await;
        bitcoind.call("createwallet", json!(["miner"])).await;
        bitcoind.mine(101).await;
        bitcoind
    }

    /// Starts a second bitcoind with the best chain of this one, up to `height`. It never saw another branch.
    pub(crate) async fn sibling(&self, height: u32) -> Self {
        let sibling = Self::without_blocks().await;
        for height in 1..=height {
            let hash = self.call("getblockhash", json!([height])).await;
            let block = self.call("getblock", json!([hash, 0])).await;
            sibling.call("submitblock", json!([block])).await;
        }
        sibling
    }

    async fn without_blocks() -> Self {
        Self::with(&[]).await
    }

    /// Starts one without blocks, with more arguments.
    pub(crate) async fn with(more: &[&str]) -> Self {
        let (folder, program) = (tempfile::tempdir().unwrap(), bitcoind::find().unwrap());
        let program = program.expect("no bitcoind: set BITCOIND_EXE, or run `cargo xtask bitcoind`");
        let regtest = Regtest::new(&program, &folder.path().join("bitcoind"), free_port(), more).unwrap();
        let server = Mutex::new(Some(regtest.start().unwrap()));
        let client = |path: &str| {
            Rpc::new(format!("{}{path}", regtest.url()), RpcAuth::Cookie(regtest.cookie())).unwrap()
        };
        let (rpc, miner) = (client(""), client("/wallet/miner"));
        let chain = Arc::new(node::Bitcoind::new(client("")));
        Self { server, folder, regtest, chain, rpc, miner }
    }

    /// Ends it. Another one with a longer chain takes its place, with the same address and login.
    pub(crate) async fn give_way_to_another_chain(&self) {
        let blocks = self.tip().await.1 + 20;
        *self.server.lock().unwrap() = None;
        std::fs::remove_dir_all(self.folder.path().join("bitcoind/regtest")).unwrap();
        *self.server.lock().unwrap() = Some(self.regtest.start().unwrap());
        self.call("createwallet", json!(["miner"])).await;
        self.mine(blocks).await;
    }

    /// Ends it in peace.
    pub(crate) async fn down(&self) {
        self.call("stop", json!([])).await;
        let ended = |server: &mut Server| server.ended().unwrap().is_some();
        until("bitcoind ends", || self.server.lock().unwrap().as_mut().is_none_or(ended)).await;
    }

    /// Starts it again.
    pub(crate) fn up(&self) {
        *self.server.lock().unwrap() = Some(self.regtest.start().unwrap());
    }

    /// How many transactions wait to be mined.
    pub(crate) async fn mempool(&self) -> u64 {
        self.call("getmempoolinfo", json!([])).await["size"].as_u64().unwrap()
    }

    /// Waits until so many transactions wait to be mined.
    pub(crate) async fn until_mempool(&self, size: u64) {
        let began = Instant::now();
        while self.mempool().await != size {
            assert!(began.elapsed() < PATIENCE, "timed out: {size} in the mempool");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A second client, with its own idea of how to log in.
    pub(crate) fn client(&self, auth: RpcAuth) -> Rpc {
        Rpc::new(self.regtest.url(), auth).unwrap()
    }

    pub(crate) fn source(&self) -> Arc<dyn ChainSource> {
        Arc::clone(&self.chain) as Arc<_>
    }

    pub(crate) async fn broadcast(&self, transaction: &Transaction) {
        assert_eq!(self.chain.broadcast(transaction).await, Ok(Broadcast::Taken));
    }

    /// `host:port` of its RPC.
    pub(crate) fn address(&self) -> String {
        self.regtest.url().trim_start_matches("http://").to_owned()
    }

    pub(crate) fn cookie(&self) -> PathBuf {
        self.regtest.cookie()
    }

    pub(crate) async fn call(&self, method: &'static str, params: Value) -> Value {
        self.rpc.call(method, params).await.unwrap()
    }

    pub(crate) async fn miner(&self, method: &'static str, params: Value) -> Value {
        self.miner.call(method, params).await.unwrap()
    }

    pub(crate) async fn mine(&self, blocks: u32) {
        let address = self.miner("getnewaddress", json!([])).await;
        self.miner("generatetoaddress", json!([blocks, address])).await;
    }

    /// Sends and mines one block.
    pub(crate) async fn fund(&self, address: &Address, sat: u64) -> OutPoint {
        let btc = Amount::from_sat(sat).to_btc();
        let txid = self.miner("sendtoaddress", json!([address.to_string(), btc])).await;
        let transaction = self.miner("gettransaction", json!([txid])).await;
        self.mine(1).await;
        let transaction: Transaction =
            bitcoin::consensus::encode::deserialize_hex(transaction["hex"].as_str().unwrap()).unwrap();
        let script = address.script_pubkey();
        let vout = transaction.output.iter().position(|output| output.script_pubkey == script).unwrap();
        OutPoint::new(transaction.compute_txid(), vout as u32)
    }

    /// Waits until it has this many blocks.
    pub(crate) async fn reaches(&self, height: u32) {
        let began = Instant::now();
        while self.tip().await.1 < height {
            assert!(began.elapsed() < PATIENCE, "no block {height}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn tip(&self) -> (BlockHash, u32) {
        let info = self.call("getblockchaininfo", json!([])).await;
        (info["bestblockhash"].as_str().unwrap().parse().unwrap(), info["blocks"].as_u64().unwrap() as u32)
    }

    /// Mines and waits until the nodes have dealt with it.
    pub(crate) async fn mine_for(&self, blocks: u32, nodes: &[&Node]) {
        self.mine(blocks).await;
        let (_, height) = self.tip().await;
        // Hundreds of blocks take their time where others work, too: as long as one comes after the other.
        let mut seen = (Instant::now(), 0);
        while !nodes.iter().all(|node| node.height() == height) {
            let heights: u32 = nodes.iter().map(|node| node.height()).sum();
            seen = if heights == seen.1 { seen } else { (Instant::now(), heights) };
            assert!(seen.0.elapsed() < PATIENCE, "timed out: nodes at the tip");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Everything in memory, with the rule about generations that a real store keeps.
#[derive(Default)]
pub(crate) struct MemStore(Mutex<Data>);

#[derive(Clone, Default)]
struct Data {
    values: HashMap<(String, String, String), Vec<u8>>,
    generation: u64,
    changes: Vec<Vec<u8>>,
    broken: bool,
}

impl MemStore {
    /// What a crash at this moment would leave behind.
    pub(crate) fn snapshot(&self) -> Arc<Self> {
        Arc::new(Self(Mutex::new(self.0.lock().unwrap().clone())))
    }

    /// From now on the disk is full.
    pub(crate) fn break_down(&self) {
        self.0.lock().unwrap().broken = true;
    }

    pub(crate) fn wallet_change_count(&self) -> usize {
        self.0.lock().unwrap().changes.len()
    }
}

fn key(primary: &str, secondary: &str, key: &str) -> (String, String, String) {
    (primary.to_owned(), secondary.to_owned(), key.to_owned())
}

impl KVStoreSync for MemStore {
    fn read(&self, primary: &str, secondary: &str, name: &str) -> Result<Vec<u8>, io::Error> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such key");
        self.0.lock().unwrap().values.get(&key(primary, secondary, name)).cloned().ok_or_else(missing)
    }

    fn write(&self, primary: &str, secondary: &str, name: &str, bytes: Vec<u8>) -> Result<(), io::Error> {
        self.0.lock().unwrap().values.insert(key(primary, secondary, name), bytes);
        Ok(())
    }

    fn remove(&self, primary: &str, secondary: &str, name: &str, _lazy: bool) -> Result<(), io::Error> {
        self.0.lock().unwrap().values.remove(&key(primary, secondary, name));
        Ok(())
    }

    fn list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, io::Error> {
        let data = self.0.lock().unwrap();
        let keys = data.values.keys().filter(|(p, s, _)| p == primary && s == secondary);
        Ok(keys.map(|(_, _, name)| name.clone()).collect())
    }
}

impl NodeStore for MemStore {
    fn write_manager(&self, state: ManagerState) -> Result<(), io::Error> {
        let mut data = self.0.lock().unwrap();
        if data.broken {
            return Err(io::Error::new(io::ErrorKind::Other, "disk full"));
        }
        if state.generation > data.generation {
            let place =
                key(CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE, "", CHANNEL_MANAGER_PERSISTENCE_KEY);
            data.generation = state.generation;
            data.values.insert(place, state.bytes);
        }
        Ok(())
    }

    fn manager_generation(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().generation)
    }

    fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, io::Error> {
        Ok(self.0.lock().unwrap().changes.clone())
    }

    fn append_wallet_change(&self, change: Vec<u8>) -> Result<(), io::Error> {
        self.0.lock().unwrap().changes.push(change);
        Ok(())
    }

    fn replace_wallet_changes(&self, change: Vec<u8>) -> Result<(), io::Error> {
        self.0.lock().unwrap().changes = vec![change];
        Ok(())
    }
}

/// A node with its folder and store.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    pub(crate) store: Arc<MemStore>,
    pub(crate) node: Arc<Node>,
}

pub(crate) fn config(folder: &TempDir) -> NodeConfig {
    NodeConfig {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        poll: Duration::from_millis(50),
        inbound_without_coins: true,
        ..NodeConfig::new(Network::Regtest, folder.path().join("seed"))
    }
}

pub(crate) async fn start(bitcoind: &Bitcoind) -> Setup {
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(MemStore::default()));
    let node = run(bitcoind, &folder, &store).await;
    Setup { folder, store, node }
}

pub(crate) async fn run(bitcoind: &Bitcoind, folder: &TempDir, store: &Arc<MemStore>) -> Arc<Node> {
    run_with(bitcoind, config(folder), store).await
}

pub(crate) async fn run_with(bitcoind: &Bitcoind, config: NodeConfig, store: &Arc<MemStore>) -> Arc<Node> {
    let store = Arc::clone(store) as Arc<dyn NodeStore>;
    let node = Node::start(config, bitcoind.source(), store, None).await.expect("the node starts");
    node.meet_peers();
    node
}

impl Setup {
    /// Gives the wallet a confirmed coin.
    pub(crate) async fn earn(&self, bitcoind: &Bitcoind, sat: u64) -> OutPoint {
        let address = self.node.wallet().new_address().unwrap();
        let outpoint = bitcoind.fund(&address, sat).await;
        let began = Instant::now();
        let is_there = |coins: &[CoinInfo]| coins.iter().any(|coin| coin.outpoint == outpoint);
        while !is_there(&self.node.wallet().coins()) {
            if began.elapsed() > PATIENCE {
                let (tip, waiting) = (bitcoind.tip().await, bitcoind.mempool().await);
                let (height, coins) = (self.node.height(), self.node.wallet().coins());
                assert!(
                    is_there(&coins),
                    "{outpoint}: at {height} of {tip:?}, {waiting} in the mempool, {coins:?}"
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        outpoint
    }

    pub(crate) fn spec(&self, sat: u64) -> ChannelSpec {
        let address = self.node.listening().unwrap();
        ChannelSpec {
            peer: format!("{}@{address}", self.node.node_id()).parse().unwrap(),
            amount: ChannelAmount::Exact(Amount::from_sat(sat)),
            push: Amount::ZERO,
            announced: false,
        }
    }
}

/// The fee of every transaction we build.
pub(crate) const FEE: u64 = 1_000;

/// Who holds the coins of what [`build`] built last.
pub(crate) const BUILDER: Holder = Holder::Exchange(ExchangeId(1_000));

/// A transaction of all offered coins of `node` to `output`, change to its wallet, not signed.
pub(crate) fn build(node: &Node, output: TxOut) -> Psbt {
    let (coins, _) = node.reserve(BUILDER, &ScriptBuf::new(), &[]);
    let total: u64 = coins.iter().map(|coin| coin.txout.value.to_sat()).sum();
    let change = node.wallet().new_address().unwrap().script_pubkey();
    let change =
        TxOut { value: Amount::from_sat(total - output.value.to_sat() - FEE), script_pubkey: change };
    let input = |outpoint| TxIn { previous_output: outpoint, sequence: Sequence::MAX, ..TxIn::default() };
    let transaction = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: coins.iter().map(|coin| input(coin.outpoint)).collect(),
        output: vec![output, change],
    };
    let mut psbt = Psbt::from_unsigned_tx(transaction).unwrap();
    psbt.inputs =
        coins.into_iter().map(|coin| Input { witness_utxo: Some(coin.txout), ..Input::default() }).collect();
    psbt
}

/// Signs all inputs.
pub(crate) fn sign(node: &Node, psbt: &Psbt) -> Transaction {
    let all: Vec<usize> = (0..psbt.inputs.len()).collect();
    node.wallet().sign(psbt, &all).unwrap().extract_tx().unwrap()
}

pub(crate) const KEY: ChannelKey = ChannelKey { exchange: ExchangeId(7), index: 0 };

/// Opens a channel up to the point where its funding transaction may be broadcast, and returns that.
pub(crate) async fn open(from: &Setup, to: &Setup, sat: u64) -> Transaction {
    open_as(from, to, sat, false).await
}

pub(crate) async fn open_as(from: &Setup, to: &Setup, sat: u64, announced: bool) -> Transaction {
    let funder = from.node.funder();
    let amount = Amount::from_sat(sat);
    let spec = ChannelSpec { announced, ..to.spec(sat) };
    let script = funder.open(KEY, &spec, amount).await.unwrap();
    let psbt = build(&from.node, TxOut { value: amount, script_pubkey: script });
    funder.fund(KEY, &psbt, 0).await.unwrap();
    sign(&from.node, &psbt)
}

/// Broadcasts the funding transaction and waits until both ends can use the channel.
pub(crate) async fn confirm(bitcoind: &Bitcoind, funding: &Transaction, nodes: &[&Node]) {
    bitcoind.broadcast(funding).await;
    bitcoind.mine_for(6, nodes).await;
    let usable = |node: &&Node| node.channels().iter().any(|channel| channel.usable);
    until("channel usable", || nodes.iter().all(usable)).await;
}

/// An outpoint that does not exist.
pub(crate) fn nowhere() -> OutPoint {
    OutPoint::new(bitcoin::Txid::from_byte_array([9; 32]), 0)
}
