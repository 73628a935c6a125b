//! HTTP/1.1 through Tor.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use payjoin_core::with_causes;
use payjoin_io::{HttpClient, HttpError, HttpRequest, HttpResponse, Stream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::TorClient;

/// An [`HttpClient`] whose every request takes a circuit of its own, so that nobody on the way, nor the server, learns
/// which requests belong together. Tor hides the address, so [`HttpRequest::tunnel`] is not used.
#[derive(Clone)]
pub struct TorHttp {
    tor: TorClient,
    tls: TlsConnector,
}

impl std::fmt::Debug for TorHttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorHttp").field("tor", &self.tor).finish_non_exhaustive()
    }
}

impl TorHttp {
    /// Makes a client. `root` is a certificate in DER to trust besides the public authorities.
    ///
    /// # Errors
    /// [`HttpError::Invalid`] when the certificate cannot be used.
    pub fn new(tor: TorClient, root: Option<Vec<u8>>) -> Result<Self, HttpError> {
        Ok(Self { tor, tls: connector(root).map_err(|error| HttpError::Invalid(with_causes(&error)))? })
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let target = Target::parse(&request.url)?;
        let stream = self.tor.connect(&target.host, target.port).await.map_err(|e| transport(&e))?;
        if !target.tls {
            return talk(stream, &target, request).await;
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|error| invalid(&error))?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| transport(&error))?;
        talk(Box::new(stream), &target, request).await
    }
}

#[async_trait]
impl HttpClient for TorHttp {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let within = request.timeout;
        timeout(within, self.exchange(request)).await.unwrap_or(Err(HttpError::Timeout))
    }
}

fn connector(root: Option<Vec<u8>>) -> Result<TlsConnector, tokio_rustls::rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(root) = root {
        roots.add(CertificateDer::from(root))?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    tls: bool,
    host: String,
    port: u16,
    /// The `Host` header.
    authority: String,
    path: PathAndQuery,
}

impl Target {
    fn parse(url: &str) -> Result<Self, HttpError> {
        let uri: Uri = url.parse().map_err(|error| invalid(&error))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(HttpError::Invalid("the URL is neither http nor https".to_owned())),
        };
        let no_host = || HttpError::Invalid("the URL has no host".to_owned());
        let authority =
            uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(no_host)?;
        if authority.as_str().contains('@') {
            return Err(HttpError::Invalid("the URL holds a password".to_owned()));
        }
        Ok(Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.to_string(),
            path: uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")),
        })
    }
}

/// One request and its answer on a stream of its own.
async fn talk(
    stream: Box<dyn Stream>,
    target: &Target,
    request: HttpRequest,
) -> Result<HttpResponse, HttpError> {
    let mut outgoing = Request::builder().uri(target.path.as_str()).header(HOST, &target.authority);
    if let Some(accept) = request.accept {
        outgoing = outgoing.header(ACCEPT, accept);
    }
    for (name, value) in &request.headers {
        outgoing = outgoing.header(*name, value);
    }
    let body = match request.body {
        None => Bytes::new(),
        Some((content_type, body)) => {
            outgoing = outgoing.method(Method::POST).header(CONTENT_TYPE, content_type);
            body.into()
        }
    };
    let outgoing = outgoing.body(Full::new(body)).map_err(|error| invalid(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| transport(&error))?;
    // Ends with this function.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender.send_request(outgoing).await.map_err(|error| transport(&error))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), request.limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { HttpError::TooLong(request.limit) } else { transport(&*error) }
    })?;
    Ok(HttpResponse { status, body: body.to_bytes().into() })
}

fn invalid(error: &(dyn Error + 'static)) -> HttpError {
    HttpError::Invalid(with_causes(error))
}

fn transport(error: &(dyn Error + 'static)) -> HttpError {
    HttpError::Transport(with_causes(error))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn target(url: &str) -> (bool, String, u16, String) {
        let target = Target::parse(url).unwrap();
        (target.tls, target.host, target.port, target.path.to_string())
    }

    #[test]
    fn a_url_leads_to_a_host_a_port_and_a_path() {
        for (url, tls, host, port, path) in [
            ("http://aaa.onion", false, "aaa.onion", 80, "/"),
            ("http://aaa.onion/x?v=1", false, "aaa.onion", 80, "/x?v=1"),
            ("https://relay.example:8443/r", true, "relay.example", 8443, "/r"),
            ("https://[::1]/", true, "::1", 443, "/"),
        ] {
            assert_eq!(target(url), (tls, host.to_owned(), port, path.to_owned()));
        }
    }

    #[test]
    fn a_url_that_leads_nowhere_is_invalid() {
        for url in ["", "aaa.onion", "ftp://aaa.onion/", "http:///x", "http://user:word@aaa.onion/", "/path"]
        {
            assert!(matches!(Target::parse(url), Err(HttpError::Invalid(_))), "{url:?}");
        }
    }

    /// What a server reads when it gives this answer, and what the client makes of it.
    async fn exchange(
        answer: &'static str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> (String, Result<HttpResponse, HttpError>) {
        let (ours, mut theirs) = duplex(1 << 16);
        let server = tokio::spawn(async move {
            let mut read = vec![0; 1 << 16];
            let length = theirs.read(&mut read).await.unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(read[..length].to_vec()).unwrap()
        });
        let url = "http://aaa.onion:81/box?v=2".to_owned();
        let target = Target::parse(&url).unwrap();
        let timeout = Duration::from_secs(5);
        let request = HttpRequest {
            url,
            accept: Some("text/plain"),
            headers: vec![("Event-Id", "7".to_owned())],
            body,
            timeout,
            limit: 4,
            tunnel: None,
            fresh: false,
        };
        let result = talk(Box::new(ours), &target, request).await;
        (server.await.unwrap(), result)
    }

    #[tokio::test]
    async fn a_request_is_sent_with_what_it_needs_and_nothing_else() {
        let (sent, answer) = exchange("HTTP/1.1 202 A\r\ncontent-length: 4\r\n\r\nbody", None).await;
        assert_eq!(
            sent,
            "GET /box?v=2 HTTP/1.1\r\nhost: aaa.onion:81\r\naccept: text/plain\r\nevent-id: 7\r\n\r\n"
        );
        assert_eq!(answer, Ok(HttpResponse { status: 202, body: b"body".to_vec() }));
        let (sent, _) = exchange("HTTP/1.1 200 O\r\n\r\n", Some(("a/b", b"hello".to_vec()))).await;
        assert!(sent.starts_with("POST /box?v=2 ") && sent.ends_with("\r\n\r\nhello"), "{sent}");
        assert!(sent.contains("content-type: a/b\r\n") && sent.contains("content-length: 5\r\n"), "{sent}");
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_not_read() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        ] {
            assert_eq!(exchange(answer, None).await.1, Err(HttpError::TooLong(4)));
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_short_is_an_error() {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbo", "nonsense\r\n\r\n"] {
            assert!(matches!(exchange(answer, None).await.1, Err(HttpError::Transport(_))), "{answer:?}");
        }
    }
}
