//! One connection: one request, one reply, closed.
//!
//! hyper answers by itself what it cannot parse, with a bare status line. A payer's web page could not read that, so
//! until a request was parsed what hyper writes is dropped, and [`refuse`] writes in its place.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use payjoin_core::Reply;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;

use super::line::Line;
use super::request::{From, response};
use super::{Inner, LINGER, Limits};
use crate::Connection;
use crate::peer::Place;
use crate::room::Seat;

/// hyper's own least size for its buffer.
const LEAST_BUFFER: usize = 8192;

/// Serves a connection within all limits of time, and closes it.
pub(super) async fn serve(
    server: Arc<Inner>,
    connection: Connection,
    place: Option<(Place, Seat)>,
    stop: watch::Receiver<bool>,
) {
    let Connection { stream, peer, authenticated } = connection;
    let mut stream = Line::new(stream);
    let Some((_place, seat)) = place else {
        server.replies.count(Reply::TRY_LATER.status());
        // Nothing of the request is read, so a payer may see a reset before it sees this.
        return drop(timeout(LINGER, refuse(&mut stream, &Reply::TRY_LATER)).await);
    };
    let from = From { peer, authenticated, accepted: Instant::now(), end: stream.end() };
    let seat = Arc::new(seat);
    tokio::select! {
        () = answer(server, stream, from, Arc::clone(&seat), stop) => {}
        () = seat.called_off() => {}
    }
}

/// Until the head is there, and again once the reply is sent, the connection may be called off.
async fn answer(server: Arc<Inner>, stream: Line, from: From, seat: Arc<Seat>, stop: watch::Receiver<bool>) {
    let longest = server.limits.exchange_time + LINGER;
    let replies = server.replies.clone();
    let served = timeout(longest, http(server, stream, from, Arc::clone(&seat), stop)).await;
    let Ok((mut stream, refused)) = served else { return };
    seat.stay(false);
    if let Some(refusal) = refused {
        replies.count(refusal.status());
        drop(timeout(LINGER, refuse(&mut stream, &refusal)).await);
    }
    drop(timeout(LINGER, close(&mut stream)).await);
}

/// Lets hyper read one request and write one reply. Gives the stream back, and the reply that it still needs.
async fn http(
    server: Arc<Inner>,
    stream: Line,
    from: From,
    seat: Arc<Seat>,
    mut stop: watch::Receiver<bool>,
) -> (Line, Option<Reply>) {
    let parsed = Arc::new(AtomicBool::new(false));
    let limits = server.limits.clone();
    let gate = Gate { stream, open: parsed.clone() };
    let open = parsed.clone();
    let service = service_fn(move |request| {
        open.store(true, Ordering::Relaxed);
        seat.stay(true);
        let (server, from) = (server.clone(), from.clone());
        Box::pin(async move {
            let reply = server.clone().respond(request, from).await;
            server.replies.count(reply.status().as_u16());
            Ok::<_, Infallible>(reply)
        })
    });
    let mut connection = protocol(&limits).serve_connection(TokioIo::new(gate), service);
    let result = tokio::select! {
        result = poll_fn(|cx| connection.poll_without_shutdown(cx)) => result,
        // Ends a connection that has not begun its request.
        () = async { drop(stop.wait_for(|stop| *stop).await) } => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    let stream = connection.into_parts().io.into_inner().stream;
    let refused = match result {
        Err(error) if !parsed.load(Ordering::Relaxed) => Some(refusal_for(&error)),
        _ => None,
    };
    (stream, refused)
}

/// HTTP within these limits.
pub(crate) fn protocol(limits: &Limits) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .keep_alive(false)
        // It would tell how wrong our clock is, from which an onion service can be told among other servers.
        .auto_date_header(false)
        // A payer may close its sending side after the request.
        .half_close(true)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes.max(LEAST_BUFFER))
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time);
    protocol
}

fn refusal_for(error: &hyper::Error) -> Reply {
    if error.is_timeout() {
        Reply::LATE_HEAD
    } else if error.is_parse_too_large() {
        Reply::LONG_HEAD
    } else {
        Reply::NO_REQUEST
    }
}

/// Writes a reply without hyper.
async fn refuse(stream: &mut Line, reply: &Reply) -> io::Result<()> {
    let (head, body) = response(reply).into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    let mut bytes =
        format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", head.status, body.len())
            .into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_ref());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Closes our side and reads away what the payer still sends: a socket closed with unread bytes in it is reset, and
/// the payer would lose the reply.
pub(crate) async fn close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Drops what is written until it is open.
struct Gate {
    stream: Line,
    open: Arc<AtomicBool>,
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.open.load(Ordering::Relaxed) {
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        } else {
            Poll::Ready(Ok(bytes.len()))
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
