//! lightningd's JSON-RPC through its plugin clnrest: HTTPS to the certificate in a file, with the rune in another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use serde_json::Value;

use super::error::{MOST, RpcError};
use crate::lock::lock;
use crate::pin::Pin;

/// For the connection.
const CONNECT: Duration = Duration::from_secs(5);

/// `common/jsonrpc_errors.h`.
const RUNE_BLACKLISTED: i64 = 1503;
/// JSON-RPC 2.0, "Error object".
const INVALID: i64 = -32602;
const RUNE: std::ops::RangeInclusive<i64> = 1501..=1503;

/// Where clnrest is, and what lets us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestAccess {
    /// `https://host:port`.
    pub url: String,
    /// Its certificate, PEM: `server.pem` in lightningd's folder of the network.
    pub certificate: PathBuf,
    /// A file with the rune.
    pub rune: PathBuf,
}

/// A client that reads certificate and rune again when they are not accepted.
#[derive(Debug)]
pub(super) struct Rest {
    access: RestAccess,
    session: Mutex<Option<Arc<Session>>>,
}

#[derive(Debug)]
struct Session {
    http: reqwest::Client,
    pin: Arc<Pin>,
    rune: HeaderValue,
    /// The two files, as they were read.
    files: (Vec<u8>, Vec<u8>),
}

impl Rest {
    pub(super) fn new(access: RestAccess) -> Self {
        Self { access, session: Mutex::default() }
    }

    pub(super) fn url(&self) -> &str {
        &self.access.url
    }

    /// Makes a call. What is not accepted is tried once more where the files have changed.
    pub(super) async fn ask(&self, method: &'static str, params: &Value) -> Result<Value, RpcError> {
        let session = self.session()?;
        let refused = match self.attempt(&session, method, params).await {
            Err(error @ RpcError::Access(_)) => error,
            done => return done,
        };
        let again = Arc::new(Session::open(&self.access)?);
        if again.files == session.files {
            return Err(refused);
        }
        *lock(&self.session) = Some(Arc::clone(&again));
        self.attempt(&again, method, params).await
    }

    fn session(&self) -> Result<Arc<Session>, RpcError> {
        let mut session = lock(&self.session);
        match &*session {
            Some(session) => Ok(Arc::clone(session)),
            None => Ok(Arc::clone(session.insert(Arc::new(Session::open(&self.access)?)))),
        }
    }

    async fn attempt(
        &self,
        session: &Session,
        method: &'static str,
        params: &Value,
    ) -> Result<Value, RpcError> {
        let url = format!("{}/v1/{method}", self.access.url.trim_end_matches('/'));
        let request = session.http.post(url).header("Rune", &session.rune).json(params);
        let sent = request.send().await;
        let mut response = sent.map_err(|error| match session.pin.other.load(Ordering::Relaxed) {
            true => RpcError::Access(format!(
                "{} shows another certificate than {}: where clnrest made itself a new one, let `certificate` under \
                 [cln] name that one; otherwise it is not your Core Lightning that listens there",
                self.access.url,
                self.access.certificate.display()
            )),
            false => self.away(&error),
        })?;
        let is_answer = response.status().is_success();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.away(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST {
                return Err(RpcError::Unexpected(method));
            }
        }
        let told: Value = serde_json::from_slice(&body).map_err(|_| RpcError::Unexpected(method))?;
        if is_answer { Ok(told) } else { Err(refusal(method, &told)) }
    }

    fn away(&self, error: &reqwest::Error) -> RpcError {
        let mut cause: &dyn std::error::Error = error;
        // The innermost says most.
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        RpcError::Away(format!(
            "Core Lightning's clnrest does not answer at {}: {cause}; see that lightningd runs, with `clnrest-port`",
            self.access.url
        ))
    }
}

/// What clnrest says where lightningd, or its rune, refuses.
fn refusal(method: &'static str, told: &Value) -> RpcError {
    const LINE: &str = "make a new one with the `lightning-cli createrune` line of docs/core-lightning.md";
    let Some(code) = told.get("code").and_then(Value::as_i64) else { return RpcError::Unexpected(method) };
    let message = told.get("message").and_then(Value::as_str).unwrap_or("it does not say why").to_owned();
    match code {
        RUNE_BLACKLISTED => RpcError::Access(format!("the rune is blacklisted: {LINE}")),
        code if RUNE.contains(&code) && message.contains("method") => {
            RpcError::Access(format!("the rune does not allow `{method}`: {LINE}"))
        }
        code if RUNE.contains(&code) && message.contains("time") => {
            RpcError::Access(format!("the rune has expired ({message}): {LINE}"))
        }
        // What is no rune at all is a parameter that `checkrune` does not take.
        code if RUNE.contains(&code) || (code == INVALID && message.starts_with("rune:")) => {
            RpcError::Access(format!("Core Lightning does not accept the rune ({message}): {LINE}"))
        }
        code => RpcError::Refused { code, message },
    }
}

impl Session {
    fn open(access: &RestAccess) -> Result<Self, RpcError> {
        let files = (read(&access.certificate)?, read(&access.rune)?);
        let unusable =
            |file: &Path, why: String| RpcError::Access(format!("cannot use {}: {why}", file.display()));
        let pin = Pin::read(&files.0).map_err(|why| unusable(&access.certificate, why))?;
        let tls = pin.tls().map_err(|error| unusable(&access.certificate, error.to_string()))?;
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .no_proxy()
            .redirect(Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .build()
            .map_err(|error| unusable(&access.certificate, error.to_string()))?;
        let mut rune = HeaderValue::from_bytes(files.1.trim_ascii())
            .map_err(|_| unusable(&access.rune, "it is no rune".to_owned()))?;
        rune.set_sensitive(true);
        Ok(Self { http, pin, rune, files })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, RpcError> {
    let failed = |why: String| RpcError::Access(format!("cannot use {}: {why}", file.display()));
    let bytes = fs::read(file).map_err(|error| failed(error.to_string()))?;
    if bytes.is_empty() { Err(failed("it is empty".to_owned())) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_refusal_has_its_word() {
        for (code, message, word) in [
            (1502, "Not permitted: method is not equal to getinfo", "does not allow `pay`"),
            (1503, "Not authorized: Blacklisted rune", "blacklisted"),
            (1502, "Not permitted: time is greater or equal to 1", "has expired"),
            (1501, "Not authorized: Not derived from master", "does not accept the rune"),
            (INVALID, "rune: should be base64 string", "does not accept the rune"),
        ] {
            let told = refusal("pay", &json!({ "code": code, "message": message }));
            assert!(matches!(&told, RpcError::Access(why) if why.contains(word)), "{word}: {told}");
        }
        let told = refusal("pay", &json!({ "code": 210, "message": "Ran out of routes" }));
        assert!(matches!(told, RpcError::Refused { code: 210, .. }), "{told}");
        assert!(matches!(refusal("pay", &json!("a page")), RpcError::Unexpected("pay")));
    }

    #[tokio::test]
    async fn files_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, rune) = (folder.path().join("server.pem"), folder.path().join("rune"));
        let access = RestAccess { url: "https://127.0.0.1:1".to_owned(), certificate, rune };
        for (write, word) in [(None, "server.pem"), (Some("nonsense"), "rune")] {
            if let Some(text) = write {
                fs::write(&access.certificate, text).unwrap();
            }
            let error = Rest::new(access.clone()).ask("getinfo", &json!({})).await.unwrap_err();
            assert!(matches!(&error, RpcError::Access(why) if why.contains(word)), "{word}: {error}");
        }
        fs::write(&access.rune, "rune\n").unwrap();
        let error = Rest::new(access.clone()).ask("getinfo", &json!({})).await.unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }
}
