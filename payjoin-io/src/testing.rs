//! A scripted host: chain, wallet and Lightning node that do as a test tells them, around the real store and machines.

use std::future::pending;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WPubkeyHash, WScriptHash,
    Witness,
};
use payjoin_core::{
    ChannelAmount, CheckedProposal, Coin, Delivery, Exchange, ExchangeId, FundedChannel, Inspection,
    IntentId, Invoice, InvoiceId, PlannedChannel, Policy, Request, Reserve, ResourceRequest, StableProposal,
    Timestamp,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::{Chain, Funder, Host, HostError, KvWrite, NewIntent, Owed, Store, Wallet};

pub(crate) const PAYMENT: Amount = Amount::from_sat(200_000);

const FILE: &str = "store.sqlite";

/// What the payer's coins are worth, and ours.
const COIN: Amount = Amount::from_sat(300_000);

/// How a role behaves at one of its acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Refuse,
    Panic,
    Hang,
}

/// Everything outside the store. Works until told otherwise.
pub(crate) struct World {
    faults: Mutex<Vec<(&'static str, Fault)>>,
    /// `inspect` takes a permit and keeps it.
    pub(crate) inspections: Semaphore,
    pub(crate) inspecting: AtomicU32,
    pub(crate) stalled: AtomicBool,
    /// Acts in the order in which they were begun.
    acts: Mutex<Vec<String>>,
    /// A coin for each lock on it.
    pub(crate) locked: Mutex<Vec<OutPoint>>,
    pub(crate) broadcast: Mutex<Vec<Transaction>>,
}

impl World {
    pub(crate) fn fault(&self, act: &'static str, fault: Fault) {
        self.faults.lock().unwrap().push((act, fault));
    }

    pub(crate) fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }

    pub(crate) fn acts(&self) -> Vec<String> {
        self.acts.lock().unwrap().clone()
    }

    async fn act(&self, act: &str) -> Result<(), HostError> {
        self.acts.lock().unwrap().push(act.to_owned());
        let fault =
            self.faults.lock().unwrap().iter().find(|(name, _)| *name == act).map(|(_, fault)| *fault);
        match fault {
            None => Ok(()),
            Some(Fault::Refuse) => Err(HostError(format!("no {act}"))),
            Some(Fault::Panic) => panic!("{act} panics, as the test wants"),
            Some(Fault::Hang) => pending().await,
        }
    }
}

#[async_trait]
impl Chain for World {
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, HostError> {
        self.act("inspect").await?;
        if self.stalled.load(Ordering::SeqCst) {
            self.inspecting.fetch_add(1, Ordering::SeqCst);
            self.inspections.acquire().await.unwrap().forget();
        }
        let prevout = TxOut { value: COIN, script_pubkey: script("payer") };
        let refused = self.faults.lock().unwrap().contains(&("mempool", Fault::Refuse));
        let acceptable = if refused { Err("no mempool".to_owned()) } else { Ok(()) };
        Ok(Inspection { acceptable, prevouts: vec![Some(prevout); transaction.input.len()] })
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<(), HostError> {
        self.act("broadcast").await?;
        self.broadcast.lock().unwrap().push(transaction.clone());
        Ok(())
    }
}

#[async_trait]
impl Wallet for World {
    fn owns(&self, scripts: &[ScriptBuf]) -> Vec<bool> {
        scripts.iter().map(|known| *known == script("ours")).collect()
    }

    fn reserve(&self, _: &ResourceRequest, prefer: &[OutPoint]) -> Result<(Vec<Coin>, Reserve), HostError> {
        let mut locked = self.locked.lock().unwrap();
        let free = (100..103).map(outpoint).find(|coin| !locked.contains(coin));
        let coin = prefer.first().copied().or(free).ok_or(HostError("no coins".into()))?;
        locked.push(coin);
        let txout = TxOut { value: COIN, script_pubkey: script("ours") };
        let reserve = Reserve { balance: COIN, ..Reserve::default() };
        Ok((vec![Coin { outpoint: coin, txout }], reserve))
    }

    fn unlock(&self, coins: &[OutPoint]) {
        let mut locked = self.locked.lock().unwrap();
        for coin in coins {
            let lock = locked.iter().position(|locked| locked == coin).expect("every unlock has its lock");
            locked.swap_remove(lock);
        }
    }

    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, HostError> {
        self.act("sign").await?;
        let mut psbt = proposal.psbt().clone();
        for index in proposal.our_inputs() {
            psbt.inputs[*index].final_script_witness = Some(witness());
        }
        Ok(psbt)
    }
}

#[async_trait]
impl Funder for World {
    async fn open(&self, _: ExchangeId, channels: &[PlannedChannel]) -> Result<Vec<ScriptBuf>, HostError> {
        self.act("open").await?;
        let script = |channel: &PlannedChannel| {
            let hash = sha256::Hash::hash(&channel.intent.0.to_le_bytes());
            ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(hash.to_byte_array()))
        };
        Ok(channels.iter().map(script).collect())
    }

    async fn fund(&self, _: ExchangeId, _: &StableProposal) -> Result<(), HostError> {
        self.act("fund").await
    }

    async fn abandon(&self, exchange: ExchangeId, _: &str) {
        self.acts.lock().unwrap().push(format!("abandon {}", exchange.0));
    }

    async fn forget(&self, exchange: ExchangeId, channels: &[FundedChannel]) {
        self.acts.lock().unwrap().push(format!("forget {} of exchange {}", channels.len(), exchange.0));
    }

    async fn state(&self, _: ExchangeId, _: &[FundedChannel]) -> Result<Vec<KvWrite>, HostError> {
        self.act("state").await?;
        let (primary, secondary, key) = (String::new(), String::new(), "manager".into());
        Ok(vec![KvWrite { primary, secondary, key, value: b"state".to_vec(), generation: 1 }])
    }
}

/// A host over a [`World`] and a fresh store.
pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    pub(crate) host: Host,
    pub(crate) owing: Option<Owed>,
    folder: TempDir,
}

impl Stage {
    /// With one-second deadlines, so that a fault costs no more.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let world = Arc::new(World {
            faults: Mutex::default(),
            inspections: Semaphore::new(0),
            inspecting: AtomicU32::new(0),
            stalled: AtomicBool::new(false),
            acts: Mutex::default(),
            locked: Mutex::default(),
            broadcast: Mutex::default(),
        });
        let policy = Policy { channel_seconds: 1, exchange_seconds: 12, burial: 2, ..Policy::default() };
        let store = Store::open(folder.path().join(FILE)).unwrap();
        let (chain, wallet, funder) = (world.clone(), world.clone(), world.clone());
        let (host, owing) = Host::new(chain, wallet, funder, store, policy, now);
        Self { world, host, owing: Some(owing), folder }
    }

    /// The store's.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    pub(crate) async fn invoice(&self, name: &str) -> Invoice {
        let invoice = Invoice {
            id: InvoiceId(name.into()),
            script: script("invoice"),
            change: script("change"),
            amount: None,
            created: now(),
            expires: now().plus(3_600),
        };
        self.host.store.insert_invoice(&invoice).await.unwrap();
        invoice
    }

    /// Queues a channel that [`PAYMENT`] and a coin of ours pay for.
    pub(crate) async fn queue_channel(&self) -> IntentId {
        let intent = NewIntent {
            amount: ChannelAmount::Exact(Amount::from_sat(100_000)),
            min: Amount::from_sat(1_000),
            max: Amount::from_sat(10_000_000),
            payer_is_me: false,
            spec: serde_json::Value::Null,
        };
        self.host.store.queue_intent(intent).await.unwrap()
    }

    pub(crate) fn exchange(&self, invoice: &Invoice, input: u32) -> Exchange {
        Exchange::new(now(), invoice.clone(), request(input), self.host.policy.clone())
    }

    /// Coins locked in the store are those locked in the wallet, and no intent is in anybody's hand.
    pub(crate) fn assert_nothing_leaks(&self) {
        let (mut stored, mut locked) =
            (self.host.store.locked_coins().unwrap(), self.world.locked.lock().unwrap().clone());
        stored.sort_unstable();
        locked.sort_unstable();
        assert_eq!(locked, stored);
        assert!(self.host.reserved().is_empty());
    }
}

pub(crate) fn now() -> Timestamp {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(elapsed.as_secs())
}

pub(crate) fn request(input: u32) -> Request {
    let body = original(input).to_string().into_bytes();
    Request {
        query: "v=1".into(),
        content_type: Some("text/plain".into()),
        content_length: Some(body.len().to_string()),
        body,
        authenticated: true,
        delivery: Delivery::Http,
    }
}

/// An Original that pays [`PAYMENT`] from the payer's coin of this number.
pub(crate) fn original(input: u32) -> Psbt {
    let output = |value, name| TxOut { value, script_pubkey: script(name) };
    let input = TxIn {
        previous_output: outpoint(input),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let change = COIN - PAYMENT - Amount::from_sat(2_000);
    let mut psbt = Psbt::from_unsigned_tx(Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![output(PAYMENT, "invoice"), output(change, "payer's change")],
    })
    .unwrap();
    psbt.inputs[0].witness_utxo = Some(output(COIN, "payer"));
    psbt.inputs[0].final_script_witness = Some(witness());
    psbt
}

/// Coin number `n` of whoever.
pub(crate) fn outpoint(n: u32) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([7; 32]), vout: n }
}

fn script(name: &str) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(name.as_bytes()))
}

/// Of the right shape; nobody verifies it here.
fn witness() -> Witness {
    let mut signature = vec![0x30, 0x44, 0x02, 0x20];
    signature.extend([0x11; 32]);
    signature.extend([0x02, 0x20]);
    signature.extend([0x11; 32]);
    signature.push(0x01);
    Witness::from_slice(&[signature, vec![0x02; 33]])
}
