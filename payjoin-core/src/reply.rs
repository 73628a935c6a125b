//! What a payer gets to read. Money rule 11: nothing here comes from our insides.

use serde::{Deserialize, Serialize};

/// Versions of the protocol that we speak, for a `version-unsupported` reply. BIP 78, "Optional parameters".
const SUPPORTED_VERSIONS: [u8; 1] = [1];

/// The error codes of BIP 78, "Receiver's well known errors".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The payjoin endpoint cannot serve now.
    Unavailable,
    /// The payjoin cannot reach the fee rate that the payer demands.
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

impl Reply {
    /// Says that the endpoint cannot serve now. Status 503.
    #[must_use]
    pub const fn unavailable(message: &'static str) -> Self {
        Self::Error { code: ErrorCode::Unavailable, message, status: 503 }
    }

    /// Refuses the Original. Status 400.
    #[must_use]
    pub const fn rejected(message: &'static str) -> Self {
        Self::Error { code: ErrorCode::OriginalPsbtRejected, message, status: 400 }
    }

    /// HTTP status: 200 for a proposal.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Proposal(_) => 200,
            Self::Error { status, .. } => *status,
        }
    }

    /// `Content-Type` of [`Reply::body`].
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        match self {
            Self::Proposal(_) => "text/plain",
            Self::Error { .. } => "application/json",
        }
    }

    /// The body: the Proposal PSBT in base64, or `{"errorCode":…,"message":…}`, with `"supported":[1]` when the
    /// version is not one of ours.
    #[must_use]
    pub fn body(&self) -> String {
        match self {
            Self::Proposal(psbt) => psbt.clone(),
            Self::Error { code: code @ ErrorCode::VersionUnsupported, message, .. } => {
                serde_json::json!({ "errorCode": code, "message": message, "supported": SUPPORTED_VERSIONS })
                    .to_string()
            }
            Self::Error { code, message, .. } => {
                serde_json::json!({ "errorCode": code, "message": message }).to_string()
            }
        }
    }
}
