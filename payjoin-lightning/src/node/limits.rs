//! Which channels peers may open to us.

use std::collections::HashSet;
use std::sync::Mutex;

use bitcoin::Amount;
use bitcoin::secp256k1::PublicKey;

use super::config::NodeConfig;
use crate::lock::lock;

/// Refusals that are remembered. Strangers can make any number of keys.
const REMEMBERED: usize = 1_000;

/// The operator's limits, by the names of their settings.
pub(super) struct Limits {
    pub(super) inbound_per_peer: usize,
    pub(super) max_inbound: usize,
    pub(super) min_inbound: Amount,
    /// Also when no coin could pay for closing it.
    pub(super) without_coins: bool,
    /// Whom the operator was told of, and which limit it was.
    pub(super) told: Mutex<HashSet<(PublicKey, &'static str)>>,
}

/// What refuses a channel: the setting, its value, and what it was set against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) setting: &'static str,
    pub(super) limit: u64,
    pub(super) asked: u64,
}

impl Limits {
    pub(super) fn new(config: &NodeConfig) -> Self {
        Self {
            inbound_per_peer: config.inbound_per_peer,
            max_inbound: config.inbound_total,
            min_inbound: config.inbound_min,
            without_coins: config.inbound_without_coins,
            told: Mutex::default(),
        }
    }

    /// Why a channel of this capacity is refused to a peer that has opened `of_peer` to us, while `mined` of all peers'
    /// are mined.
    pub(super) fn refuse(&self, capacity: Amount, of_peer: usize, mined: usize) -> Option<Refused> {
        let refused = |setting, limit, asked| Some(Refused { setting, limit, asked });
        if capacity < self.min_inbound {
            refused("min_inbound", self.min_inbound.to_sat(), capacity.to_sat())
        } else if of_peer >= self.inbound_per_peer {
            refused("inbound_per_peer", self.inbound_per_peer as u64, of_peer as u64 + 1)
        } else if mined >= self.max_inbound {
            refused("max_inbound", self.max_inbound as u64, mined as u64 + 1)
        } else {
            None
        }
    }

    /// `true` when the operator has not heard of it: a peer can ask as often as it likes.
    pub(super) fn is_news(&self, peer: PublicKey, refused: Refused) -> bool {
        let mut told = lock(&self.told);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert((peer, refused.setting))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{SECP256K1, SecretKey};

    use super::*;

    #[test]
    fn each_limit_refuses_by_the_name_of_its_setting() {
        let limits = Limits::new(&NodeConfig::new(bitcoin::Network::Regtest, "seed"));
        for (capacity, of_peer, mined, refused) in [
            (100_000, 3, 9, None),
            (99_999, 0, 0, Some(("min_inbound", 100_000, 99_999))),
            (100_000, 4, 0, Some(("inbound_per_peer", 4, 5))),
            (100_000, 0, 10, Some(("max_inbound", 10, 11))),
        ] {
            let refused = refused.map(|(setting, limit, asked)| Refused { setting, limit, asked });
            assert_eq!(limits.refuse(Amount::from_sat(capacity), of_peer, mined), refused, "{refused:?}");
        }
    }

    #[test]
    fn the_operator_hears_once_of_a_peer_and_a_limit() {
        let limits = Limits::new(&NodeConfig::new(bitcoin::Network::Regtest, "seed"));
        let peer = |id| PublicKey::from_secret_key(SECP256K1, &SecretKey::from_slice(&[id; 32]).unwrap());
        let refused = |setting| Refused { setting, limit: 1, asked: 2 };
        assert!(limits.is_news(peer(1), refused("max_inbound")));
        assert!(!limits.is_news(peer(1), refused("max_inbound")));
        assert!(limits.is_news(peer(1), refused("inbound_per_peer")));
        assert!(limits.is_news(peer(2), refused("max_inbound")));
    }
}
