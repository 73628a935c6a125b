//! When a peer is connected anew because of a channel that stays unusable.
//!
//! LND sends no `channel_reestablish` for a channel that waits for its confirmations. Where the connection was made in
//! that time, both sides wait for the other one's `channel_ready` for ever. One more connection cures it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bitcoin::secp256k1::PublicKey;

/// The first pause: a peer has this long to make its channel usable.
const FIRST: Duration = Duration::from_secs(20);
/// The longest pause.
const MOST: Duration = Duration::from_secs(15 * 60);

/// Peers with a channel that is stuck. Pauses between two connections double as long as it stays so.
#[derive(Default)]
pub(crate) struct Revive(HashMap<PublicKey, Stuck>);

struct Stuck {
    /// Since when the peer is connected, as far as it is.
    since: Option<Instant>,
    pause: Duration,
}

impl Revive {
    /// The peers to disconnect now, out of all that have such a channel; `true` for those that are connected.
    pub(crate) fn due(&mut self, stuck: &BTreeMap<PublicKey, bool>, now: Instant) -> Vec<PublicKey> {
        self.0.retain(|peer, _| stuck.contains_key(peer));
        let mut due = Vec::new();
        for (peer, connected) in stuck {
            let known = self.0.entry(*peer).or_insert(Stuck { since: None, pause: FIRST });
            if !connected {
                known.since = None;
                continue;
            }
            let since = *known.since.get_or_insert(now);
            if now.duration_since(since) >= known.pause {
                (known.since, known.pause) = (None, (known.pause * 2).min(MOST));
                due.push(*peer);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{SECP256K1, SecretKey};

    use super::*;

    fn peer(id: u8) -> PublicKey {
        PublicKey::from_secret_key(SECP256K1, &SecretKey::from_slice(&[id; 32]).unwrap())
    }

    /// These peers have a channel that is stuck, and are connected or not.
    fn stuck(peers: &[(u8, bool)]) -> BTreeMap<PublicKey, bool> {
        peers.iter().map(|(id, connected)| (peer(*id), *connected)).collect()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_peer_is_connected_anew_after_ever_longer_pauses() {
        let (mut revive, mut now) = (Revive::default(), Instant::now());
        for pause in [20, 40, 80, 160, 320, 640, 900, 900] {
            assert!(revive.due(&stuck(&[(1, true)]), now).is_empty());
            assert!(
                revive.due(&stuck(&[(1, true)]), now + seconds(pause - 1)).is_empty(),
                "before {pause} s"
            );
            now += seconds(pause);
            assert_eq!(revive.due(&stuck(&[(1, true)]), now), [peer(1)], "after {pause} s");
            assert!(revive.due(&stuck(&[(1, false)]), now).is_empty(), "it is not connected");
        }
    }

    #[test]
    fn only_time_in_which_a_peer_is_connected_counts() {
        let (mut revive, now) = (Revive::default(), Instant::now());
        assert!(revive.due(&stuck(&[(1, true), (2, true)]), now).is_empty());
        assert!(revive.due(&stuck(&[(1, false), (2, true)]), now + seconds(10)).is_empty());
        assert_eq!(revive.due(&stuck(&[(1, true), (2, true)]), now + seconds(20)), [peer(2)]);
        assert!(revive.due(&stuck(&[(1, true)]), now + seconds(39)).is_empty());
        assert_eq!(revive.due(&stuck(&[(1, true)]), now + seconds(40)), [peer(1)]);
    }

    #[test]
    fn a_peer_whose_channel_came_to_life_begins_with_a_short_pause() {
        let (mut revive, now) = (Revive::default(), Instant::now());
        revive.due(&stuck(&[(1, true)]), now);
        assert_eq!(revive.due(&stuck(&[(1, true)]), now + seconds(20)), [peer(1)]);
        assert!(revive.due(&stuck(&[]), now + seconds(21)).is_empty());
        assert!(revive.due(&stuck(&[(1, true)]), now + seconds(22)).is_empty());
        assert_eq!(revive.due(&stuck(&[(1, true)]), now + seconds(42)), [peer(1)]);
    }
}
