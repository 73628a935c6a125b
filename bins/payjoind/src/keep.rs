//! Adapts the store to what the node keeps in it, and to whom it should connect.

use lightning::io::{Error, ErrorKind};
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE, KVStoreSync,
};
use payjoin_core::MOST_CHANNELS;
use payjoin_io::{KvWrite, Store, StoreError};
use payjoin_lightning::node::{ManagerState, NodeStore, Wanted};
use payjoin_lightning::{ChannelSpec, PeerAddress};

use crate::roles::manager_write;

/// The node's part of the database.
pub(crate) struct Keep(pub(crate) Store);

fn error(error: StoreError) -> Error {
    Error::new(ErrorKind::Other, error.to_string())
}

impl KVStoreSync for Keep {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> Result<Vec<u8>, Error> {
        let value = self.0.kv_read(primary, secondary, key).map_err(error)?;
        value.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such key"))
    }

    fn write(&self, primary: &str, secondary: &str, key: &str, value: Vec<u8>) -> Result<(), Error> {
        let (primary, secondary, key) = (primary.to_owned(), secondary.to_owned(), key.to_owned());
        self.0.kv_write(KvWrite { primary, secondary, key, value, generation: 0 }).map_err(error)
    }

    fn remove(&self, primary: &str, secondary: &str, key: &str, _lazy: bool) -> Result<(), Error> {
        self.0.kv_remove(primary, secondary, key).map_err(error)
    }

    fn list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, Error> {
        self.0.kv_list(primary, secondary).map_err(error)
    }
}

impl NodeStore for Keep {
    fn write_manager(&self, state: ManagerState) -> Result<(), Error> {
        self.0.kv_write(manager_write(state)).map_err(error)
    }

    fn manager_generation(&self) -> Result<u64, Error> {
        let stored = self.0.kv_generation(
            CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
            CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
            CHANNEL_MANAGER_PERSISTENCE_KEY,
        );
        stored.map_err(error)
    }

    fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, Error> {
        self.0.wallet_changes().map_err(error)
    }

    fn append_wallet_change(&self, change: Vec<u8>) -> Result<(), Error> {
        self.0.append_wallet_change(change).map_err(error)
    }

    fn replace_wallet_changes(&self, sum: Vec<u8>) -> Result<(), Error> {
        self.0.replace_wallet_changes(sum).map_err(error)
    }
}

/// The peers of the queued channels that one payment can open. They are connected by then: no payer waits for a dial.
#[derive(Debug)]
pub(crate) struct QueuedPeers(pub(crate) Store);

impl QueuedPeers {
    fn read(&self) -> Result<Vec<PeerAddress>, StoreError> {
        let mut peers = Vec::new();
        for wish in self.0.queued_wishes(MOST_CHANNELS)? {
            let intent = self.0.intent(wish.id)?;
            let spec = intent.and_then(|intent| serde_json::from_value::<ChannelSpec>(intent.spec).ok());
            peers.extend(spec.map(|spec| spec.peer));
        }
        Ok(peers)
    }
}

impl Wanted for QueuedPeers {
    fn peers(&self) -> Vec<PeerAddress> {
        self.read().unwrap_or_else(|error| {
            tracing::debug!(%error, "nobody knows which channels are queued");
            Vec::new()
        })
    }
}
