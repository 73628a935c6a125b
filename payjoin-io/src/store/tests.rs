//! Every table, and what must hold across crashes.

mod age;
mod file;
mod migrations;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use payjoin_core::{
    Admission, AdmitOutcome, ChannelAmount, ChannelSpec, ExchangeId, Exchanges, IntentId, Intents, Invoice,
    InvoiceId, Ledger, NodeState, OriginalId, Release, Settled, Timestamp,
};
use tempfile::TempDir;

use super::*;
use crate::testing::spec;

crate::ledger_contract!(Folder(TempDir::new().unwrap()));

struct Folder(TempDir);

#[async_trait::async_trait]
impl crate::ledger_contract::Home for Folder {
    async fn open(&self) -> Arc<dyn Ledger> {
        Arc::new(Store::open(self.0.path().join("store.sqlite")).unwrap())
    }
}

const NOW: Timestamp = Timestamp(1_800_000_000);

/// A store in a folder of its own, with two invoices.
struct Fixture {
    store: Store,
    folder: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path().join("store.sqlite")).unwrap();
        for name in ["a", "b"] {
            store.insert_invoice(&invoice(name)).await.unwrap();
        }
        Self { store, folder }
    }

    async fn admitted(&self, admission: &Admission) -> ExchangeId {
        let id = self.store.new_exchange();
        assert_eq!(self.store.admit(id, admission).await.unwrap(), AdmitOutcome::Admitted);
        id
    }

    async fn admit(&self, admission: &Admission) -> Result<AdmitOutcome, LedgerError> {
        self.store.admit(self.store.new_exchange(), admission).await
    }
}

/// A coin for each holder of it.
async fn locked(store: &Store) -> Vec<OutPoint> {
    store.holds().await.unwrap().into_iter().flat_map(|(_, coins)| coins).collect()
}

fn invoice(name: &str) -> Invoice {
    Invoice {
        id: InvoiceId(name.into()),
        script: ScriptBuf::from_bytes(vec![0x51]),
        amount: Some(Amount::from_sat(100_000)),
        created: NOW,
        expires: NOW.plus(3600),
        payer_is_me: false,
        top_up: false,
        label: None,
        own_id: None,
    }
}

fn wish() -> ChannelSpec {
    spec(ChannelAmount::Exact(Amount::from_sat(50_000)))
}

/// Coin number `n` of whoever.
fn coin(n: u32) -> OutPoint {
    OutPoint { txid: Txid::all_zeros(), vout: n }
}

pub(super) fn spend(coins: &[u32]) -> Transaction {
    let input = |n: &u32| TxIn {
        previous_output: coin(*n),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: vec![output],
    }
}

/// The Original named `name` spends these inputs to invoice `a`.
fn admission(name: &str, inputs: &[u32]) -> Admission {
    Admission {
        invoice: InvoiceId("a".into()),
        original_id: OriginalId(name.into()),
        original: spend(inputs),
        fee: Amount::from_sat(1_000),
        coins: Vec::new(),
        intents: Vec::new(),
        now: NOW,
        height: 900_000,
        fallback_at: NOW.plus(600),
    }
}

fn release() -> Release {
    Release {
        proposal: "cHNidP8=".into(),
        txid: payjoin().compute_txid(),
        is_final: true,
        fee: Amount::from_sat(2_000),
        channels: Vec::new(),
        reason: None,
        coins: Vec::new(),
        partitions: None,
        fallback_at: NOW.plus(700),
        signed: None,
    }
}

fn payjoin() -> Transaction {
    spend(&[1, 101])
}
