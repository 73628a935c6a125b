//! Brings the news of the chain to the settler: blocks as the node sees them, the mempool in one look for everything.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bitcoin::{Block, OutPoint, Transaction};
use lightning::chain::BestBlock;
use payjoin_io::{KvWrite, Settler, Store, StoreError, Watched};
use payjoin_lightning::node::{BlockListener, Node, RpcError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// News from the chain, in its order.
enum News {
    /// Height and block, of which only what spends a watched coin is there: should the settler stall, blocks wait here
    /// for as long, and whole ones would fill the memory.
    Connected(u32, Block),
    /// The last block that is still in the best chain.
    Disconnected(u32),
}

/// The node's view of the chain, queued for the settler.
pub(crate) struct Blocks {
    news: UnboundedSender<News>,
    best: Option<BestBlock>,
    /// What was owed at the start. The start reads all blocks that were missed; no exchange begins in that time.
    owed: HashSet<OutPoint>,
    /// From then on.
    watched: OnceLock<Watched>,
}

/// The other end of [`Blocks`].
pub(crate) struct BlockNews(UnboundedReceiver<News>);

const NAMESPACE: &str = "payjoind";
const TIP: &str = "settled-tip";

impl Blocks {
    /// Continues after the last block whose news were dealt with. When nothing is owed, what happened since then is
    /// no news, and years of blocks need not be read.
    pub(crate) fn new(store: &Store) -> Result<(Self, BlockNews), StoreError> {
        let owed = store.obligations()?;
        let stored = if owed.is_empty() { None } else { store.kv_read(NAMESPACE, "", TIP)? };
        let best = stored.as_deref().map(read).transpose()?;
        let spent = owed.iter().flat_map(|owed| {
            let inputs = owed.original.input.iter().map(|input| input.previous_output);
            inputs.chain(owed.coins.iter().copied())
        });
        let (owed, watched) = (spent.collect(), OnceLock::new());
        let (news, receiver) = unbounded_channel();
        Ok((Self { news, best, owed, watched }, BlockNews(receiver)))
    }

    /// The settler has taken up what is owed, and exchanges may begin.
    pub(crate) fn follow(&self, watched: Watched) {
        let _ = self.watched.set(watched);
    }

    fn counts(&self, transaction: &Transaction) -> bool {
        match self.watched.get() {
            Some(watched) => watched.concerns(transaction),
            None => transaction.input.iter().any(|input| self.owed.contains(&input.previous_output)),
        }
    }
}

impl BlockListener for Blocks {
    fn best_block(&self) -> Option<BestBlock> {
        self.best
    }

    fn block_connected(&self, height: u32, block: &Block) {
        let txdata = block.txdata.iter().filter(|transaction| self.counts(transaction)).cloned().collect();
        let block = Block { header: block.header, txdata };
        // Nobody listens any more only while the process ends.
        let _ = self.news.send(News::Connected(height, block));
    }

    fn blocks_disconnected(&self, height: u32) {
        let _ = self.news.send(News::Disconnected(height));
    }
}

/// Records where the chain stands, before the first exchange: should we die before the next block, what is mined
/// meanwhile is news to the next start.
pub(crate) fn begin(store: &Store, node: &Node) -> Result<(), StoreError> {
    match store.obligations()?.is_empty() {
        true => record(store, BestBlock::new(node.best_block(), node.height())),
        false => Ok(()),
    }
}

fn record(store: &Store, tip: BestBlock) -> Result<(), StoreError> {
    let (primary, secondary, key) = (NAMESPACE.to_owned(), String::new(), TIP.to_owned());
    let value = format!("{} {}", tip.block_hash, tip.height).into_bytes();
    store.kv_write(KvWrite { primary, secondary, key, value, generation: 0 })
}

/// What [`record`] wrote.
fn read(value: &[u8]) -> Result<BestBlock, StoreError> {
    let text = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' '));
    let block =
        text.and_then(|(hash, height)| Some(BestBlock::new(hash.parse().ok()?, height.parse().ok()?)));
    block.ok_or_else(|| StoreError::Corrupt("the block that was dealt with last".to_owned()))
}

/// Runs until the daemon stops, which waits for no bitcoind that does not answer: what is cut here is done again at the
/// next start, as after a crash. Exchanges may still run. Blocks that come meanwhile are not recorded as dealt with: the
/// next start tells them to whatever these exchanges then owe.
pub(crate) async fn run(
    settler: Settler,
    blocks: BlockNews,
    node: Arc<Node>,
    store: Store,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        () = follow(settler, blocks, &node, &store, every) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn follow(mut settler: Settler, mut blocks: BlockNews, node: &Node, store: &Store, every: Duration) {
    let mut look = tokio::time::interval(every);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sees = true;
    loop {
        tokio::select! {
            Some(news) = blocks.0.recv() => take(&mut settler, &mut blocks, news, store).await,
            _ = look.tick() => {
                sees = report(mempool(&mut settler, node).await, sees);
                settler.tick().await;
            }
        }
    }
}

/// Deals with one piece of news; after the last one that waits it records where the chain stands.
async fn take(settler: &mut Settler, blocks: &mut BlockNews, news: News, store: &Store) {
    let mut next = Some(news);
    let mut tip = None;
    while let Some(news) = next {
        match news {
            News::Connected(height, block) => {
                settler.on_block(height, &block).await;
                tip = Some(BestBlock::new(block.block_hash(), height));
            }
            News::Disconnected(height) => {
                settler.on_disconnect(height + 1).await;
                tip = None;
            }
        }
        next = blocks.0.try_recv().ok();
    }
    if let Some(tip) = tip {
        settler.on_tip(tip.height).await;
        if !settler.is_recorded() {
            return;
        }
        if let Err(error) = record(store, tip) {
            tracing::error!(%error, "the tip is not recorded; its blocks are read again at the next start");
        }
    }
}

/// One RPC for all coins that are watched; a second one only for transactions that spend some.
async fn mempool(settler: &mut Settler, node: &Node) -> Result<(), RpcError> {
    let watched = settler.watched_outpoints();
    let spenders = node.rpc().spenders(&watched).await?;
    let spends: HashMap<_, _> =
        watched.into_iter().zip(spenders).filter_map(|(coin, spend)| Some((coin, spend?))).collect();
    settler.on_mempool(&spends).await;
    Ok(())
}

/// Says once that the mempool cannot be seen, not at every look.
fn report(looked: Result<(), RpcError>, saw: bool) -> bool {
    if let (Err(error), true) = (&looked, saw) {
        tracing::warn!(%error, "cannot look into the mempool");
    }
    looked.is_ok()
}

#[cfg(test)]
mod tests {
    use bitcoin::block::{Header, Version};
    use bitcoin::hashes::Hash as _;
    use bitcoin::{
        BlockHash, CompactTarget, Sequence, TxIn, TxMerkleNode, Txid, Witness, absolute, transaction,
    };
    use payjoin_core::{
        Admission, CheckedProposal, Coin, Inspection, Invoice, InvoiceId, OriginalId, Policy, Reserve,
        ResourceRequest, Timestamp,
    };
    use payjoin_io::{Chain, Host, HostError, NoChannels, Wallet};

    use super::*;

    /// Neither chain nor wallet.
    struct Nothing;

    #[async_trait::async_trait]
    impl Chain for Nothing {
        async fn inspect(&self, _: &Transaction) -> Result<Inspection, HostError> {
            Err(HostError("no chain".into()))
        }

        async fn broadcast(&self, _: &Transaction) -> Result<(), HostError> {
            Ok(())
        }
    }

    #[async_trait::async_trait]
    impl Wallet for Nothing {
        fn owns(&self, scripts: &[bitcoin::ScriptBuf]) -> Vec<bool> {
            vec![false; scripts.len()]
        }

        fn reserve(&self, _: &ResourceRequest, _: &[OutPoint]) -> Result<(Vec<Coin>, Reserve), HostError> {
            Ok(Default::default())
        }

        fn unlock(&self, _: &[OutPoint]) {}

        async fn sign(&self, _: &CheckedProposal) -> Result<bitcoin::Psbt, HostError> {
            Err(HostError("no wallet".into()))
        }
    }

    fn spend(n: u32) -> Transaction {
        let previous_output = OutPoint { txid: Txid::all_zeros(), vout: n };
        let (script_sig, witness) = (bitcoin::ScriptBuf::new(), Witness::new());
        let input = vec![TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness }];
        let lock_time = absolute::LockTime::ZERO;
        Transaction { version: transaction::Version::TWO, lock_time, input, output: Vec::new() }
    }

    fn block(txdata: Vec<Transaction>) -> Block {
        let header = Header {
            version: Version::TWO,
            prev_blockhash: BlockHash::all_zeros(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: 0,
            bits: CompactTarget::from_consensus(0),
            nonce: 0,
        };
        Block { header, txdata }
    }

    /// A store with an exchange whose Original spends coin 1 of the payer's and locks coin 2 of ours.
    async fn owing(folder: &std::path::Path) -> Store {
        let store = Store::open(folder.join("store")).unwrap();
        let (id, script) = (InvoiceId("a".into()), bitcoin::ScriptBuf::new());
        let (created, expires, change) = (Timestamp(1), Timestamp(2), script.clone());
        let invoice = Invoice { id: id.clone(), script, change, amount: None, created, expires };
        store.insert_invoice(&invoice).await.unwrap();
        let (coins, intents) = (vec![OutPoint { txid: Txid::all_zeros(), vout: 2 }], Vec::new());
        let (now, fallback_at, original_id) = (created, expires, OriginalId("o".into()));
        let original = spend(1);
        let admission = Admission { invoice: id, original_id, original, coins, intents, now, fallback_at };
        store.admit(&admission).await.unwrap();
        store
    }

    fn settler(store: &Store) -> (Settler, Watched) {
        let roles = Arc::new(Nothing);
        let clock = || Timestamp(0);
        let (host, owed) =
            Host::new(roles.clone(), roles, Arc::new(NoChannels), store.clone(), Policy::default(), clock);
        let watched = host.watched().clone();
        (Settler::new(host, owed).unwrap(), watched)
    }

    #[tokio::test]
    async fn of_a_block_only_what_may_settle_an_exchange_waits_for_the_settler() {
        let folder = tempfile::tempdir().unwrap();
        let store = owing(folder.path()).await;
        let (blocks, mut news) = Blocks::new(&store).unwrap();
        let whole = block((0..4).map(spend).collect());
        blocks.block_connected(7, &whole);
        let (_settler, watched) = settler(&store);
        blocks.follow(watched);
        blocks.block_connected(8, &whole);
        for at in [7, 8] {
            let News::Connected(height, block) = news.0.try_recv().unwrap() else { panic!("no block") };
            assert_eq!((height, block), (at, Block { txdata: vec![spend(1), spend(2)], ..whole.clone() }));
        }
    }

    #[tokio::test]
    async fn the_next_start_goes_on_after_the_last_block_that_was_dealt_with() {
        let folder = tempfile::tempdir().unwrap();
        let store = owing(folder.path()).await;
        let (mut settler, _) = settler(&store);
        let (blocks, mut news) = Blocks::new(&store).unwrap();
        let first = block(Vec::new());
        let mut second = block(Vec::new());
        second.header.prev_blockhash = first.block_hash();
        blocks.block_connected(7, &first);
        blocks.block_connected(8, &second);
        let connected = news.0.try_recv().unwrap();
        take(&mut settler, &mut news, connected, &store).await;
        let (blocks, _) = Blocks::new(&store).unwrap();
        assert_eq!(blocks.best_block(), Some(BestBlock::new(second.block_hash(), 8)));
    }
}
