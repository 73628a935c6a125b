//! The Lightning node's key-value data and the wallet's change log.

use payjoin_core::{LedgerError, NodeState, StateWrite};

use super::MemoryLedger;

impl NodeState for MemoryLedger {
    fn kv_read(&self, primary: &str, secondary: &str, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        self.read(|data| data.value(primary, secondary, key).map(|write| write.value.clone()))
    }

    fn kv_generation(&self, primary: &str, secondary: &str, key: &str) -> Result<u64, LedgerError> {
        self.read(|data| data.value(primary, secondary, key).map_or(0, |write| write.generation))
    }

    fn kv_list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, LedgerError> {
        let here = |write: &&StateWrite| write.primary == primary && write.secondary == secondary;
        self.read(|data| data.node.iter().filter(here).map(|write| write.key.clone()).collect())
    }

    fn kv_write(&self, write: StateWrite) -> Result<(), LedgerError> {
        self.change(|data| data.put(write))
    }

    fn kv_remove(&self, primary: &str, secondary: &str, key: &str) -> Result<(), LedgerError> {
        let is_it = |write: &StateWrite| {
            (&*write.primary, &*write.secondary, &*write.key) == (primary, secondary, key)
        };
        self.change(|data| data.node.retain(|write| !is_it(write)))
    }

    fn kv_move(&self, from: &str, to: &str, keys: Vec<String>) -> Result<(), LedgerError> {
        let is_one = |write: &&mut StateWrite| {
            write.primary == from && write.secondary.is_empty() && keys.contains(&write.key)
        };
        self.change(|data| {
            data.node.iter_mut().filter(is_one).for_each(|write| write.primary = to.to_owned());
        })
    }

    fn append_wallet_change(&self, change: Vec<u8>) -> Result<(), LedgerError> {
        self.change(|data| data.wallet.push(change))
    }

    fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, LedgerError> {
        self.read(|data| data.wallet.clone())
    }

    fn replace_wallet_changes(&self, sum: Vec<u8>) -> Result<(), LedgerError> {
        self.change(|data| data.wallet = vec![sum])
    }
}
