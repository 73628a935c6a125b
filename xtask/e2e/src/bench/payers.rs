//! Payers: threads that post Originals, each on a TLS connection of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Longer than any receiver lets an exchange take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP/1.1 POST to a port of this machine, ready to be written.
pub(crate) struct Post {
    port: u16,
    head: String,
    body: Vec<u8>,
}

impl Post {
    pub(crate) fn new(url: &str, content_type: &str, body: &[u8]) -> Result<Self> {
        let url = reqwest::Url::parse(url)?;
        let port = url.port_or_known_default().context("an endpoint without a port")?;
        let (path, query) = (url.path(), url.query().unwrap_or_default());
        let head = format!(
            "POST {path}?{query} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        Ok(Self { port, head, body: body.to_vec() })
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Connects, posts and reads the reply. Fails when the reply is no success.
    fn send(&self, tls: &Arc<ClientConfig>) -> Result<Vec<u8>> {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let session = ClientConnection::new(Arc::clone(tls), ServerName::try_from("localhost")?)?;
        let mut stream = StreamOwned::new(session, tcp);
        stream.write_all(&[self.head.as_bytes(), &self.body].concat())?;
        read_reply(&mut stream)
    }
}

/// Reads one reply by its Content-Length.
fn read_reply(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut reply = Vec::new();
    let mut piece = [0; 16_384];
    loop {
        if let Some(end) = reply.windows(4).position(|window| window == b"\r\n\r\n") {
            let (head, body) = reply.split_at(end + 4);
            let head = std::str::from_utf8(head)?;
            if body.len() >= content_length(head)? {
                let body = body.to_vec();
                ensure!(head.starts_with("HTTP/1.1 200 "), "{head}{}", String::from_utf8_lossy(&body));
                return Ok(body);
            }
        }
        let count = stream.read(&mut piece).context("the connection broke")?;
        ensure!(count > 0, "the connection ended before the reply did");
        reply.extend_from_slice(piece.get(..count).context("read too much")?);
    }
}

fn content_length(head: &str) -> Result<usize> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(length.context("a reply without Content-Length")?.1.trim().parse()?)
}

/// What came of one post.
pub(crate) struct Reply {
    pub(crate) latency: Duration,
    pub(crate) body: Result<Vec<u8>>,
}

/// Payers that trust one certificate.
pub(crate) struct Payers(Arc<ClientConfig>);

impl Payers {
    /// Full handshakes only: real payers come once.
    pub(crate) fn new(certificate: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(fs::read(certificate)?))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Sends all posts from `side_by_side` payers; with `queue` they come together but connect one after the other.
    /// Returns the replies in the order of the posts, and the time it took.
    pub(crate) fn send(&self, posts: &[&Post], side_by_side: usize, queue: bool) -> (Vec<Reply>, Duration) {
        let next = AtomicUsize::new(0);
        let turn = Mutex::new(());
        let replies = Mutex::new(Vec::with_capacity(posts.len()));
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..side_by_side {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(post) = posts.get(index) else { return };
                        let start = Instant::now();
                        let alone = queue.then(|| lock(&turn));
                        let body = post.send(&self.0);
                        drop(alone);
                        let reply = Reply { latency: start.elapsed(), body };
                        lock(&replies).push((index, reply));
                    }
                });
            }
        });
        let elapsed = start.elapsed();
        let mut replies = replies.into_inner().unwrap_or_else(PoisonError::into_inner);
        replies.sort_by_key(|(index, _)| *index);
        (replies.into_iter().map(|(_, reply)| reply).collect(), elapsed)
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_by_its_length_and_not_to_the_end_of_the_connection() {
        let mut stream = &b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"[..];
        assert_eq!(read_reply(&mut stream).unwrap(), b"abc");
    }

    #[test]
    fn a_refusal_or_half_a_reply_is_an_error() {
        for reply in [
            "HTTP/1.1 503 Unavailable\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\n\r\nabc",
            "",
        ] {
            assert!(read_reply(&mut reply.as_bytes()).is_err(), "{reply}");
        }
    }
}
