//! What the wallet forgets: transactions that are over. Without it, memory, each block with a transaction of ours, and each
//! start would cost more with every payment that there ever was.

use std::collections::{BTreeSet, HashSet};

use bdk_wallet::chain::{CanonicalizationParams, ChainPosition, ConfirmationBlockTime, FullTxOut};
use bdk_wallet::{ChangeSet, Wallet};
use bitcoin::{OutPoint, Txid};
use lightning::io;

use super::WalletError;
use crate::node::store::NodeStore;

/// So deep in the chain nothing is undone.
const BURIED: u32 = 144;
/// Transactions beyond those that were kept last, after which it is looked again.
const MORE: usize = 512;

/// Where the outputs are that were spent by what is forgotten.
const NAMESPACE: &str = "wallet";
const KEY: &str = "spent";

/// Outputs of ours that are spent for good, by transactions that are forgotten, while the transactions that made them are
/// not: another output of theirs is a coin. Bounded by the outputs of what is kept.
#[derive(Debug, Default)]
pub(super) struct Closed(BTreeSet<OutPoint>);

impl Closed {
    pub(super) fn read(store: &dyn NodeStore) -> Result<Self, WalletError> {
        match store.read(NAMESPACE, "", KEY) {
            Ok(bytes) => Ok(Self(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn has(&self, outpoint: &OutPoint) -> bool {
        self.0.contains(outpoint)
    }
}

/// When a wallet with so many transactions is looked at again, of which so many were kept.
pub(super) fn is_due(transactions: usize, kept: usize) -> bool {
    transactions > kept.saturating_mul(2).max(kept + MORE)
}

/// Forgets in `changes`, which `bdk` was made of, every transaction that is buried and of whose outputs none is a coin, or
/// was spent lately. `None` when there is none.
///
/// # Errors
/// When what they spent of others cannot be kept. It is kept before they are forgotten: it is true either way.
pub(super) fn prune(
    bdk: &Wallet,
    changes: &mut ChangeSet,
    spent: &Closed,
    store: &dyn NodeStore,
) -> Result<Option<Closed>, WalletError> {
    let over = over(bdk, spent);
    if over.is_empty() {
        return Ok(None);
    }
    let graph = bdk.tx_graph();
    let kept = |outpoint: &OutPoint| !over.contains(&outpoint.txid) && graph.get_tx(outpoint.txid).is_some();
    let inputs = over.iter().filter_map(|txid| graph.get_tx(*txid));
    let inputs = inputs.flat_map(|transaction| {
        transaction.input.iter().map(|input| input.previous_output).collect::<Vec<_>>()
    });
    let spent = Closed(inputs.chain(spent.0.iter().copied()).filter(kept).collect());
    store.write(NAMESPACE, "", KEY, serde_json::to_vec(&spent.0)?)?;
    let changes = &mut changes.tx_graph;
    changes.txs.retain(|transaction| !over.contains(&transaction.compute_txid()));
    changes.anchors.retain(|(_, txid)| !over.contains(txid));
    for times in [&mut changes.last_seen, &mut changes.first_seen, &mut changes.last_evicted] {
        times.retain(|txid, _| !over.contains(txid));
    }
    Ok(Some(spent))
}

/// Buried transactions of which no output of ours is a coin, or is spent by what is not buried, and what conflicts with
/// buried ones.
fn over(bdk: &Wallet, spent: &Closed) -> HashSet<Txid> {
    let (chain, tip) = (bdk.local_chain(), bdk.latest_checkpoint());
    let buried = |position: &ChainPosition<ConfirmationBlockTime>| {
        let height = position.confirmation_height_upper_bound();
        height.is_some_and(|height| height + BURIED <= tip.height())
    };
    let (graph, params) = (bdk.tx_graph(), CanonicalizationParams::default());
    let (mut over, mut valid, mut taken) = (HashSet::new(), HashSet::new(), HashSet::new());
    for tx in graph.list_canonical_txs(chain, tip.block_id(), params.clone()) {
        valid.insert(tx.tx_node.txid);
        if buried(&tx.chain_position) {
            over.insert(tx.tx_node.txid);
            taken.extend(tx.tx_node.input.iter().map(|input| input.previous_output));
        }
    }
    // What can never be mined: a buried transaction spends an input of it.
    let lost = graph.full_txs().filter(|tx| !valid.contains(&tx.txid));
    let lost = lost.filter(|tx| tx.input.iter().any(|input| taken.contains(&input.previous_output)));
    over.extend(lost.map(|tx| tx.txid));
    let ours = bdk.spk_index().outpoints().iter().map(|(_, outpoint)| ((), *outpoint));
    let is_over = |output: &FullTxOut<ConfirmationBlockTime>| {
        let by = output.spent_by.as_ref();
        spent.has(&output.outpoint) || by.is_some_and(|(position, _)| buried(position))
    };
    let outputs = graph.filter_chain_txouts(chain, tip.block_id(), params, ours);
    for (_, output) in outputs.filter(|(_, output)| !is_over(output)) {
        over.remove(&output.outpoint.txid);
    }
    over
}

#[cfg(test)]
mod tests;
