//! The wallet as it was stored, or a new one.

use bdk_wallet::chain::{BlockId, Merge};
use bdk_wallet::{ChangeSet, KeychainKind, Update, Wallet};
use bitcoin::Network;
use lightning::chain::BestBlock;

use super::WalletError;
use super::keys::Descriptors;
use super::prune::{Closed, prune};
use crate::node::store::NodeStore;

/// Stored changes after which a start sums them up.
const COMPACT_AFTER: usize = 64;

/// What a wallet is made of besides what is stored.
pub(super) struct Blueprint {
    pub(super) descriptors: Descriptors,
    pub(super) network: Network,
    /// The first block of a new one.
    pub(super) birthday: BestBlock,
    /// Unused scripts in a row beyond which it looks for no coin.
    pub(super) lookahead: u32,
}

impl Blueprint {
    /// Reads the wallet back, without what is over, or creates it.
    pub(super) fn load(&self, store: &dyn NodeStore) -> Result<(Wallet, Closed), WalletError> {
        let stored = store.wallet_changes()?;
        let mut changes = ChangeSet::default();
        for change in &stored {
            changes.merge(serde_json::from_slice(change)?);
        }
        let spent = Closed::read(store)?;
        let Some(bdk) = self.open(changes.clone())? else { return Ok((self.create()?, spent)) };
        let pruned = prune(&bdk, &mut changes, &spent, store)?;
        if pruned.is_some() || stored.len() > COMPACT_AFTER {
            store.replace_wallet_changes(serde_json::to_vec(&changes)?)?;
        }
        let Some(spent) = pruned else { return Ok((bdk, spent)) };
        drop(bdk);
        match self.open(changes)? {
            Some(bdk) => Ok((bdk, spent)),
            None => Ok((self.create()?, spent)),
        }
    }

    /// `None` where nothing is stored.
    fn open(&self, changes: ChangeSet) -> Result<Option<Wallet>, WalletError> {
        Wallet::load()
            .descriptor(KeychainKind::External, Some(self.descriptors.external.clone()))
            .descriptor(KeychainKind::Internal, Some(self.descriptors.internal.clone()))
            .check_network(self.network)
            .lookahead(self.lookahead)
            // A start would derive the script of every code that there ever was.
            .use_spk_cache(true)
            .load_wallet_no_persist(changes)
            .map_err(|error| WalletError::Load(Box::new(error)))
    }

    fn create(&self) -> Result<Wallet, WalletError> {
        let refused = |error: &dyn std::fmt::Display| WalletError::Create(error.to_string());
        let Descriptors { external, internal } = &self.descriptors;
        let mut bdk = Wallet::create(external.clone(), internal.clone())
            .network(self.network)
            .lookahead(self.lookahead)
            .use_spk_cache(true)
            .create_wallet_no_persist()
            .map_err(|error| refused(&error))?;
        let block = BlockId { height: self.birthday.height, hash: self.birthday.block_hash };
        let chain = Some(bdk.latest_checkpoint().insert(block));
        bdk.apply_update(Update { chain, ..Update::default() }).map_err(|error| refused(&error))?;
        Ok(bdk)
    }
}
