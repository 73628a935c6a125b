//! What the node keeps.

use lightning::io;
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE, KVStoreSync,
};
use payjoin_core::StateWrite;

/// One serialized ChannelManager and its place in the order of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerState {
    /// Counts up with every state taken. A greater generation contains everything of a smaller one.
    pub generation: u64,
    /// The bytes for [`CHANNEL_MANAGER_PERSISTENCE_KEY`].
    pub bytes: Vec<u8>,
}

impl From<ManagerState> for StateWrite {
    fn from(state: ManagerState) -> Self {
        Self {
            primary: CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE.to_owned(),
            secondary: CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE.to_owned(),
            key: CHANNEL_MANAGER_PERSISTENCE_KEY.to_owned(),
            value: state.bytes,
            generation: state.generation,
        }
    }
}

/// Durable storage for the node. Every call that returns `Ok` has reached the disk. The node ends when it
/// cannot write channel state.
///
/// Never hold a lock of the store while calling the node (for example [`Node::manager_state`]): LDK writes channel
/// monitors while it holds its own locks.
///
/// [`Node::manager_state`]: super::Node::manager_state
pub trait NodeStore: KVStoreSync + Send + Sync {
    /// Writes the ChannelManager under LDK's key for it, or does nothing when a state of the same or a greater
    /// generation is stored already (money rule 1).
    fn write_manager(&self, state: ManagerState) -> Result<(), io::Error>;

    /// Generation of the stored ChannelManager; 0 when there is none.
    fn manager_generation(&self) -> Result<u64, io::Error>;

    /// All wallet changes, in the order in which they were appended.
    fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, io::Error>;

    /// Appends one wallet change.
    fn append_wallet_change(&self, change: Vec<u8>) -> Result<(), io::Error>;

    /// Replaces all wallet changes by one that sums them up, atomically.
    fn replace_wallet_changes(&self, change: Vec<u8>) -> Result<(), io::Error>;
}
