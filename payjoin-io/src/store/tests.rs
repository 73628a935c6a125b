//! Every table, and what must hold across crashes.

mod exchanges;
mod file;
mod intents;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use payjoin_core::{
    Admission, ChannelAmount, ExchangeId, FundedChannel, IntentId, IntentState, Invoice, InvoiceId,
    OriginalId, Release, Settled, Timestamp,
};
use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000);

/// A store in a folder of its own, with two invoices and three queued intents.
struct Fixture {
    store: Store,
    folder: TempDir,
    intents: Vec<IntentId>,
}

impl Fixture {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path().join("store.sqlite")).unwrap();
        for name in ["a", "b"] {
            store.insert_invoice(&invoice(name)).await.unwrap();
        }
        let mut intents = Vec::new();
        for _ in 0..3 {
            intents.push(store.queue_intent(wish()).await.unwrap());
        }
        Self { store, folder, intents }
    }

    /// As after kill -9 and a new start: nothing of the old store's memory is used again.
    fn reopened(self) -> Self {
        let Self { store, folder, intents } = self;
        drop(store);
        let store = Store::open(folder.path().join("store.sqlite")).unwrap();
        Self { store, folder, intents }
    }

    async fn admitted(&self, admission: &Admission) -> ExchangeId {
        match self.store.admit(admission).await.unwrap() {
            AdmitOutcome::Admitted(id) => id,
            AdmitOutcome::Seen => panic!("seen"),
        }
    }

    fn state(&self, intent: usize) -> IntentState {
        self.store.intent(self.intents[intent]).unwrap().unwrap().state
    }

    fn queued(&self) -> Vec<IntentId> {
        self.store.queued_wishes(10).unwrap().iter().map(|wish| wish.id).collect()
    }

    /// Whatever changes when an exchange is admitted.
    fn ledger(&self) -> String {
        let store = &self.store;
        let (coins, owed) = (store.locked_coins().unwrap(), store.obligations().unwrap());
        format!("{coins:?} {owed:?} {:?} {:?}", store.exchanges(10).unwrap(), store.intents().unwrap())
    }
}

fn invoice(name: &str) -> Invoice {
    Invoice {
        id: InvoiceId(name.into()),
        script: ScriptBuf::from_bytes(vec![0x51]),
        change: ScriptBuf::from_bytes(vec![0x52]),
        amount: Some(Amount::from_sat(100_000)),
        created: NOW,
        expires: NOW.plus(3600),
    }
}

fn wish() -> NewIntent {
    NewIntent {
        amount: ChannelAmount::Exact(Amount::from_sat(50_000)),
        min: Amount::from_sat(1_000),
        max: Amount::from_sat(10_000_000),
        payer_is_me: false,
        spec: serde_json::json!({ "peer": "02ab@127.0.0.1:9735" }),
    }
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
        coins: Vec::new(),
        intents: Vec::new(),
        now: NOW,
        fallback_at: NOW.plus(600),
    }
}

fn release() -> Release {
    Release {
        proposal: "cHNidP8=".into(),
        txid: payjoin().compute_txid(),
        channels: Vec::new(),
        reason: None,
        coins: Vec::new(),
        fallback_at: NOW.plus(700),
    }
}

fn payjoin() -> Transaction {
    spend(&[1, 101])
}

fn channel(intent: IntentId, vout: u32) -> FundedChannel {
    FundedChannel { intent, vout, amount: Amount::from_sat(50_000) }
}
