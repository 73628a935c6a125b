//! Who connects, and how many connections each of them holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who is on the other side, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// An address of the clear net.
    Address(IpAddr),
    /// A number of an onion circuit, which means nothing outside the listener.
    Circuit(u64),
    /// Nothing is known: memory, or a proxy stands in between.
    Unknown,
}

/// How many connections each peer holds.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<Subject, usize>>);

impl Held {
    /// Counts one more until the place is dropped, if the peer holds fewer than `most`.
    pub(crate) fn take(self: &Arc<Self>, most: usize, peer: Peer) -> Option<Place> {
        let Some(subject) = Subject::of(peer) else { return Some(Place(None)) };
        let mut held = self.lock();
        let count = held.entry(subject).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Place(Some((self.clone(), subject))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Subject, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a peer's. Those of nobody in particular are not counted.
#[derive(Debug)]
pub(crate) struct Place(Option<(Arc<Held>, Subject)>);

impl Drop for Place {
    fn drop(&mut self) {
        let Some((held, subject)) = self.0.take() else { return };
        if let Entry::Occupied(mut count) = held.lock().entry(subject) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Subscriber(IpAddr),
    Circuit(u64),
}

impl Subject {
    /// `None`: nobody in particular.
    pub(crate) fn of(peer: Peer) -> Option<Self> {
        match peer {
            // One subscriber commands a whole /64 of IPv6.
            Peer::Address(IpAddr::V6(v6)) => {
                Some(Self::Subscriber(IpAddr::V6((u128::from(v6) & (u128::MAX << 64)).into())))
            }
            Peer::Address(v4) => Some(Self::Subscriber(v4)),
            Peer::Circuit(number) => Some(Self::Circuit(number)),
            Peer::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::Address(text.parse().unwrap())
    }

    #[test]
    fn a_peer_holds_no_more_places_than_it_may_and_gets_one_for_each_it_gives_back() {
        let held = Arc::new(Held::default());
        for payer in [peer("192.0.2.1"), peer("2001:db8::1"), Peer::Circuit(1)] {
            let mut places: Vec<_> = (0..2).map(|_| held.take(2, payer).unwrap()).collect();
            assert!(held.take(2, payer).is_none());
            places.pop();
            places.push(held.take(2, payer).unwrap());
            assert!(held.take(2, payer).is_none());
            assert!(held.take(2, Peer::Circuit(2)).is_some());
            assert!((0..9).all(|_| held.take(2, Peer::Unknown).is_some()));
        }
        assert!(held.lock().is_empty());
    }
}
