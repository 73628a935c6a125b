//! What a payer gets to read. Money rule 11: nothing here comes from our insides.

use serde::{Deserialize, Serialize};

/// The error codes of BIP 78, "Receiver's well known errors".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The payjoin endpoint cannot serve now.
    Unavailable,
    /// The payment is too small for a payjoin at its fee rate.
    NotEnoughMoney,
    /// The `v` parameter is not one we speak; `supported` lists those that are.
    VersionUnsupported,
    /// The Original PSBT was refused.
    OriginalPsbtRejected,
}

/// One reply: a Proposal PSBT or a BIP 78 error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The Proposal PSBT in base64, exactly as it was made durable.
    Proposal(String),
    /// A refusal. The text is one of ours, chosen for the payer.
    Error {
        /// The BIP 78 code.
        code: ErrorCode,
        /// A sentence for the payer's debug log.
        message: &'static str,
        /// HTTP status that a v1 server sends with it.
        status: u16,
    },
}
