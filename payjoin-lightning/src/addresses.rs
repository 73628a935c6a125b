//! Where peers are: every address that is known of each, the order in which they are tried, and what came of it.

use std::collections::HashMap;
use std::sync::Mutex;

use bitcoin::secp256k1::PublicKey;
use payjoin_core::PeerAddress;

use crate::lock::lock;

/// Addresses of a peer that somebody told, besides the one that worked. The oldest is forgotten for a new one.
const TOLD: usize = 4;

/// Addresses of peers.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<HashMap<PublicKey, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// It was reached there last. Only another one that it was reached at takes its place.
    worked: Option<PeerAddress>,
    /// The newest last.
    told: Vec<PeerAddress>,
    /// Why it was not reached the last time.
    failure: Option<String>,
}

/// What is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Where the peer was reached last: a payer may be waiting.
    WorkedFirst,
    /// What the operator asks for.
    AskedFirst,
}

impl Addresses {
    /// Where a peer was reached last.
    pub(crate) fn worked(&self, peer: &PublicKey) -> Option<PeerAddress> {
        lock(&self.0).get(peer)?.worked.clone()
    }

    /// Whatever is known of a peer, the best first.
    pub(crate) fn all(&self, peer: &PublicKey) -> Vec<PeerAddress> {
        let known = lock(&self.0);
        let Some(Known { worked, told, .. }) = known.get(peer) else { return Vec::new() };
        worked.iter().chain(told.iter().rev()).cloned().collect()
    }

    /// What to try: all that is known of the peer, this address among it, and then what `others` say.
    pub(crate) fn in_turn(
        &self,
        asked: &PeerAddress,
        turn: Turn,
        others: impl IntoIterator<Item = PeerAddress>,
    ) -> Vec<PeerAddress> {
        let (worked, peer) = (self.worked(&asked.node_id()), asked.node_id());
        let first = match turn {
            Turn::WorkedFirst => [worked, Some(asked.clone())],
            Turn::AskedFirst => [Some(asked.clone()), worked],
        };
        let mut order: Vec<PeerAddress> = Vec::new();
        for address in first.into_iter().flatten().chain(self.all(&peer)).chain(others) {
            if !order.contains(&address) {
                order.push(address);
            }
        }
        order
    }

    /// Somebody says that a peer is there. Whether that is new.
    pub(crate) fn tell(&self, address: &PeerAddress) -> bool {
        let mut known = lock(&self.0);
        let known = known.entry(address.node_id()).or_default();
        if known.worked.as_ref() == Some(address) || known.told.contains(address) {
            return false;
        }
        if known.told.len() >= TOLD {
            known.told.remove(0);
        }
        known.told.push(address.clone());
        true
    }

    /// The peer was reached there. Whether that is new.
    pub(crate) fn reached(&self, address: &PeerAddress) -> bool {
        let mut known = lock(&self.0);
        let known = known.entry(address.node_id()).or_default();
        known.failure = None;
        if known.worked.as_ref() == Some(address) {
            return false;
        }
        known.told.retain(|told| told != address);
        if let Some(before) = known.worked.replace(address.clone()) {
            known.told.push(before);
        }
        true
    }

    /// The peer was not reached, wherever it was looked for.
    pub(crate) fn failed(&self, peer: PublicKey, why: String) {
        lock(&self.0).entry(peer).or_default().failure = Some(why);
    }

    /// Peers that were not reached the last time, each with the best address that is known of it, and the reason.
    pub(crate) fn missed(&self) -> Vec<(PeerAddress, String)> {
        let known = lock(&self.0);
        let missed = known.values().filter_map(|known| {
            let address = known.worked.as_ref().or(known.told.last())?;
            Some((address.clone(), known.failure.clone()?))
        });
        missed.collect()
    }

    /// As [`Addresses::write`] wrote it, or as a single address that worked: from before there were several.
    #[cfg(feature = "node")]
    pub(crate) fn read(&self, text: &str) -> Result<(), payjoin_core::PeerAddressError> {
        let mut lines = text.lines();
        let worked =
            lines.next().filter(|line| !line.is_empty()).map(str::parse::<PeerAddress>).transpose()?;
        let told = lines.map(str::parse::<PeerAddress>).collect::<Result<Vec<_>, _>>()?;
        if let Some(peer) = worked.as_ref().or(told.first()).map(PeerAddress::node_id) {
            lock(&self.0).insert(peer, Known { worked, told, failure: None });
        }
        Ok(())
    }

    /// What is known of a peer, to be kept: a line for the address that worked, which may be empty, and one for each other.
    #[cfg(feature = "node")]
    pub(crate) fn write(&self, peer: &PublicKey) -> String {
        let known = lock(&self.0);
        let Some(Known { worked, told, .. }) = known.get(peer) else { return String::new() };
        let mut text = worked.as_ref().map(ToString::to_string).unwrap_or_default();
        for address in told {
            text.push('\n');
            text.push_str(&address.to_string());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn at(port: u16) -> PeerAddress {
        format!("{ID}@127.0.0.1:{port}").parse().unwrap()
    }

    fn ports(addresses: &[PeerAddress]) -> Vec<u16> {
        addresses.iter().map(PeerAddress::port).collect()
    }

    #[test]
    fn an_address_that_worked_gives_way_only_to_another_that_worked() {
        let known = Addresses::default();
        assert!(known.reached(&at(1)) && !known.reached(&at(1)));
        assert!(known.tell(&at(2)) && !known.tell(&at(2)) && !known.tell(&at(1)));
        known.failed(at(2).node_id(), "nobody there".into());
        assert_eq!(known.worked(&at(1).node_id()), Some(at(1)));
        assert_eq!(known.missed(), [(at(1), "nobody there".to_owned())]);
        assert!(known.reached(&at(3)));
        assert_eq!(known.missed(), []);
        assert_eq!(ports(&known.all(&at(1).node_id())), [3, 1, 2]);
    }

    #[test]
    fn all_addresses_are_tried_in_turn_and_none_twice() {
        let known = Addresses::default();
        known.reached(&at(1));
        for port in 2..9 {
            known.tell(&at(port));
        }
        let order = |asked, turn| ports(&known.in_turn(&at(asked), turn, [at(9), at(1)]));
        assert_eq!(order(5, Turn::WorkedFirst), [1, 5, 8, 7, 6, 9], "the oldest is forgotten");
        assert_eq!(order(10, Turn::AskedFirst), [10, 1, 8, 7, 6, 5, 9]);
        assert_eq!(ports(&Addresses::default().in_turn(&at(1), Turn::WorkedFirst, [])), [1]);
    }

    #[cfg(feature = "node")]
    #[test]
    fn what_is_kept_is_read_back_and_so_is_what_was_kept_before_there_were_several() {
        let (known, again) = (Addresses::default(), Addresses::default());
        known.tell(&at(2));
        let peer = at(2).node_id();
        assert_eq!(known.write(&peer), format!("\n{}", at(2)));
        again.read(&known.write(&peer)).unwrap();
        assert_eq!((again.worked(&peer), ports(&again.all(&peer))), (None, vec![2]));
        known.reached(&at(1));
        again.read(&known.write(&peer)).unwrap();
        assert_eq!((again.worked(&peer), ports(&again.all(&peer))), (Some(at(1)), vec![1, 2]));
        again.read(&at(7).to_string()).unwrap();
        assert_eq!(again.worked(&peer), Some(at(7)));
        assert!(again.read("nonsense").is_err());
    }
}
