//! What a payer was asked to pay.

use bitcoin::{Amount, ScriptBuf};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Names an invoice: the last path segment of its `pj=` endpoint, 26 characters of lower-case base32.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InvoiceId(pub String);

/// One BIP 21 payment request. Both scripts are fixed when it is made, so that no exchange derives an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its name in the endpoint.
    pub id: InvoiceId,
    /// The address of the BIP 21 code. P2TR in the embedded node: a P2WSH output in its place weighs the same.
    pub script: ScriptBuf,
    /// Where our change goes when the payment output is replaced.
    pub change: ScriptBuf,
    /// The least the payment output must carry; `None` accepts any amount.
    pub amount: Option<Amount>,
    /// When it was made.
    pub created: Timestamp,
    /// After this moment no new exchange is begun for it. A payment on chain is still ours.
    pub expires: Timestamp,
}
