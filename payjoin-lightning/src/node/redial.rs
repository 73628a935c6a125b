//! When a lost peer is dialled again.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bitcoin::secp256k1::PublicKey;

/// The pause after the first dial, and how often lost peers are looked for.
pub(super) const FIRST: Duration = Duration::from_secs(3);
/// The longest pause.
const MOST: Duration = Duration::from_secs(5 * 60);

/// Pauses between the dials of each lost peer: they double, and begin anew once it was connected.
#[derive(Default)]
pub(super) struct Redial(HashMap<PublicKey, Pause>);

struct Pause {
    length: Duration,
    ends: Instant,
}

impl Redial {
    /// The peers to dial now, out of all that are lost. The pauses of all others are forgotten.
    pub(super) fn due(&mut self, mut lost: BTreeSet<PublicKey>, now: Instant) -> BTreeSet<PublicKey> {
        self.0.retain(|peer, _| lost.contains(peer));
        lost.retain(|peer| self.0.get(peer).is_none_or(|pause| pause.ends <= now));
        lost
    }

    /// A dial came to its end.
    pub(super) fn dialled(&mut self, peer: PublicKey, now: Instant) {
        let length = self.0.get(&peer).map_or(FIRST, |pause| (pause.length * 2).min(MOST));
        self.0.insert(peer, Pause { length, ends: now + length });
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{SECP256K1, SecretKey};

    use super::*;

    fn peer(id: u8) -> PublicKey {
        PublicKey::from_secret_key(SECP256K1, &SecretKey::from_slice(&[id; 32]).unwrap())
    }

    #[test]
    fn pauses_of_a_lost_peer_double_up_to_five_minutes() {
        let (mut redial, mut now, lost) = (Redial::default(), Instant::now(), BTreeSet::from([peer(1)]));
        assert_eq!(redial.due(lost.clone(), now), lost);
        for seconds in [3, 6, 12, 24, 48, 96, 192, 300, 300] {
            redial.dialled(peer(1), now);
            now += Duration::from_secs(seconds - 1);
            assert!(redial.due(lost.clone(), now).is_empty(), "before {seconds} s");
            now += Duration::from_secs(1);
            assert_eq!(redial.due(lost.clone(), now), lost, "after {seconds} s");
        }
    }

    #[test]
    fn a_peer_that_was_connected_and_another_peer_do_not_wait() {
        let (mut redial, now, lost) = (Redial::default(), Instant::now(), BTreeSet::from([peer(1), peer(2)]));
        redial.dialled(peer(1), now);
        assert_eq!(redial.due(lost.clone(), now), BTreeSet::from([peer(2)]));
        assert!(redial.due(BTreeSet::new(), now).is_empty());
        assert_eq!(redial.due(lost.clone(), now), lost);
    }
}
