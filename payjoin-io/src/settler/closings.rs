//! The ends of channels, as far as the chain shows them.

use bitcoin::{OutPoint, Transaction, Txid};
use payjoin_core::Obligation;

use super::Settler;

/// Where the channels stand that this exchange funds. None does unless its payer's inputs are native segwit, and then the
/// id of the payjoin is final.
pub(super) fn fundings(obligation: &Obligation) -> impl Iterator<Item = OutPoint> + '_ {
    let channels = obligation.channels.iter().map(|channel| channel.vout);
    channels.filter_map(|vout| Some(OutPoint { txid: obligation.payjoin?, vout }))
}

impl Settler {
    /// A transaction of a block may be the end of channels.
    pub(super) async fn note_closing(&mut self, transaction: &Transaction) {
        let closed = self.host.watched().closed_by(transaction);
        if closed.is_empty() {
            return;
        }
        let txid = transaction.compute_txid();
        self.closings.extend(closed.into_iter().map(|funding| (funding, txid)));
        self.record_closings().await;
    }

    /// What the store refuses is tried again.
    pub(super) async fn record_closings(&mut self) {
        let closings: Vec<(OutPoint, Txid)> = std::mem::take(&mut self.closings);
        for (funding, txid) in closings {
            match self.host.store.record_closing(funding, txid).await {
                Ok(()) => tracing::info!(%funding, %txid, "a channel is closed in the chain"),
                Err(error) => {
                    tracing::error!(%error, %funding, "the end of a channel is not recorded yet");
                    self.closings.push((funding, txid));
                }
            }
        }
    }
}
