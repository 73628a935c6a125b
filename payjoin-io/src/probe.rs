//! Asks peers for channels that nobody funds, in turn with payments, and keeps account of what they say (money rule 12).

use std::collections::HashSet;

use bitcoin::Amount;
use bitcoin::secp256k1::PublicKey;
use payjoin_core::{ChannelSpec, ChannelTerms, Failure, FailureKind, LedgerError};

use crate::Host;

/// Peers that are being asked, until this is dropped. Payments wait for it.
struct Asking {
    host: Host,
    peers: HashSet<PublicKey>,
}

impl Asking {
    /// `None` while a payment has one of them in hand, or somebody asks it.
    async fn begin(host: &Host, peers: HashSet<PublicKey>) -> Result<Option<Self>, LedgerError> {
        // A payment takes its intents in the store before it lets go of them here.
        let records = {
            let before = host.reserved().given_back;
            let records = host.store.peer_records(host.height()).await?;
            if host.reserved().given_back != before {
                return Ok(None);
            }
            records
        };
        if records.iter().any(|record| record.busy && peers.contains(&record.peer)) {
            return Ok(None);
        }
        let mut reserved = host.reserved();
        let free = !reserved.intents.values().chain(&reserved.asked).any(|peer| peers.contains(peer));
        if free {
            reserved.asked.extend(&peers);
        }
        drop(reserved);
        Ok(free.then(|| Self { host: host.clone(), peers }))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut reserved = self.host.reserved();
        reserved.asked.retain(|peer| !self.peers.contains(peer));
    }
}

impl Host {
    /// Asks for these channels side by side, and abandons them. One answer for each, in order; `None` when the node cannot
    /// ask without opening, or while a payment is opening a channel with one of the peers. What the peers say is kept:
    /// whether they have room, and whether they take several openings at once.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn probe(
        &self,
        channels: &[(ChannelSpec, Amount)],
    ) -> Result<Option<Vec<Result<ChannelTerms, Failure>>>, LedgerError> {
        let peers: HashSet<_> = channels.iter().map(|(spec, _)| spec.peer.node_id()).collect();
        let Some(_asking) = Asking::begin(self, peers.clone()).await? else { return Ok(None) };
        let Some(answers) = self.funder.probe(channels).await else { return Ok(None) };
        for peer in peers {
            let of_peer = channels.iter().zip(&answers).filter(|((spec, _), _)| spec.peer.node_id() == peer);
            let answers: Vec<_> = of_peer.map(|(_, answer)| answer).collect();
            let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
            let full = |answer: &&&Result<_, Failure>| {
                matches!(answer, Err(Failure { kind: FailureKind::Full, .. }))
            };
            // One that takes some and not more of them has room for one.
            match (accepted, answers.iter().filter(full).count()) {
                (0, 0) => {}
                (0, _) => self.store.record_answer(peer, 0, self.height()).await?,
                (all, _) if all == answers.len() => {
                    let all = u32::try_from(all).unwrap_or(u32::MAX);
                    self.store.record_answer(peer, all, self.height()).await?;
                }
                _ => self.store.record_answer(peer, 1, self.height()).await?,
            }
        }
        Ok(Some(answers))
    }

    /// Asks again the peers of queued channels that hold channels of ours, or are thought to: whether they have room is
    /// known before a payer is asked to pay for a channel. `connected` are those that need not be dialled.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn look_for_room(&self, connected: &[PublicKey]) -> Result<(), LedgerError> {
        let (queue, records) = (self.store.waiting().await?, self.store.peer_records(self.height()).await?);
        let unsure = |peer: &PublicKey| {
            connected.contains(peer) && records.iter().any(|record| record.peer == *peer && record.taken > 0)
        };
        let mut asked = HashSet::new();
        for waiting in queue {
            let peer = waiting.peer.node_id();
            if !unsure(&peer) || !asked.insert(peer) {
                continue;
            }
            if let Some(intent) = self.store.intent(waiting.wish.id).await? {
                self.probe(&[(intent.spec, waiting.wish.typical())]).await?;
            }
        }
        Ok(())
    }
}
