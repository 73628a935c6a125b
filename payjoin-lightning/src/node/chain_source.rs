//! What a node needs of the chain.

use std::fmt::Debug;

use async_trait::async_trait;
use bitcoin::{Amount, BlockHash, FeeRate, OutPoint, Transaction, Txid};
use lightning::chain::BestBlock;
use lightning_block_sync::BlockSource;
use payjoin_core::{Chain, ChainError};

/// A source of the chain and of the mempool: bitcoind ([`Bitcoind`](super::Bitcoind)), today. What an exchange
/// asks of it is [`Chain`]; blocks come by [`BlockSource`].
#[async_trait]
pub trait ChainSource: Chain + BlockSource + Debug {
    /// Which chain this is, and where it ends.
    async fn status(&self) -> Result<ChainStatus, ChainError>;

    /// The block at this height of the best chain; `None` when that is shorter.
    async fn block_at(&self, height: u32) -> Result<Option<BlockHash>, ChainError>;

    /// Whether the header of this block is known, on whichever branch.
    async fn knows(&self, block: &BlockHash) -> Result<bool, ChainError>;

    /// The mempool transaction that spends each outpoint, in order. One round trip when nothing is spent, two otherwise.
    async fn spenders(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Transaction>>, ChainError>;

    /// Which of these transactions the mempool has, in order, and the best block at that moment or a little later. One
    /// round trip.
    async fn in_mempool(&self, txids: &[Txid]) -> Result<(Vec<bool>, BlockHash), ChainError>;

    /// All that the mempool holds.
    async fn mempool(&self) -> Result<Vec<Txid>, ChainError>;

    /// Those of these transactions that the mempool holds, in no order. One round trip.
    async fn mempool_transactions(&self, txids: &[Txid]) -> Result<Vec<Transaction>, ChainError>;

    /// The fee of a transaction in the mempool; `None` when it is not there.
    async fn mempool_fee(&self, txid: Txid) -> Result<Option<Amount>, ChainError>;

    /// What a transaction must pay to be mined within so many blocks. One round trip.
    async fn fee_rates(&self, within: &[u16]) -> Result<FeeRates, ChainError>;
}

/// See [`ChainSource::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainStatus {
    /// bitcoind's name for the network: `main`, `test`, `signet`, `regtest`.
    pub network: String,
    /// The best block.
    pub tip: BestBlock,
    /// The first block that the source keeps: 0 for one that keeps all.
    pub begins: u32,
}

/// See [`ChainSource::fee_rates`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeRates {
    /// One estimate for each number of blocks asked for, in order; `None` while too few blocks were seen to estimate, as
    /// on regtest.
    pub within: Vec<Option<FeeRate>>,
    /// The least that the mempool takes.
    pub least: Option<FeeRate>,
}
