//! The endpoint of BIP 78 over HTTP/1.1: `POST /<invoice id>`.

mod connection;
mod limits;
mod line;
mod request;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use limits::Buckets;
pub use limits::{Limits, Rate};

use crate::peer::Held;
use crate::{Host, Listener};

/// Serves payers. Clones share the limits, so that one server can run on several listeners at once.
#[derive(Clone, Debug)]
pub struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    host: Host,
    limits: Limits,
    connections: Arc<Semaphore>,
    held: Arc<Held>,
    /// One permit for each exchange that may run at once.
    exchanges: Arc<Semaphore>,
    rates: Mutex<Buckets>,
}

impl Server {
    /// A server for this host.
    #[must_use]
    pub fn new(host: Host, limits: Limits) -> Self {
        let inner = Inner {
            host,
            connections: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            held: Arc::default(),
            exchanges: Arc::new(Semaphore::new(limits.exchanges as usize)),
            rates: Mutex::default(),
            limits,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Serves until `shutdown` is ready or the listener ends, then lets what runs come to its end: connections, and
    /// exchanges whose payer has gone.
    pub async fn run(&self, listener: &dyn Listener, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
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
                        let serving = connection::serve(self.inner.clone(), connection, stopped.clone());
                        connections.spawn(serving);
                    }
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                    Err(error) => tracing::warn!(%error, "no connection accepted"),
                },
            }
        }
        stop.send_replace(true);
        while connections.join_next().await.is_some() {}
        let all = self.inner.exchanges.acquire_many(self.inner.limits.exchanges).await;
        drop(all);
    }
}

/// How long a peer that does not close may hold a finished connection.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
