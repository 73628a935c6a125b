//! `peer connect` and `peer list`.

use std::collections::HashSet;

use bitcoin::secp256k1::PublicKey;
use payjoin_core::PeerAddress;
use payjoin_lightning::Reached;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, READ, SPEND};

/// Who may ask for `peer list`.
pub(crate) const LIST: Access = READ;

/// A peer to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectArgs {
    /// Its key and where it is.
    pub peer: PeerAddress,
}

/// A peer that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Connected {
    /// Its key.
    #[schemars(with = "String")]
    pub node_id: PublicKey,
    /// Always true.
    pub connected: bool,
    /// Why this says nothing of the address that was asked for.
    pub note: Option<String>,
}

/// Peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Peers {
    /// In no order.
    pub peers: Vec<Peer>,
}

/// A peer that is connected, or that should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Peer {
    /// Its key.
    #[schemars(with = "String")]
    pub node_id: PublicKey,
    /// Where we reached it last, or should; `None` when it always came to us.
    pub address: Option<PeerAddress>,
    /// Is it connected?
    pub connected: bool,
    /// Why it was not reached the last time.
    pub error: Option<String>,
}

impl Guarded for ConnectArgs {
    const ACCESS: Access = SPEND;
}

impl Daemon {
    pub(super) async fn connect(&self, ConnectArgs { peer }: ConnectArgs) -> Result<Connected, RequestError> {
        self.other_than_us(&peer)?;
        let note = match self.node.connect(&peer).await? {
            Reached::There => None,
            Reached::Elsewhere(address, why) => Some(format!("it was reached at {address}; {why}")),
            Reached::Before => Some("it was connected before: no address was tried".to_owned()),
        };
        Ok(Connected { node_id: peer.node_id(), connected: true, note })
    }

    pub(super) async fn peers(&self) -> Result<Peers, RequestError> {
        let connected = self.node.peers().await?;
        let known: HashSet<_> = connected.iter().map(|peer| peer.node_id).collect();
        let missed = self.node.missed().into_iter().filter(|(peer, _)| !known.contains(&peer.node_id()));
        let missed = missed.map(|(address, error)| Peer {
            node_id: address.node_id(),
            address: Some(address),
            connected: false,
            error: Some(error),
        });
        let there = connected.into_iter().map(|peer| Peer {
            node_id: peer.node_id,
            address: peer.address,
            connected: true,
            error: None,
        });
        Ok(Peers { peers: there.chain(missed).collect() })
    }

    pub(super) fn other_than_us(&self, peer: &PeerAddress) -> Result<(), RequestError> {
        match peer.node_id() == self.node.node_id() {
            true => Err(ErrorKind::Request.error("that is this node itself")),
            false => Ok(()),
        }
    }
}
