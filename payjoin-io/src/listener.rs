//! Where payers connect: TCP, TLS with the operator's own certificate, a Unix socket, memory. The onion listener is in
//! `payjoin-tor`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{Mutex, mpsc};

use crate::Peer;

mod tls;
mod unix;

pub use tls::Tls;
pub use unix::Unix;

/// A connection's bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One payer's connection.
pub struct Connection {
    /// Its bytes, after any handshake.
    pub stream: Box<dyn Stream>,
    /// Who connected.
    pub peer: Peer,
    /// Nobody between payer and us can change what is sent (money rule 10).
    pub authenticated: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("authenticated", &self.authenticated).finish_non_exhaustive()
    }
}

/// Accepts byte streams.
#[async_trait]
pub trait Listener: Send + Sync {
    /// The next connection. Safe to cancel: none is lost. A slow peer does not hold others up.
    ///
    /// # Errors
    /// When no connection could be accepted this time; the next call may succeed. [`io::ErrorKind::BrokenPipe`]: there will
    /// never be one again.
    async fn accept(&self) -> io::Result<Connection>;
}

/// Plain TCP.
#[derive(Debug)]
pub struct Tcp {
    socket: TcpListener,
    proxied: bool,
}

impl Tcp {
    /// Listens for payers. Nothing is authenticated: no output will be substituted.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, proxied: false })
    }

    /// Listens for the operator's TLS proxy; the operator vouches that payers reach it by TLS only. Every connection
    /// counts as authenticated, and no payer's address is known.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn behind_tls_proxy(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, proxied: true })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[async_trait]
impl Listener for Tcp {
    async fn accept(&self) -> io::Result<Connection> {
        let (stream, peer) = accept_tcp(&self.socket).await?;
        if self.proxied {
            return Ok(proxied(stream));
        }
        Ok(Connection { stream: Box::new(stream), peer, authenticated: false })
    }
}

async fn accept_tcp(socket: &TcpListener) -> io::Result<(TcpStream, Peer)> {
    let (stream, address) = or_pause(socket.accept().await).await?;
    stream.set_nodelay(true)?;
    Ok((stream, Peer::Address(address.ip().to_canonical())))
}

/// A connection from the operator's proxy.
fn proxied(stream: impl Stream + 'static) -> Connection {
    Connection { stream: Box::new(stream), peer: Peer::Unknown, authenticated: true }
}

/// When nothing could be accepted we are out of descriptors, most likely: asking again at once would only spin.
async fn or_pause<T>(accepted: io::Result<T>) -> io::Result<T> {
    if accepted.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    accepted
}

/// Connections made in memory by a [`MemoryConnector`].
#[derive(Debug)]
pub struct Memory {
    incoming: Mutex<mpsc::Receiver<DuplexStream>>,
    authenticated: bool,
}

/// Connects to a [`Memory`] listener.
#[derive(Clone, Debug)]
pub struct MemoryConnector(mpsc::Sender<DuplexStream>);

impl Memory {
    /// A listener and the way to it. `authenticated` is what its connections count as.
    #[must_use]
    pub fn new(authenticated: bool) -> (Self, MemoryConnector) {
        let (sender, receiver) = mpsc::channel(16);
        (Self { incoming: Mutex::new(receiver), authenticated }, MemoryConnector(sender))
    }
}

impl MemoryConnector {
    /// The payer's end of a new connection.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] when the listener is gone.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = duplex(64 * 1024);
        self.0.send(theirs).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }
}

#[async_trait]
impl Listener for Memory {
    async fn accept(&self) -> io::Result<Connection> {
        let stream = self.incoming.lock().await.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Connection { stream: Box::new(stream), peer: Peer::Unknown, authenticated: self.authenticated })
    }
}
