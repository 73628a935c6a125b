//! What the API answers: JSON, with a code where something failed. Codes stay what they are; texts may change.

use payjoin_io::Told;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Right};

/// What is answered to a call that failed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Failed {
    /// What happened, and what to do.
    pub(crate) error: String,
    /// The same for programs: it stays what it is.
    pub(crate) code: Code,
    /// Whether the same call may succeed later, with nothing changed.
    pub(crate) retry: bool,
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ErrorCode")]
pub(crate) enum Code {
    /// The call cannot be as it is.
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
    /// bitcoind did not answer or refused, or the node still starts.
    Chain,
    /// A directory or a relay.
    Directory,
    /// The node has stopped.
    Stopped,
    /// There is no such path.
    Path,
    /// The path takes another method.
    Method,
    /// The token does not allow it.
    Right,
    /// The token asks too often.
    Rate,
    /// It needs an `Idempotency-Key`, or the one that is there cannot be used.
    Key,
    /// The same `Idempotency-Key` came with another call.
    KeyReused,
    /// The call with this key runs, or was cut: it is not made again.
    Unanswered,
    /// It takes long, and goes on.
    Late,
    /// Too much is asked at once.
    Busy,
}

/// An answer as it is kept for a call that is made once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    /// What was asked for.
    pub(super) fn good(body: &impl Serialize) -> Self {
        match serde_json::to_string(body) {
            Ok(body) => Self { status: 200, body },
            Err(error) => failed(503, Code::Ledger, false, error.to_string()),
        }
    }

    /// Why it is not there.
    pub(super) fn of(error: &RequestError) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::Request => (400, Code::Request),
            ErrorKind::Missing => (404, Code::Missing),
            ErrorKind::State => (409, Code::State),
            ErrorKind::Settings => (409, Code::Settings),
            ErrorKind::Wallet => (409, Code::Wallet),
            ErrorKind::Ledger => (503, Code::Ledger),
            ErrorKind::Chain => (503, Code::Chain),
            ErrorKind::Stopped => (503, Code::Stopped),
            ErrorKind::Lightning => (502, Code::Lightning),
            ErrorKind::Directory => (502, Code::Directory),
        };
        failed(status, code, error.retry(), error.to_string())
    }

    pub(super) fn told(self) -> Told {
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("cache-control", "no-store".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
        ];
        Told { status: self.status, headers, body: self.body.into_bytes() }
    }
}

/// An answer to a call that failed.
pub(super) fn failed(status: u16, code: Code, retry: bool, error: impl Into<String>) -> Answer {
    let failed = Failed { error: error.into(), code, retry };
    // Plain data: it is always written.
    Answer { status, body: serde_json::to_string(&failed).unwrap_or_default() }
}

/// To a call that this token does not allow.
pub(super) fn not_allowed(access: Access) -> Answer {
    match access {
        Access::Token(right) => needs(right),
        Access::Socket => no_path(),
    }
}

/// To a call that needs this right.
pub(super) fn needs(right: Right) -> Answer {
    let right = right.name();
    failed(
        403,
        Code::Right,
        false,
        format!("the token lacks the right `{right}`: make one with --right {right}"),
    )
}

pub(super) fn no_path() -> Answer {
    failed(404, Code::Path, false, "there is nothing at this path: /v1/openapi.json lists what there is")
}
