//! Adapts the store to what the node keeps in it, and to whom it should connect.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::Amount;
use lightning::io::{Error, ErrorKind};
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE, KVStoreSync,
};
use payjoin_core::{Claim, Ledger, LedgerError, LightningEnd, MOST_CHANNELS, PeerAddress, StateWrite, Step};
use payjoin_lightning::node::{ManagerState, NodeStore};
use payjoin_lightning::{PaidOnce, Wanted};

use crate::clock::now;
use crate::events::Events;

/// All that survives a crash.
pub(crate) type Store = Arc<dyn Ledger>;

/// Everything durable but the seed.
pub(crate) fn database(datadir: &Path) -> PathBuf {
    datadir.join("payjoind.sqlite")
}

/// The node's part of the database.
pub(crate) struct Keep(pub(crate) Store);

fn error(error: LedgerError) -> Error {
    Error::new(ErrorKind::Other, error.to_string())
}

impl KVStoreSync for Keep {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> Result<Vec<u8>, Error> {
        let value = self.0.kv_read(primary, secondary, key).map_err(error)?;
        value.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such key"))
    }

    fn write(&self, primary: &str, secondary: &str, key: &str, value: Vec<u8>) -> Result<(), Error> {
        let (primary, secondary, key) = (primary.to_owned(), secondary.to_owned(), key.to_owned());
        self.0.kv_write(StateWrite { primary, secondary, key, value, generation: 0 }).map_err(error)
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
        self.0.kv_write(state.into()).map_err(error)
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

/// The peers of queued channels, as many as one payment can open. They are connected by then: no payer waits for a dial.
/// A peer that failed is dialled as well: its channels are tried again when it connects. Of a peer that was queued under
/// several addresses, each of them is named.
pub(crate) struct QueuedPeers(pub(crate) Store);

impl QueuedPeers {
    async fn read(&self) -> Result<Vec<PeerAddress>, LedgerError> {
        let mut peers: Vec<PeerAddress> = Vec::new();
        for waiting in self.0.waiting().await? {
            if !peers.contains(&waiting.peer) && peers.len() < MOST_CHANNELS as usize {
                peers.push(waiting.peer);
            }
        }
        Ok(peers)
    }
}

#[async_trait]
impl Wanted for QueuedPeers {
    async fn peers(&self) -> Vec<PeerAddress> {
        self.read().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "nobody knows which channels are queued");
            Vec::new()
        })
    }
}

impl fmt::Debug for QueuedPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedPeers").finish_non_exhaustive()
    }
}

/// Codes that can be paid over Lightning, too.
pub(crate) struct Codes {
    pub(crate) store: Store,
    pub(crate) events: Events,
}

#[async_trait]
impl PaidOnce for Codes {
    async fn may_take(&self, hash: [u8; 32]) -> Result<bool, String> {
        match self.store.claim(hash, now()).await.map_err(|error| error.to_string())? {
            Claim::None => Ok(true),
            Claim::Taken(invoice) => {
                self.events.tell(Step::PaidOverLightning { invoice });
                Ok(true)
            }
            Claim::PaidOnChain(invoice) => {
                tracing::info!(%invoice, "a payment over Lightning is given back: the code is paid on chain");
                Ok(false)
            }
        }
    }

    async fn received(&self, hash: [u8; 32], amount: Amount) -> Result<(), String> {
        self.end(hash, LightningEnd::Received(amount)).await
    }

    async fn sent(&self, hash: [u8; 32], fee_msat: u64) -> Result<(), String> {
        self.end(hash, LightningEnd::Sent(fee_msat)).await
    }

    async fn failed(&self, hash: [u8; 32], reason: &str) -> Result<(), String> {
        self.end(hash, LightningEnd::Failed(reason.to_owned())).await
    }
}

impl Codes {
    async fn end(&self, hash: [u8; 32], end: LightningEnd) -> Result<(), String> {
        self.store.end_lightning(hash, end, now()).await.map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codes").finish_non_exhaustive()
    }
}
