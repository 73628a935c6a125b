//! Why a request failed.

use std::fmt::Display;

use payjoin_core::ChainError;
use payjoin_core::LedgerError;
use payjoin_io::PollError;
use payjoin_lightning::LightningError;

/// Why a request failed, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct RequestError {
    kind: ErrorKind,
    text: String,
}

/// Where a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be as it is.
    Request,
    /// What it names is not there.
    Missing,
    /// What it names is not in a state for it.
    State,
    /// A setting is missing for it.
    Settings,
    /// The database.
    Ledger,
    /// The wallet.
    Wallet,
    /// The Lightning node or one of its peers.
    Lightning,
    /// bitcoind did not answer, or refused.
    Chain,
    /// A directory or a relay.
    Directory,
    /// The node has stopped.
    Stopped,
}

impl RequestError {
    /// Where it failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same request may succeed later, with nothing changed by the operator.
    #[must_use]
    pub fn retry(&self) -> bool {
        use ErrorKind::{Chain, Directory, Lightning, State};
        matches!(self.kind, State | Lightning | Chain | Directory)
    }
}

impl ErrorKind {
    /// An error of this kind, for `map_err`.
    pub(crate) fn error(self, text: impl Display) -> RequestError {
        RequestError { kind: self, text: text.to_string() }
    }
}

impl From<LedgerError> for RequestError {
    fn from(error: LedgerError) -> Self {
        ErrorKind::Ledger.error(error)
    }
}

impl From<ChainError> for RequestError {
    fn from(error: ChainError) -> Self {
        ErrorKind::Chain.error(error)
    }
}

impl From<LightningError> for RequestError {
    fn from(error: LightningError) -> Self {
        match error {
            LightningError::Elsewhere { .. } => ErrorKind::Settings.error(error),
            error => ErrorKind::Lightning.error(error),
        }
    }
}

impl From<PollError> for RequestError {
    fn from(error: PollError) -> Self {
        ErrorKind::Directory.error(error)
    }
}
