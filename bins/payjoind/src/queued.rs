//! Whom the next payment needs.

use payjoin_core::MOST_CHANNELS;
use payjoin_io::{Store, StoreError};
use payjoin_lightning::node::Wanted;
use payjoin_lightning::{ChannelSpec, PeerAddress};

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
