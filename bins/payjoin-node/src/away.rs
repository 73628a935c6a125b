//! Since when peers are away that were connected before.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::secp256k1::PublicKey;
use payjoin_core::Timestamp;

/// Peers that left since the start, and when. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Away(Arc<Mutex<HashMap<PublicKey, Timestamp>>>);

impl Away {
    /// These are connected now, and those were at the look before.
    pub(crate) fn look(&self, connected: &HashSet<PublicKey>, before: &HashSet<PublicKey>, now: Timestamp) {
        let mut away = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        away.retain(|peer, _| !connected.contains(peer));
        away.extend(before.difference(connected).map(|peer| (*peer, now)));
    }

    /// Why a channel with a peer that is not connected cannot be used.
    pub(crate) fn tell(&self, peer: &PublicKey, error: Option<&str>, now: Timestamp) -> String {
        let away = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match away.get(peer) {
            Some(left) => format!("its peer is away for {}", duration(now.0.saturating_sub(left.0))),
            None => "its peer was not there since the start".to_owned(),
        };
        error.map_or_else(|| since.clone(), |error| format!("{since}: {error}"))
    }
}

/// In the greatest unit that fits.
fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_away_from_the_look_that_misses_it_until_it_is_back() {
        let peer: PublicKey =
            "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap();
        let (there, nobody) = (HashSet::from([peer]), HashSet::new());
        let (away, at) = (Away::default(), Timestamp);
        assert_eq!(away.tell(&peer, None, at(9)), "its peer was not there since the start");
        away.look(&nobody, &there, at(10));
        away.look(&nobody, &nobody, at(20));
        assert_eq!(away.tell(&peer, Some("refused"), at(130)), "its peer is away for 2 min: refused");
        assert_eq!(away.tell(&peer, None, at(20)), "its peer is away for 10 s");
        away.look(&there, &nobody, at(30));
        away.look(&nobody, &there, at(40));
        assert_eq!(away.tell(&peer, None, at(40 + 3 * 86_400)), "its peer is away for 3 days");
    }
}
