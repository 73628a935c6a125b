//! The wallet follows the chain.

use bitcoin::{Block, OutPoint, Transaction, Txid};
use lightning::chain::{BestBlock, Listen};

use super::{NodeWallet, State};
use crate::lock::lock;

/// Blocks without a transaction of ours after which the wallet's tip is saved all the same. What is lost in a crash is
/// read again from bitcoind.
const SAVE_EVERY: u32 = 144;

impl NodeWallet {
    /// The block up to which the wallet knows the chain.
    pub(in crate::node) fn tip(&self) -> BestBlock {
        let tip = lock(&self.state).bdk.latest_checkpoint();
        BestBlock::new(tip.hash(), tip.height())
    }

    /// The last transaction that spent a coin of ours and that nobody here made, since the start.
    pub(in crate::node) fn stranger(&self) -> Option<Txid> {
        lock(&self.state).stranger
    }

    /// Blocks of the chain as the wallet knows it, latest first, at most `count`.
    pub(in crate::node) fn latest_blocks(&self, count: usize) -> Vec<BestBlock> {
        let tip = lock(&self.state).bdk.latest_checkpoint();
        tip.iter().take(count).map(|block| BestBlock::new(block.hash(), block.height())).collect()
    }
}

impl State {
    /// A transaction that spends a coin of ours which nobody here was given, and that was never seen before. Whoever
    /// shares the seed makes such.
    fn stranger_in(&self, block: &Block) -> Option<Txid> {
        let is_free = |coin: &OutPoint| self.coins.is_confirmed(coin) && !self.coins.is_locked(coin);
        let spends = |transaction: &&Transaction| {
            transaction.input.iter().any(|input| is_free(&input.previous_output))
        };
        let mut spending = block.txdata.iter().filter(spends).map(Transaction::compute_txid);
        spending.find(|txid| !self.pending.contains_key(txid))
    }
}

impl Listen for NodeWallet {
    fn filtered_block_connected(
        &self,
        header: &bitcoin::block::Header,
        txdata: &lightning::chain::transaction::TransactionData,
        height: u32,
    ) {
        let txdata = txdata.iter().map(|(_, transaction)| (*transaction).clone()).collect();
        self.block_connected(&Block { header: *header, txdata }, height);
    }

    fn block_connected(&self, block: &Block, height: u32) {
        let mut state = lock(&self.state);
        if let Some(txid) = state.stranger_in(block) {
            tracing::warn!(%txid, "a coin of ours was spent, and not by this node: does another one run with its seed?");
            state.stranger = Some(txid);
        }
        if let Err(error) = state.bdk.apply_block(block, height) {
            tracing::error!(%error, height, "the wallet cannot connect a block");
            return;
        }
        state.unsaved += 1;
        let news = state.has_news();
        if news {
            self.release_held(&mut state, block);
        }
        if news || state.stale {
            state.refresh();
        }
        if news || state.unsaved >= SAVE_EVERY {
            self.save_or_warn(&mut state);
            self.forget_over(&mut state);
        }
    }

    /// BDK notices the reorganisation when the first block of the other branch arrives. Until then the coins of the
    /// lost blocks are not offered.
    fn blocks_disconnected(&self, fork_point: BestBlock) {
        let mut state = lock(&self.state);
        state.coins.forget_above(fork_point.height);
        state.stale = true;
    }
}
