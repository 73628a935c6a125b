//! Which queued intents the next payment may open. A pure function.

use std::collections::{HashMap, HashSet};

use bitcoin::secp256k1::PublicKey;

use crate::{ChannelWish, IntentId, MOST_CHANNELS, PeerRecord, Timestamp, Waiting};

/// What a payment may open, and why the rest of the queue waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openable {
    /// In the order in which they are tried: those first whose peers have a slot to spare.
    pub wishes: Vec<ChannelWish>,
    /// Those of them whose peers are not known to have another slot besides.
    pub scarce: Vec<IntentId>,
    /// The others, in the order of the queue.
    pub held: Vec<(IntentId, Held)>,
}

/// Why a queued intent waits for a later payment. Displays as words for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// It failed too often.
    #[error("it failed too often: tried again when its peer connects, or after a pause")]
    Paused(Timestamp),
    /// Money rule 12: the peer takes no channel more.
    #[error("its peer takes no further channel until one is confirmed or forgotten{}", .free_at.map(|height| format!(", at block {height} at the latest")).unwrap_or_default())]
    Full {
        /// When the peer forgets the first one that it holds.
        free_at: Option<u32>,
    },
    /// Another channel with the same peer comes first.
    #[error("a payment opens one channel with a peer, and another one comes first; see `several_at_once`")]
    OnePerPeer,
    /// Others failed less often, or there are enough of them.
    #[error("others come first")]
    Behind,
}

impl Held {
    /// It is its own or its peer's, and not the place in the queue.
    #[must_use]
    pub fn is_peers(&self) -> bool {
        matches!(self, Self::Paused(_) | Self::Full { .. })
    }
}

/// Chooses what a payment may open. Paused intents and those whose peer is full are left out, then those that failed more
/// often than others, then all but the first with each peer. `several` names peers that take more than one at a time by
/// the operator's word.
///
/// A channel that no payer funds costs most where the peer takes no other one until it forgets: of what is left, that
/// comes last (money rule 12). Of a peer that never refused one nobody knows how many it takes.
#[must_use]
pub fn openable(queue: &[Waiting], peers: &[PeerRecord], several: &[PublicKey], now: Timestamp) -> Openable {
    let known: HashMap<_, _> = peers.iter().map(|record| (record.peer, record)).collect();
    let barred = |waiting: &Waiting| {
        let record = known.get(&waiting.peer.node_id()).filter(|record| record.is_full());
        let paused = waiting.trouble.as_ref().and_then(|trouble| trouble.until).filter(|until| *until > now);
        paused.map(Held::Paused).or_else(|| record.map(|record| Held::Full { free_at: record.free_at }))
    };
    let least = queue.iter().filter(|one| barred(one).is_none()).map(|one| one.failures).min();
    let (mut openable, mut served) = (Openable::default(), Served::default());
    let mut chosen = Vec::new();
    for waiting in queue {
        let peer = waiting.peer.node_id();
        let record = known.get(&peer).copied();
        let more = several.contains(&peer) || record.is_some_and(|record| record.several);
        let held = barred(waiting).or_else(|| {
            let last = Some(waiting.failures) != least || chosen.len() >= MOST_CHANNELS as usize;
            if last { Some(Held::Behind) } else { served.refuse(peer, record, more) }
        });
        match held {
            Some(held) => openable.held.push((waiting.wish.id, held)),
            None => chosen.push(waiting),
        }
    }
    let spare = |waiting: &&Waiting| {
        let peer = waiting.peer.node_id();
        served.has_more(peer, known.get(&peer).copied(), several.contains(&peer))
    };
    let (first, last): (Vec<_>, Vec<_>) = chosen.into_iter().partition(spare);
    openable.scarce = last.iter().map(|waiting| waiting.wish.id).collect();
    openable.wishes = first.into_iter().chain(last).map(|waiting| waiting.wish.clone()).collect();
    openable
}

/// Channels that this payment may open with each peer so far.
#[derive(Default)]
struct Served(HashMap<PublicKey, u32>);

impl Served {
    /// Takes one channel more, or says why not.
    fn refuse(&mut self, peer: PublicKey, record: Option<&PeerRecord>, several: bool) -> Option<Held> {
        let count = self.0.entry(peer).or_default();
        if *count > 0 && !several {
            return Some(Held::OnePerPeer);
        }
        let left = record.and_then(|record| Some(record.room?.saturating_sub(record.taken)));
        if left.is_some_and(|left| *count >= left) {
            return Some(Held::Full { free_at: record.and_then(|record| record.free_at) });
        }
        *count += 1;
        None
    }

    /// Whether the peer is known to have a slot besides those that this payment takes: by what it refused once, by the
    /// operator's word, or because it accepted two at once.
    fn has_more(&self, peer: PublicKey, record: Option<&PeerRecord>, told: bool) -> bool {
        let count = self.0.get(&peer).copied().unwrap_or_default();
        let left = record.and_then(|record| Some(record.room?.saturating_sub(record.taken)));
        let shown = record.is_some_and(|record| record.several) && count < 2;
        left.map_or(told || shown, |left| left > count)
    }
}

/// Leaves out of the queue what would open a channel with a peer side by side with another payment's: intents whose peer
/// is in `taken`, or busy, unless it takes several.
#[must_use]
pub fn without_busy(
    queue: Vec<Waiting>,
    taken: &HashSet<PublicKey>,
    peers: &[PeerRecord],
    several: &[PublicKey],
) -> Vec<Waiting> {
    let record = |peer: &PublicKey| peers.iter().find(|record| record.peer == *peer);
    let free = |waiting: &Waiting| {
        let peer = waiting.peer.node_id();
        let record = record(&peer);
        let busy = taken.contains(&peer) || record.is_some_and(|record| record.busy);
        !busy || several.contains(&peer) || record.is_some_and(|record| record.several)
    };
    queue.into_iter().filter(free).collect()
}

#[cfg(test)]
mod tests {
    use bitcoin::Amount;
    use bitcoin::secp256k1::{SECP256K1, SecretKey};

    use super::*;
    use crate::{ChannelAmount, Trouble};

    const NOW: Timestamp = Timestamp(1_000);

    fn key(id: u8) -> PublicKey {
        PublicKey::from_secret_key(SECP256K1, &SecretKey::from_slice(&[id; 32]).unwrap())
    }

    /// An intent with peer number `peer`, which failed so often and is paused until then.
    fn waiting(id: u64, peer: u8, failures: u32, until: Option<u64>) -> Waiting {
        let wish = ChannelWish {
            id: IntentId(id),
            amount: ChannelAmount::Rest,
            min: Amount::ZERO,
            max: Amount::MAX,
        };
        let trouble = Trouble { reason: "no".into(), said: None, until: until.map(Timestamp) };
        let peer = format!("{}@localhost:1", key(peer)).parse().unwrap();
        Waiting { wish, peer, failures, trouble: Some(trouble) }
    }

    fn record(peer: u8, room: Option<u32>, taken: u32, several: bool) -> PeerRecord {
        PeerRecord { peer: key(peer), room, taken, free_at: Some(2_100), several, busy: false }
    }

    /// What may be opened, and why the others wait.
    fn check(queue: &[Waiting], peers: &[PeerRecord], several: &[u8], wishes: &[u64], held: &[(u64, Held)]) {
        let several: Vec<_> = several.iter().copied().map(key).collect();
        let found = openable(queue, peers, &several, NOW);
        assert_eq!(found.wishes.iter().map(|wish| wish.id.0).collect::<Vec<_>>(), wishes);
        let held: Vec<_> = held.iter().map(|(id, held)| (IntentId(*id), *held)).collect();
        assert_eq!(found.held, held);
    }

    #[test]
    fn a_payment_opens_one_channel_with_a_peer_unless_it_takes_several() {
        let queue = [waiting(1, 1, 0, None), waiting(2, 1, 0, None), waiting(3, 2, 0, None)];
        check(&queue, &[], &[], &[1, 3], &[(2, Held::OnePerPeer)]);
        check(&queue, &[], &[1], &[1, 2, 3], &[]);
        check(&queue, &[record(1, None, 5, true)], &[], &[1, 2, 3], &[]);
    }

    #[test]
    fn money_rule_12_a_peer_without_a_free_slot_is_not_planned() {
        let queue = [waiting(1, 1, 0, None), waiting(2, 2, 0, None)];
        let full = Held::Full { free_at: Some(2_100) };
        check(&queue, &[record(1, Some(1), 1, false)], &[], &[2], &[(1, full)]);
        check(&queue, &[record(1, Some(2), 1, false)], &[], &[1, 2], &[]);
        let queue = [waiting(1, 1, 0, None), waiting(2, 1, 0, None)];
        check(&queue, &[record(1, Some(2), 1, false)], &[1], &[1], &[(2, full)]);
    }

    #[test]
    fn an_intent_that_failed_waits_behind_others_and_a_paused_one_behind_nobody() {
        let queue = [waiting(1, 1, 0, None), waiting(2, 2, 1, None), waiting(3, 3, 3, Some(1_001))];
        let paused = Held::Paused(Timestamp(1_001));
        check(&queue, &[], &[], &[1], &[(2, Held::Behind), (3, paused)]);
        check(&queue[1..], &[], &[], &[2], &[(3, paused)]);
        check(&queue[2..], &[], &[], &[], &[(3, paused)]);
        check(&[waiting(3, 3, 3, Some(1_000))], &[], &[], &[3], &[]);
    }

    #[test]
    fn money_rule_12_of_two_intents_that_of_the_peer_who_loses_less_is_risked_first() {
        let queue = [waiting(1, 1, 0, None), waiting(2, 2, 0, None), waiting(3, 3, 0, None)];
        let found = |peers: &[PeerRecord], several: &[PublicKey]| {
            let found = openable(&queue, peers, several, NOW);
            let ids = |ids: &mut dyn Iterator<Item = IntentId>| ids.map(|id| id.0).collect::<Vec<_>>();
            (ids(&mut found.wishes.iter().map(|wish| wish.id)), ids(&mut found.scarce.into_iter()))
        };
        // Nobody knows how many the others take.
        assert_eq!(found(&[], &[key(3)]), (vec![3, 1, 2], vec![1, 2]));
        assert_eq!(found(&[record(2, None, 0, true)], &[]), (vec![2, 1, 3], vec![1, 3]));
        // Room for two, and one of them taken: the payment takes the last.
        assert_eq!(found(&[record(2, Some(2), 1, true)], &[]), (vec![1, 2, 3], vec![1, 2, 3]));
        assert_eq!(found(&[record(2, Some(3), 1, false)], &[]), (vec![2, 1, 3], vec![1, 3]));
    }

    #[test]
    fn a_payment_opens_no_more_than_the_most() {
        let queue: Vec<_> = (1..=17).map(|id| waiting(id, id as u8, 0, None)).collect();
        let wishes: Vec<_> = (1..=16).collect();
        check(&queue, &[], &[], &wishes, &[(17, Held::Behind)]);
    }

    #[test]
    fn money_rule_12_payments_at_once_open_no_channels_side_by_side_with_a_peer() {
        let queue = vec![waiting(1, 1, 0, None), waiting(2, 2, 0, None), waiting(3, 3, 0, None)];
        let left = |several: bool, by_word: &[PublicKey]| {
            let busy = PeerRecord { busy: true, ..record(1, None, 0, several) };
            let left = without_busy(queue.clone(), &HashSet::from([key(2)]), &[busy], by_word);
            left.iter().map(|waiting| waiting.wish.id.0).collect::<Vec<_>>()
        };
        assert_eq!(left(false, &[]), [3]);
        assert_eq!(left(true, &[key(2)]), [1, 2, 3]);
    }
}
