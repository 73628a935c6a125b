//! Payers' circuits. Each waits here for a place, so that a flood waits outside and the rest stay fast.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arti_client::DataStream;
use futures::{Stream, StreamExt};
use payjoin_io::{Connection, Peer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tor_cell::relaycell::msg::{Connected, End, EndReason};
use tor_hsservice::{RendRequest, StreamRequest};
use tor_proto::stream::IncomingStreamRequest;

use crate::OnionConfig;

/// How long it may take to meet a payer at its rendezvous point.
const MEETING: Duration = Duration::from_secs(60);
/// How long one message may take on its way into a circuit.
const MESSAGE: Duration = Duration::from_secs(10);
/// A circuit without an open stream is closed after this time. A payer that comes back makes another.
const IDLE: Duration = Duration::from_secs(30);
/// The same while others wait for its place. Long enough for a payer to open its stream.
const IDLE_IN_A_CROWD: Duration = Duration::from_secs(2);
/// The last cells of a stream that was closed are still on their way for a moment; closing the circuit cuts them off.
const LAST_CELLS: Duration = Duration::from_millis(500);

/// What every circuit shares.
pub(crate) struct Gate {
    port: u16,
    streams_per_circuit: u32,
    circuits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Closed when the listener is gone: the sign for every circuit to finish.
    connections: mpsc::Sender<Connection>,
}

impl Gate {
    pub(crate) fn new(config: &OnionConfig, connections: mpsc::Sender<Connection>) -> Self {
        let places = |count: u32| Arc::new(Semaphore::new(count.max(1) as usize));
        Self {
            port: config.port,
            streams_per_circuit: config.flood.streams_per_circuit.max(1),
            circuits: places(config.flood.circuits),
            streams: places(config.flood.streams),
            connections,
        }
    }

    fn is_crowded(&self) -> bool {
        self.circuits.available_permits() == 0
    }
}

/// Meets payers until the listener is gone, then waits until the last circuit has finished.
pub(crate) async fn meet(gate: Arc<Gate>, requests: impl Stream<Item = RendRequest>) {
    let mut requests = pin!(requests);
    let mut circuits = JoinSet::new();
    for number in 0.. {
        // The place comes first: requests wait in arti's queue, which proof of work sorts.
        let next = async { (gate.circuits.clone().acquire_owned().await, requests.next().await) };
        let (Ok(place), Some(request)) = (select! {
            next = next => next,
            () = gate.connections.closed() => break,
        }) else {
            break;
        };
        circuits.spawn(Circuit::new(gate.clone(), number, place).run(request));
        while circuits.try_join_next().is_some() {}
    }
    while circuits.join_next().await.is_some() {}
}

struct Circuit {
    gate: Arc<Gate>,
    number: u64,
    /// One permit for each stream that may be open.
    streams: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

impl Circuit {
    fn new(gate: Arc<Gate>, number: u64, place: OwnedSemaphorePermit) -> Self {
        let streams = Arc::new(Semaphore::new(gate.streams_per_circuit as usize));
        Self { gate, number, streams, _place: place }
    }

    async fn run(self, request: RendRequest) {
        let accepted = select! {
            accepted = timeout(MEETING, request.accept()) => accepted,
            () = self.gate.connections.closed() => return,
        };
        let mut requests = match accepted {
            Ok(Ok(requests)) => requests,
            Ok(Err(error)) => return tracing::debug!(%error, "a payer's circuit failed"),
            Err(_) => return tracing::debug!("a payer's circuit took too long"),
        };
        select! {
            () = self.serve(&mut requests) => {}
            () = self.gate.connections.closed() => {}
        }
        // Dropping the requests closes the circuit with all its streams.
        let _all_closed = self.streams.acquire_many(self.gate.streams_per_circuit).await;
        sleep(LAST_CELLS).await;
    }

    /// Until the payer closes the circuit or leaves it idle.
    async fn serve(&self, requests: &mut (impl Stream<Item = StreamRequest> + Unpin)) {
        let mut used = Instant::now();
        loop {
            match timeout(IDLE_IN_A_CROWD, requests.next()).await {
                Ok(Some(request)) => self.open(request).await,
                Ok(None) => return,
                Err(_) if !self.is_idle() => {}
                Err(_) if self.gate.is_crowded() || used.elapsed() > IDLE => return,
                Err(_) => continue,
            }
            used = Instant::now();
        }
    }

    fn is_idle(&self) -> bool {
        self.streams.available_permits() == self.gate.streams_per_circuit as usize
    }

    /// Hands one stream to the listener once there is a place for it.
    async fn open(&self, request: StreamRequest) {
        if !matches!(request.request(), IncomingStreamRequest::Begin(begin) if begin.port() == self.gate.port)
        {
            // Any other reason would tell this service from others.
            let refused = request.reject(End::new_with_reason(EndReason::DONE));
            return drop(timeout(MESSAGE, refused).await);
        }
        let Ok(here) = self.streams.clone().acquire_owned().await else { return };
        let Ok(overall) = self.gate.streams.clone().acquire_owned().await else { return };
        let Ok(Ok(data)) = timeout(MESSAGE, request.accept(Connected::new_empty())).await else { return };
        let stream = Box::new(OnionStream { data, _places: [here, overall] });
        let peer = Peer::Circuit(self.number);
        // Fails when the listener is gone.
        let _ = self.gate.connections.send(Connection { stream, peer, authenticated: true }).await;
    }
}

/// A stream that holds its places until it is dropped.
struct OnionStream {
    data: DataStream,
    _places: [OwnedSemaphorePermit; 2],
}

impl AsyncRead for OnionStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.data), cx, buf)
    }
}

impl AsyncWrite for OnionStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.data), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.data), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.data), cx)
    }
}
