//! Ways to peers other than TCP, and peers that are to be dialled.

use std::fmt::Debug;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, copy, split};
use tokio::net::UnixStream;

use crate::PeerAddress;

/// The bytes of a connection to a peer.
pub trait PeerStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> PeerStream for T {}

/// Reaches peers another way than by TCP, for example through Tor.
#[async_trait]
pub trait Dialer: Debug + Send + Sync {
    /// Is this the way to the host? If not, its name is looked up and it is dialled by TCP; an onion service is not
    /// dialled at all.
    fn reaches(&self, host: &str) -> bool;

    /// Opens a stream. The error is for the operator.
    async fn dial(&self, host: &str, port: u16) -> Result<Box<dyn PeerStream>, String>;
}

/// Names peers to keep connected although they have no channel.
pub trait Wanted: Debug + Send + Sync {
    /// Those of this moment. It is asked every few seconds.
    fn peers(&self) -> Vec<PeerAddress>;
}

/// A socket whose bytes are the stream's. lightning-net-tokio drives a `TcpStream` and nothing else; it reads, writes
/// and closes it, which works with one end of a local pair, too.
pub(super) fn socket_for(stream: Box<dyn PeerStream>) -> io::Result<TcpStream> {
    let (near, far) = UnixStream::pair()?;
    tokio::spawn(carry(near, stream));
    Ok(OwnedFd::from(far.into_std()?).into())
}

/// Until one side ends: half of a connection is of no use to a peer.
async fn carry(socket: UnixStream, stream: Box<dyn PeerStream>) {
    let (mut from_us, mut to_us) = split(socket);
    let (mut from_peer, mut to_peer) = split(stream);
    tokio::select! {
        _ = copy(&mut from_us, &mut to_peer) => {}
        _ = copy(&mut from_peer, &mut to_us) => {}
    }
}
