//! What channels cost at their peers, and what was learned of these.

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;

use super::LedgerError;
use crate::{ChannelFailure, ChannelWish, ExchangeId, IntentId, InvoiceId, PeerAddress, Timestamp};

/// Blocks after which a peer forgets a channel whose funding it never saw. BOLT 2, "The `channel_ready` Message".
pub const FORGOTTEN_AFTER: u32 = 2016;

/// The account of the channels that peers hold for us while their funding is not buried, the lessons of refusals, and the
/// failures of queued intents (money rule 12).
///
/// A slot at a peer is taken with the admission of the exchange that wants the channel, before the peer hears of it. It
/// ends when the payjoin is buried, when it is given back unused, or [`FORGOTTEN_AFTER`] blocks later. Those that peers
/// have forgotten are dropped with the next admission.
#[async_trait]
pub trait PeerBook: Send + Sync {
    /// Every queued intent: those first that failed least often, and of these the oldest.
    async fn waiting(&self) -> Result<Vec<Waiting>, LedgerError>;

    /// Every peer of which something is known, as it stands at this height.
    async fn peer_records(&self, height: u32) -> Result<Vec<PeerRecord>, LedgerError>;

    /// Counts a failure of each of these intents, with its reason and the pause that follows. A peer that is full has as
    /// much room as is taken there besides this attempt; one that refuses takes no openings side by side.
    async fn record_failures(
        &self,
        exchange: ExchangeId,
        failures: &[ChannelFailure],
        now: Timestamp,
        height: u32,
    ) -> Result<(), LedgerError>;

    /// Takes another slot for each of these intents, which the exchange holds and whose channel was given up after the peer
    /// was asked to fund it, as long as the peer is not full. Gives those for which it did.
    async fn take_slots(
        &self,
        exchange: ExchangeId,
        intents: &[IntentId],
        height: u32,
    ) -> Result<Vec<IntentId>, LedgerError>;

    /// Ends the last slot that this exchange took for each of these intents: no `funding_created` left.
    async fn free_slots(&self, exchange: ExchangeId, intents: &[IntentId]) -> Result<(), LedgerError>;

    /// The peer answered an opening that is no payment's: it accepted `side_by_side` of them at once, or, with 0, it is
    /// full.
    async fn record_answer(&self, peer: PublicKey, side_by_side: u32, height: u32)
    -> Result<(), LedgerError>;

    /// Ends the pauses of all intents with these peers: they have just connected.
    async fn resume(&self, peers: &[PublicKey]) -> Result<(), LedgerError>;

    /// Proposals with channels that left for this invoice.
    async fn channel_offers(&self, invoice: &InvoiceId) -> Result<u32, LedgerError>;

    /// Proposals with channels of exchanges since then that came to nothing: the Original or a conflict is in their place, or
    /// nobody saw the payjoin by its deadline.
    async fn wasted_offers(&self, since: Timestamp, now: Timestamp) -> Result<u32, LedgerError>;
}

/// A queued intent, for the choice of what a payment opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What the planner sees of it.
    pub wish: ChannelWish,
    /// The other end.
    pub peer: PeerAddress,
    /// Failures since it was queued or its channel was last released.
    pub failures: u32,
    /// The last of them.
    pub trouble: Option<Trouble>,
}

/// Why an intent failed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Why, and what to do about it.
    pub reason: String,
    /// The peer's own words.
    pub said: Option<String>,
    /// No payment tries it before.
    pub until: Option<Timestamp>,
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// Its key.
    pub peer: PublicKey,
    /// Most channels that it holds while their funding is not buried; `None`: it never refused one for that.
    pub room: Option<u32>,
    /// How many it holds.
    pub taken: u32,
    /// The height at which the first of them is forgotten.
    pub free_at: Option<u32>,
    /// It accepted two openings side by side.
    pub several: bool,
    /// An exchange is opening a channel with it.
    pub busy: bool,
}

impl PeerRecord {
    /// It takes no channel now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.room.is_some_and(|room| self.taken >= room)
    }
}

/// Seconds for which an intent is left out after so many failures in a row; `None`: it is tried at the next payment.
#[must_use]
pub fn pause_after(failures: u32) -> Option<u64> {
    const PATIENCE: u32 = 3;
    const FIRST: u64 = 600;
    const LONGEST: u64 = 24 * 3600;
    let doubled = failures.checked_sub(PATIENCE)?;
    Some(FIRST.saturating_mul(1 << doubled.min(20)).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_begin_with_the_third_failure_and_double_up_to_a_day() {
        let pauses = [None, None, None, Some(600), Some(1_200), Some(2_400)];
        assert_eq!([0, 1, 2, 3, 4, 5].map(pause_after), pauses);
        assert_eq!([11, 12, u32::MAX].map(pause_after), [Some(86_400); 3]);
    }

    #[test]
    fn a_peer_that_never_refused_is_never_full() {
        let peer = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap();
        let is_full = |room, taken| {
            PeerRecord { peer, room, taken, free_at: None, several: false, busy: false }.is_full()
        };
        assert!(!is_full(None, 9));
        assert!(is_full(Some(1), 1) && is_full(Some(1), 2) && !is_full(Some(2), 1));
    }
}
