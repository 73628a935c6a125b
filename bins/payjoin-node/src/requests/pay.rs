//! `pay`: pays a BOLT 11 invoice.

use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::error::RequestError;

/// What to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayArgs {
    /// The invoice.
    pub bolt11: String,
}

/// An invoice that was paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PaidInvoice {
    /// The proof of payment, in hex.
    pub preimage: String,
    /// Fees paid on the way, in millisatoshis.
    pub fee_msat: u64,
    /// Always `succeeded`: what failed is an error.
    pub status: &'static str,
}

impl Daemon {
    pub(super) async fn pay(&self, args: &PayArgs) -> Result<PaidInvoice, RequestError> {
        let paid = self.node.pay(&args.bolt11).await?;
        Ok(PaidInvoice { preimage: paid.preimage, fee_msat: paid.fee_msat, status: "succeeded" })
    }
}
