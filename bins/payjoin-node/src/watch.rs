//! Brings the news of the chain to the settler: blocks as the node sees them, the mempool in one look for everything.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::away::Away;
use crate::clock::now;
use crate::daemon::Daemon;
use crate::keep::Store;
use crate::mempool::Mempool;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Block, OutPoint, ScriptBuf, Transaction};
use lightning::chain::BestBlock;
use payjoin_core::{
    ChainError, ChannelEnd, Closure, IntentRecord, IntentState, Invoice, LedgerError, StateWrite,
};
use payjoin_io::{Settler, Watched};
use payjoin_lightning::node::{BlockListener, ChainSource, ChainView};
use payjoin_lightning::{LightningError, LightningNode};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// News from the chain, in its order.
enum News {
    /// A block, and what in it spends a watched coin or pays a code: should the settler stall, blocks wait here for as long, and whole
    /// ones would fill the memory.
    Connected(BestBlock, Vec<Transaction>),
    /// The last block that is still in the best chain.
    Disconnected(u32),
}

/// The node's view of the chain, queued for the settler.
pub(crate) struct Blocks {
    news: UnboundedSender<News>,
    best: Option<BestBlock>,
    /// What was watched at the start. The start reads all blocks that were missed; no exchange begins in that time.
    owed: HashSet<OutPoint>,
    codes: HashSet<ScriptBuf>,
    /// From then on.
    watched: OnceLock<Watched>,
}

/// The other end of [`Blocks`].
pub(crate) struct BlockNews(UnboundedReceiver<News>);

const NAMESPACE: &str = "payjoind";
const TIP: &str = "settled-tip";

impl Blocks {
    /// Continues after the last block whose news were dealt with. When nothing is owed, no channel is open and no code can be
    /// paid, what happened since then is no news, and years of blocks need not be read.
    pub(crate) async fn new(store: &Store) -> Result<(Self, BlockNews), LedgerError> {
        let (obligations, closable) = (store.obligations().await?, IntentRecord::watched_since(now()));
        let fundings = store.fundings(closable).await?;
        let codes: HashSet<_> =
            store.codes(Invoice::watched_since(now())).await?.into_iter().map(|(script, _)| script).collect();
        let spent = obligations.iter().flat_map(|owed| {
            let inputs = owed.original.input.iter().map(|input| input.previous_output);
            inputs.chain(owed.coins.iter().copied())
        });
        let owed: HashSet<_> = spent.chain(fundings).collect();
        let best = if owed.is_empty() && codes.is_empty() { None } else { recorded_tip(store)? };
        let watched = OnceLock::new();
        let (news, receiver) = unbounded_channel();
        Ok((Self { news, best, owed, codes, watched }, BlockNews(receiver)))
    }

    /// The settler has taken up what is owed, and exchanges may begin.
    pub(crate) fn follow(&self, watched: Watched) {
        let _ = self.watched.set(watched);
    }

    fn counts(&self, transaction: &Transaction) -> bool {
        match self.watched.get() {
            Some(watched) => watched.concerns(transaction),
            None => {
                transaction.input.iter().any(|input| self.owed.contains(&input.previous_output))
                    || transaction.output.iter().any(|output| self.codes.contains(&output.script_pubkey))
            }
        }
    }
}

impl BlockListener for Blocks {
    fn best_block(&self) -> Option<BestBlock> {
        self.best
    }

    fn block_connected(&self, height: u32, block: &Block) {
        let spends = block.txdata.iter().filter(|transaction| self.counts(transaction)).cloned().collect();
        // Nobody listens any more only while the process ends.
        let _ = self.news.send(News::Connected(BestBlock::new(block.block_hash(), height), spends));
    }

    fn blocks_disconnected(&self, height: u32) {
        let _ = self.news.send(News::Disconnected(height));
    }
}

/// Records where the chain stands, before the first exchange: should we die before the next block, what is mined
/// meanwhile is news to the next start.
pub(crate) fn begin(store: &Store, chain: &dyn ChainView, blocks: &Blocks) -> Result<(), LedgerError> {
    match blocks.best {
        None => record_tip(store, chain.best_block()),
        Some(_) => Ok(()),
    }
}

/// Records that the news of this block and those before it were dealt with.
pub(crate) fn record_tip(store: &Store, tip: BestBlock) -> Result<(), LedgerError> {
    let (primary, secondary, key) = (NAMESPACE.to_owned(), String::new(), TIP.to_owned());
    let value = format!("{} {}", tip.block_hash, tip.height).into_bytes();
    store.kv_write(StateWrite { primary, secondary, key, value, generation: 0 })
}

/// What [`record_tip`] wrote.
pub(crate) fn recorded_tip(store: &Store) -> Result<Option<BestBlock>, LedgerError> {
    store.kv_read(NAMESPACE, "", TIP)?.as_deref().map(read).transpose()
}

fn read(value: &[u8]) -> Result<BestBlock, LedgerError> {
    let text = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' '));
    let block =
        text.and_then(|(hash, height)| Some(BestBlock::new(hash.parse().ok()?, height.parse().ok()?)));
    block.ok_or_else(|| LedgerError::Damaged("the block that was dealt with last".to_owned()))
}

/// Runs until the daemon stops, which waits for no bitcoind that does not answer: what is cut here is done again at the
/// next start, as after a crash. Exchanges may still run. Blocks that come meanwhile are not recorded as dealt with: the
/// next start tells them to whatever these exchanges then owe.
pub(crate) async fn run(
    settler: Settler,
    blocks: BlockNews,
    daemon: Arc<Daemon>,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let (seen, away) = ((&*daemon.node, &**daemon.chain.source()), daemon.live.away.clone());
    tokio::select! {
        () = follow(settler, blocks, seen, &daemon.store, (every, away)) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn follow(
    mut settler: Settler,
    mut blocks: BlockNews,
    (node, chain): (&dyn LightningNode, &dyn ChainSource),
    store: &Store,
    (every, away): (Duration, Away),
) {
    let mut look = tokio::time::interval(every);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut sees, mut waiting, mut peers) = (true, Mempool::new(), HashSet::new());
    loop {
        tokio::select! {
            Some(news) = blocks.0.recv() => take(&mut settler, &mut blocks, news, store).await,
            _ = look.tick() => {
                let seen = match mempool(&mut settler, chain).await {
                    Ok(()) => waiting.look(&mut settler, chain).await,
                    error => error,
                };
                sees = report(seen, sees);
                settler.tick().await;
                if let Err(error) = resume(node, store, &mut peers, &away).await
                    && error.is_news()
                {
                    tracing::warn!(%error, "channels stay paused although their peers are connected");
                }
                for done in [open_usable(node, store).await, end_closed(node, store).await] {
                    if let Err(error) = done
                        && error.is_news()
                    {
                        tracing::error!(%error, "what became of a channel is not recorded");
                    }
                }
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
            News::Connected(block, spends) => {
                settler.on_block(block.height, &spends).await;
                tip = Some(block);
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
        if !settler.is_recorded().await {
            return;
        }
        if let Err(error) = record_tip(store, tip) {
            tracing::error!(%error, "the tip is not recorded; its blocks are read again at the next start");
        }
    }
}

/// One RPC for all coins that are watched; a second one only for transactions that spend some.
async fn mempool(settler: &mut Settler, chain: &dyn ChainSource) -> Result<(), ChainError> {
    let watched = settler.watched_outpoints().await;
    let spenders = chain.spenders(&watched).await?;
    let spends: HashMap<_, _> =
        watched.into_iter().zip(spenders).filter_map(|(coin, spend)| Some((coin, spend?))).collect();
    settler.on_mempool(&spends).await;
    Ok(())
}

/// Why what became of a channel is not on record yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unrecorded {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Lightning(#[from] LightningError),
}

impl Unrecorded {
    /// Of a node that does not answer others tell; it is asked again.
    fn is_news(&self) -> bool {
        !matches!(self, Self::Lightning(LightningError::Away(_)))
    }
}

/// Channels that are paused are tried again once their peers connect. `known` are those that were connected before.
async fn resume(
    node: &dyn LightningNode,
    store: &Store,
    known: &mut HashSet<PublicKey>,
    away: &Away,
) -> Result<(), Unrecorded> {
    let peers: HashSet<_> = node.peers().await?.into_iter().map(|peer| peer.node_id).collect();
    away.look(&peers, known, now());
    let new: Vec<_> = peers.difference(known).copied().collect();
    if !new.is_empty() {
        store.resume(&new).await?;
    }
    *known = peers;
    Ok(())
}

/// An intent is open when its funding is buried, of which the settler sees to it, and its channel can be used.
async fn open_usable(node: &dyn LightningNode, store: &Store) -> Result<(), Unrecorded> {
    let buried = store.buried_intents().await?;
    if buried.is_empty() {
        return Ok(());
    }
    let channels = node.channels().await?;
    let usable = |funding| channels.iter().any(|channel| channel.ready && channel.funding == Some(funding));
    for (intent, _) in buried.into_iter().filter(|(_, funding)| usable(*funding)) {
        store.open_intent(intent).await?;
    }
    Ok(())
}

/// Channels that closed end their intents. One whose payjoin is not buried yet is looked at again.
async fn end_closed(node: &dyn LightningNode, store: &Store) -> Result<(), Unrecorded> {
    for (funding, end) in node.closed().await? {
        if store.close_intent(funding, &end, now()).await? {
            node.forget_closed(&funding).await?;
        }
    }
    Ok(())
}

/// Ends the intents of channels that closed before their end was noted, by an earlier version.
pub(crate) async fn end_forgotten(node: &dyn LightningNode, store: &Store) -> Result<(), Unrecorded> {
    end_closed(node, store).await?;
    let channels: HashSet<_> =
        node.channels().await?.into_iter().filter_map(|channel| channel.funding).collect();
    for intent in store.intents().await? {
        if let IntentState::Open { txid, vout } = intent.state
            && !channels.contains(&OutPoint { txid, vout })
        {
            let end = ChannelEnd { how: Closure::Unknown, reason: "nobody noted why".to_owned() };
            store.close_intent(OutPoint { txid, vout }, &end, now()).await?;
        }
    }
    Ok(())
}

/// Says once that the mempool cannot be seen, not at every look.
fn report(looked: Result<(), ChainError>, saw: bool) -> bool {
    if let (Err(error), true) = (&looked, saw) {
        tracing::warn!(%error, "cannot look into the mempool");
    }
    looked.is_ok()
}

#[cfg(test)]
mod tests;
