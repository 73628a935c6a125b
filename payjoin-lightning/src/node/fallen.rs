//! Channels of which a peer has a later state than we: whatever we would send for them may be revoked.
//!
//! They are written down before anything else happens, and for good. From then on only their peers can close them, and
//! what is ours in that close still comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, Transaction, Txid};
use lightning::io;
use lightning::ln::types::ChannelId;

use super::store::NodeStore;
use crate::lock::lock;

/// Where they are stored, by channel id: the peer's key in 33 bytes, then the funding output.
const NAMESPACE: &str = "fallen_channels";

/// One channel, as its monitor knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fallen {
    pub(super) id: ChannelId,
    pub(super) peer: PublicKey,
    pub(super) funding: OutPoint,
}

impl Fallen {
    fn encode(&self) -> Vec<u8> {
        [&self.peer.serialize()[..], &serialize(&self.funding)].concat()
    }

    fn decode(id: &str, bytes: &[u8]) -> Option<Self> {
        // A channel id is written as a transaction id is not: in the order of its bytes.
        let id = <[u8; 32] as bitcoin::hex::FromHex>::from_hex(id).ok()?;
        let (peer, funding) = bytes.split_at_checked(33)?;
        let peer = PublicKey::from_slice(peer).ok()?;
        Some(Self { id: ChannelId(id), peer, funding: deserialize(funding).ok()? })
    }
}

/// All of them.
pub(super) struct FallenChannels {
    store: Arc<dyn NodeStore>,
    channels: Mutex<HashMap<ChannelId, Fallen>>,
}

impl FallenChannels {
    pub(super) fn load(store: Arc<dyn NodeStore>) -> Result<Self, io::Error> {
        let mut channels = HashMap::new();
        for key in store.list(NAMESPACE, "")? {
            let channel = Fallen::decode(&key, &store.read(NAMESPACE, "", &key)?);
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a fallen channel is damaged");
            let channel = channel.ok_or_else(damaged)?;
            channels.insert(channel.id, channel);
        }
        Ok(Self { store, channels: Mutex::new(channels) })
    }

    /// Writes them down. In memory they count at once, also when that fails.
    pub(super) fn note(&self, fallen: impl IntoIterator<Item = Fallen>) -> Result<(), io::Error> {
        let mut noted = Ok(());
        for channel in fallen {
            if lock(&self.channels).insert(channel.id, channel).is_none() {
                let written = self.store.write(NAMESPACE, "", &channel.id.to_string(), channel.encode());
                noted = noted.and(written);
            }
        }
        noted
    }

    pub(super) fn has(&self, id: &ChannelId) -> bool {
        lock(&self.channels).contains_key(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.channels).is_empty()
    }

    /// Their peers, who are asked to close them.
    pub(super) fn peers(&self) -> Vec<PublicKey> {
        lock(&self.channels).values().map(|channel| channel.peer).collect()
    }

    /// Whether this transaction of ours may not be sent: it spends such a funding output, or what of ours spends one.
    pub(super) fn forbids(&self, transaction: &Transaction, forbidden: &[Txid]) -> bool {
        let channels = lock(&self.channels);
        let is_fallen = |output: &OutPoint| channels.values().any(|channel| channel.funding == *output);
        let mut spent = transaction.input.iter().map(|input| input.previous_output);
        spent.any(|output| is_fallen(&output) || forbidden.contains(&output.txid))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    #[test]
    fn a_fallen_channel_is_read_back_as_it_was_written() {
        let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let funding = OutPoint::new(Txid::from_byte_array([7; 32]), 3);
        let id = ChannelId(std::array::from_fn(|at| at as u8));
        let fallen = Fallen { id, peer: key.parse().unwrap(), funding };
        let bytes = fallen.encode();
        assert_eq!(Fallen::decode(&id.to_string(), &bytes), Some(fallen));
        assert_eq!(Fallen::decode(&id.to_string(), &bytes[..40]), None);
        assert_eq!(Fallen::decode("7", &bytes), None);
    }
}
