//! Everything that moves money, in one list: payments in and out, on chain and over Lightning, and channels that close.

use async_trait::async_trait;
use bitcoin::{Amount, Txid};
use serde::{Deserialize, Serialize};

use super::{ExchangeRecord, LedgerError, PaymentRecord};
use crate::{IntentId, InvoiceId, Timestamp};

/// What moved money. Each is listed from the write on that makes it known.
#[async_trait]
pub trait Movements: Send + Sync {
    /// The latest, newest first; of those before this one, where it is given.
    async fn movements(&self, before: Option<MovementId>, limit: u32) -> Result<Vec<Movement>, LedgerError>;

    /// One of them.
    async fn movement(&self, id: MovementId) -> Result<Option<Movement>, LedgerError>;

    /// A payment over Lightning to us may come, or one of ours is about to leave. One that ended is not begun again, but for
    /// one of ours that failed.
    async fn begin_lightning(&self, payment: &LightningPayment, now: Timestamp) -> Result<(), LedgerError>;

    /// How the payment with this hash ended. `amount` where it was not known before. What ended well stays so; of a payment
    /// that was never begun a failure is not told.
    async fn end_lightning(
        &self,
        hash: [u8; 32],
        end: LightningEnd,
        now: Timestamp,
    ) -> Result<(), LedgerError>;
}

/// Numbers a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MovementId(pub u64);

/// What moved money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// Its number.
    pub id: MovementId,
    /// When it became known.
    pub created: Timestamp,
    /// What it is.
    pub what: Moved,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A payment to a code on chain.
    Exchange(Box<ExchangeRecord>),
    /// A payment of ours on chain.
    Send(Box<PaymentRecord>),
    /// A payment over Lightning.
    Lightning(LightningRecord),
    /// A channel of ours that closed.
    Close(ClosedChannel),
}

/// A payment over Lightning that may come or leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LightningPayment {
    /// Its payment hash.
    pub hash: [u8; 32],
    /// It is ours to make.
    pub outgoing: bool,
    /// How much, where that is known.
    pub amount: Option<Amount>,
    /// What its invoice says that it is for; of the payee's words no more than a few.
    pub about: Option<String>,
}

/// How a payment over Lightning ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LightningEnd {
    /// It was received: how much.
    Received(Amount),
    /// It arrived: what its way cost, in millisatoshis.
    Sent(u64),
    /// It failed: why.
    Failed(String),
}

/// A payment over Lightning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LightningRecord {
    /// As it was begun.
    pub payment: LightningPayment,
    /// The code that it paid, where it was one that can be paid over Lightning, too.
    pub invoice: Option<InvoiceId>,
    /// How it ended.
    pub end: Option<LightningEnd>,
}

/// A channel of ours that closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedChannel {
    /// The intent that it came from.
    pub intent: IntentId,
    /// The transaction that spent its funding, once it was seen.
    pub closing: Option<Txid>,
    /// Why.
    pub reason: String,
}
