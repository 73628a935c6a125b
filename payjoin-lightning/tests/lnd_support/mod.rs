//! LNDs on a regtest chain, and payjoins that a payer of the miner's makes with one of them.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test support: failing is reporting")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::psbt::Input;
use bitcoin::{Amount, Network, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut};
use payjoin_core::{
    ChannelAmount, ChannelSpec, CheckedProposal, Coin, Conservation, IntentId, LedgerError, MinFeeRate,
    NodeState, PaymentOutput, PlannedChannel, StateWrite,
};
use payjoin_lightning::lnd::{Lnd, LndAccess, LndConfig};
use payjoin_lightning::{LightningError, OwnNodeConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask_programs::lnd::Lnd as Programs;
use xtask_programs::process::{self, Server};

use crate::node_support::{Bitcoind, free_port};

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

/// What survives a crash, in memory.
#[derive(Default)]
pub(crate) struct State(Mutex<BTreeMap<(String, String, String), Vec<u8>>>);

fn at(primary: &str, secondary: &str, key: &str) -> (String, String, String) {
    (primary.to_owned(), secondary.to_owned(), key.to_owned())
}

impl NodeState for State {
    fn kv_read(&self, primary: &str, secondary: &str, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.0.lock().unwrap().get(&at(primary, secondary, key)).cloned())
    }

    fn kv_generation(&self, _: &str, _: &str, _: &str) -> Result<u64, LedgerError> {
        Ok(0)
    }

    fn kv_list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, LedgerError> {
        let data = self.0.lock().unwrap();
        let keys = data.keys().filter(|(p, s, _)| p == primary && s == secondary);
        Ok(keys.map(|(_, _, key)| key.clone()).collect())
    }

    fn kv_write(&self, write: StateWrite) -> Result<(), LedgerError> {
        self.0.lock().unwrap().insert((write.primary, write.secondary, write.key), write.value);
        Ok(())
    }

    fn kv_remove(&self, primary: &str, secondary: &str, key: &str) -> Result<(), LedgerError> {
        self.0.lock().unwrap().remove(&at(primary, secondary, key));
        Ok(())
    }

    fn kv_move(&self, _: &str, _: &str, _: Vec<String>) -> Result<(), LedgerError> {
        Ok(())
    }

    fn append_wallet_change(&self, _: Vec<u8>) -> Result<(), LedgerError> {
        Ok(())
    }

    fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, LedgerError> {
        Ok(Vec::new())
    }

    fn replace_wallet_changes(&self, _: Vec<u8>) -> Result<(), LedgerError> {
        Ok(())
    }
}

pub(crate) fn config(state: &Arc<State>) -> OwnNodeConfig {
    OwnNodeConfig {
        network: Network::Regtest,
        held: Vec::new(),
        state: Arc::clone(state) as Arc<dyn NodeState>,
        wanted: None,
        events: None,
    }
}

pub(crate) async fn beside(peer: &Peer, config: OwnNodeConfig) -> Result<Arc<Lnd>, LightningError> {
    Lnd::start(LndConfig { access: peer.access(), lease: LEASE }, config).await
}

/// A payment of the miner's: what it spends, how much it pays, and where the rest goes.
pub(crate) struct Payer {
    coin: Coin,
    change: ScriptBuf,
}

/// What the payer pays, and the fee of Original and payjoin.
pub(crate) const PAYMENT: Amount = Amount::from_sat(600_000);
const FEE: Amount = Amount::from_sat(3_000);

impl Payer {
    pub(crate) async fn new(bitcoind: &Bitcoind) -> Self {
        let address =
            |told: Value| bitcoin::Address::from_str(told.as_str().unwrap()).unwrap().assume_checked();
        let from = address(bitcoind.miner("getnewaddress", json!(["", "bech32"])).await);
        let change = address(bitcoind.miner("getnewaddress", json!(["", "bech32"])).await).script_pubkey();
        let outpoint = bitcoind.fund(&from, 2_000_000).await;
        let txout = TxOut { value: Amount::from_sat(2_000_000), script_pubkey: from.script_pubkey() };
        Self { coin: Coin { outpoint, txout }, change }
    }

    /// The payjoin that opens these channels beside the payment to `ours`, with our coins; and the proof that it conserves.
    pub(crate) fn payjoin(
        &self,
        ours: &ScriptBuf,
        coins: &[Coin],
        channels: &[(Amount, ScriptBuf)],
    ) -> (Conservation, CheckedProposal) {
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            ..TxIn::default()
        };
        let output = |value: Amount, script: &ScriptBuf| TxOut { value, script_pubkey: script.clone() };
        let back = self.coin.txout.value - PAYMENT - FEE;
        let original = Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![input(&self.coin)],
            output: vec![output(back, &self.change), output(PAYMENT, ours)],
        };
        let added: Amount = coins.iter().map(|coin| coin.txout.value).sum();
        let opened: Amount = channels.iter().map(|(amount, _)| *amount).sum();
        let mut payjoin = original.clone();
        payjoin.input.extend(coins.iter().map(input));
        payjoin.output[1].value = PAYMENT + added - opened;
        payjoin.output.extend(channels.iter().map(|(amount, script)| output(*amount, script)));
        let planned = (0..).zip(channels).map(|(id, (amount, script))| {
            (PlannedChannel { intent: IntentId(id), amount: *amount }, script.clone())
        });
        // As if the payer had signed it: only that it is signed counts here.
        let mut signed = original;
        signed.input[0].witness = bitcoin::Witness::from_slice(&[[1; 71].as_slice(), [2; 33].as_slice()]);
        let conservation = Conservation {
            original: signed,
            prevouts: vec![self.coin.txout.clone()],
            payment: 1,
            contribution: None,
            coins: coins.to_vec(),
            channels: planned.collect(),
            splits: Vec::new(),
            output: if channels.is_empty() { PaymentOutput::Kept } else { PaymentOutput::Change },
            min_fee_rate: MinFeeRate::ZERO,
            max_fee: FEE,
            payer_is_me: false,
        };
        let mut psbt = Psbt::from_unsigned_tx(payjoin).unwrap();
        let spent = std::iter::once(&self.coin).chain(coins);
        psbt.inputs =
            spent.map(|coin| Input { witness_utxo: Some(coin.txout.clone()), ..Input::default() }).collect();
        let checked = conservation.check(psbt).unwrap();
        (conservation, checked)
    }

    /// Adds the payer's signature and sends it.
    pub(crate) async fn send(&self, bitcoind: &Bitcoind, signed: &Psbt) -> Transaction {
        let told = bitcoind.miner("walletprocesspsbt", json!([signed.to_string()])).await;
        assert_eq!(told["complete"], true);
        let psbt = Psbt::from_str(told["psbt"].as_str().unwrap()).unwrap();
        let final_psbt = bitcoind.call("finalizepsbt", json!([psbt.to_string()])).await;
        let hex = final_psbt["hex"].as_str().unwrap();
        let transaction: Transaction = bitcoin::consensus::encode::deserialize_hex(hex).unwrap();
        bitcoind.broadcast(&transaction).await;
        transaction
    }
}
