//! What channels that died long ago cost: the next start, later ones, and each block, beside a node without them.
//!
//!     cargo bench -p payjoin-node --bench dead_channels [-- CHANNELS]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Address, Amount, Network, OutPoint, ScriptBuf, Transaction, TxIn, Txid};
use futures_util::future::join_all;
use payjoin_core::{
    Admission, Exchanges as _, Invoice, InvoiceId, OriginalId, Release, Settled, StateWrite, Timestamp,
};
use payjoin_io::Store;
use payjoin_node::{Node, Settings};
use support::{Chain, folder};

/// So deep below the tip is what took the place of their payjoins.
const DEEP: u32 = 2_100;
/// About what LDK keeps of a channel that never carried a payment.
const MONITOR: usize = 4_096;
const TURNS: usize = 9;

#[tokio::main]
async fn main() {
    let channels = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let (chain, folder) = (Chain::start().await, folder());
    let nobody = Address::p2wsh(&ScriptBuf::new(), Network::Regtest);
    Node::builder(chain.settings(&folder)).start().await.unwrap().stop().await;
    chain.mine(DEEP, &nobody).await;
    let settings = || chain.settings(&folder);
    start(&chain, settings()).await;
    println!("without: {}", figures(&chain, settings(), &nobody).await);
    bury(&folder.path().join("payjoind.sqlite"), channels).await;
    println!(
        "{channels} dead channels, the start that archives them: {:.0?}",
        start(&chain, settings()).await
    );
    println!("with them: {}", figures(&chain, settings(), &nobody).await);
}

/// How long it takes until a node answers that knows the best block.
async fn start(chain: &Chain, settings: Settings) -> Duration {
    let begun = Instant::now();
    let node = Node::builder(settings).start().await.unwrap();
    chain.until_followed_by(&node).await;
    let took = begun.elapsed();
    node.stop().await;
    took
}

async fn figures(chain: &Chain, settings: Settings, to: &Address) -> String {
    let mut starts = Vec::new();
    for _ in 0..TURNS {
        starts.push(start(chain, settings.clone()).await);
    }
    let node = Node::builder(settings).start().await.unwrap();
    let mut blocks = Vec::new();
    for _ in 0..TURNS {
        let begun = Instant::now();
        chain.mine(1, to).await;
        chain.until_followed_by(&node).await;
        blocks.push(begun.elapsed());
    }
    node.stop().await;
    let [start, block] = [starts, blocks].map(median);
    format!("a start {start:.0?}, a block {block:.0?} (medians of {TURNS})")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Adds exchanges whose Original was mined long ago in the place of a payjoin with a channel.
async fn bury(database: &Path, channels: u32) {
    let store = Store::open(database).unwrap();
    let invoice = InvoiceId("dead".into());
    let (script, created, expires) = (ScriptBuf::new(), Timestamp(1), Timestamp(2));
    let amount = None;
    let record = Invoice { amount, ..Invoice::new(invoice.clone(), script, created, expires) };
    store.insert_invoice(&record).await.unwrap();
    // Side by side: they share the writes to the disk.
    for first in (0..channels).step_by(500) {
        let last = channels.min(first + 500);
        join_all((first..last).map(|number| bury_one(&store, &invoice, number))).await;
    }
}

async fn bury_one(store: &Store, invoice: &InvoiceId, number: u32) {
    let original = spend(2 * number);
    let payjoin = spend(2 * number + 1).compute_txid();
    let exchange = store.new_exchange();
    let admission = Admission {
        invoice: invoice.clone(),
        original_id: OriginalId(number.to_string()),
        original: original.clone(),
        fee: Amount::ZERO,
        coins: Vec::new(),
        intents: Vec::new(),
        now: Timestamp(1),
        height: 1,
        fallback_at: Timestamp(2),
    };
    store.admit(exchange, &admission).await.unwrap();
    let release = Release {
        proposal: String::new(),
        txid: payjoin,
        is_final: true,
        fee: Amount::ZERO,
        channels: Vec::new(),
        reason: None,
        coins: Vec::new(),
        partitions: None,
        fallback_at: Timestamp(2),
        signed: None,
    };
    let monitor = StateWrite {
        primary: "monitors".into(),
        secondary: String::new(),
        key: format!("{payjoin}_0"),
        value: vec![7; MONITOR],
        generation: 0,
    };
    store.release(exchange, &release, vec![monitor]).await.unwrap();
    store.record_mined(exchange, Some((original, 1))).await.unwrap();
    store.settle(exchange, Settled::Original, Timestamp(1)).await.unwrap();
}

fn spend(number: u32) -> Transaction {
    let coin = OutPoint { txid: Txid::all_zeros(), vout: number };
    let input = vec![TxIn { previous_output: coin, ..TxIn::default() }];
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output: Vec::new() }
}
