//! What survives a crash, in memory.
#![allow(clippy::unwrap_used, reason = "test support: failing is reporting")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use payjoin_core::{LedgerError, NodeState, StateWrite};

/// A store that forgets nothing until it goes.
#[derive(Default)]
pub(crate) struct State {
    values: Mutex<BTreeMap<(String, String, String), Vec<u8>>>,
    /// Nothing can be written any more.
    pub(crate) is_full: AtomicBool,
}

fn at(primary: &str, secondary: &str, key: &str) -> (String, String, String) {
    (primary.to_owned(), secondary.to_owned(), key.to_owned())
}

impl NodeState for State {
    fn kv_read(&self, primary: &str, secondary: &str, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.values.lock().unwrap().get(&at(primary, secondary, key)).cloned())
    }

    fn kv_generation(&self, _: &str, _: &str, _: &str) -> Result<u64, LedgerError> {
        Ok(0)
    }

    fn kv_list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, LedgerError> {
        let values = self.values.lock().unwrap();
        let keys = values.keys().filter(|(p, s, _)| p == primary && s == secondary);
        Ok(keys.map(|(_, _, key)| key.clone()).collect())
    }

    fn kv_write(&self, write: StateWrite) -> Result<(), LedgerError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(LedgerError::Failed("the disk is full".to_owned()));
        }
        self.values.lock().unwrap().insert((write.primary, write.secondary, write.key), write.value);
        Ok(())
    }

    fn kv_remove(&self, primary: &str, secondary: &str, key: &str) -> Result<(), LedgerError> {
        self.values.lock().unwrap().remove(&at(primary, secondary, key));
        Ok(())
    }

    fn kv_move(&self, _: &str, _: &str, _: Vec<String>) -> Result<(), LedgerError> {
        Ok(())
    }

    fn append_wallet_change(&self, _: Vec<u8>) -> Result<(), LedgerError> {
        Ok(())
    }

    fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, LedgerError> {
        Ok(Vec::new())
    }

    fn replace_wallet_changes(&self, _: Vec<u8>) -> Result<(), LedgerError> {
        Ok(())
    }
}
