//! Where to go on when bitcoind does not know the block at which something stored stands: it was reorganised out, and
//! this bitcoind, set up anew, never saw it.

use bitcoin::BlockHash;
use lightning::chain::{BestBlock, Listen};
use serde_json::json;

use super::NodeError;
use super::rpc::{NOT_FOUND, Rpc, RpcError};

/// Deepest reorganisation that is taken for one. A chain that differs for longer is another chain.
pub(super) const DEEPEST: u32 = 288;

/// Finds common ground with bitcoind.
pub(super) struct Ancestry<'a> {
    pub(super) rpc: &'a Rpc,
    /// bitcoind's best height.
    pub(super) height: u32,
    /// Blocks that the wallet has seen as the best chain, latest first.
    pub(super) known: &'a [BestBlock],
}

impl Ancestry<'_> {
    /// The block from which a watcher that stands at `at` goes on. When bitcoind does not know `at`, the watcher is set
    /// back to the latest block before it that both know.
    pub(super) async fn resume(&self, at: BestBlock, watcher: &dyn Listen) -> Result<BlockHash, NodeError> {
        // A bitcoind that is still catching up would look like a reorganisation that undoes everything.
        if self.height < at.height {
            return Err(NodeError::Behind { bitcoind: self.height, node: at.height });
        }
        if self.has(&at.block_hash).await? {
            return Ok(at.block_hash);
        }
        let fork = self.before(at.height).await?.ok_or(NodeError::Stranger { height: at.height })?;
        tracing::warn!(stale = %at.block_hash, height = at.height, fork = fork.height, "bitcoind does not know a block");
        watcher.blocks_disconnected(fork);
        Ok(fork.block_hash)
    }

    async fn has(&self, block: &BlockHash) -> Result<bool, RpcError> {
        match self.rpc.call("getblockheader", json!([block])).await {
            Ok(_) => Ok(true),
            Err(RpcError::Server { code: NOT_FOUND, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The latest known block below `height` that is in bitcoind's best chain.
    async fn before(&self, height: u32) -> Result<Option<BestBlock>, RpcError> {
        // Every chain of a network begins with the same block: that one proves nothing.
        let lowest = height.saturating_sub(DEEPEST).max(1);
        for block in self.known.iter().filter(|block| (lowest..height).contains(&block.height)) {
            let theirs = self.rpc.call("getblockhash", json!([block.height])).await?;
            if theirs.as_str().and_then(|hash| hash.parse().ok()) == Some(block.block_hash) {
                return Ok(Some(*block));
            }
        }
        Ok(None)
    }
}
