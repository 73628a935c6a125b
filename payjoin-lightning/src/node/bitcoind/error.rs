//! Why bitcoind gave no answer.

use std::path::PathBuf;

use payjoin_core::causes;
use reqwest::StatusCode;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The cookie file cannot be read: bitcoind does not run, or the path is wrong.
    #[error("cannot read the cookie file {path}: {source}")]
    Cookie {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// bitcoind does not accept our credentials.
    #[error("bitcoind refuses the RPC credentials")]
    Unauthorized,
    /// This user, or this machine, may not call the method.
    #[error("bitcoind does not let this user call {0}: see `rpcwhitelist` and `rpcallowip` in its settings")]
    Forbidden(&'static str),
    /// Methods that are needed and may not be called, or are not there.
    #[error("{0}")]
    Methods(String),
    /// Its work queue was full for as long as we asked.
    #[error(
        "bitcoind is busy: its work queue is full. If that lasts, give it a longer one with `rpcworkqueue`"
    )]
    Busy,
    /// We stop, and it does not answer soon.
    #[error("bitcoind does not answer, and this node stops")]
    Stopping,
    /// No answer, or not over HTTP.
    #[error("bitcoind cannot be reached: {}", root(.0))]
    Transport(reqwest::Error),
    /// An HTTP error without a JSON-RPC body, such as a full work queue.
    #[error("bitcoind answered {0}")]
    Status(StatusCode),
    /// bitcoind understood the call and refused it.
    #[error("bitcoind: {message} ({code})")]
    Server {
        /// JSON-RPC error code.
        code: i64,
        /// bitcoind's words.
        message: String,
    },
    /// The answer does not have the shape that the call promises.
    #[error("bitcoind's answer to {0} cannot be read")]
    Unexpected(&'static str),
}

/// `RPC_IN_WARMUP`.
const WARMING_UP: i64 = -28;

impl RpcError {
    /// Whether it passes by itself: bitcoind is there, and has no time yet.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Busy | Self::Server { code: WARMING_UP, .. } => true,
            Self::Transport(error) => error.is_timeout() && !error.is_connect(),
            _ => false,
        }
    }
}

/// What the HTTP client's own words leave out, such as "Connection refused".
fn root(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}
