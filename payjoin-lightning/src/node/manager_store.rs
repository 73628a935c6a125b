//! The one door through which the ChannelManager is written.

use std::sync::{Arc, Mutex};

use lightning::io;
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE, KVStoreSync,
    NETWORK_GRAPH_PERSISTENCE_KEY, NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE,
};
use lightning::util::ser::Writeable;

use super::store::{ManagerState, NodeStore};
use super::types::ChannelManager;
use crate::lock::lock;

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
