//! Garbage by the hundred.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::super::World;
use super::super::super::daemon::Options;
use super::super::super::onion::{PATIENCE, expect_answer, pay, settings};
use super::super::super::{raw, wait};
use super::{expect_channel, node};

/// Streams at once.
const STREAMS: usize = 200;
/// Streams that share a circuit: fewer than the receiver allows.
const TOGETHER: usize = 8;
/// What the daemon may take, in MiB. seen: later
const MEMORY: u64 = 512;

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
    expect_answer(tor, &invoice.endpoint)?;
    let calm = node.peak_memory()?;

    let host = invoice.endpoint.split('/').nth(2).context("an endpoint without a host")?;
    let flood = Flood::start(tor.socks(), host);
    wait::until("the flood is high", PATIENCE, || Ok((flood.highest() >= STREAMS / 2).then_some(())))?;
    let txid = pay(world, tor, &invoice, "honest-0")?;
    let mut others = Vec::new();
    for name in ["honest-1", "honest-2"] {
        let invoice = world.receive_by(&node, Some(200_000), &["--via", "onion"])?;
        others.push(pay(world, tor, &invoice, name)?);
    }
    let (opened, highest) = flood.stop()?;
    ensure!(opened >= STREAMS, "only {opened} of {STREAMS} streams reached the receiver");
    let peak = node.peak_memory()?;
    ensure!(peak <= MEMORY, "{peak} MiB, {calm} MiB before the flood");
    eprintln!("XYZ opened {opened} highest {highest} calm {calm} peak {peak}");
    expect_channel(world, &node, intent, txid)
}

/// Threads that open streams and hold them, again and again.
struct Flood {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    opened: AtomicUsize,
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

    /// Ends it; how many streams were opened, and the most at once.
    fn stop(self) -> Result<(usize, usize)> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().ok().context("a thread of the flood panicked")?;
        }
        Ok((self.shared.opened.load(Ordering::Relaxed), self.shared.highest.load(Ordering::Relaxed)))
    }
}

impl Shared {
    fn pour(&self, socks: SocketAddr, user: &str, host: &str, garbage: &[u8]) {
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(mut stream) = raw::behind_tor(socks, user, host, 80) else {
                thread::sleep(Duration::from_millis(200));
                continue;
            };
            self.opened.fetch_add(1, Ordering::Relaxed);
            self.highest.fetch_max(self.open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let sent = std::io::Write::write_all(&mut stream, garbage);
            let mut byte = [0];
            // Until the receiver closes.
            while sent.is_ok() && !self.stop.load(Ordering::Relaxed) {
                match stream.read(&mut byte) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Ok(1) => {}
                    _ => break,
                }
            }
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
