//! The Lightning node's key-value data and the wallet's change log. They are here because a part of them is written with
//! a release, in one call.

use super::LedgerError;

/// What the node keeps. Its library calls from any thread and waits: these calls block until what they wrote is durable.
pub trait NodeState: Send + Sync {
    /// The value of a key.
    fn kv_read(&self, primary: &str, secondary: &str, key: &str) -> Result<Option<Vec<u8>>, LedgerError>;

    /// The generation of a key's value; 0 when there is none.
    fn kv_generation(&self, primary: &str, secondary: &str, key: &str) -> Result<u64, LedgerError>;

    /// The keys in these namespaces.
    fn kv_list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, LedgerError>;

    /// Writes a value.
    fn kv_write(&self, write: StateWrite) -> Result<(), LedgerError>;

    /// Removes a key, if it is there.
    fn kv_remove(&self, primary: &str, secondary: &str, key: &str) -> Result<(), LedgerError>;

    /// Moves the values of these keys, which have no secondary namespace, to another primary one: all of them at once.
    fn kv_move(&self, from: &str, to: &str, keys: Vec<String>) -> Result<(), LedgerError>;

    /// Appends a change of the wallet.
    fn append_wallet_change(&self, change: Vec<u8>) -> Result<(), LedgerError>;

    /// Every change of the wallet, oldest first.
    fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, LedgerError>;

    /// Puts one change, the sum of all, in the place of the log.
    fn replace_wallet_changes(&self, sum: Vec<u8>) -> Result<(), LedgerError>;
}

/// One value of the Lightning node's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// Primary namespace.
    pub primary: String,
    /// Secondary namespace.
    pub secondary: String,
    /// Key in the namespaces.
    pub key: String,
    /// The bytes.
    pub value: Vec<u8>,
    /// Counts the states of values that several writers race for, as a channel manager's: a write with a generation
    /// above 0 is ignored when the stored generation is the same or later. 0 always writes.
    pub generation: u64,
}
