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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use payjoin_core::{REFUSALS, Refusal};

    /// Rewrites the file when asked to with `PAYJOIN_WRITE_DOCS=1`.
    #[test]
    fn docs_errors_md_holds_every_refusal() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
        let mut text = include_str!("../../../docs/errors.md").split("| code").next().unwrap().to_owned();
        text += "| code | HTTP | the payer reads | how it comes to that | what to do |\n| --- | --- | --- | --- | --- |\n";
        for Refusal { code, status, message, cause, remedy } in REFUSALS {
            let code = serde_json::to_value(code).unwrap();
            let code = code.as_str().unwrap();
            text += &format!("| `{code}` | {status} | {message} | {cause} | {remedy} |\n");
        }
        if std::env::var_os("PAYJOIN_WRITE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "run the tests with PAYJOIN_WRITE_DOCS=1");
    }
}
