//! TLS with the operator's own certificate.

mod validity;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use payjoin_core::Timestamp;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::{Accept, TlsAcceptor};

use super::{Connection, Listener, accept_tcp};
use crate::peer::{Held, Peer};
use crate::room::Room;

/// How long a payer's handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes at once; beyond it the oldest is cut.
const HANDSHAKES: usize = 256;
/// Handshakes at once with one address. Its further connections are closed.
const HANDSHAKES_PER_PEER: usize = 32;
/// A reason why handshakes fail is told again after so long.
const TOLD_AGAIN: Duration = Duration::from_secs(3_600);
/// So many reasons are told in that time.
const MOST_TOLD: usize = 16;

/// TLS 1.2 and 1.3 over TCP.
pub struct Tls {
    socket: TcpListener,
    shown: RwLock<Shown>,
    /// Running handshakes, beside the accept loop so that a slow one holds nobody up.
    handshakes: Mutex<JoinSet<Option<Connection>>>,
    room: Arc<Room>,
    held: Arc<Held>,
    refusals: Arc<Refusals>,
}

impl Tls {
    /// Listens with a certificate chain and its private key, each a PEM or DER file.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit the other, or the address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs, certificate: &Path, key: &Path) -> io::Result<Self> {
        let shown = RwLock::new(Shown::read(certificate, key)?);
        let socket = TcpListener::bind(address).await?;
        let (handshakes, held) = (Mutex::default(), Arc::default());
        let (room, refusals) = (Room::new(HANDSHAKES), Arc::default());
        Ok(Self { socket, shown, handshakes, room, held, refusals })
    }

    /// Reads the files again, and shows what they hold to whoever connects from now on. Says whether it is anything else
    /// than before.
    ///
    /// # Errors
    /// When they cannot be used. Payers see the certificate from before.
    pub fn renew(&self, certificate: &Path, key: &Path) -> io::Result<bool> {
        let new = Shown::read(certificate, key)?;
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        // Sessions of payers who come again are known to the one from before.
        let is_new = new.chain != shown.chain;
        if is_new {
            *shown = new;
        }
        Ok(is_new)
    }

    /// When the certificate that is shown ends; `None` if it does not say so in a way that we can read.
    pub fn ends(&self) -> Option<Timestamp> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.chain.first().and_then(|certificate| validity::end(certificate))
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// What payers see.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    acceptor: TlsAcceptor,
}

impl Shown {
    fn read(certificate: &Path, key: &Path) -> io::Result<Self> {
        let (chain, key) = (read_chain(certificate)?, read_key(key)?);
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain.clone(), key))
            .map_err(|error| unusable(certificate, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { chain, acceptor: Arc::new(config).into() })
    }
}

#[async_trait]
impl Listener for Tls {
    async fn accept(&self) -> io::Result<Connection> {
        let mut handshakes = self.handshakes.lock().await;
        loop {
            tokio::select! {
                Some(done) = handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return Ok(connection);
                    }
                }
                accepted = accept_tcp(&self.socket) => {
                    let (stream, peer) = accepted?;
                    let Some(place) = self.held.take(HANDSHAKES_PER_PEER, peer) else { continue };
                    // None of them stays, so that one always gives way.
                    let Some(seat) = self.room.enter(1) else { continue };
                    let shaken = shake_hands(self.acceptor().accept(stream), peer, Arc::clone(&self.refusals));
                    handshakes.spawn(async move {
                        let _place = place;
                        tokio::select! {
                            connection = shaken => connection,
                            () = seat.called_off() => None,
                        }
                    });
                }
            }
        }
    }
}

async fn shake_hands(
    handshake: Accept<TcpStream>,
    peer: Peer,
    refusals: Arc<Refusals>,
) -> Option<Connection> {
    let refused = match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => return Some(Connection { stream: Box::new(stream), peer, authenticated: true }),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("not complete within {} s", HANDSHAKE.as_secs()),
    };
    if refusals.is_news(&refused, Instant::now()) {
        tracing::warn!(
            reason = refused,
            "a TLS handshake failed, so a payer may not reach us; told once an hour for each reason"
        );
    }
    None
}

/// Reasons of handshakes that failed, and when each was told: strangers shall not fill the log.
#[derive(Debug, Default)]
struct Refusals(StdMutex<HashMap<String, Instant>>);

impl Refusals {
    /// Whether it is to be told now.
    fn is_news(&self, reason: &str, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.duration_since(*at) < TOLD_AGAIN);
        let news = told.len() < MOST_TOLD && !told.contains_key(reason);
        if news {
            told.insert(reason.to_owned(), now);
        }
        news
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn read_chain(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    if !is_pem(&bytes) {
        return Ok(vec![bytes.into()]);
    }
    let chain = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    chain.map_err(|error| unusable(path, &error))
}

fn read_key(path: &Path) -> io::Result<PrivateKeyDer<'static>> {
    let bytes = read(path)?;
    if is_pem(&bytes) {
        return PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| unusable(path, &error));
    }
    PrivateKeyDer::try_from(bytes).map_err(|error| unusable(path, &error))
}

/// PEM is text and may begin with a comment; DER begins with a SEQUENCE.
fn is_pem(bytes: &[u8]) -> bool {
    bytes.first() != Some(&0x30)
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_an_hour_and_few_of_them() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds, reason: &str| refusals.is_news(reason, start + Duration::from_secs(seconds));
        assert_eq!([at(0, "a"), at(1, "a"), at(1, "b"), at(3_599, "a")], [true, false, true, false]);
        assert_eq!([at(3_600, "a"), at(3_600, "b")], [true, false]);
        let told = (0..100).filter(|n| at(3_600, &format!("made up {n}"))).count();
        assert_eq!(told, MOST_TOLD - 2);
    }
}
