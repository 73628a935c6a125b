//! Blocks for `lightning-block-sync`.

use bitcoin::BlockHash;
use lightning_block_sync::http::JsonResponse;
use lightning_block_sync::{
    AsyncBlockSourceResult, BlockData, BlockHeaderData, BlockSource, BlockSourceError,
};
use serde_json::json;

use super::{Rpc, RpcError};

impl From<RpcError> for BlockSourceError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Unexpected(_) => Self::persistent(error),
            _ => Self::transient(error),
        }
    }
}

impl BlockSource for Rpc {
    fn get_header<'a>(
        &'a self,
        header_hash: &'a BlockHash,
        _height_hint: Option<u32>,
    ) -> AsyncBlockSourceResult<'a, BlockHeaderData> {
        Box::pin(async move {
            let header = self.call("getblockheader", json!([header_hash])).await?;
            Ok(JsonResponse(header).try_into()?)
        })
    }

    fn get_block<'a>(&'a self, header_hash: &'a BlockHash) -> AsyncBlockSourceResult<'a, BlockData> {
        Box::pin(async move {
            let block = self.call("getblock", json!([header_hash, 0])).await?;
            Ok(BlockData::FullBlock(JsonResponse(block).try_into()?))
        })
    }

    fn get_best_block(&self) -> AsyncBlockSourceResult<'_, (BlockHash, Option<u32>)> {
        Box::pin(async move {
            let hash = self.call("getbestblockhash", json!([])).await?;
            let hash = hash.as_str().and_then(|hash| hash.parse().ok());
            Ok((hash.ok_or(RpcError::Unexpected("getbestblockhash"))?, None))
        })
    }
}
