//! Transactions on their way: seen when they are sent, forgotten when the mempool has lost them.

use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::{BlockHash, Transaction, Txid};

use super::{NodeWallet, State};
use crate::lock::lock;

/// An unconfirmed transaction of ours, and when it was last seen, in seconds since the Unix epoch.
pub(in crate::node) type Pending = (Txid, u64);

impl NodeWallet {
    /// Tells the wallet of a transaction that is on its way. Ignored when it is none of ours.
    pub fn saw(&self, transaction: &Transaction) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut state = lock(&self.state);
        // Every sight is later than the one before, whatever the clock says: see `forget`.
        let earlier = state.last_seen(transaction.compute_txid());
        let seen = earlier.map_or(now, |earlier| now.max(earlier.saturating_add(1)));
        state.bdk.apply_unconfirmed_txs([(transaction.clone(), seen)]);
        if state.has_news() {
            state.refresh();
            self.save_or_warn(&mut state);
        }
    }

    /// Whether this transaction is in no block, and pays or spends from us.
    pub(in crate::node) fn awaits(&self, txid: &Txid) -> bool {
        lock(&self.state).pending.contains_key(txid)
    }

    /// Transactions of ours that are in no block.
    pub(in crate::node) fn pending(&self) -> Vec<Pending> {
        lock(&self.state).pending.iter().map(|(txid, seen)| (*txid, *seen)).collect()
    }

    /// Forgets transactions that are not in the mempool, so that the coins they spend can be used again. One that was
    /// seen once more since it was asked for stays, and one that is mined after all counts as any other.
    ///
    /// `tip` is the best block of that mempool. Returns `false` and does nothing when the wallet is at another one: then
    /// what is missing may have been mined.
    pub(in crate::node) fn forget(&self, lost: &[Pending], tip: BlockHash) -> bool {
        let mut state = lock(&self.state);
        if state.bdk.latest_checkpoint().hash() != tip {
            return false;
        }
        state.bdk.apply_evicted_txs(lost.iter().copied());
        if state.has_news() {
            let txids: Vec<_> = lost.iter().map(|(txid, _)| txid).collect();
            tracing::info!(?txids, "no longer in the mempool");
            state.refresh();
            self.save_or_warn(&mut state);
        }
        true
    }
}

impl State {
    pub(super) fn last_seen(&self, txid: Txid) -> Option<u64> {
        self.bdk.tx_graph().get_tx_node(txid)?.last_seen
    }
}
