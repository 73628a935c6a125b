//! Tor in this process: an onion service for payers, and the way out.

#[cfg(not(feature = "tor"))]
mod absent;
#[cfg(feature = "tor")]
mod arti;

use schemars::JsonSchema;
use serde::Serialize;

#[cfg(not(feature = "tor"))]
pub(crate) use absent::Tor;
#[cfg(not(feature = "tor"))]
pub use absent::TorError;
#[cfg(feature = "tor")]
pub(crate) use arti::Tor;
#[cfg(feature = "tor")]
pub use arti::TorError;

/// How Tor and our onion service are doing; `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TorState {
    /// How far Tor has come, 0 to 100.
    pub percent: u8,
    /// Streams can be opened.
    pub ready: bool,
    /// What is in Tor's way.
    pub blocked: Option<String>,
    /// What payers see, `http://….onion`.
    pub endpoint: String,
    /// Can payers reach it? `None`: nobody knows yet.
    pub reachable: Option<bool>,
    /// Why they cannot.
    pub problem: Option<String>,
}
