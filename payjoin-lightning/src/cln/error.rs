//! Why lightningd gave nothing.

use crate::LightningError;

/// An answer larger than this is none that we asked for.
pub(super) const MOST: usize = 64 << 20;

/// JSON-RPC 2.0, "Error object".
const UNKNOWN_METHOD: i64 = -32601;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum RpcError {
    /// The way to lightningd, or what came from it: it may still act on the call.
    #[error("{0}")]
    Away(String),
    /// We are not let in: what somebody must change.
    #[error("{0}")]
    Access(String),
    /// lightningd understood the call and refused it.
    #[error("{message}")]
    Refused { code: i64, message: String },
    /// The answer does not have the shape that the call promises.
    #[error("Core Lightning's answer to {0} cannot be read: is it version 24.11 or later?")]
    Unexpected(&'static str),
}

impl From<RpcError> for LightningError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Away(why) => Self::Away(why),
            RpcError::Refused { code: UNKNOWN_METHOD, .. } => {
                Self::Refused(format!("{error}: Core Lightning is too old for this, or a plugin is off"))
            }
            error => Self::Refused(error.to_string()),
        }
    }
}
