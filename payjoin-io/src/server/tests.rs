//! Raw bytes against the server, over TCP, TLS and memory.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::testing::{Fault, Stage, original, ready};
use crate::{Memory, MemoryConnector, Tcp};

mod exchanges;
mod http;
mod tls;

/// A server on a listener, with the invoice `a`.
struct Served<L> {
    stage: Stage,
    server: Server,
    listener: Arc<L>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl<L: Listener + 'static> Served<L> {
    async fn start(listener: L, limits: Limits) -> Self {
        let stage = Stage::new();
        stage.invoice("a").await;
        let server = Server::new(stage.host.clone(), limits);
        let listener = Arc::new(listener);
        let (stop, stopped) = oneshot::channel::<()>();
        let (serving, accepting) = (server.clone(), listener.clone());
        let running = tokio::spawn(async move {
            serving.run(&*accepting, async { drop(stopped.await) }).await;
        });
        Self { stage, server, listener, stop, running }
    }

    async fn stop(self) -> Stage {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(20), self.running).await.unwrap().unwrap();
        self.stage
    }
}

/// In memory, which is quick and needs no ports.
async fn in_memory(limits: Limits) -> (Served<Memory>, MemoryConnector) {
    let (listener, connector) = Memory::new(true);
    (Served::start(listener, limits).await, connector)
}

/// As in production but for the clock: every limit of time is short.
fn quick() -> Limits {
    Limits {
        header_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        exchange_time: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// One answer, taken apart.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some(Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    /// What every answer has in common.
    fn check(&self) {
        assert!(self.head.contains("access-control-allow-origin: *"), "{self:?}");
        assert!(!self.head.contains("server:"), "{self:?}");
        if self.status >= 400 {
            let error: serde_json::Value = serde_json::from_str(&self.body).unwrap();
            let code = error["errorCode"].as_str().unwrap();
            let known = ["unavailable", "not-enough-money", "version-unsupported", "original-psbt-rejected"];
            assert!(known.contains(&code), "{self:?}");
            assert!(error["message"].is_string(), "{self:?}");
        }
    }
}

/// Sends bytes, keeps the sending side open, and reads to the end. `None`: closed without an answer.
async fn send(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> Option<Answer> {
    // The server may close before it has read everything.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await.expect("not closed");
    drop(read);
    let answer = Answer::parse(&answer)?;
    answer.check();
    Some(answer)
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let head = "Host: localhost\r\nContent-Type: text/plain";
    format!("POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An honest request that spends the payer's coin of this number.
fn honest(invoice: &str, input: u32) -> Vec<u8> {
    post(&format!("/{invoice}?v=1"), &original(input).to_string())
}

async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds");
}
