//! Where to go on when the chain source does not know the block at which something stored stands: it was reorganised out, and
//! this source, set up anew, never saw it.

use bitcoin::BlockHash;
use lightning::chain::{BestBlock, Listen};
use payjoin_core::ChainError;

use super::chain_source::ChainSource;
use super::error::NodeError;

/// Deepest reorganisation that is taken for one. A chain that differs for longer is another chain.
pub(super) const DEEPEST: u32 = 288;

/// Finds common ground with the chain source.
pub(super) struct Ancestry<'a> {
    pub(super) source: &'a dyn ChainSource,
    /// The source's best height.
    pub(super) height: u32,
    /// Blocks that the wallet has seen as the best chain, latest first.
    pub(super) known: &'a [BestBlock],
}

impl Ancestry<'_> {
    /// The block from which a watcher that stands at `at` goes on. When bitcoind does not know `at`, the watcher is set
    /// back to the latest block before it that both know.
    pub(super) async fn resume(
        &self,
        at: BestBlock,
        watcher: &(dyn Listen + Send + Sync),
    ) -> Result<BlockHash, NodeError> {
        // A bitcoind that is still catching up would look like a reorganisation that undoes everything.
        if self.height < at.height {
            return Err(NodeError::Behind { bitcoind: self.height, node: at.height });
        }
        if self.source.knows(&at.block_hash).await? {
            return Ok(at.block_hash);
        }
        let fork = self.before(at.height).await?.ok_or(NodeError::Stranger { height: at.height })?;
        tracing::warn!(stale = %at.block_hash, height = at.height, fork = fork.height, "bitcoind does not know a block");
        watcher.blocks_disconnected(fork);
        Ok(fork.block_hash)
    }

    /// The latest known block below `height` that is in bitcoind's best chain.
    async fn before(&self, height: u32) -> Result<Option<BestBlock>, ChainError> {
        // Every chain of a network begins with the same block: that one proves nothing.
        let lowest = height.saturating_sub(DEEPEST).max(1);
        for block in self.known.iter().filter(|block| (lowest..height).contains(&block.height)) {
            if self.source.block_at(block.height).await? == Some(block.block_hash) {
                return Ok(Some(*block));
            }
        }
        Ok(None)
    }
}
