use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn};
use payjoin_core::{
    Admission, ExchangeId, Invoice, InvoiceId, OriginalId, Release, Settled, StateWrite, Timestamp,
};

use super::*;
use crate::watch::record_tip;

fn spend(n: u32) -> Transaction {
    let coin = OutPoint { txid: Txid::all_zeros(), vout: n };
    let input = vec![TxIn { previous_output: coin, ..TxIn::default() }];
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output: Vec::new() }
}

fn payjoin_of(n: u32) -> Txid {
    spend(n + 1_000).compute_txid()
}

/// A store with an exchange for each outcome, mined at height 100, and with the monitors of their channels.
async fn store(folder: &std::path::Path, outcomes: &[Option<Settled>]) -> Store {
    let store: Store = Arc::new(payjoin_io::Store::open(folder.join("store")).unwrap());
    let (id, script) = (InvoiceId("a".into()), ScriptBuf::new());
    let (created, expires) = (Timestamp(1), Timestamp(2));
    let invoice = Invoice::new(id, script, created, expires);
    store.insert_invoice(&invoice).await.unwrap();
    for (n, outcome) in (0..).zip(outcomes) {
        let exchange = store.new_exchange();
        release(&store, exchange, n).await;
        if let Some(outcome) = outcome {
            store.record_mined(exchange, Some((spend(n), 100))).await.unwrap();
            store.settle(exchange, *outcome, created).await.unwrap();
        }
        let key = format!("{}_1", payjoin_of(n));
        let primary = CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE.to_owned();
        let write = StateWrite { primary, secondary: String::new(), key, value: vec![7], generation: 0 };
        store.kv_write(write).unwrap();
    }
    store
}

async fn release(store: &Store, exchange: ExchangeId, n: u32) {
    let (invoice, original_id) = (InvoiceId("a".into()), OriginalId(n.to_string()));
    let (coins, intents) = (Vec::new(), Vec::new());
    let (now, fallback_at, fee, original) = (Timestamp(1), Timestamp(2), Amount::ZERO, spend(n));
    let admission =
        Admission { invoice, original_id, original, fee, coins, intents, now, height: 100, fallback_at };
    store.admit(exchange, &admission).await.unwrap();
    let (proposal, txid, channels) = (String::new(), payjoin_of(n), Vec::new());
    let (is_final, reason, coins, partitions) = (true, None, Vec::new(), None);
    let signed = None;
    let release =
        Release { proposal, txid, is_final, fee, channels, reason, coins, partitions, fallback_at, signed };
    store.release(exchange, &release, Vec::new()).await.unwrap();
}

#[tokio::test]
async fn the_monitor_of_a_channel_whose_payjoin_lost_goes_to_the_archive_when_that_is_buried_deep_enough() {
    use Settled::{Conflict, Original, Payjoin};
    let folder = tempfile::tempdir().unwrap();
    let outcomes = [Some(Original), Some(Conflict), Some(Payjoin), None];
    let store = store(folder.path(), &outcomes).await;
    let there = |namespace| {
        let mut keys = store.kv_list(namespace, "").unwrap();
        keys.sort();
        keys
    };
    let names = |numbers: &[u32]| {
        let mut names: Vec<_> = numbers.iter().map(|n| format!("{}_1", payjoin_of(*n))).collect();
        names.sort();
        names
    };
    let block = |height| lightning::chain::BestBlock::new(bitcoin::BlockHash::all_zeros(), height);
    archive_dead(&store).await.unwrap();
    record_tip(&store, block(100 + DEEP - 1)).unwrap();
    archive_dead(&store).await.unwrap();
    assert_eq!(there(CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE), names(&[0, 1, 2, 3]));
    record_tip(&store, block(100 + DEEP)).unwrap();
    archive_dead(&store).await.unwrap();
    assert_eq!(there(CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE), names(&[2, 3]));
    assert_eq!(there(ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE), names(&[0, 1]));
}

#[tokio::test]
async fn exchanges_that_settled_long_ago_are_pruned_to_the_last_and_the_end_comes_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &vec![Some(Settled::Original); AT_ONCE as usize + 1]).await;
    let (stop, stopped) = watch::channel(false);
    let pruning = tokio::spawn(prune(store.clone(), 1, stopped));
    while store.recall(&OriginalId("100".into())).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for n in 0..=AT_ONCE {
        assert_eq!(store.recall(&OriginalId(n.to_string())).await.unwrap(), None);
    }
    stop.send_replace(true);
    pruning.await.unwrap();
}
