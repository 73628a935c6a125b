//! Tor in this process: an onion service for payers, and the way out.

#[cfg(not(feature = "tor"))]
mod absent;
#[cfg(feature = "tor")]
mod arti;

use serde::Serialize;

#[cfg(not(feature = "tor"))]
pub(crate) use absent::{Tor, TorError};
#[cfg(feature = "tor")]
pub(crate) use arti::{Tor, TorError};

/// How Tor and our onion service are doing; `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TorState {
    /// How far Tor has come, 0 to 100.
    pub(crate) percent: u8,
    /// Streams can be opened.
    pub(crate) ready: bool,
    /// What is in Tor's way.
    pub(crate) blocked: Option<String>,
    /// What payers see, `http://….onion`.
    pub(crate) endpoint: String,
    /// Can payers reach it? `None`: nobody knows yet.
    pub(crate) reachable: Option<bool>,
    /// Why they cannot.
    pub(crate) problem: Option<String>,
}
