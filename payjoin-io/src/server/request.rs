//! From the headers of one request to its reply.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use payjoin_core::{Delivery, Exchange, Invoice, InvoiceId, Reply};
use tokio::time::{timeout, timeout_at};

use super::Inner;
use super::line::End;
use crate::room::Seat;
use crate::{Peer, drive_for};

/// A connection, as far as its request needs to know it.
#[derive(Clone, Debug)]
pub(super) struct From {
    pub(super) peer: Peer,
    pub(super) authenticated: bool,
    pub(super) accepted: Instant,
    pub(super) end: End,
}

impl Inner {
    pub(super) async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        from: From,
    ) -> Response<Full<Bytes>> {
        if request.method() == Method::OPTIONS {
            return preflight();
        }
        let invoice = match self.find(request.uri().path()).await {
            Ok(invoice) => invoice,
            Err(refusal) => return response(&refusal),
        };
        if request.method() != Method::POST {
            let mut response = response(&Reply::NO_POST);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
            return response;
        }
        match self.receive(request, &from).await {
            Ok((request, seat)) => response(&self.exchange(invoice, request, seat, from).await),
            Err(refusal) => response(&refusal),
        }
    }

    async fn find(&self, path: &str) -> Result<Invoice, Reply> {
        let id = path.strip_prefix('/').unwrap_or(path);
        let mut found = self.host.store.invoice(&InvoiceId(id.to_owned())).await;
        // QR scanners hand on a code in capitals as it stands there. BIP 321, "QR codes".
        if matches!(found, Ok(None)) && !id.contains(|letter: char| letter.is_ascii_lowercase()) {
            found = self.host.store.invoice(&InvoiceId(id.to_ascii_lowercase())).await;
        }
        match found {
            Ok(found) => found.ok_or(Reply::NO_CODE),
            Err(error) => {
                tracing::error!(%error, "cannot look up an invoice");
                Err(Reply::TRY_LATER)
            }
        }
    }

    /// Reads a body that is within the limits, or says why not. While it is not whole it may be called off; its seat is
    /// kept as long as it is.
    async fn receive(
        &self,
        request: Request<Incoming>,
        from: &From,
    ) -> Result<(payjoin_core::Request, Seat), Reply> {
        if let Some(rate) = self.limits.per_peer {
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            if !rates.take_of(rate, from.peer, Instant::now()) {
                return Err(Reply::TOO_MANY);
            }
        }
        let headers = request.headers();
        let length = content_length(headers)?;
        if length > self.limits.body_bytes {
            return Err(Reply::LONG_BODY);
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        let content_type = text(headers, header::CONTENT_TYPE);
        if !content_type.as_deref().is_some_and(is_plain_text) {
            return Err(Reply::UNKNOWN_TYPE);
        }
        let content_length = text(headers, header::CONTENT_LENGTH);
        let seat = self.bodies.enter(length).ok_or(Reply::TRY_LATER)?;
        let body = tokio::select! {
            body = timeout(self.limits.body_time, read(request.into_body(), length)) => body,
            () = seat.called_off() => return Err(Reply::TRY_LATER),
        };
        let body = body.map_err(|_| Reply::LATE_BODY)?.ok_or(Reply::NO_REQUEST)?;
        if !seat.stay(true) {
            return Err(Reply::TRY_LATER);
        }
        let (authenticated, delivery) = (from.authenticated, Delivery::Http);
        let request =
            payjoin_core::Request { query, content_type, content_length, body, authenticated, delivery };
        Ok((request, seat))
    }

    /// Runs the exchange in a task of its own: it goes on when the payer leaves, and its panic stays in it.
    async fn exchange(
        self: Arc<Self>,
        invoice: Invoice,
        request: payjoin_core::Request,
        seat: Seat,
        from: From,
    ) -> Reply {
        let Ok(slot) = self.exchanges.clone().try_acquire_owned() else { return Reply::TRY_LATER };
        let Some(claim) = self.host.claim(&invoice.id) else { return Reply::TRY_LATER };
        let ends = from.accepted + self.limits.exchange_time;
        let host = self.host.clone();
        let running = tokio::spawn(async move {
            let _held = (slot, claim, seat);
            let mut exchange = Exchange::new(host.now(), invoice, request, host.policy());
            drive_for(&host, &mut exchange, &from.end).await
        });
        match timeout_at(ends.into(), running).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => {
                tracing::error!("an exchange panicked");
                Reply::TRY_LATER
            }
            Err(_) => Reply::TRY_LATER,
        }
    }
}

/// A body of this length, in no more room than it takes. `None` when it does not come.
async fn read(mut body: Incoming, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Some(bytes)
}

/// The one length of a body that says how long it is. Of several that differ hyper makes an error, of equal ones one.
fn content_length(headers: &HeaderMap) -> Result<usize, Reply> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else {
        return Err(Reply::NO_TRANSFER_ENCODING);
    };
    length.to_str().ok().and_then(|length| length.parse().ok()).ok_or(Reply::NO_REQUEST)
}

/// The exchange looks again; this spares the reading of the body.
fn is_plain_text(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Every reply of the endpoint may be read by a payer's web page: BIP 78, "Receiver's well known errors".
pub(super) fn response(reply: &Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(reply.body()));
    *response.status_mut() = StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type()));
    response
}

fn preflight() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    response
}
