//! A shop's program that takes events: it believes only what is signed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};
use serde_json::Value;

use crate::harness::wait;

/// What it shares with the daemon.
pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";

const PATIENCE: Duration = Duration::from_secs(60);

/// It runs until it is stopped.
pub(super) struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Value>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(super) fn start(port: u16) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        // A connection of the one before may still hold the port for a moment.
        let listener = wait::until("the port is free", PATIENCE, || Ok(TcpListener::bind(address).ok()))?;
        let (seen, stop) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<AtomicBool>::default());
        let (events, stopped) = (seen.clone(), stop.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // What is no event of the daemon's gets no answer: it is posted again, and the case ends without it.
                if let Ok(event) = take(stream) {
                    events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                }
            }
        });
        Ok(Self { address, seen, stop, thread: Some(thread) })
    }

    fn events(&self) -> Vec<Value> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn await_event(&self, kind: &str) -> Result<Value> {
        wait::until(&format!("{kind} is posted"), PATIENCE, || {
            Ok(self.events().into_iter().find(|event| event["kind"] == kind))
        })
    }

    /// Stops it, and gives what it was told.
    pub(super) fn stop(mut self) -> Vec<Value> {
        self.end();
        self.events()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it; an error says that it has ended.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads one event, checks its signature, and says that it was taken.
fn take(stream: TcpStream) -> Result<Value> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut head) = (String::new(), Vec::new());
    while reader.read_line(&mut line)? > 2 {
        head.push(line.trim_end().to_owned());
        line.clear();
    }
    let header = |name: &str| {
        let mut named = head.iter().filter_map(|line| line.split_once(": "));
        let found = named.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).with_context(|| format!("no {name}"))
    };
    let mut body = vec![0; header("content-length")?.parse()?];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body)?;
    let mut engine = HmacEngine::<sha256::Hash>::new(SECRET.as_bytes());
    engine.input(format!("{}.{}.{body}", header("payjoind-event")?, header("payjoind-time")?).as_bytes());
    let expected = Hmac::from_engine(engine).to_string();
    ensure!(header("payjoind-signature")? == expected, "the signature is wrong");
    (&stream).write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")?;
    Ok(serde_json::from_str(&body)?)
}
