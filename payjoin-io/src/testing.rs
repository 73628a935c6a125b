//! A scripted host: chain, wallet and Lightning node that do as a test tells them, around the real store and machines.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::path::Path;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WPubkeyHash,
    WScriptHash, Witness,
};
use payjoin_core::{
    Acceptance, Broadcast, Chain, ChainError, ChannelAmount, ChannelFailure, ChannelLimits, ChannelSpec,
    CheckedProposal, Coin, Delivery, Exchange, ExchangeId, FailureKind, Funded, FundedChannel, Funder,
    FunderError, Holder, Inspection, IntentId, Invoice, InvoiceId, Kin, Left, PlannedChannel, Policy, Prices,
    Request, Reserve, ResourceRequest, Rival, StableProposal, StateWrite, Timestamp, Wallet, WalletError,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::{Host, Owed};

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
    held: Mutex<BTreeMap<Holder, Vec<OutPoint>>>,
    /// Whether peers are full at the next times when channels are opened.
    pub(crate) full: Mutex<VecDeque<bool>>,
    /// What is left of channels at the next times when they are funded.
    pub(crate) short: Mutex<VecDeque<Vec<Left>>>,
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

    /// A coin for each holder of it.
    pub(crate) fn locked(&self) -> Vec<OutPoint> {
        self.held.lock().unwrap().values().flatten().copied().collect()
    }

    async fn act<E>(&self, act: &str, error: impl FnOnce(String) -> E) -> Result<(), E> {
        self.acts.lock().unwrap().push(act.to_owned());
        let fault =
            self.faults.lock().unwrap().iter().find(|(name, _)| *name == act).map(|(_, fault)| *fault);
        match fault {
            None => Ok(()),
            Some(Fault::Refuse) => Err(error(format!("no {act}"))),
            Some(Fault::Panic) => panic!("{act} panics, as the test wants"),
            Some(Fault::Hang) => pending().await,
        }
    }
}

#[async_trait]
impl Chain for World {
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, ChainError> {
        self.act("inspect", ChainError::Away).await?;
        if self.stalled.load(Ordering::SeqCst) {
            self.inspecting.fetch_add(1, Ordering::SeqCst);
            self.inspections.acquire().await.unwrap().forget();
        }
        let prevout = TxOut { value: COIN, script_pubkey: script("payer") };
        let (acceptable, floor) = (Acceptance::Yes, FeeRate::BROADCAST_MIN);
        Ok(Inspection { acceptable, prevouts: vec![Some(prevout); transaction.input.len()], floor })
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        self.act("broadcast", ChainError::Away).await?;
        if self.faults.lock().unwrap().contains(&("mempool", Fault::Refuse)) {
            return Ok(Broadcast::Refused("no mempool".into()));
        }
        self.broadcast.lock().unwrap().push(transaction.clone());
        Ok(Broadcast::Taken)
    }

    async fn submit_package(&self, package: &[Transaction]) -> Result<Broadcast, ChainError> {
        self.act("package", ChainError::Away).await?;
        self.broadcast.lock().unwrap().extend_from_slice(package);
        Ok(Broadcast::Taken)
    }

    /// Each of them pays 5,000 sat for 100 vB.
    async fn prices(&self, rivals: &[Txid]) -> Result<Prices, ChainError> {
        self.act("prices", ChainError::Away).await?;
        let alone = Kin { count: 1, vsize: 100, fee: Amount::from_sat(5_000) };
        let rival = |txid: &Txid| Rival { txid: *txid, alone, ancestors: alone, descendants: alone };
        let rate = FeeRate::from_sat_per_vb_u32(1);
        Ok(Prices { rivals: rivals.iter().map(rival).collect(), floor: rate, step: rate })
    }
}

#[async_trait]
impl Wallet for World {
    async fn owns(&self, scripts: &[ScriptBuf]) -> Result<Vec<bool>, WalletError> {
        Ok(scripts.iter().map(|known| *known == script("ours")).collect())
    }

    async fn reserve(
        &self,
        holder: Holder,
        _: &ResourceRequest,
        prefer: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), WalletError> {
        let locked = self.locked();
        let free = (100..103).map(outpoint).find(|coin| !locked.contains(coin));
        let coin = prefer.first().copied().or(free).ok_or(WalletError::Refused("no coins".into()))?;
        self.held.lock().unwrap().insert(holder, vec![coin]);
        let txout = TxOut { value: COIN, script_pubkey: script("ours") };
        let reserve = Reserve { balance: COIN, ..Reserve::default() };
        Ok((vec![Coin { outpoint: coin, txout }], reserve))
    }

    async fn hold(&self, holder: Holder, coins: &[OutPoint]) -> Result<(), WalletError> {
        if self.faults.lock().unwrap().contains(&("hold", Fault::Refuse)) {
            return Err(WalletError::Away("no hold".into()));
        }
        let mut held = self.held.lock().unwrap();
        held.remove(&holder);
        if !coins.is_empty() {
            held.insert(holder, coins.to_vec());
        }
        Ok(())
    }

    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, WalletError> {
        self.act("sign", WalletError::Refused).await?;
        let mut psbt = proposal.psbt().clone();
        for index in proposal.our_inputs() {
            psbt.inputs[*index].final_script_witness = Some(witness());
        }
        Ok(psbt)
    }

    async fn child(&self, parent: &Transaction, vout: u32, fee: Amount) -> Result<Transaction, WalletError> {
        self.act("child", WalletError::Refused).await?;
        let mut child = parent.clone();
        child.input.truncate(1);
        child.input[0].previous_output = OutPoint { txid: parent.compute_txid(), vout };
        let value = parent.output[vout as usize].value - fee;
        child.output = vec![TxOut { value, script_pubkey: script("ours") }];
        Ok(child)
    }
}

#[async_trait]
impl Funder for World {
    async fn open(
        &self,
        _: ExchangeId,
        channels: &[(PlannedChannel, ChannelSpec)],
    ) -> Result<Vec<Result<ScriptBuf, ChannelFailure>>, FunderError> {
        self.act("open", FunderError::Node).await?;
        let full = self.full.lock().unwrap().pop_front().unwrap_or_default();
        let script = |(channel, _): &(PlannedChannel, ChannelSpec)| {
            if full {
                let (intent, text) = (channel.intent, "it is full".to_owned());
                return Err(ChannelFailure { intent, kind: FailureKind::Full, text, said: None });
            }
            let hash = sha256::Hash::hash(&channel.intent.0.to_le_bytes());
            Ok(ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(hash.to_byte_array())))
        };
        Ok(channels.iter().map(script).collect())
    }

    async fn fund(&self, _: ExchangeId, _: &StableProposal, _: &[IntentId]) -> Result<Funded, FunderError> {
        self.act("fund", FunderError::Node).await?;
        Ok(self.short.lock().unwrap().pop_front().map_or(Funded::All, Funded::Short))
    }

    async fn abandon(&self, exchange: ExchangeId, _: &str) {
        self.acts.lock().unwrap().push(format!("abandon {}", exchange.0));
    }

    async fn forget(&self, exchange: ExchangeId, channels: &[FundedChannel]) {
        self.acts.lock().unwrap().push(format!("forget {} of exchange {}", channels.len(), exchange.0));
    }

    async fn state(&self, _: ExchangeId, _: &[FundedChannel]) -> Result<Vec<StateWrite>, FunderError> {
        self.act("state", FunderError::Node).await?;
        let (primary, secondary, key) = (String::new(), String::new(), "manager".into());
        Ok(vec![StateWrite { primary, secondary, key, value: b"state".to_vec(), generation: 1 }])
    }
}

/// The store, and where it is left out, the ledger in memory.
#[cfg(feature = "sqlite")]
pub(crate) fn ledger(file: &Path) -> Arc<crate::Store> {
    Arc::new(crate::Store::open(file).unwrap())
}

#[cfg(not(feature = "sqlite"))]
pub(crate) fn ledger(_: &Path) -> Arc<crate::MemoryLedger> {
    Arc::default()
}

/// A host over a [`World`] and a fresh store.
pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    pub(crate) host: Host,
    pub(crate) owing: Option<Owed>,
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "it goes when the stage goes"))]
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
            held: Mutex::default(),
            full: Mutex::default(),
            short: Mutex::default(),
            broadcast: Mutex::default(),
        });
        let policy = Policy { burial: 2, ..Policy::default() };
        let store = ledger(&folder.path().join(FILE));
        let (chain, wallet, funder) = (world.clone(), world.clone(), world.clone());
        let (host, owing) = Host::new(chain, wallet, funder, store, policy, now);
        Self { world, host, owing: Some(owing), folder }
    }

    /// The store's.
    #[cfg(feature = "sqlite")]
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    pub(crate) async fn invoice(&self, name: &str) -> Invoice {
        let invoice = Invoice {
            id: InvoiceId(name.into()),
            script: script("invoice"),
            amount: None,
            created: now(),
            expires: now().plus(3_600),
            payer_is_me: false,
            top_up: false,
            label: None,
            own_id: None,
        };
        self.host.add_invoice(&invoice).await.unwrap();
        invoice
    }

    /// So many seconds for channels, for tests that wait them out. What does not hang is done by then on a busy machine, too.
    pub(crate) fn wait_for_channels(&self, channel_seconds: u64) {
        self.host.set_policy(Policy { channel_seconds, ..self.host.policy() });
    }

    /// Queues a channel that [`PAYMENT`] and a coin of ours pay for.
    pub(crate) async fn queue_channel(&self) -> IntentId {
        let spec = spec(ChannelAmount::Exact(Amount::from_sat(100_000)));
        let limits = ChannelLimits { min: Amount::from_sat(1_000), max: Amount::from_sat(10_000_000) };
        self.host.store.queue_intent(spec, limits, None).await.unwrap()
    }

    /// Of which [`PAYMENT`] and a coin of ours pay for two.
    pub(crate) async fn queue_small_channel(&self) -> IntentId {
        let spec = spec(ChannelAmount::Exact(Amount::from_sat(40_000)));
        let limits = ChannelLimits { min: Amount::from_sat(1_000), max: Amount::from_sat(10_000_000) };
        self.host.store.queue_intent(spec, limits, None).await.unwrap()
    }

    pub(crate) fn exchange(&self, invoice: &Invoice, input: u32) -> Exchange {
        Exchange::new(now(), invoice.clone(), request(input), self.host.policy())
    }

    /// A coin for each holder of it in the store.
    pub(crate) fn stored_locks(&self) -> Vec<OutPoint> {
        ready(self.host.store.holds()).unwrap().into_iter().flat_map(|(_, coins)| coins).collect()
    }

    /// Who holds what in the store holds it in the wallet, and no intent is in anybody's hand.
    pub(crate) fn assert_nothing_leaks(&self) {
        let held = self.world.held.lock().unwrap().clone();
        assert_eq!(held.into_iter().collect::<Vec<_>>(), ready(self.host.store.holds()).unwrap());
        assert!(self.host.reserved().intents.is_empty());
    }
}

/// What a store that waits for nobody answers.
pub(crate) fn ready<T>(answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the store waits"),
    }
}

pub(crate) fn now() -> Timestamp {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(elapsed.as_secs())
}

/// A channel with a peer that nobody dials.
pub(crate) fn spec(amount: ChannelAmount) -> ChannelSpec {
    let peer = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:9735";
    let (peer, push) = (peer.parse().unwrap(), Amount::ZERO);
    ChannelSpec { peer, amount, push, announced: false }
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
