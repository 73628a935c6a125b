//! The channels that the operator wants.

use async_trait::async_trait;
use bitcoin::{OutPoint, Txid};
use serde::Serialize;

use super::LedgerError;
use crate::{ChannelEnd, ChannelLimits, ChannelSpec, ChannelWish, Closure, IntentId, IntentState, Timestamp};

/// The channels that were asked for. What an exchange does to intents is in the calls of
/// [`Exchanges`](super::Exchanges), and how the queue stands, in those of [`PeerBook`](super::PeerBook).
#[async_trait]
pub trait Intents: Send + Sync {
    /// Puts an intent at the end of the queue.
    async fn queue_intent(
        &self,
        spec: ChannelSpec,
        limits: ChannelLimits,
        open_by: Option<Timestamp>,
    ) -> Result<IntentId, LedgerError>;

    /// Queued intents that the wallet alone is to open by now, in the operator's order: their moment has come, or a payment was
    /// mined since they were queued that opened no channel.
    async fn due_intents(&self, now: Timestamp) -> Result<Vec<IntentId>, LedgerError>;

    /// Says of a queued intent why it was not opened. Nothing changes where it is not queued.
    async fn explain_intent(&self, intent: IntentId, reason: &str) -> Result<(), LedgerError>;

    /// Withdraws an intent that is still queued.
    ///
    /// # Errors
    /// [`LedgerError::NotQueued`] when an exchange has it, or it ended, or never was.
    async fn cancel_intent(&self, intent: IntentId, now: Timestamp) -> Result<(), LedgerError>;

    /// Every intent, oldest first.
    async fn intents(&self) -> Result<Vec<IntentRecord>, LedgerError>;

    /// One intent.
    async fn intent(&self, intent: IntentId) -> Result<Option<IntentRecord>, LedgerError>;

    /// The funding outputs of intents that are buried and whose channels nobody has said to be usable.
    async fn buried_intents(&self) -> Result<Vec<(IntentId, OutPoint)>, LedgerError>;

    /// The channel of a buried intent is usable: the intent is open. Nothing changes where it is not buried.
    async fn open_intent(&self, intent: IntentId) -> Result<(), LedgerError>;

    /// The channel with this funding output was closed: its intent ends, and stays in the history. `false` while the
    /// payjoin that funds it is not buried: it may still lose, and the intent be queued again. Call again later then.
    async fn close_intent(
        &self,
        funding: OutPoint,
        end: &ChannelEnd,
        now: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// This transaction spent the funding output of an intent in a block. After a reorganisation it may be another one.
    async fn record_closing(&self, funding: OutPoint, closing: Txid) -> Result<(), LedgerError>;

    /// Funding outputs in payjoins that left, but for those whose channels closed before `since` with a spend on record.
    async fn fundings(&self, since: Timestamp) -> Result<Vec<OutPoint>, LedgerError>;
}

/// A channel intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IntentRecord {
    /// Its number.
    pub id: IntentId,
    /// What was asked for.
    pub spec: ChannelSpec,
    /// What the planner sees of it.
    pub wish: ChannelWish,
    /// Where it stands.
    pub state: IntentState,
    /// While it is queued: when the wallet alone opens it, if no payment did.
    pub open_by: Option<Timestamp>,
    /// How its channel was closed.
    pub how: Option<Closure>,
    /// When it was closed or cancelled.
    pub ended: Option<Timestamp>,
}

impl IntentRecord {
    /// For so long after a channel has closed, another transaction in its place is looked for: as long as blocks of then
    /// may be reorganised, two weeks.
    pub const WATCHED_SECONDS: u64 = 14 * 24 * 3600;

    /// Since when channels may have closed whose end is still looked for.
    #[must_use]
    pub fn watched_since(now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_sub(Self::WATCHED_SECONDS))
    }
}
