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

    /// Whether it can be followed at all: asked at a start. An error is for the operator to mend, everything else passes.
    async fn readiness(&self) -> Result<Readiness, ChainError> {
        Ok(Readiness::Ready(self.status().await?))
    }

    /// We stop: from now on no answer is waited for longer than a few seconds.
    fn hurry(&self) {}

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
    /// It is in its initial block download.
    pub first_download: bool,
    /// The height of the best header.
    pub headers: u32,
    /// When the best block was made, in seconds since 1970, if the source tells.
    pub time: Option<u64>,
}

/// See [`ChainSource::readiness`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It answers.
    Ready(ChainStatus),
    /// It is there, and has no time yet: why.
    NotYet(String),
}

/// A chain whose last block is older than this many seconds stands still.
const OLD: u64 = 24 * 3_600;

impl ChainStatus {
    /// Why nothing may be offered on what the source knows of the chain, and how far it is; `None` where it is up to date.
    /// On regtest blocks come when somebody wants them.
    #[must_use]
    pub fn behind(&self, now: u64) -> Option<String> {
        if self.network == "regtest" {
            return None;
        }
        let (height, headers) = (self.tip.height, self.headers.max(self.tip.height));
        if self.first_download {
            let percent = u64::from(height) * 100 / u64::from(headers.max(1));
            return Some(format!(
                "bitcoind is in its initial block download, at block {height} of {headers} ({percent} %): nothing is offered \
                 until it has caught up"
            ));
        }
        let age = now.checked_sub(self.time?)?;
        (age > OLD).then(|| {
            format!(
                "bitcoind's last block, at height {height} of {headers}, is {} hours old: nothing is offered until newer ones \
                 arrive. Is bitcoind connected to others?",
                age / 3_600
            )
        })
    }
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

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    #[test]
    fn a_chain_that_is_being_downloaded_or_is_a_day_old_is_behind_but_for_regtest() {
        const NOW: u64 = 1_800_000_000;
        for (network, first_download, age, told) in [
            ("main", false, Some(OLD), None),
            ("main", true, Some(0), Some("at block 500 of 2000 (25 %)")),
            ("signet", false, Some(OLD + 1), Some("24 hours old")),
            ("test", false, Some(OLD * 3), Some("72 hours old")),
            ("testnet4", false, None, None),
            ("regtest", true, Some(OLD * 9), None),
        ] {
            let tip = BestBlock::new(BlockHash::all_zeros(), 500);
            let time = age.map(|age| NOW - age);
            let status =
                ChainStatus { network: network.into(), tip, begins: 0, first_download, headers: 2_000, time };
            let behind = status.behind(NOW);
            assert_eq!(behind.is_some(), told.is_some(), "{network}: {behind:?}");
            assert!(told.is_none_or(|part| behind.unwrap().contains(part)), "{network}");
        }
    }
}
