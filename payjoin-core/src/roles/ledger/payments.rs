//! Payments of ours. How the conversation with a receiver stands is in the event log of the session; this is what we
//! owe to our own coins.

use async_trait::async_trait;
use bitcoin::{FeeRate, Psbt};

use super::LedgerError;
use crate::{Paid, PaymentId, Timestamp};

/// Payments of ours.
#[async_trait]
pub trait Payments: Send + Sync {
    /// A number that no payment has. Nothing is written: one that is never kept may be given again after a restart.
    fn new_payment(&self) -> PaymentId;

    /// Keeps a new payment; from now on its coins are locked.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when this code is or was paid.
    async fn insert_payment(
        &self,
        payment: PaymentId,
        uri: &str,
        original: &Psbt,
        fee_rate: FeeRate,
        now: Timestamp,
    ) -> Result<(), LedgerError>;

    /// Records what is sent to the network, in the place of what was sent before.
    async fn record_paid(&self, payment: PaymentId, paid: &Paid) -> Result<(), LedgerError>;

    /// Ends a payment and the locks on its coins.
    async fn settle_payment(&self, payment: PaymentId) -> Result<(), LedgerError>;

    /// The payment of this number.
    async fn payment(&self, payment: PaymentId) -> Result<Option<PaymentRecord>, LedgerError>;

    /// The payment of this code.
    async fn payment_of(&self, uri: &str) -> Result<Option<PaymentRecord>, LedgerError>;

    /// Payments of which no outcome is buried, oldest first.
    async fn unsettled_payments(&self) -> Result<Vec<PaymentRecord>, LedgerError>;
}

/// A payment of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRecord {
    /// Its number.
    pub id: PaymentId,
    /// The code that is paid. A code is paid once.
    pub uri: String,
    /// The plain payment, signed. Its inputs are locked until the payment is settled (money rule 7).
    pub original: Psbt,
    /// The rate that was asked for.
    pub fee_rate: FeeRate,
    /// What was sent to the network; `None` while the receiver may still answer.
    pub paid: Option<Paid>,
    /// A spend of the coins is buried.
    pub settled: bool,
}
