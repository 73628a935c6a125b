//! The endpoint of BIP 78 over HTTP/1.1: `POST /<invoice id>`.

pub(crate) mod connection;
mod limits;
mod line;
mod replies;
mod request;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use limits::{Buckets, Limits, Rate};
pub use replies::Replies;

use crate::peer::{Held, Place, Subject};
use crate::room::{Room, Seat};
use crate::{Host, Listener, Peer};

/// Serves payers. Clones share the limits but that of connections, so that one server can run on several listeners at
/// once, and what happens at one of them shuts nobody out at another.
#[derive(Clone, Debug)]
pub struct Server {
    inner: Arc<Inner>,
}

/// The connections of one listener.
#[derive(Debug)]
struct Connections {
    room: Arc<Room>,
    held: Arc<Held>,
}

#[derive(Debug)]
struct Inner {
    host: Host,
    limits: Limits,
    /// The bodies that are read or served, in bytes.
    bodies: Arc<Room>,
    /// One permit for each exchange that may run at once.
    exchanges: Arc<Semaphore>,
    rates: Mutex<Buckets<Subject>>,
    replies: Replies,
}

impl Server {
    /// A server for this host.
    #[must_use]
    pub fn new(host: Host, limits: Limits) -> Self {
        let inner = Inner {
            host,
            bodies: Room::new(limits.bodies_bytes),
            exchanges: Arc::new(Semaphore::new(limits.exchanges as usize)),
            rates: Mutex::default(),
            replies: Replies::default(),
            limits,
        };
        Self { inner: Arc::new(inner) }
    }

    /// How payers were answered.
    #[must_use]
    pub fn replies(&self) -> Replies {
        self.inner.replies.clone()
    }

    /// Serves until `shutdown` is ready or the listener ends, then lets what runs come to its end: exchanges, also those
    /// whose payer has gone. Requests that are not whole by then are cut.
    pub async fn run(&self, listener: &dyn Listener, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let places = Connections { room: Room::new(self.inner.limits.connections), held: Arc::default() };
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => {
                    if ended.is_err() {
                        tracing::error!("a connection panicked; the others go on");
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok(connection) => {
                        let place = places.take(&self.inner.limits, connection.peer);
                        let serving =
                            connection::serve(self.inner.clone(), connection, place, stopped.clone());
                        connections.spawn(serving);
                    }
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                    Err(error) => tracing::warn!(%error, "no connection accepted"),
                },
            }
        }
        stop.send_replace(true);
        // Nobody waits for requests that are not whole.
        places.room.clear();
        self.inner.bodies.clear();
        while connections.join_next().await.is_some() {}
        let all = self.inner.exchanges.acquire_many(self.inner.limits.exchanges).await;
        drop(all);
    }
}

impl Connections {
    /// A seat for one more, unless its peer has its share or nobody gives way.
    fn take(&self, limits: &Limits, peer: Peer) -> Option<(Place, Seat)> {
        let place = self.held.take(limits.connections_per_peer, peer)?;
        Some((place, self.room.enter(1)?))
    }
}

/// How long a peer that does not close may hold a finished connection.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
