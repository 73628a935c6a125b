//! One HTTP request out, one answer back: the seam to the network for senders and BIP 77 sessions.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::Bytes;
use payjoin_core::{causes, with_causes};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Body, Certificate, Client, ClientBuilder, Method, Proxy, Url};

/// One request. Without a body it is a GET, with one a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Absolute URL, `http` or `https`.
    pub url: String,
    /// The `Accept` header; without one anything is welcome.
    pub accept: Option<&'static str>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body and its `Content-Type`.
    pub body: Option<(&'static str, Vec<u8>)>,
    /// Time for the whole exchange.
    pub timeout: Duration,
    /// Longest body of an answer that is read, in bytes.
    pub limit: usize,
    /// `http` or `https` URL of a server to tunnel through with `CONNECT`, so that the target does not learn our
    /// address. A client that hides the address by itself may go without it. Only for targets with `https`.
    pub tunnel: Option<String>,
    /// Goes out on a new connection, on none that was kept from an earlier request.
    pub fresh: bool,
}

impl HttpRequest {
    /// Does it go to an onion service, or by way of one? RFC 7686, section 2: nobody but Tor may see that name.
    #[must_use]
    pub fn is_onion(&self) -> bool {
        let is_onion = |url: &str| {
            let url = Url::parse(url);
            url.is_ok_and(|url| url.host_str().is_some_and(payjoin_core::is_onion))
        };
        is_onion(&self.url) || self.tunnel.as_deref().is_some_and(is_onion)
    }
}

/// The answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The request or the client's settings make no sense.
    #[error("not a usable request: {0}")]
    Invalid(String),
    /// The time is over.
    #[error("no answer in time")]
    Timeout,
    /// The answer's body is longer than allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The connection was closed before an answer began: most often one that was kept, and that the other side closed
    /// while the request was on its way. Whether the other side saw the request is not known.
    #[error("the connection was closed before an answer")]
    Closed,
    /// Anything else between us and the other side.
    #[error("no connection: {0}")]
    Transport(String),
}

/// Sends requests. It follows no redirect and repeats nothing by itself: a repeated OHTTP ciphertext would tell the
/// relay which requests belong together. BIP 77, "OHTTP".
#[async_trait]
pub trait HttpClient: Send + Sync {
    /// Sends one request, once.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError>;

    /// Sends a request that may arrive twice. After [`HttpError::Closed`] it goes out once more, on a new connection.
    async fn send_again(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        match self.send(request.clone()).await {
            Err(HttpError::Closed) => self.send(HttpRequest { fresh: true, ..request }).await,
            answer => answer,
        }
    }
}

/// Settings of a [`DirectClient`].
#[derive(Clone, Debug, Default)]
pub struct DirectSettings {
    /// SOCKS5 proxy as `host:port`, for example Tor's. It resolves all names, and stands in for
    /// [`HttpRequest::tunnel`].
    pub socks: Option<String>,
    /// A certificate in DER to trust besides the public authorities.
    pub root: Option<Vec<u8>>,
}

/// HTTP/1.1 over TCP. The environment's proxy settings do not count. Without a SOCKS proxy it refuses onion addresses,
/// which must not be looked up.
#[derive(Clone, Debug)]
pub struct DirectClient {
    settings: DirectSettings,
    keeping: Client,
    fresh: Client,
}

impl DirectClient {
    /// Makes a client.
    ///
    /// # Errors
    /// [`HttpError::Invalid`] when the proxy or the certificate cannot be used.
    pub fn new(settings: DirectSettings) -> Result<Self, HttpError> {
        let keeping = builder(&settings)?.build().map_err(invalid)?;
        let fresh = builder(&settings)?.pool_max_idle_per_host(0).build().map_err(invalid)?;
        Ok(Self { settings, keeping, fresh })
    }

    /// A client of its own for one tunnel, so that nothing else ever takes that way.
    fn for_tunnel(&self, tunnel: &str) -> Result<Client, HttpError> {
        let proxy = Proxy::all(tunnel).map_err(invalid)?;
        builder(&self.settings)?.proxy(proxy).pool_max_idle_per_host(0).build().map_err(invalid)
    }

    fn client(&self, request: &HttpRequest) -> Result<Client, HttpError> {
        match &request.tunnel {
            Some(_) if !request.url.starts_with("https://") => {
                Err(HttpError::Invalid(format!("{} cannot be tunnelled to", request.url)))
            }
            Some(tunnel) if self.settings.socks.is_none() => self.for_tunnel(tunnel),
            _ if request.fresh => Ok(self.fresh.clone()),
            _ => Ok(self.keeping.clone()),
        }
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if self.settings.socks.is_none() && request.is_onion() {
            return Err(HttpError::Invalid("an onion service is reached through Tor only".to_owned()));
        }
        let client = self.client(&request)?;
        let method = if request.body.is_some() { Method::POST } else { Method::GET };
        let mut outgoing = client.request(method, &request.url).timeout(request.timeout);
        if let Some(accept) = request.accept {
            outgoing = outgoing.header(ACCEPT, accept);
        }
        for (name, value) in request.headers {
            outgoing = outgoing.header(name, value);
        }
        if let Some((content_type, body)) = request.body {
            // Of other bodies it keeps a copy while it waits for the answer, as if it would send them again.
            let body = Body::wrap(Full::new(Bytes::from(body)));
            outgoing = outgoing.header(CONTENT_TYPE, content_type).body(body);
        }
        let sent = outgoing.send().await;
        let mut answer =
            sent.map_err(|error| if is_closed(&error) { HttpError::Closed } else { transport(error) })?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > request.limit {
                return Err(HttpError::TooLong(request.limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpResponse { status, body })
    }
}

#[async_trait]
impl HttpClient for DirectClient {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.exchange(request).await
    }
}

fn builder(settings: &DirectSettings) -> Result<ClientBuilder, HttpError> {
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .connect_timeout(Duration::from_secs(20));
    if let Some(socks) = &settings.socks {
        builder = builder.proxy(Proxy::all(format!("socks5h://{socks}")).map_err(invalid)?);
    }
    if let Some(root) = &settings.root {
        builder = builder.add_root_certificate(Certificate::from_der(root).map_err(invalid)?);
    }
    Ok(builder)
}

fn invalid(error: reqwest::Error) -> HttpError {
    HttpError::Invalid(with_causes(&error))
}

fn transport(error: reqwest::Error) -> HttpError {
    if error.is_timeout() {
        HttpError::Timeout
    } else if error.is_builder() {
        invalid(error)
    } else {
        // Mailbox names are in URLs: they stay out of logs.
        HttpError::Transport(with_causes(&error.without_url()))
    }
}

/// Did the other side close the connection before the head of an answer was here?
fn is_closed(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let closes = |cause: &(dyn std::error::Error + 'static)| {
        let http = cause.downcast_ref::<hyper::Error>();
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        http.is_some_and(|error| error.is_incomplete_message() || error.is_canceled() || error.is_closed())
            || matches!(io, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
    };
    !error.is_connect() && causes(error).any(closes)
}

#[cfg(test)]
mod tests;
