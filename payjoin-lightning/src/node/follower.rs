//! Follows the chain for a Lightning node that is another program: blocks for whoever settles payments, and fee rates.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{FeeRate, Network, OutPoint, Transaction, Txid};
use lightning::chain::BestBlock;
use lightning_block_sync::init::synchronize_listeners;
use lightning_block_sync::poll::{ChainPoller, ValidatedBlockHeader};
use lightning_block_sync::{SpvClient, UnboundedCache};
use payjoin_core::{Broadcast, Chain, ChainError, Inspection, Prices};

use super::chain::{BlockListener, Outside, best_block, report};
use super::chain_source::ChainSource;
use super::error::NodeError;
use super::fees::Fees;
use super::fork::Ancestry;
use super::health::{ChainHealth, Remembered, watch};
use super::stop::Switch;
use super::view::ChainView;

/// Pause of a start that waits for the chain.
const AGAIN: Duration = Duration::from_secs(3);
/// A chain that ends elsewhere than ours stands still after so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The chain without a Lightning node of ours.
pub struct Follower {
    source: Arc<dyn ChainSource>,
    health: Arc<ChainHealth>,
    fees: Fees,
    outside: Outside,
    /// Where it began.
    begin: BestBlock,
    network: Network,
}

/// A [`Follower`] that has caught up.
pub struct Following {
    follower: Arc<Follower>,
    cache: UnboundedCache,
    tip: ValidatedBlockHeader,
}

impl Follower {
    /// Shows `outside` every block that it has missed. While one cannot be had it waits, and `health` says so.
    /// `fee_fallback` is for a source that estimates no fees.
    ///
    /// # Errors
    /// When bitcoind does not answer at all, is on another network, or knows another chain.
    pub async fn start(
        network: Network,
        source: Arc<dyn ChainSource>,
        health: Arc<ChainHealth>,
        outside: Arc<dyn BlockListener>,
        fee_fallback: FeeRate,
    ) -> Result<Following, NodeError> {
        let tip = best_block(&*source, network, &health).await?;
        let outside = Outside::new(outside);
        let begin = outside.at(tip);
        let follower =
            Arc::new(Self { source, health, fees: Fees::new(fee_fallback), outside, begin, network });
        if let Err(error) = follower.fees.refresh(&*follower.source).await {
            tracing::warn!(%error, "no fee rates yet");
        }
        let (cache, tip) = follower.wait_for_chain().await?;
        Ok(Following { follower, cache, tip })
    }

    fn remembered(&self) -> Remembered {
        Remembered { source: Arc::clone(&self.source), health: Arc::clone(&self.health) }
    }

    async fn wait_for_chain(&self) -> Result<(UnboundedCache, ValidatedBlockHeader), NodeError> {
        loop {
            let trouble = match self.catch_up().await {
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

    async fn catch_up(&self) -> Result<(UnboundedCache, ValidatedBlockHeader), NodeError> {
        let height = self.source.status().await?.tip.height;
        let ancestry = Ancestry { source: &*self.source, height, known: &[] };
        let from = ancestry.resume(self.outside.at(self.begin), &self.outside).await?;
        let mut cache = UnboundedCache::new();
        let resumed = vec![(from, &self.outside)];
        let tip = synchronize_listeners(&self.remembered(), self.network, &mut cache, resumed).await;
        Ok((cache, tip.map_err(|error| NodeError::Chain(error.into_inner()))?))
    }
}

impl Following {
    /// The chain from now on.
    #[must_use]
    pub fn follower(&self) -> Arc<Follower> {
        Arc::clone(&self.follower)
    }

    /// Looks for blocks at this interval until `stop`.
    pub async fn run(self, every: Duration, stop: impl Future<Output = ()> + Send) {
        let Self { follower, mut cache, tip } = self;
        let switch = Switch::new();
        let ours = || follower.outside.at(follower.begin);
        let (source, health) = (Arc::clone(&follower.source), Arc::clone(&follower.health));
        let blocks = async {
            let poller = ChainPoller::new(Arc::new(follower.remembered()), follower.network);
            let mut client = SpvClient::new(tip, poller, &mut cache, &follower.outside);
            let mut reachable = true;
            loop {
                tokio::time::sleep(every).await;
                reachable = report(client.poll_best_tip().await.map(|_| ()), reachable);
            }
        };
        tokio::select! {
            () = stop => {}
            () = blocks => {}
            () = watch(source, health, ours, PATIENCE, switch.stop()) => {}
            () = follower.fees.keep(&*follower.source, switch.stop()) => {}
        }
    }
}

impl ChainView for Follower {
    fn source(&self) -> &Arc<dyn ChainSource> {
        &self.source
    }

    fn health(&self) -> &Arc<ChainHealth> {
        &self.health
    }

    fn best_block(&self) -> BestBlock {
        self.outside.at(self.begin)
    }

    fn fee_rate(&self) -> FeeRate {
        self.fees.payment()
    }

    fn fee_warning(&self) -> Option<String> {
        self.fees.warning()
    }
}

#[async_trait]
impl Chain for Follower {
    /// Away, too, while the chain stands still for us, where nobody would see what becomes of an offer.
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, ChainError> {
        match self.health.trouble() {
            Some(trouble) => Err(ChainError::Away(trouble)),
            None => self.source.inspect(transaction).await,
        }
    }

    async fn spent(&self, coins: &[OutPoint]) -> Result<Vec<bool>, ChainError> {
        self.source.spent(coins).await
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        self.source.broadcast(transaction).await
    }

    async fn submit_package(&self, package: &[Transaction]) -> Result<Broadcast, ChainError> {
        self.source.submit_package(package).await
    }

    async fn prices(&self, rivals: &[Txid]) -> Result<Prices, ChainError> {
        self.source.prices(rivals).await
    }
}
