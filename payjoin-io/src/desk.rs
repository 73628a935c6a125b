//! HTTP for the operator's own programs: one request a connection, bounded as the payers' server is. It has nothing
//! else of that server, and serves no payer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::peer::{Held, Place, Subject};
use crate::room::{Room, Seat};
use crate::server::connection::{close, protocol};
use crate::server::{Buckets, LINGER, Limits};
use crate::{Connection, Listener, Peer};

/// What is asked for in one request, before its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `GET`, `POST` or whatever stands there.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// Names in small letters, and values; those that are no text are left out.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header that is there once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// HTTP status.
    pub status: u16,
    /// Names in small letters, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Told {
    /// A status and nothing else.
    #[must_use]
    pub fn bare(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

/// What a head is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its body is wanted, of so many bytes at most.
    Body(usize),
    /// It is answered at once.
    Answer(Told),
    /// A stranger's: he reads 401 and nothing else, and 429 once he asks too often.
    Stranger,
}

/// Whoever answers at the [`Desk`].
#[async_trait]
pub trait Clerk: Send + Sync {
    /// Looks at a head. Nothing of the body is read before.
    async fn look(&self, head: &Head) -> Look;

    /// Answers a request whose body was wanted.
    async fn answer(&self, head: Head, body: Vec<u8>) -> Told;
}

/// Serves the operator's programs. Of [`Limits`] the one for each peer counts strangers only.
#[derive(Clone)]
pub struct Desk {
    inner: Arc<Inner>,
}

struct Inner {
    clerk: Arc<dyn Clerk>,
    limits: Limits,
    bodies: Arc<Room>,
    strangers: Mutex<Buckets<Subject>>,
}

impl Desk {
    /// A desk with this clerk.
    #[must_use]
    pub fn new(clerk: Arc<dyn Clerk>, limits: Limits) -> Self {
        let (bodies, strangers) = (Room::new(limits.bodies_bytes), Mutex::default());
        Self { inner: Arc::new(Inner { clerk, limits, bodies, strangers }) }
    }

    /// Serves until `shutdown` is ready or the listener ends. What is asked by then has `grace` to be answered.
    pub async fn run(&self, listener: &dyn Listener, shutdown: impl Future<Output = ()>, grace: Duration) {
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let (room, held) = (Room::new(self.inner.limits.connections), Arc::<Held>::default());
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => {
                    if ended.is_err() {
                        tracing::error!("a connection to the API panicked; the others go on");
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok(connection) => {
                        let place = held.take(self.inner.limits.connections_per_peer, connection.peer);
                        // Whoever finds no place is hung up on: it is the operator's own listener.
                        if let (Some(place), Some(seat)) = (place, room.enter(1)) {
                            connections.spawn(serve(self.inner.clone(), connection, (place, seat), stopped.clone()));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                    Err(error) => tracing::warn!(%error, "no connection to the API accepted"),
                },
            }
        }
        stop.send_replace(true);
        room.clear();
        self.inner.bodies.clear();
        let ended = async { while connections.join_next().await.is_some() {} };
        // What is cut then was answered to nobody; what it asked for goes on.
        drop(timeout(grace, ended).await);
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

/// Serves a connection within all limits of time, and closes it.
async fn serve(inner: Arc<Inner>, connection: Connection, place: (Place, Seat), stop: watch::Receiver<bool>) {
    let Connection { stream, peer, .. } = connection;
    let (_place, seat) = (place.0, Arc::new(place.1));
    let limits = &inner.limits;
    let longest = limits.header_time + limits.body_time + limits.exchange_time + LINGER;
    let served = async {
        let called = Arc::clone(&seat);
        let inner = Arc::clone(&inner);
        let service = service_fn(move |request| {
            called.stay(true);
            let inner = Arc::clone(&inner);
            Box::pin(async move { Ok::<_, Infallible>(inner.respond(request, peer).await) })
        });
        let mut connection = protocol(limits).serve_connection(TokioIo::new(stream), service);
        let mut stop = stop;
        let ended = tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
            () = async { drop(stop.wait_for(|stop| *stop).await) } => {
                Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|cx| connection.poll_without_shutdown(cx)).await
            }
        };
        if ended.is_ok() {
            let mut stream = connection.into_parts().io.into_inner();
            seat.stay(false);
            drop(timeout(LINGER, close(&mut stream)).await);
        }
    };
    tokio::select! {
        _ = timeout(longest, served) => {}
        () = seat.called_off() => {}
    }
}

impl Inner {
    async fn respond(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let head = head(&request);
        let most = match self.clerk.look(&head).await {
            Look::Body(most) => most,
            Look::Answer(told) => return response(told),
            Look::Stranger => return response(self.stranger(peer)),
        };
        match self.read(request.into_body(), most).await {
            Ok(body) => response(self.clerk.answer(head, body).await),
            Err(status) => response(Told::bare(status)),
        }
    }

    fn stranger(&self, peer: Peer) -> Told {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let may = |rate| strangers.take_of(rate, peer, Instant::now());
        match self.limits.per_peer.is_none_or(may) {
            true => Told { headers: vec![("www-authenticate", "Bearer".to_owned())], ..Told::bare(401) },
            false => Told::bare(429),
        }
    }

    /// The body, or the status that says why not.
    async fn read(&self, mut body: Incoming, most: usize) -> Result<Vec<u8>, u16> {
        // Of a body in chunks nobody knows the length: it takes as much room as it may.
        let length = body.size_hint().upper().unwrap_or(most as u64);
        let length = usize::try_from(length).ok().filter(|length| *length <= most).ok_or(413_u16)?;
        let seat = self.bodies.enter(length).ok_or(503_u16)?;
        let mut bytes = Vec::new();
        let whole = async {
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|_| 400_u16)?.into_data() else { continue };
                if bytes.len() + data.len() > most {
                    return Err(413_u16);
                }
                bytes.extend_from_slice(&data);
            }
            Ok(())
        };
        tokio::select! {
            read = timeout(self.limits.body_time, whole) => read.map_err(|_| 408_u16)??,
            () = seat.called_off() => return Err(503),
        }
        Ok(bytes)
    }
}

fn head(request: &Request<Incoming>) -> Head {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    Head {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        headers: request.headers().iter().filter_map(text).collect(),
    }
}

fn response(told: Told) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(told.body));
    // What is no status is our own mistake.
    *response.status_mut() = StatusCode::from_u16(told.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    for (name, value) in told.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    response
}

#[cfg(test)]
mod tests;
