//! The control socket: one JSON command in, one JSON answer out, over a Unix socket that only its owner can open.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::cli::Command;
use crate::daemon::Daemon;

/// Longest command we read, in bytes.
const COMMAND_LIMIT: u64 = 64 * 1024;

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
pub(crate) async fn serve(listener: UnixListener, daemon: Arc<Daemon>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, daemon.clone()));
            }
            Err(e) => {
                tracing::warn!("control socket: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, daemon: Arc<Daemon>) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut limited = BufReader::new(read.take(COMMAND_LIMIT));
    if limited.read_line(&mut line).await.is_err() {
        return;
    }
    let command = serde_json::from_str::<Command>(&line);
    let stop = matches!(command, Ok(Command::Stop));
    let answer = match command {
        Ok(command) => daemon.command(command).await.unwrap_or_else(|e| json!({ "error": e.to_string() })),
        Err(e) => json!({ "error": format!("not a command of this version: {e}") }),
    };
    let _ = write.write_all(format!("{answer}\n").as_bytes()).await;
    if stop {
        // `ask` reads to the end, and the system closes this with the process: `payjoind stop` returns when the
        // folder is free for the next `run`.
        std::mem::forget((limited, write));
        daemon.stop.send_replace(true);
    }
}

/// Sends a command to the daemon in `datadir` and returns its answer.
pub(crate) async fn ask(socket: &Path, command: &Command) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{}\n", serde_json::to_string(command)?).as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    if text.is_empty() {
        return Err(io::Error::other("it ended"));
    }
    Ok(serde_json::from_str(&text)?)
}
