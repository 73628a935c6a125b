//! Which coins lightningd keeps for us, on record: it does not say for whom it keeps a coin, and after a crash those that
//! nobody needs any more are given back.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::OutPoint;
use payjoin_core::{LedgerError, NodeState, StateWrite};

use super::openings::blocking;

const NAMESPACE: &str = "cln_wallet";
const KEY: &str = "reserved";

/// The record. It names a coin from before lightningd is asked to keep it until lightningd has given it back.
pub(super) struct Pledges(Arc<dyn NodeState>);

impl Pledges {
    pub(super) fn new(state: Arc<dyn NodeState>) -> Self {
        Self(state)
    }

    pub(super) fn read(&self) -> Result<BTreeSet<OutPoint>, LedgerError> {
        let damaged = |_| LedgerError::Damaged("the reserved coins".to_owned());
        match self.0.kv_read(NAMESPACE, "", KEY)? {
            Some(value) => serde_json::from_slice(&value).map_err(damaged),
            None => Ok(BTreeSet::new()),
        }
    }

    pub(super) async fn write(&self, coins: &BTreeSet<OutPoint>) -> Result<(), LedgerError> {
        let value = serde_json::to_vec(coins).map_err(|error| LedgerError::Failed(error.to_string()))?;
        let (primary, secondary, key) = (NAMESPACE.to_owned(), String::new(), KEY.to_owned());
        let write = StateWrite { primary, secondary, key, value, generation: 0 };
        let state = Arc::clone(&self.0);
        blocking(move || state.kv_write(write)).await
    }
}
