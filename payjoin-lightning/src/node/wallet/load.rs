//! The wallet as it was stored, or a new one.

use bdk_wallet::chain::{BlockId, Merge};
use bdk_wallet::{ChangeSet, KeychainKind, Update, Wallet};
use bitcoin::Network;
use lightning::chain::BestBlock;

use super::WalletError;
use super::keys::Descriptors;
use crate::node::store::NodeStore;

/// Stored changes after which a start sums them up.
const COMPACT_AFTER: usize = 64;

/// Reads the wallet back, or creates it with `birthday` as its first block.
pub(super) fn load(
    store: &dyn NodeStore,
    descriptors: Descriptors,
    network: Network,
    birthday: BestBlock,
    lookahead: u32,
) -> Result<Wallet, WalletError> {
    let stored = store.wallet_changes()?;
    let mut changes = ChangeSet::default();
    for change in &stored {
        changes.merge(serde_json::from_slice(change)?);
    }
    if stored.len() > COMPACT_AFTER {
        store.replace_wallet_changes(serde_json::to_vec(&changes)?)?;
    }
    let loaded = Wallet::load()
        .descriptor(KeychainKind::External, Some(descriptors.external.clone()))
        .descriptor(KeychainKind::Internal, Some(descriptors.internal.clone()))
        .check_network(network)
        .lookahead(lookahead)
        .load_wallet_no_persist(changes)
        .map_err(|error| WalletError::Load(Box::new(error)))?;
    match loaded {
        Some(bdk) => Ok(bdk),
        None => create(descriptors, network, birthday, lookahead),
    }
}

fn create(
    descriptors: Descriptors,
    network: Network,
    birthday: BestBlock,
    lookahead: u32,
) -> Result<Wallet, WalletError> {
    let refused = |error: &dyn std::fmt::Display| WalletError::Create(error.to_string());
    let mut bdk = Wallet::create(descriptors.external, descriptors.internal)
        .network(network)
        .lookahead(lookahead)
        .create_wallet_no_persist()
        .map_err(|error| refused(&error))?;
    let block = BlockId { height: birthday.height, hash: birthday.block_hash };
    let chain = Some(bdk.latest_checkpoint().insert(block));
    bdk.apply_update(Update { chain, ..Update::default() }).map_err(|error| refused(&error))?;
    Ok(bdk)
}
