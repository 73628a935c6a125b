//! Blocks for `lightning-block-sync`. What bitcoind has pruned it fetches back from its peers, one block at a time.

use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use lightning_block_sync::http::JsonResponse;
use lightning_block_sync::{
    AsyncBlockSourceResult, BlockData, BlockHeaderData, BlockSource, BlockSourceError,
};
use serde_json::{Value, json};

use super::{Bitcoind, NOT_FOUND, RpcError, reply};

/// `RPC_MISC_ERROR`: bitcoind knows the header, and does not have the block.
const NO_BLOCK: i64 = -1;
/// How long a peer of bitcoind has to send a block.
const PEER: Duration = Duration::from_secs(10);
/// The first pause between looks for it, for bitcoind answers before it is there. They grow.
const LOOK: Duration = Duration::from_millis(2);

/// Why a block or a header cannot be had, and what to do.
#[derive(Debug, thiserror::Error)]
enum BlockError {
    #[error(
        "bitcoind has pruned it, and none of its {0} peers with all blocks gives it back: connect bitcoind to one that \
         does, or use a bitcoind that keeps more; a new wallet can begin at a later `birthday`"
    )]
    Pruned(usize),
    #[error("bitcoind cannot read it (\"{0}\"): start it with -reindex, or use another one")]
    Unreadable(String),
    #[error("bitcoind does not know it: is it on another chain? Use the one that this node followed before")]
    Unknown,
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

impl From<BlockError> for BlockSourceError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Rpc(RpcError::Unexpected(_)) => Self::persistent(error),
            _ => Self::transient(error),
        }
    }
}

impl From<RpcError> for BlockSourceError {
    fn from(error: RpcError) -> Self {
        BlockError::from(error).into()
    }
}

fn is_pruned(message: &str) -> bool {
    message.contains("pruned")
}

impl Bitcoind {
    async fn block(&self, hash: &BlockHash) -> Result<Value, BlockError> {
        match self.0.call("getblock", json!([hash, 0])).await {
            Err(RpcError::Server { code: NO_BLOCK, message }) if is_pruned(&message) => {
                self.fetch_back(hash).await
            }
            Err(RpcError::Server { code: NO_BLOCK, message }) => Err(BlockError::Unreadable(message)),
            Err(RpcError::Server { code: NOT_FOUND, .. }) => Err(BlockError::Unknown),
            answer => Ok(answer?),
        }
    }

    /// Asks one peer after the other for a block that was pruned.
    async fn fetch_back(&self, hash: &BlockHash) -> Result<Value, BlockError> {
        const PEERS: &str = "getpeerinfo";
        let peers = reply::full_peers(&self.0.call(PEERS, json!([])).await?);
        let peers = peers.ok_or(RpcError::Unexpected(PEERS))?;
        for peer in &peers {
            match self.0.call("getblockfrompeer", json!([hash, peer])).await {
                // It went away, or the block is there already.
                Ok(_) | Err(RpcError::Server { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let (asked, mut pause) = (Instant::now(), LOOK);
            while asked.elapsed() < PEER {
                match self.0.call("getblock", json!([hash, 0])).await {
                    Err(RpcError::Server { code: NO_BLOCK, message }) if is_pruned(&message) => {}
                    answer => return Ok(answer?),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PEER / 20);
            }
        }
        Err(BlockError::Pruned(peers.len()))
    }
}

impl BlockSource for Bitcoind {
    fn get_header<'a>(
        &'a self,
        header_hash: &'a BlockHash,
        _height_hint: Option<u32>,
    ) -> AsyncBlockSourceResult<'a, BlockHeaderData> {
        Box::pin(async move {
            let header = match self.0.call("getblockheader", json!([header_hash])).await {
                Err(RpcError::Server { code: NOT_FOUND, .. }) => Err(BlockError::Unknown),
                answer => answer.map_err(BlockError::from),
            };
            Ok(JsonResponse(header?).try_into()?)
        })
    }

    fn get_block<'a>(&'a self, header_hash: &'a BlockHash) -> AsyncBlockSourceResult<'a, BlockData> {
        Box::pin(async move {
            let block = self.block(header_hash).await?;
            Ok(BlockData::FullBlock(JsonResponse(block).try_into()?))
        })
    }

    fn get_best_block(&self) -> AsyncBlockSourceResult<'_, (BlockHash, Option<u32>)> {
        Box::pin(async move {
            let hash = self.0.call("getbestblockhash", json!([])).await?;
            Ok((reply::hash(&hash).ok_or(RpcError::Unexpected("getbestblockhash"))?, None))
        })
    }
}
