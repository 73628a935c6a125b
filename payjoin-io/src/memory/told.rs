//! What the journal and the list of payments hold.

use payjoin_core::{EntryId, ExchangeId, Fact, IntentId, LightningRecord, MovementId, PaymentId, Timestamp};

/// What the journal needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) entries: Vec<(EntryId, Timestamp, Fact)>,
    pub(super) last: u64,
    pub(super) readers: Vec<(String, EntryId)>,
    pub(super) expired: Option<Timestamp>,
    pub(super) lightning: Vec<LightningRecord>,
    pub(super) listed: Vec<(MovementId, Timestamp, Listed)>,
}

/// What a row of the list names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Exchange(ExchangeId),
    Send(PaymentId),
    Lightning([u8; 32]),
    Close(IntentId),
}
