//! Blocks from bitcoind, each fetched once and shown to everyone who watches the chain.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::{Block, Network};
use lightning::chain::transaction::TransactionData;
use lightning::chain::{BestBlock, Listen};
use lightning_block_sync::init::synchronize_listeners;
use lightning_block_sync::poll::{ChainPoller, ValidatedBlockHeader};
use lightning_block_sync::{BlockSourceResult, SpvClient, UnboundedCache};

use super::NodeError;
use super::fork::{self, Ancestry};
use super::parts::{ChainMonitor, ChannelManager, Monitor, Parts, Sweeper};
use super::rpc::{Rpc, RpcError};
use super::stop::Stop;
use super::wallet::NodeWallet;

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

/// A [`BlockListener`] as LDK sees it.
struct Outside(Arc<dyn BlockListener>);

impl Listen for Outside {
    fn filtered_block_connected(&self, header: &Header, txdata: &TransactionData, height: u32) {
        let txdata = txdata.iter().map(|(_, transaction)| (*transaction).clone()).collect();
        self.block_connected(&Block { header: *header, txdata }, height);
    }

    fn block_connected(&self, block: &Block, height: u32) {
        self.0.block_connected(height, block);
    }

    fn blocks_disconnected(&self, fork_point: BestBlock) {
        self.0.blocks_disconnected(fork_point.height);
    }
}

/// Everyone who watches the chain once the node runs. The outside listener comes last: it finds wallet and channels up
/// to date.
pub(super) struct Listeners {
    wallet: Arc<NodeWallet>,
    manager: Arc<ChannelManager>,
    chain_monitor: Arc<ChainMonitor>,
    sweeper: Arc<Sweeper>,
    outside: Option<Arc<dyn BlockListener>>,
}

impl Listeners {
    pub(super) fn new(
        parts: &Parts,
        wallet: Arc<NodeWallet>,
        outside: Option<Arc<dyn BlockListener>>,
    ) -> Self {
        let (manager, chain_monitor) = (Arc::clone(&parts.manager), Arc::clone(&parts.chain_monitor));
        Self { wallet, manager, chain_monitor, sweeper: Arc::clone(&parts.sweeper), outside }
    }

    fn each(&self, tell: impl Fn(&dyn Listen)) {
        tell(&*self.wallet);
        tell(&*self.manager);
        tell(&*self.chain_monitor);
        tell(&*self.sweeper);
        if let Some(outside) = &self.outside {
            tell(&Outside(Arc::clone(outside)));
        }
    }

    /// Brings everyone to bitcoind's tip at `height` or later, each from where it was stored. Monitors are given apart
    /// because they are not watched yet.
    pub(super) async fn catch_up(
        &self,
        rpc: &Rpc,
        network: Network,
        height: u32,
        monitors: &[Monitor],
    ) -> Result<(UnboundedCache, ValidatedBlockHeader), NodeError> {
        type Watcher<'a> = &'a (dyn Listen + Send + Sync);
        let outside = self.outside.clone().map(Outside);
        let mut watchers: Vec<(BestBlock, Watcher)> = vec![
            (self.wallet.tip(), &*self.wallet),
            (self.manager.current_best_block(), &*self.manager),
            (self.sweeper.current_best_block(), &*self.sweeper),
        ];
        watchers.extend(monitors.iter().map(|monitor| (monitor.0.current_best_block(), monitor as Watcher)));
        if let Some((outside, at)) =
            outside.as_ref().and_then(|outside| Some((outside, outside.0.best_block()?)))
        {
            watchers.push((at, outside));
        }
        let known = self.wallet.latest_blocks(fork::DEEPEST as usize * 2);
        let ancestry = Ancestry { rpc, height, known: &known };
        let mut resumed = Vec::with_capacity(watchers.len());
        for (at, watcher) in watchers {
            resumed.push((ancestry.resume(at, watcher).await?, watcher));
        }
        let mut cache = UnboundedCache::new();
        let tip = synchronize_listeners(rpc, network, &mut cache, resumed).await;
        let tip = tip.map_err(|error| NodeError::Chain(error.into_inner()))?;
        Ok((cache, tip))
    }

    /// Follows bitcoind until `stop`.
    pub(super) async fn follow(
        self,
        rpc: Arc<Rpc>,
        network: Network,
        (mut cache, tip): (UnboundedCache, ValidatedBlockHeader),
        every: Duration,
        mut stop: Stop,
    ) {
        let poller = ChainPoller::new(Arc::clone(&rpc), network);
        let mut client = SpvClient::new(tip, poller, &mut cache, &self);
        let (mut reachable, mut swept) = (true, None);
        loop {
            if tokio::time::timeout(every, stop.wait()).await.is_ok() {
                return;
            }
            reachable = report(client.poll_best_tip().await.map(|_| ()), reachable);
            let tip = self.wallet.tip().block_hash;
            if swept != Some(tip) {
                match forget_lost(&rpc, &self.wallet).await {
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
async fn forget_lost(rpc: &Rpc, wallet: &NodeWallet) -> Result<bool, RpcError> {
    let mut pending = wallet.pending();
    if pending.is_empty() {
        return Ok(true);
    }
    let txids: Vec<_> = pending.iter().map(|(txid, _)| *txid).collect();
    let (there, tip) = rpc.in_mempool(&txids).await?;
    let mut there = there.into_iter();
    pending.retain(|_| there.next() == Some(false));
    Ok(wallet.forget(&pending, tip))
}

/// Says once that bitcoind is gone, and once that it is back.
fn report(result: BlockSourceResult<()>, was_reachable: bool) -> bool {
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
    }

    fn blocks_disconnected(&self, fork_point: BestBlock) {
        self.each(|listener| listener.blocks_disconnected(fork_point));
    }
}
