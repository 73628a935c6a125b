//! LND's REST server: HTTPS to the certificate in a file, with the macaroon in another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::hex::DisplayHex as _;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Method, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::calls::{Call, Verb};
use super::error::{self, LndError, Said};
use crate::lock::lock;
use crate::pin::Pin;

/// Where LND's REST server is, and what lets us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LndAccess {
    /// `host:port`, as `restlisten` in lnd.conf has it.
    pub address: String,
    /// LND's `tls.cert`.
    pub certificate: PathBuf,
    /// The macaroon.
    pub macaroon: PathBuf,
}

/// For the connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For an answer that waits for no peer.
const ANSWER: Duration = Duration::from_secs(30);
/// Longer than any answer that we ask for.
const MOST: usize = 64 << 20;
/// The action that only a macaroon for administrators names.
const BAKES: &[u8] = b"generate";
const MACAROON: &str = "Grpc-Metadata-macaroon";

/// A client that reads certificate and macaroon again when LND does not accept them.
pub(super) struct Client {
    access: LndAccess,
    session: Mutex<Option<Arc<Session>>>,
}

struct Session {
    http: reqwest::Client,
    pin: Arc<Pin>,
    macaroon: HeaderValue,
    /// The two files, as they were read.
    files: (Vec<u8>, Vec<u8>),
}

impl Client {
    pub(super) fn new(access: LndAccess) -> Self {
        Self { access, session: Mutex::default() }
    }

    /// Makes a call without a body.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: &Call, rest: &str) -> Result<T, LndError> {
        let response = self.send(call, rest, None, Some(ANSWER)).await?;
        self.whole(call, response).await
    }

    /// Makes a call.
    pub(super) async fn post<T: DeserializeOwned>(&self, call: &Call, body: &Value) -> Result<T, LndError> {
        let response = self.send(call, "", Some(body), Some(ANSWER)).await?;
        self.whole(call, response).await
    }

    /// Makes a call that is answered piece by piece. It returns with the first piece.
    pub(super) async fn stream(
        &self,
        call: &Call,
        rest: &str,
        body: Option<&Value>,
    ) -> Result<Pieces, LndError> {
        let response = self.send(call, rest, body, None).await?;
        Ok(Pieces { call: *call, address: self.access.address.clone(), response, buffer: Vec::new() })
    }

    /// The macaroon in use can bake others, and so may do anything.
    pub(super) fn is_for_administrators(&self) -> bool {
        let macaroon =
            lock(&self.session).as_ref().map(|session| session.files.1.clone()).unwrap_or_default();
        macaroon.windows(BAKES.len()).any(|words| words == BAKES)
    }

    async fn whole<T: DeserializeOwned>(&self, call: &Call, response: Response) -> Result<T, LndError> {
        let body = body(response).await.map_err(|why| self.away(why))?;
        serde_json::from_slice(&body).map_err(|error| form(call, &error))
    }

    /// What is not accepted is tried once more where the files have changed.
    async fn send(
        &self,
        call: &Call,
        rest: &str,
        body: Option<&Value>,
        limit: Option<Duration>,
    ) -> Result<Response, LndError> {
        let session = self.session()?;
        let refused = match self.attempt(&session, call, rest, body, limit).await {
            Err(error) if error.is_about_access() => error,
            done => return done,
        };
        match self.renew(&session)? {
            Some(session) => self.attempt(&session, call, rest, body, limit).await,
            None => Err(refused),
        }
    }

    async fn attempt(
        &self,
        session: &Session,
        call: &Call,
        rest: &str,
        body: Option<&Value>,
        limit: Option<Duration>,
    ) -> Result<Response, LndError> {
        let url = format!("https://{}{}{rest}", self.access.address, call.path);
        let method = match call.verb {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Delete => Method::DELETE,
        };
        let mut request = session.http.request(method, url).header(MACAROON, &session.macaroon);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        let response =
            request.send().await.map_err(|error| match session.pin.other.load(Ordering::Relaxed) {
                true => {
                    let (address, file) = (self.access.address.clone(), self.access.certificate.clone());
                    LndError::Certificate { address, file }
                }
                false => self.away(why(&error)),
            })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = body_text(response).await.map_err(|why| self.away(why))?;
        Err(error::read(call, status, &body))
    }

    fn away(&self, why: String) -> LndError {
        LndError::Away { address: self.access.address.clone(), why }
    }

    fn session(&self) -> Result<Arc<Session>, LndError> {
        if let Some(session) = &*lock(&self.session) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session::open(&self.access)?);
        *lock(&self.session) = Some(Arc::clone(&session));
        Ok(session)
    }

    /// `None` where the files are as they were.
    fn renew(&self, old: &Session) -> Result<Option<Arc<Session>>, LndError> {
        let session = Arc::new(Session::open(&self.access)?);
        if session.files == old.files {
            return Ok(None);
        }
        *lock(&self.session) = Some(Arc::clone(&session));
        Ok(Some(session))
    }
}

impl Session {
    fn open(access: &LndAccess) -> Result<Self, LndError> {
        let LndAccess { certificate, macaroon, .. } = access;
        let files = (read(certificate)?, read(macaroon)?);
        let unusable = |why: String| LndError::File { file: certificate.clone(), why };
        let pin = Pin::read(&files.0).map_err(unusable)?;
        let tls = pin.tls().map_err(|error| unusable(error.to_string()))?;
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .no_proxy()
            .redirect(Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .build()
            .map_err(|error| unusable(why(&error)))?;
        let mut header = HeaderValue::from_str(&files.1.to_lower_hex_string())
            .map_err(|_| LndError::File { file: macaroon.clone(), why: "it is no macaroon".to_owned() })?;
        header.set_sensitive(true);
        Ok(Self { http, pin, macaroon: header, files })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, LndError> {
    let failed = |why: String| LndError::File { file: file.to_owned(), why };
    let bytes = fs::read(file).map_err(|error| failed(error.to_string()))?;
    if bytes.is_empty() { Err(failed("it is empty".to_owned())) } else { Ok(bytes) }
}

/// The innermost cause says most.
fn why(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST {
            return Err("the answer has no end".to_owned());
        }
    }
    Ok(body)
}

async fn body_text(response: Response) -> Result<String, String> {
    Ok(String::from_utf8_lossy(&body(response).await?).into_owned())
}

fn form(call: &Call, error: &serde_json::Error) -> LndError {
    LndError::Form { call: call.right, why: error.to_string() }
}

/// The pieces of an answer, each a line of JSON.
pub(super) struct Pieces {
    call: Call,
    address: String,
    response: Response,
    buffer: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Piece<T> {
    Result(T),
    Error(Said),
}

impl Pieces {
    /// The next piece; `None` after the last one.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LndError> {
        let away = |why: String| LndError::Away { address: self.address.clone(), why };
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.buffer.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let piece = serde_json::from_slice(&line).map_err(|error| form(&self.call, &error))?;
                return match piece {
                    Piece::Result(piece) => Ok(Some(piece)),
                    Piece::Error(said) => Err(error::meaning(&self.call, said)),
                };
            }
            if self.buffer.len() > MOST {
                return Err(away("the answer has no end".to_owned()));
            }
            match self.response.chunk().await.map_err(|error| away(why(&error)))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.is_empty() => return Ok(None),
                // The last line may lack its end.
                None => self.buffer.push(b'\n'),
            }
        }
    }
}
