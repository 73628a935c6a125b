//! Connections that keep silent.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Daemon, World, raw, wait};

/// At the listener without TLS, where all come from one proxy.
const IDLE: usize = 400;
/// At the listener with TLS, from each of so many addresses.
const ADDRESSES: u8 = 12;
const EACH: usize = 32;
/// So many must be open at once before honest payers come: more than any listener serves.
const HIGH: usize = 450;

const HALF: &[u8] = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Endless: ";

pub(in super::super) fn slow(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let host = invoice.endpoint.split('/').nth(2).context("an endpoint without a host")?;
    let port = host.rsplit(':').next().context("an endpoint without a port")?.parse()?;
    let tls = SocketAddr::from(([127, 0, 0, 1], port));

    let attack = Attack::start(&node, tls, &world.tls.certificate)?;
    wait::until("the attack is high", Duration::from_secs(60), || Ok((attack.open() >= HIGH).then_some(())))?;
    let txid = world.pay(&invoice)?;
    node.await_intent(intent, "released")?;
    ensure!(node.funding(intent)?.txid == txid, "the channel is not in {txid}");
    world.mine(6)?;
    // The same by the operator's proxy.
    for _ in 0..3 {
        let invoice = world.receive(&node, Some(200_000))?;
        let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
        let reply = raw::send_and_stay(node.plain, &payment.request()?)?;
        ensure!(reply.status() == Some(200), "a payer behind the proxy got: {}", reply.text());
        world.broadcast(&payment.signed(&reply.body())?)?;
        world.mine(1)?;
    }
    let (open, opened) = (attack.open(), attack.stop()?);
    println!("  {open} silent connections open, {opened} opened in all");
    let told = node.log()?.lines().filter(|line| line.contains("a TLS handshake failed")).count();
    ensure!((1..=4).contains(&told), "handshakes that failed are told {told} times");
    Ok(())
}

/// Threads that open connections and hold them, and open another for each that is cut.
struct Attack {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    open: AtomicUsize,
    opened: AtomicUsize,
}

impl Attack {
    fn start(node: &Daemon, tls: SocketAddr, certificate: &std::path::Path) -> Result<Self> {
        let (shared, plain) = (Arc::<Shared>::default(), node.plain);
        let config = Arc::new(trusting(certificate)?);
        let idle = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.hold(IDLE, || half(TcpStream::connect(plain).ok()?)))
        };
        let from = (2..2 + ADDRESSES).map(|last| {
            let (shared, config) = (Arc::clone(&shared), Arc::clone(&config));
            let source = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
            // Of each address, half shake hands and say half, the others shake no hands.
            let shakes = AtomicUsize::new(0);
            thread::spawn(move || {
                shared.hold(EACH, || {
                    let stream = connect_from(source, tls)?;
                    match shakes.fetch_add(1, Ordering::Relaxed) % 2 {
                        0 => half_by_tls(stream, &config),
                        _ => Some(stream),
                    }
                })
            })
        });
        let threads = from.chain([idle]).collect();
        Ok(Self { shared, threads })
    }

    fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// How many connections it made.
    fn stop(self) -> Result<usize> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().ok().context("a thread of the attack panicked")?;
        }
        Ok(self.shared.opened.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn hold(&self, count: usize, open: impl Fn() -> Option<TcpStream>) {
        let mut held: Vec<TcpStream> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let before = held.len();
            held.retain_mut(is_open);
            self.open.fetch_sub(before - held.len(), Ordering::Relaxed);
            while held.len() < count && !self.stop.load(Ordering::Relaxed) {
                let Some(stream) = open() else { break };
                held.push(stream);
                self.open.fetch_add(1, Ordering::Relaxed);
                self.opened.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn is_open(stream: &mut TcpStream) -> bool {
    let read = stream.set_nonblocking(true).and_then(|()| stream.read(&mut [0; 256]));
    match read {
        Ok(length) => length > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn half(mut stream: TcpStream) -> Option<TcpStream> {
    stream.write_all(HALF).ok()?;
    Some(stream)
}

/// The session is forgotten: nobody will say more.
fn half_by_tls(stream: TcpStream, config: &Arc<ClientConfig>) -> Option<TcpStream> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let session = ClientConnection::new(Arc::clone(config), name).ok()?;
    let mut session = StreamOwned::new(session, stream);
    session.write_all(HALF).ok()?;
    session.flush().ok()?;
    Some(session.sock)
}

fn trusting(certificate: &std::path::Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(std::fs::read(certificate)?))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

/// The standard library cannot choose where a connection comes from.
fn connect_from(source: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source, 0))?;
        socket.connect(to).await?.into_std()
    });
    let stream = stream.ok()?;
    stream.set_nonblocking(false).ok()?;
    Some(stream)
}
