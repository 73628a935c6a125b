//! Garbage by the hundred.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{expect_channel, node};
use crate::harness::World;
use crate::harness::daemon::Options;
use crate::harness::onion::{PATIENCE, await_reachable, expect_answer, pay, settings};
use crate::harness::{raw, wait};

/// Streams that come again and again. The receiver closes a quarter of them at once and holds the others for a while.
const STREAMS: usize = 240;
/// Of these, so many must be open at the same moment before honest payers come.
const HIGH: usize = 150;
/// Streams that share a circuit: fewer than the receiver allows.
const TOGETHER: usize = 8;
/// What a debug build of the daemon may take, in MiB. Seen: 68 before, 84 at the height.
const MEMORY: u64 = 160;

/// What each stream sends; then it waits for the receiver to close. All of it looks to a server as if more could come.
const GARBAGE: [&[u8]; 4] = [
    b"",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Endless: ",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\ncHNidP8B",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xff\xfe\xfd",
];

pub(in super::super) fn flood(world: &World<'_>) -> Result<()> {
    let tor = world.tor()?;
    let node = node(world, Options { tor: settings(tor, false), ..Options::default() })?;
    let peer = world.daemon("peer")?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive_by(&node, None, &["--via", "onion"])?;
    await_reachable(&node)?;
    expect_answer(tor.socks(), &invoice.endpoint)?;
    let calm = node.peak_memory()?;

    let host = invoice.endpoint.split('/').nth(2).context("an endpoint without a host")?;
    let flood = Flood::start(tor.socks(), host);
    wait::until("the flood is high", PATIENCE, || Ok((flood.highest() >= HIGH).then_some(())))?;
    let txid = pay(world, tor, &node, &invoice, "honest-0")?;
    for name in ["honest-1", "honest-2"] {
        pay(world, tor, &node, &world.receive_by(&node, Some(200_000), &["--via", "onion"])?, name)?;
    }
    flood.stop()?;
    let peak = node.peak_memory()?;
    ensure!(peak <= MEMORY, "{peak} MiB, {calm} MiB before the flood");
    expect_channel(world, &node, intent, txid)
}

/// Has the receiver not closed it for a while?
fn is_open(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 256]) {
        Ok(length) => length > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Threads that open streams and hold them, again and again.
struct Flood {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    open: AtomicUsize,
    highest: AtomicUsize,
}

impl Flood {
    fn start(socks: SocketAddr, host: &str) -> Self {
        let shared = Arc::<Shared>::default();
        let threads = (0..STREAMS).map(|number| {
            let (shared, host) = (Arc::clone(&shared), host.to_owned());
            let (user, garbage) = (format!("flood-{}", number / TOGETHER), GARBAGE[number % GARBAGE.len()]);
            thread::spawn(move || shared.pour(socks, &user, &host, garbage))
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// The most streams that were open at once.
    fn highest(&self) -> usize {
        self.shared.highest.load(Ordering::Relaxed)
    }

    fn stop(self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().ok().context("a thread of the flood panicked")?;
        }
        Ok(())
    }
}

impl Shared {
    fn pour(&self, socks: SocketAddr, user: &str, host: &str, garbage: &[u8]) {
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(mut stream) = raw::behind_tor(socks, user, host, 80) else {
                thread::sleep(Duration::from_millis(200));
                continue;
            };
            self.highest.fetch_max(self.open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let sent = stream.write_all(garbage);
            while sent.is_ok() && !self.stop.load(Ordering::Relaxed) && is_open(&mut stream) {}
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
