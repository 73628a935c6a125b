//! What must survive a crash. What changes together is one call: it happens as a whole, durably, or not at all.
//!
//! Calls that write are done in the order in which they were begun. A call whose future is dropped may go through.
//! `payjoin-io` has implementations, and the tests that any implementation must pass.

mod claims;
mod exchanges;
mod intents;
mod journal;
mod movements;
mod payments;
mod peers;
mod sessions;
mod state;
mod tokens;

use bitcoin::OutPoint;

pub use claims::{Claim, Claims};
pub use exchanges::{AdmitOutcome, ExchangeRecord, ExchangeState, Exchanges, PlainPayment};
pub use intents::{IntentRecord, Intents};
pub use journal::{Entry, EntryId, EntryKind, Fact, Journal};
pub use movements::{
    ClosedChannel, LightningEnd, LightningPayment, LightningRecord, Moved, Movement, MovementId, Movements,
};
pub use payments::{PaymentRecord, Payments};
pub use peers::{FORGOTTEN_AFTER, PeerBook, PeerRecord, Trouble, Waiting, pause_after};
pub use sessions::{SessionKey, SessionKind, Sessions};
pub use state::{NodeState, StateWrite};
pub use tokens::{Begun, Call, Token, Tokens};

use crate::{ExchangeId, IntentId};

/// All that a receiver keeps.
pub trait Ledger:
    Claims + Exchanges + Intents + Journal + Movements + PeerBook + Payments + Sessions + NodeState + Tokens
{
}

impl<T> Ledger for T where
    T: Claims
        + Exchanges
        + Intents
        + Journal
        + Movements
        + PeerBook
        + Payments
        + Sessions
        + NodeState
        + Tokens
{
}

/// Why the ledger did not do it. Nothing of a failed call was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be read or written now, for example because the disk is full.
    #[error("{0}")]
    Failed(String),
    /// It is damaged. Restore it; never go on with it.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It has this already, or not what this belongs to.
    #[error("{0}")]
    Conflict(String),
    /// There is no such exchange, or its state does not allow this.
    #[error("exchange {} is not in a state for this", .0.0)]
    WrongState(ExchangeId),
    /// There is no such intent, or it is not queued.
    #[error("intent {} is not queued", .0.0)]
    NotQueued(IntentId),
    /// A coin is locked by an exchange at another invoice, or not locked by the exchange that releases it.
    #[error("coin {0} is not this exchange's to offer")]
    CoinLocked(OutPoint),
}
