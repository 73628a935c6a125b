//! Blocks from the chain source, each fetched once and shown to everyone who watches the chain.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::{Block, Network};
use lightning::chain::transaction::TransactionData;
use lightning::chain::{BestBlock, Listen};
use lightning_block_sync::init::synchronize_listeners;
use lightning_block_sync::poll::{ChainPoller, ValidatedBlockHeader};
use lightning_block_sync::{BlockSourceResult, SpvClient, UnboundedCache};
use payjoin_core::ChainError;

use super::broadcast::Broadcaster;
use super::chain_source::{ChainSource, ChainStatus, Readiness};
use super::error::NodeError;
use super::fork::{self, Ancestry};
use super::health::{ChainHealth, Remembered};
use super::parts::{Ground, Parts, Sweeper, now};
use super::stop::Stop;
use super::types::{ChainMonitor, ChannelManager, Monitor};
use super::wallet::NodeWallet;
use crate::lock::lock;

/// Pause of a start that waits for the chain.
const AGAIN: Duration = Duration::from_secs(3);

/// How often monitors are looked for that nobody needs any more.
const BLOCKS_A_DAY: u32 = 144;

/// Somebody outside the node who watches the chain too. Calls come in chain order and must be short.
pub trait BlockListener: Send + Sync {
    /// The last block this listener has dealt with, so that a start shows it what it missed; `None` to begin with the
    /// next block.
    fn best_block(&self) -> Option<BestBlock>;
    /// A block was added to the best chain.
    fn block_connected(&self, height: u32, block: &Block);
    /// The best chain was cut back: `height` is the last block that is still in it.
    fn blocks_disconnected(&self, height: u32);
}

/// A [`BlockListener`] as LDK sees it, with the block that it has dealt with.
pub(super) struct Outside {
    listener: Arc<dyn BlockListener>,
    at: Mutex<Option<BestBlock>>,
}

impl Outside {
    pub(super) fn new(listener: Arc<dyn BlockListener>) -> Self {
        Self { at: Mutex::new(listener.best_block()), listener }
    }

    /// The block it has dealt with; at first `otherwise`, if it begins with the next block.
    pub(super) fn at(&self, otherwise: BestBlock) -> BestBlock {
        *lock(&self.at).get_or_insert(otherwise)
    }
}

impl Listen for Outside {
    fn filtered_block_connected(&self, header: &Header, txdata: &TransactionData, height: u32) {
        let txdata = txdata.iter().map(|(_, transaction)| (*transaction).clone()).collect();
        self.block_connected(&Block { header: *header, txdata }, height);
    }

    fn block_connected(&self, block: &Block, height: u32) {
        self.listener.block_connected(height, block);
        *lock(&self.at) = Some(BestBlock::new(block.block_hash(), height));
    }

    fn blocks_disconnected(&self, fork_point: BestBlock) {
        self.listener.blocks_disconnected(fork_point.height);
        *lock(&self.at) = Some(fork_point);
    }
}

/// Everyone who watches the chain once the node runs. The outside listener comes last: it finds wallet and channels up
/// to date.
pub(super) struct Listeners {
    wallet: Arc<NodeWallet>,
    manager: Arc<ChannelManager>,
    chain_monitor: Arc<ChainMonitor>,
    sweeper: Arc<Sweeper>,
    /// After those that hand it transactions.
    broadcaster: Arc<Broadcaster>,
    outside: Option<Outside>,
    health: Arc<ChainHealth>,
}

impl Listeners {
    pub(super) fn new(
        parts: &Parts,
        ground: &Ground,
        outside: Option<Arc<dyn BlockListener>>,
        health: Arc<ChainHealth>,
    ) -> Self {
        Self {
            wallet: Arc::clone(&ground.wallet),
            manager: Arc::clone(&parts.manager),
            chain_monitor: Arc::clone(&parts.chain_monitor),
            sweeper: Arc::clone(&parts.sweeper),
            broadcaster: Arc::clone(&ground.broadcaster),
            outside: outside.map(Outside::new),
            health,
        }
    }

    fn each(&self, tell: impl Fn(&dyn Listen)) {
        tell(&*self.wallet);
        tell(&*self.manager);
        tell(&*self.chain_monitor);
        tell(&*self.sweeper);
        tell(&*self.broadcaster);
        if let Some(outside) = &self.outside {
            tell(outside);
        }
    }

    fn remembered(&self, source: &Arc<dyn ChainSource>) -> Remembered {
        Remembered { source: Arc::clone(source), health: Arc::clone(&self.health) }
    }

    /// [`Listeners::catch_up`], again and again while the source does not give what is missing, for which it tells why.
    pub(super) async fn wait_for_chain(
        &self,
        source: &Arc<dyn ChainSource>,
        network: Network,
        monitors: &[Monitor],
    ) -> Result<(UnboundedCache, ValidatedBlockHeader), NodeError> {
        loop {
            let caught_up = async {
                let height = source.status().await?.tip.height;
                self.catch_up(source, network, height, monitors).await
            };
            let trouble = match caught_up.await {
                Err(NodeError::Chain(error)) => error.to_string(),
                Err(NodeError::Source(error)) => error.to_string(),
                done => {
                    self.health.moves();
                    return done;
                }
            };
            self.health.stalled(|| trouble);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Brings everyone to the source's tip at `height` or later, each from where it was stored. Monitors are given apart
    /// because they are not watched yet.
    async fn catch_up(
        &self,
        source: &Arc<dyn ChainSource>,
        network: Network,
        height: u32,
        monitors: &[Monitor],
    ) -> Result<(UnboundedCache, ValidatedBlockHeader), NodeError> {
        type Watcher<'a> = &'a (dyn Listen + Send + Sync);
        let mut watchers: Vec<(BestBlock, Watcher)> = vec![
            (self.wallet.tip(), &*self.wallet),
            (self.manager.current_best_block(), &*self.manager),
            (self.sweeper.current_best_block(), &*self.sweeper),
        ];
        watchers.extend(monitors.iter().map(|monitor| (monitor.0.current_best_block(), monitor as Watcher)));
        // What the others hand over while they catch up is held against every block after that.
        let first = watchers.iter().map(|(at, _)| *at).min_by_key(|at| at.height);
        watchers
            .extend(self.broadcaster.best_block().or(first).map(|at| (at, &*self.broadcaster as Watcher)));
        let outside =
            self.outside.iter().filter_map(|outside| Some(((*lock(&outside.at))?, outside as Watcher)));
        watchers.extend(outside);
        let known = self.wallet.latest_blocks(fork::DEEPEST as usize * 2);
        let ancestry = Ancestry { source: &**source, height, known: &known };
        let mut resumed = Vec::with_capacity(watchers.len());
        for (at, watcher) in watchers {
            resumed.push((ancestry.resume(at, watcher).await?, watcher));
        }
        let mut cache = UnboundedCache::new();
        let tip = synchronize_listeners(&self.remembered(source), network, &mut cache, resumed).await;
        let tip = tip.map_err(|error| NodeError::Chain(error.into_inner()))?;
        Ok((cache, tip))
    }

    /// Follows the source until `stop`.
    pub(super) async fn follow(
        self,
        source: Arc<dyn ChainSource>,
        network: Network,
        (mut cache, tip): (UnboundedCache, ValidatedBlockHeader),
        every: Duration,
        mut stop: Stop,
    ) {
        let poller = ChainPoller::new(Arc::new(self.remembered(&source)), network);
        let mut client = SpvClient::new(tip, poller, &mut cache, &self);
        let (mut reachable, mut swept) = (true, None);
        loop {
            if tokio::time::timeout(every, stop.wait()).await.is_ok() {
                return;
            }
            // A source may take long to give a block. Between blocks nothing is half done.
            let polled = tokio::select! {
                polled = client.poll_best_tip() => polled,
                () = stop.wait() => return,
            };
            reachable = report(polled.map(|_| ()), reachable);
            let tip = self.wallet.tip().block_hash;
            if swept != Some(tip) {
                match forget_lost(&*source, &self.wallet).await {
                    Ok(done) => swept = done.then_some(tip),
                    Err(error) => tracing::debug!(%error, "cannot ask the mempool for our transactions"),
                }
            }
        }
    }
}

/// Once per block: a transaction of ours that the mempool has lost holds the wallet's coins no longer. Whoever still
/// wants it sends it again, and the wallet sees it again. Returns whether that was done; it costs nothing when no
/// transaction waits.
async fn forget_lost(source: &dyn ChainSource, wallet: &NodeWallet) -> Result<bool, ChainError> {
    let mut pending = wallet.pending();
    if pending.is_empty() {
        return Ok(true);
    }
    let txids: Vec<_> = pending.iter().map(|(txid, _)| *txid).collect();
    let (there, tip) = source.in_mempool(&txids).await?;
    let mut there = there.into_iter();
    pending.retain(|_| there.next() == Some(false));
    Ok(wallet.forget(&pending, tip))
}

/// The best block, if it is on our network. Waits for a source that is there and cannot be followed yet, and says so.
pub(super) async fn best_block(
    chain: &dyn ChainSource,
    expected: Network,
    health: &ChainHealth,
) -> Result<BestBlock, NodeError> {
    loop {
        let why = match chain.readiness().await? {
            Readiness::NotYet(why) => why,
            Readiness::Ready(status) => {
                if Network::from_core_arg(&status.network) != Ok(expected) {
                    return Err(NodeError::Network { expected, found: status.network });
                }
                match status.behind(now().as_secs()) {
                    Some(why) => why,
                    None => return Ok(usable(&status)),
                }
            }
        };
        health.waits(why);
        tokio::time::sleep(AGAIN).await;
    }
}

fn usable(status: &ChainStatus) -> BestBlock {
    if status.begins > 0 {
        let keeps = status.tip.height.saturating_sub(status.begins);
        tracing::info!(
            blocks = keeps,
            "bitcoind is pruned: a node that is off for longer needs peers of bitcoind that keep all blocks"
        );
    }
    status.tip
}

/// Says once that bitcoind is gone, and once that it is back.
pub(super) fn report(result: BlockSourceResult<()>, was_reachable: bool) -> bool {
    match (result, was_reachable) {
        (Ok(()), true) => true,
        (Ok(()), false) => {
            tracing::info!("bitcoind answers again");
            true
        }
        (Err(error), true) => {
            tracing::warn!(error = %error.into_inner(), "bitcoind does not answer");
            false
        }
        (Err(_), false) => false,
    }
}

impl Listen for Listeners {
    fn filtered_block_connected(&self, header: &Header, txdata: &TransactionData, height: u32) {
        self.each(|listener| listener.filtered_block_connected(header, txdata, height));
    }

    fn block_connected(&self, block: &Block, height: u32) {
        self.each(|listener| listener.block_connected(block, height));
        if height.is_multiple_of(BLOCKS_A_DAY) {
            // Each block, and each start, costs what the monitors cost that are there.
            self.chain_monitor.archive_fully_resolved_channel_monitors();
        }
    }

    fn blocks_disconnected(&self, fork_point: BestBlock) {
        self.each(|listener| listener.blocks_disconnected(fork_point));
    }
}
