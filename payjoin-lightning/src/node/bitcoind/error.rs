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

/// What the HTTP client's own words leave out, such as "Connection refused".
fn root(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}
