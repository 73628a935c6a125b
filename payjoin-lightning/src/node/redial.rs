//! When a lost peer is dialled again.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bitcoin::secp256k1::PublicKey;

/// The pause after the first dial, and how often lost peers are looked for.
pub(super) const FIRST: Duration = Duration::from_secs(3);
/// The longest pause.
const MOST: Duration = Duration::from_secs(5 * 60);

/// Pauses between the dials of each lost peer. They double while dials fail, and also while the peer hangs up before a
/// pause is over: it may have no room for us. Otherwise they begin anew.
#[derive(Default)]
pub(super) struct Redial(HashMap<PublicKey, Pause>);

struct Pause {
    /// Did the dial before it succeed?
    connected: bool,
    length: Duration,
    ends: Instant,
}

impl Redial {
    /// The peers to dial now, out of all that are lost.
    pub(super) fn due<T>(
        &mut self,
        mut lost: BTreeMap<PublicKey, T>,
        now: Instant,
    ) -> BTreeMap<PublicKey, T> {
        self.0.retain(|peer, pause| lost.contains_key(peer) || (pause.connected && pause.ends > now));
        lost.retain(|peer, _| self.0.get(peer).is_none_or(|pause| pause.ends <= now));
        lost
    }

    /// A dial came to its end.
    pub(super) fn dialled(&mut self, peer: PublicKey, connected: bool, now: Instant) {
        let before = self.0.get(&peer).filter(|pause| pause.connected == connected);
        let length = before.map_or(FIRST, |pause| (pause.length * 2).min(MOST));
        self.0.insert(peer, Pause { connected, length, ends: now + length });
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{SECP256K1, SecretKey};

    use super::*;

    fn peer(id: u8) -> PublicKey {
        PublicKey::from_secret_key(SECP256K1, &SecretKey::from_slice(&[id; 32]).unwrap())
    }

    /// These peers are lost.
    fn lost(ids: &[u8]) -> BTreeMap<PublicKey, ()> {
        ids.iter().map(|id| (peer(*id), ())).collect()
    }

    fn expect_pauses(redial: &mut Redial, connected: bool, now: &mut Instant, pauses: &[u64]) {
        for seconds in pauses {
            redial.dialled(peer(1), connected, *now);
            let away = if connected { lost(&[]) } else { lost(&[1]) };
            assert!(redial.due(away, *now).is_empty());
            *now += Duration::from_secs(seconds - 1);
            assert!(redial.due(lost(&[1]), *now).is_empty(), "before {seconds} s");
            *now += Duration::from_secs(1);
            assert_eq!(redial.due(lost(&[1]), *now), lost(&[1]), "after {seconds} s");
        }
    }

    #[test]
    fn pauses_of_a_lost_peer_double_up_to_five_minutes() {
        let (mut redial, mut now) = (Redial::default(), Instant::now());
        assert_eq!(redial.due(lost(&[1]), now), lost(&[1]));
        expect_pauses(&mut redial, false, &mut now, &[3, 6, 12, 24, 48, 96, 192, 300, 300]);
    }

    #[test]
    fn a_peer_that_hangs_up_at_once_waits_longer_each_time() {
        let (mut redial, mut now) = (Redial::default(), Instant::now());
        expect_pauses(&mut redial, true, &mut now, &[3, 6, 12]);
        redial.dialled(peer(1), true, now);
        assert!(redial.due(lost(&[]), now + Duration::from_secs(24)).is_empty(), "it stayed");
        expect_pauses(&mut redial, true, &mut now, &[3, 6]);
    }

    #[test]
    fn a_peer_that_comes_back_begins_with_a_short_pause() {
        let (mut redial, mut now) = (Redial::default(), Instant::now());
        expect_pauses(&mut redial, false, &mut now, &[3, 6, 12, 24]);
        expect_pauses(&mut redial, true, &mut now, &[3, 6]);
        expect_pauses(&mut redial, false, &mut now, &[3]);
    }

    #[test]
    fn a_peer_that_came_to_us_and_another_peer_do_not_wait() {
        let (mut redial, now) = (Redial::default(), Instant::now());
        redial.dialled(peer(1), false, now);
        assert_eq!(redial.due(lost(&[1, 2]), now), lost(&[2]));
        assert!(redial.due(lost(&[]), now).is_empty());
        assert_eq!(redial.due(lost(&[1]), now), lost(&[1]));
    }
}
