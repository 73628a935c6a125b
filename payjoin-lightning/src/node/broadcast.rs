//! LDK hands over transactions while it holds locks; a task sends them.

use std::sync::Arc;

use bitcoin::Transaction;
use bitcoin::consensus::encode::serialize_hex;
use lightning::chain::chaininterface::BroadcasterInterface;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::rpc::Rpc;
use super::stop::Stop;
use super::wallet::NodeWallet;

/// Transactions that belong together: parents first.
type Package = Vec<Transaction>;

/// The end of the queue that LDK sees.
pub(super) struct Broadcaster(UnboundedSender<Package>);

/// The end of the queue that the task works on.
pub(super) struct Packages(UnboundedReceiver<Package>);

pub(super) fn broadcaster() -> (Broadcaster, Packages) {
    let (sender, receiver) = unbounded_channel();
    (Broadcaster(sender), Packages(receiver))
}

impl BroadcasterInterface for Broadcaster {
    fn broadcast_transactions(&self, txs: &[&Transaction]) {
        // Fails only when the node has stopped; LDK sends again after the next start.
        let _ = self.0.send(txs.iter().map(|transaction| (*transaction).clone()).collect());
    }
}

impl Packages {
    /// Sends what LDK hands over until `stop`; what is queued then is sent first.
    pub(super) async fn run(mut self, rpc: Arc<Rpc>, wallet: Arc<NodeWallet>, mut stop: Stop) {
        loop {
            let package = tokio::select! {
                biased;
                package = self.0.recv() => package,
                () = stop.wait() => None,
            };
            let Some(package) = package else { return };
            if send(&rpc, &package).await {
                package.iter().for_each(|transaction| wallet.saw(transaction));
            }
        }
    }
}

/// `false` when bitcoind took none or not all of it. LDK repeats what still matters.
pub(super) async fn send(rpc: &Rpc, package: &[Transaction]) -> bool {
    let mut refused = None;
    for transaction in package {
        if let Err(error) = rpc.broadcast(transaction).await {
            tracing::debug!(%error, txid = %transaction.compute_txid(), "not broadcast alone");
            refused = Some(error);
        }
    }
    let Some(error) = refused else { return true };
    // A parent that pays too little enters the mempool only together with the child that pays for it.
    if package.len() > 1 {
        let hex: Vec<String> = package.iter().map(serialize_hex).collect();
        let answer = rpc.call("submitpackage", json!([hex])).await;
        if answer.is_ok_and(|answer| answer["package_msg"] == "success") {
            return true;
        }
    }
    let txids: Vec<_> = package.iter().map(Transaction::compute_txid).collect();
    tracing::warn!(%error, ?txids, "broadcast refused");
    false
}
