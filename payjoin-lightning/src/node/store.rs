//! What the node keeps, and the one door through which its ChannelManager is written.

use std::sync::{Arc, Mutex};

use lightning::io;
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE, KVStoreSync,
    NETWORK_GRAPH_PERSISTENCE_KEY, NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE,
};
use lightning::util::ser::Writeable;

use super::lock;
use super::parts::ChannelManager;

/// One serialized ChannelManager and its place in the order of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerState {
    /// Counts up with every state taken. A greater generation contains everything of a smaller one.
    pub generation: u64,
    /// The bytes for [`CHANNEL_MANAGER_PERSISTENCE_KEY`].
    pub bytes: Vec<u8>,
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

/// The store as LDK's background processor and sweeper see it.
///
/// The background processor encodes the ChannelManager and writes it some time later. A state that the daemon took and
/// wrote in between, together with a released proposal, must not be overwritten by that older one. So the bytes
/// handed in are dropped and a fresh state with the next generation is taken instead.
pub(super) struct ManagerStore {
    store: Arc<dyn NodeStore>,
    manager: Arc<ChannelManager>,
    generation: Mutex<u64>,
}

impl ManagerStore {
    pub(super) fn new(store: Arc<dyn NodeStore>, manager: Arc<ChannelManager>) -> Result<Self, io::Error> {
        let generation = Mutex::new(store.manager_generation()?);
        Ok(Self { store, manager, generation })
    }

    /// Writes the ChannelManager as it is now.
    pub(super) fn save(&self) -> Result<(), io::Error> {
        self.store.write_manager(self.state())
    }

    /// The ChannelManager as it is now. The lock makes the order of generations the order of encodings.
    pub(super) fn state(&self) -> ManagerState {
        let mut generation = lock(&self.generation);
        let bytes = self.manager.encode();
        *generation += 1;
        ManagerState { generation: *generation, bytes }
    }
}

impl KVStoreSync for ManagerStore {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> Result<Vec<u8>, io::Error> {
        self.store.read(primary, secondary, key)
    }

    fn write(&self, primary: &str, secondary: &str, key: &str, bytes: Vec<u8>) -> Result<(), io::Error> {
        match (primary, key) {
            (CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MANAGER_PERSISTENCE_KEY) => self.save(),
            // The graph is large and peers send it again: not worth stalling the store that money depends on.
            (NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE, NETWORK_GRAPH_PERSISTENCE_KEY) => Ok(()),
            _ => self.store.write(primary, secondary, key, bytes),
        }
    }

    fn remove(&self, primary: &str, secondary: &str, key: &str, lazy: bool) -> Result<(), io::Error> {
        self.store.remove(primary, secondary, key, lazy)
    }

    fn list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, io::Error> {
        self.store.list(primary, secondary)
    }
}
