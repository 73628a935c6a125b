//! Codes that can be paid over Lightning, too: once, one way or the other.

use async_trait::async_trait;

use super::LedgerError;
use crate::{InvoiceId, Timestamp};

/// Which way such a code was paid. Whatever comes first bars the other way, durably.
#[async_trait]
pub trait Claims: Send + Sync {
    /// From now on this invoice can also be paid by a Lightning payment with this hash.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] without the invoice, or when the hash is another's.
    async fn ask_over_lightning(&self, invoice: &InvoiceId, hash: [u8; 32]) -> Result<(), LedgerError>;

    /// Whether a Lightning payment with this hash, which is here, may be taken. After [`Claim::Taken`] no Original is
    /// admitted for its invoice.
    async fn claim(&self, hash: [u8; 32], now: Timestamp) -> Result<Claim, LedgerError>;

    /// Whether a Lightning payment was taken for this invoice.
    async fn paid_over_lightning(&self, invoice: &InvoiceId) -> Result<bool, LedgerError>;
}

/// What a Lightning payment pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// No code.
    None,
    /// This one, and it is taken. The answer to the same question is always the same.
    Taken(InvoiceId),
    /// This one, for which an Original is kept, or which was paid on chain: it must be given back.
    PaidOnChain(InvoiceId),
}
