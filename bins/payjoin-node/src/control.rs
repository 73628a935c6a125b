//! The control socket: one JSON command in, one JSON answer out, over a Unix socket that only its owner can open.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::asked::Asked;
use crate::requests::Request;

/// Longest command we read, in bytes.
const COMMAND_LIMIT: u64 = 64 * 1024;

/// So much is read away of what comes after a command, and for so long.
const REST_LIMIT: u64 = 16 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// The command that is not for the node.
const STOP: &str = "\"stop\"";

/// What is answered to a command that failed.
#[derive(Serialize)]
struct Failed {
    error: String,
}

/// What is answered to the end.
#[derive(Serialize)]
struct Stopped {
    stopped: bool,
}

/// Plain data: it is always written.
fn json(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).unwrap_or_default()
}

/// Who may use a control socket: whoever may, may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The user who runs the daemon.
    Owner,
    /// The group of that user, too.
    Group,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

/// Opens the socket, replacing one that a dead daemon left behind: the caller holds the lock of the node's folder. It is
/// made in a folder of its own, and is where it belongs with its mode only: nobody else can connect before.
///
/// # Errors
/// When the socket cannot be made there.
pub fn bind(path: &Path, access: Access) -> io::Result<UnixListener> {
    let folder = path.with_extension("new");
    let new = folder.join("s");
    // Left by a daemon that was killed right here.
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&folder)?;
    let listener = UnixListener::bind(&new).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => {
            io::Error::other("its path is too long: choose a shorter --datadir or --socket")
        }
        _ => error,
    });
    let moved = listener.and_then(|listener| {
        fs::set_permissions(&new, Permissions::from_mode(access.mode()))?;
        fs::rename(&new, path)?;
        Ok(listener)
    });
    // Where it was not moved it goes, too.
    fs::remove_dir_all(&folder)?;
    moved
}

/// Answers commands until the daemon stops.
pub async fn serve(listener: UnixListener, asked: watch::Receiver<Asked>, stop: watch::Sender<bool>) {
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
    let mut line = Vec::new();
    let mut limited = BufReader::new(read.take(COMMAND_LIMIT));
    if limited.read_until(b'\n', &mut line).await.is_err() {
        return;
    }
    let (answer, stop) = match parse(&line) {
        Ok(None) => (json(&Stopped { stopped: true }), true),
        Ok(Some(request)) => (answer_to(&asked, request).await, false),
        Err(why) => (json(&Failed { error: format!("not a command of this version: {why}") }), false),
    };
    let _ = write.write_all(format!("{answer}\n").as_bytes()).await;
    if stop {
        // `ask` reads to the end, and the system closes this with the process: `payjoind stop` returns when the
        // folder is free for the next `run`.
        std::mem::forget((limited, write));
        end.send_replace(true);
        return;
    }
    // A socket that is closed with unread bytes in it is reset, and the answer lost.
    let _ = write.shutdown().await;
    let mut rest = limited.into_inner();
    rest.set_limit(REST_LIMIT);
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

async fn answer_to(asked: &Asked, request: Request) -> String {
    match asked.request(request).await {
        Ok(response) => serde_json::to_string(&response)
            .unwrap_or_else(|error| json(&Failed { error: error.to_string() })),
        Err(error) => json(&Failed { error: error.to_string() }),
    }
}

/// `None`: the daemon is to stop.
fn parse(line: &[u8]) -> Result<Option<Request>, String> {
    if line.len() as u64 == COMMAND_LIMIT && !line.ends_with(b"\n") {
        return Err(format!("it is longer than {COMMAND_LIMIT} bytes"));
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    if line.trim() == STOP {
        return Ok(None);
    }
    serde_json::from_str(line).map(Some).map_err(|error| error.to_string())
}

/// Sends a request to the daemon at this socket, or tells it to stop, and returns its answer.
///
/// # Errors
/// When there is no answer.
pub async fn ask(socket: &Path, request: Option<&Request>) -> io::Result<Value> {
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
    use crate::starting::Starting;

    #[test]
    fn a_line_is_a_request_or_the_end() {
        assert_eq!(parse(b"\"stop\"\n").unwrap(), None);
        assert_eq!(parse(b"\"status\"\n").unwrap(), Some(Request::Status));
        for bad in ["", "\"run\"", "\"nonsense\"", "{\"pay\":{}}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn whatever_comes_over_the_socket_is_answered() {
        let long = |end: &[u8]| [&vec![b'x'; COMMAND_LIMIT as usize][..], end].concat();
        for (line, why) in [
            (b"\xff\xfe\n".to_vec(), "it is not UTF-8"),
            (long(b"\n"), "it is longer than 65536 bytes"),
            (long(&vec![b'y'; 1_000_000]), "it is longer than 65536 bytes"),
            (b"\n".to_vec(), "EOF while parsing"),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let asked = Asked::Starting(Starting::default());
            let answering = tokio::spawn(answer(ours, asked, watch::channel(false).0));
            theirs.write_all(&line).await.unwrap();
            theirs.shutdown().await.unwrap();
            let mut told = String::new();
            theirs.read_to_string(&mut told).await.unwrap();
            assert!(told.contains(why), "{told}");
            answering.await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_and_replaces_one_that_a_dead_daemon_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(bind(&path, Access::Owner).unwrap());
        // Killed in the middle of that.
        let half = folder.path().join("socket.new");
        DirBuilder::new().create(&half).unwrap();
        UnixListener::bind(half.join("s")).unwrap();
        for (access, mode) in [(Access::Owner, 0o600), (Access::Group, 0o660)] {
            let _again = bind(&path, access).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            assert!(UnixStream::connect(&path).await.is_ok() && !half.exists());
        }
        let long = folder.path().join("x".repeat(200));
        assert!(bind(&long, Access::Owner).unwrap_err().to_string().contains("choose a shorter --datadir"));
        assert!(!long.with_extension("new").exists());
    }
}
