//! Slots at peers, what was learned of peers, and why intents failed (money rule 12).

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::secp256k1::PublicKey;
use payjoin_core::{
    ChannelFailure, ExchangeId, FORGOTTEN_AFTER, FailureKind, IntentId, PeerRecord, Timestamp, Trouble,
};

/// What the ledger keeps of peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    slots: Vec<Slot>,
    known: BTreeMap<PublicKey, Known>,
    troubles: BTreeMap<IntentId, Trouble>,
}

#[derive(Clone, Debug)]
struct Slot {
    peer: PublicKey,
    height: u32,
    /// `None`: one that the peer holds and we do not know of.
    of: Option<(ExchangeId, IntentId)>,
    released: bool,
}

#[derive(Clone, Debug, Default)]
struct Known {
    room: Option<u32>,
    several: bool,
}

impl Peers {
    fn taken(&self, peer: PublicKey, height: u32) -> impl Iterator<Item = &Slot> {
        let holds =
            move |slot: &&Slot| slot.peer == peer && slot.height.saturating_add(FORGOTTEN_AFTER) > height;
        self.slots.iter().filter(holds)
    }

    fn count(&self, peer: PublicKey, height: u32) -> u32 {
        u32::try_from(self.taken(peer, height).count()).unwrap_or(u32::MAX)
    }

    fn record(&self, peer: PublicKey, height: u32) -> PeerRecord {
        let Known { room, several } = self.known.get(&peer).cloned().unwrap_or_default();
        let first = self.taken(peer, height).map(|slot| slot.height).min();
        let free_at = first.map(|height| height.saturating_add(FORGOTTEN_AFTER));
        PeerRecord { peer, room, taken: self.count(peer, height), free_at, several, busy: false }
    }

    fn last(&mut self, of: (ExchangeId, IntentId)) -> Option<usize> {
        self.slots.iter().rposition(|slot| slot.of == Some(of))
    }

    pub(super) fn free(&mut self, of: (ExchangeId, IntentId)) {
        if let Some(at) = self.last(of).filter(|at| !self.slots[*at].released) {
            self.slots.remove(at);
        }
    }

    pub(super) fn full(&mut self, peer: PublicKey, height: u32) {
        if self.count(peer, height) == 0 {
            self.slots.push(Slot { peer, height, of: None, released: false });
        }
        self.known.insert(peer, Known { room: Some(self.count(peer, height)), several: false });
    }

    pub(super) fn took(&mut self, peer: PublicKey, more: u32, height: u32) {
        let room = self.known.get(&peer).and_then(|known| known.room);
        if let Some(room) = room.filter(|room| self.count(peer, height) + more > *room) {
            self.slots.retain(|slot| slot.peer != peer || slot.of.is_some());
            let least = self.count(peer, height) + more;
            self.known.entry(peer).or_default().room = Some(room.max(least));
        }
        if more > 1 {
            self.known.entry(peer).or_default().several = true;
        }
    }

    /// Takes a slot, and drops those that peers have forgotten.
    pub(super) fn take(&mut self, peer: PublicKey, of: (ExchangeId, IntentId), height: u32) {
        self.slots.retain(|slot| slot.height.saturating_add(FORGOTTEN_AFTER) > height);
        self.slots.push(Slot { peer, height, of: Some(of), released: false });
    }

    /// Takes another one, unless the peer is full.
    pub(super) fn take_again(&mut self, peer: PublicKey, of: (ExchangeId, IntentId), height: u32) -> bool {
        let free = !self.record(peer, height).is_full();
        if free {
            self.take(peer, of, height);
        }
        free
    }

    /// The peer has signed, and the payer gets the proposal.
    pub(super) fn release(&mut self, of: (ExchangeId, IntentId)) {
        if let Some(at) = self.last(of) {
            let slot = &mut self.slots[at];
            slot.released = true;
            let (peer, height) = (slot.peer, slot.height);
            self.took(peer, 0, height);
        }
        self.troubles.remove(&of.1);
    }

    pub(super) fn fail(
        &mut self,
        peer: PublicKey,
        of: (ExchangeId, IntentId),
        failure: &ChannelFailure,
        until: Option<Timestamp>,
        height: u32,
    ) {
        let (reason, said) = (failure.text.clone(), failure.said.clone());
        self.troubles.insert(of.1, Trouble { reason, said, until });
        match failure.kind {
            FailureKind::Full => {
                self.free(of);
                self.full(peer, height);
            }
            FailureKind::Refused | FailureKind::Closed => self.known.entry(peer).or_default().several = false,
            FailureKind::Unreachable | FailureKind::Late | FailureKind::Local => {}
        }
    }

    pub(super) fn trouble(&self, intent: IntentId) -> Option<Trouble> {
        self.troubles.get(&intent).cloned()
    }

    /// Ends the pauses of these intents.
    pub(super) fn resume(&mut self, of: impl Fn(IntentId) -> bool) {
        for (_, trouble) in self.troubles.iter_mut().filter(|(intent, _)| of(**intent)) {
            trouble.until = None;
        }
    }

    /// Peers of which something is known, at this height.
    pub(super) fn records(&self, height: u32) -> Vec<PeerRecord> {
        let holding = self.slots.iter().map(|slot| slot.peer);
        let peers: BTreeSet<_> = self.known.keys().copied().chain(holding).collect();
        peers.into_iter().map(|peer| self.record(peer, height)).collect()
    }

    pub(super) fn buried(&mut self, exchange: ExchangeId) {
        self.slots.retain(|slot| !slot.released || slot.of.is_none_or(|(of, _)| of != exchange));
    }
}
