//! What an exchange may open, of the queue that all share.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use payjoin_core::{InvoiceId, Openable, PeerRecord, Timestamp, Waiting, openable, without_busy};

use super::Attempt;
use crate::HostError;

/// How often it is looked whether a peer has answered somebody else's question.
pub(super) const LOOK: Duration = Duration::from_millis(10);
/// A payment waits no longer for it, and leaves the peer out.
const PATIENCE: Duration = Duration::from_secs(1);

/// In seconds.
const DAY: u64 = 24 * 3600;

impl Attempt<'_> {
    /// A payer who got a proposal with channels and did not sign it gets none again, and nobody does where that happened
    /// often: each such proposal may cost a peer's slot for two weeks (money rule 12).
    pub(super) async fn may_open(&self, invoice: &InvoiceId) -> Result<bool, HostError> {
        let (store, now) = (&self.host.store, self.host.now());
        let most = self.host.policy().wasted_a_day;
        if store.channel_offers(invoice).await? > 0 {
            tracing::info!(%invoice, "no channel: a proposal with channels left for this code before");
        } else if store.wasted_offers(Timestamp(now.0.saturating_sub(DAY)), now).await? >= most {
            tracing::warn!(most, "no channel: payers left too many proposals with channels unsigned today");
        } else {
            return Ok(true);
        }
        Ok(false)
    }

    /// What may be opened, without what other exchanges have in hand. Takes it in hand, if channels can be opened at all.
    pub(super) async fn wishes(&mut self, channels: bool) -> Result<Openable, HostError> {
        let begun = Instant::now();
        loop {
            let before = self.host.reserved().given_back;
            let queue = self.host.store.waiting().await?;
            let peers = self.host.store.peer_records(self.host.height()).await?;
            let patient = channels && begun.elapsed() < PATIENCE;
            if let Some(openable) = self.choose(queue, &peers, before, patient) {
                if !channels {
                    self.let_go_of_intents();
                }
                return Ok(openable);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `None` when the queue has changed since it was read, or, for the `patient`, while a peer answers a question that
    /// nobody pays for: both at once would fail.
    pub(super) fn choose(
        &mut self,
        queue: Vec<Waiting>,
        peers: &[PeerRecord],
        given_back: u64,
        patient: bool,
    ) -> Option<Openable> {
        let mut reserved = self.host.reserved();
        let asked = queue.iter().any(|one| reserved.asked.contains(&one.peer.node_id()));
        if reserved.given_back != given_back || (asked && patient) {
            return None;
        }
        let several = &self.host.policy().several_at_once;
        let of: HashMap<_, _> = queue.iter().map(|one| (one.wish.id, one.peer.node_id())).collect();
        let taken = reserved.intents.values().chain(&reserved.asked).copied().collect();
        let queue = queue.into_iter().filter(|one| !reserved.intents.contains_key(&one.wish.id)).collect();
        let queue = without_busy(queue, &taken, peers, several);
        let openable = openable(&queue, peers, several, self.host.now());
        self.intents = openable.wishes.iter().map(|wish| wish.id).collect();
        reserved.intents.extend(self.intents.iter().filter_map(|id| Some((*id, *of.get(id)?))));
        Some(openable)
    }
}
