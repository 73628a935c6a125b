//! `peer connect` and `peer list`.

use bitcoin::secp256k1::PublicKey;
use payjoin_core::PeerAddress;
use payjoin_lightning::PeerInfo;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};

/// A peer to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectArgs {
    /// Its key and where it is.
    pub peer: PeerAddress,
}

/// A peer that is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Connected {
    /// Its key.
    pub node_id: PublicKey,
    /// Always true.
    pub connected: bool,
}

/// Connected peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peers {
    /// In no order.
    pub peers: Vec<PeerInfo>,
}

impl Daemon {
    pub(super) async fn connect(&self, ConnectArgs { peer }: ConnectArgs) -> Result<Connected, RequestError> {
        self.other_than_us(&peer)?;
        self.node.connect(&peer).await?;
        Ok(Connected { node_id: peer.node_id(), connected: true })
    }

    pub(super) async fn peers(&self) -> Result<Peers, RequestError> {
        Ok(Peers { peers: self.node.peers().await? })
    }

    pub(super) fn other_than_us(&self, peer: &PeerAddress) -> Result<(), RequestError> {
        match peer.node_id() == self.node.node_id() {
            true => Err(ErrorKind::Request.error("that is this node itself")),
            false => Ok(()),
        }
    }
}
