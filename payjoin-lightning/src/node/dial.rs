//! Ways to peers other than TCP.

use std::fmt::Debug;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, copy, split};
use tokio::net::UnixStream;

/// A connection to a peer, as lightning-net-tokio takes it: it drives a `TcpStream` and nothing else. It reads, writes
/// and closes it, which works with one end of a local pair, too.
#[derive(Debug)]
pub struct PeerSocket(pub(super) TcpStream);

impl PeerSocket {
    /// A socket whose bytes are the stream's.
    ///
    /// # Errors
    /// When the system gives no pair of sockets.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> io::Result<Self> {
        let (near, far) = UnixStream::pair()?;
        tokio::spawn(carry(near, stream));
        Ok(Self(OwnedFd::from(far.into_std()?).into()))
    }
}

/// Reaches peers another way than by TCP, for example through Tor.
#[async_trait]
pub trait Dialer: Debug + Send + Sync {
    /// Is this the way to the host? If not, its name is looked up and it is dialled by TCP; an onion service is not
    /// dialled at all.
    fn reaches(&self, host: &str) -> bool;

    /// Opens a connection. The error is for the operator.
    async fn dial(&self, host: &str, port: u16) -> Result<PeerSocket, String>;
}

/// Until one side ends: half of a connection is of no use to a peer.
async fn carry(socket: UnixStream, stream: impl AsyncRead + AsyncWrite) {
    let (mut from_us, mut to_us) = split(socket);
    let (mut from_peer, mut to_peer) = split(stream);
    tokio::select! {
        _ = copy(&mut from_us, &mut to_peer) => {}
        _ = copy(&mut from_peer, &mut to_us) => {}
    }
}
