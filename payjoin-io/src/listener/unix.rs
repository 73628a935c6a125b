//! A Unix socket, for a proxy on the same machine.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::net::{UnixListener, UnixStream};

use super::{Connection, Listener, or_pause, proxied};

/// The owner and its group: a proxy runs as another user.
const MODE: u32 = 0o660;

/// A Unix socket. Its file goes with the listener.
#[derive(Debug)]
pub struct Unix {
    socket: UnixListener,
    path: PathBuf,
}

impl Unix {
    /// Listens for the operator's TLS proxy or Tor daemon, as [`Tcp::behind_tls_proxy`](crate::Tcp) does. The
    /// file has mode 0660. One that a dead process left is replaced.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when somebody answers there, [`io::ErrorKind::AlreadyExists`] when the file is no
    /// socket, and what the system says.
    pub async fn behind_tls_proxy(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        remove_stale(&path).await?;
        let socket = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(MODE))?;
        Ok(Self { socket, path })
    }
}

/// Removes a socket that nobody listens on.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        // Whoever comes next replaces it if this fails.
        let _ = fs::remove_file(&self.path);
    }
}

#[async_trait]
impl Listener for Unix {
    async fn accept(&self) -> io::Result<Connection> {
        let (stream, _) = or_pause(self.socket.accept().await).await?;
        Ok(proxied(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Peer;

    #[tokio::test]
    async fn a_proxy_may_connect_and_is_nobody_in_particular() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let unix = Unix::behind_tls_proxy(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let (connected, accepted) = tokio::join!(UnixStream::connect(&path), unix.accept());
        let accepted = accepted.unwrap();
        assert_eq!((accepted.peer, accepted.authenticated), (Peer::Unknown, true));
        drop((connected, accepted, unix));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let live = Unix::behind_tls_proxy(&path).await.unwrap();
        let second = Unix::behind_tls_proxy(&path).await.unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
        drop(live);

        fs::write(&path, "somebody's").unwrap();
        let taken = Unix::behind_tls_proxy(&path).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
    }
}
