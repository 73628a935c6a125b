//! The control socket: one JSON command in, one JSON answer out, over a Unix socket that only its owner can open.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use payjoin_node::{Asked, Request};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::render;

/// Longest command we read, in bytes.
const COMMAND_LIMIT: u64 = 64 * 1024;

/// The command that is not for the node.
const STOP: &str = "\"stop\"";

/// Opens the socket with mode 0600, replacing one that a dead daemon left behind: the caller holds the folder's lock.
/// Nobody else can connect before the mode is set, because nobody else may enter the folder.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => io::Error::other("its path is too long: choose a shorter --datadir"),
        _ => error,
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers commands until the daemon stops.
pub(crate) async fn serve(listener: UnixListener, asked: watch::Receiver<Asked>, stop: watch::Sender<bool>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let asked = asked.borrow().clone();
                tokio::spawn(answer(stream, asked, stop.clone()));
            }
            Err(e) => {
                tracing::warn!("control socket: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, asked: Asked, end: watch::Sender<bool>) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut limited = BufReader::new(read.take(COMMAND_LIMIT));
    if limited.read_line(&mut line).await.is_err() {
        return;
    }
    let (answer, stop) = match parse(&line) {
        Ok(None) => (render::stopped(), true),
        Ok(Some(request)) => (answer_to(&asked, request).await, false),
        Err(e) => (render::error(format_args!("not a command of this version: {e}")), false),
    };
    let _ = write.write_all(format!("{answer}\n").as_bytes()).await;
    if stop {
        // `ask` reads to the end, and the system closes this with the process: `payjoind stop` returns when the
        // folder is free for the next `run`.
        std::mem::forget((limited, write));
        end.send_replace(true);
    }
}

async fn answer_to(asked: &Asked, request: Request) -> Value {
    match asked.request(request).await {
        Ok(response) => serde_json::to_value(response).unwrap_or_else(render::error),
        Err(error) => render::error(error),
    }
}

/// `None`: the daemon is to stop.
fn parse(line: &str) -> serde_json::Result<Option<Request>> {
    if line.trim() == STOP {
        return Ok(None);
    }
    serde_json::from_str(line).map(Some)
}

/// Sends a request to the daemon at this socket, or tells it to stop, and returns its answer.
pub(crate) async fn ask(socket: &Path, request: Option<&Request>) -> io::Result<Value> {
    let line = request.map_or_else(|| Ok(STOP.to_owned()), serde_json::to_string)?;
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    if text.is_empty() {
        return Err(io::Error::other("it ended"));
    }
    Ok(serde_json::from_str(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_request_or_the_end() {
        assert_eq!(parse("\"stop\"\n").unwrap(), None);
        assert_eq!(parse("\"status\"\n").unwrap(), Some(Request::Status));
        for bad in ["", "\"run\"", "\"nonsense\"", "{\"pay\":{}}"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_and_replaces_one_that_a_dead_daemon_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(bind(&path).unwrap());
        let _again = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let long = folder.path().join("x".repeat(200));
        assert!(bind(&long).unwrap_err().to_string().contains("choose a shorter --datadir"));
    }
}
