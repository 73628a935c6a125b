//! lightningd's JSON-RPC: one connection to its Unix socket for each call.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::{MOST, RpcError};
use super::rest::{Rest, RestAccess};

/// What ends an answer.
const END: &[u8] = b"\n\n";
/// For a call that waits for nobody but lightningd and its bitcoind.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to do about a socket that gives nothing.
fn away(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "Core Lightning has no socket {path}: start lightningd, or set `socket` under [cln] to its lightning-rpc"
        ),
        io::ErrorKind::ConnectionRefused => {
            format!("Core Lightning does not listen at {path}: lightningd has ended, or is still starting")
        }
        io::ErrorKind::PermissionDenied => format!(
            "the socket {path} of Core Lightning is closed to this user: start lightningd with \
             `rpc-file-mode=0660` and put this user into its group"
        ),
        _ => format!("Core Lightning does not answer at {path}: {error}"),
    }
}

/// The way to a lightningd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClnAccess {
    /// The socket of its JSON-RPC.
    Socket(PathBuf),
    /// Its plugin clnrest, with a rune.
    Rest(RestAccess),
}

/// Speaks to one lightningd.
#[derive(Clone, Debug)]
pub(super) enum Rpc {
    Socket(PathBuf),
    Rest(Arc<Rest>),
}

impl Rpc {
    pub(super) fn new(access: ClnAccess) -> Self {
        match access {
            ClnAccess::Socket(socket) => Self::Socket(socket),
            ClnAccess::Rest(access) => Self::Rest(Arc::new(Rest::new(access))),
        }
    }

    /// Where lightningd is.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Socket(socket) => socket.display().to_string(),
            Self::Rest(rest) => rest.url().to_owned(),
        }
    }

    /// A call that waits for nobody else.
    pub(super) async fn call(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        let late = || RpcError::Away(format!("Core Lightning does not answer at {} in time", self.place()));
        timeout(PATIENCE, self.ask(method, params)).await.unwrap_or_else(|_| Err(late()))
    }

    /// A call that waits as long as lightningd does. Dropping it closes the connection.
    pub(super) async fn ask(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        match self {
            Self::Socket(socket) => over(socket, method, &params).await,
            Self::Rest(rest) => rest.ask(method, &params).await,
        }
    }
}

/// A call over the socket.
async fn over(socket: &Path, method: &'static str, params: &Value) -> Result<Value, RpcError> {
    let answer = exchange(socket, method, params).await;
    let answer = answer.map_err(|error| RpcError::Away(away(socket, &error)))?;
    let mut answer: Value = serde_json::from_slice(&answer).map_err(|_| RpcError::Unexpected(method))?;
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
        let message = error.get("message").and_then(Value::as_str).unwrap_or("it does not say why");
        return Err(RpcError::Refused { code, message: message.to_owned() });
    }
    answer.get_mut("result").map(Value::take).ok_or(RpcError::Unexpected(method))
}

async fn exchange(socket: &Path, method: &str, params: &Value) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = json!({ "jsonrpc": "2.0", "id": "payjoind", "method": method, "params": params });
    stream.write_all(request.to_string().as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(END) {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended in the middle of an answer"));
        }
        if answer.len() > MOST {
            return Err(io::Error::other("its answer is too long"));
        }
    }
    Ok(answer)
}
