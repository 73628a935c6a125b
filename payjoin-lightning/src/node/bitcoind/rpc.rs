//! A small JSON-RPC client for bitcoind.
//!
//! One connection pool with keep-alive, and batches: however many questions an exchange has, they are one HTTP
//! request.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bitcoin::base64::Engine as _;
use bitcoin::base64::prelude::BASE64_STANDARD;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::error::RpcError;
use super::reply::Reply;
use crate::lock::lock;

/// Our credentials at bitcoind.
#[derive(Clone, Debug)]
pub enum RpcAuth {
    /// The `.cookie` file of bitcoind's data directory. It is read again when bitcoind was restarted.
    Cookie(PathBuf),
    /// `rpcuser` and `rpcpassword` (or `rpcauth`).
    UserPassword {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
}

/// bitcoind closes idle connections after 30 seconds (`-rpcservertimeout`); we let go of them before that.
const IDLE: Duration = Duration::from_secs(20);
/// A call that takes longer has failed. Blocks of 4 MB arrive well within it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Calls that a full work queue refuses are made again for so long, after pauses that grow from the first on.
const BUSY: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Once we stop, a call that takes longer has failed, and bitcoind is asked nothing more.
const LAST: Duration = Duration::from_secs(5);

/// How long answers are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Patient,
    /// We stop.
    Hurried,
    /// We stop, and bitcoind has not answered in time.
    Over,
}

/// A connection to bitcoind. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Rpc {
    url: String,
    auth: RpcAuth,
    header: Mutex<Option<HeaderValue>>,
    http: reqwest::Client,
    /// Keeps no connection.
    fresh: reqwest::Client,
    pace: watch::Sender<Pace>,
}

impl Rpc {
    /// A client for `url`, for example `http://127.0.0.1:8332`. Does not connect yet.
    ///
    /// # Errors
    /// [`RpcError::Transport`] when the HTTP client cannot be built.
    pub fn new(url: impl Into<String>, auth: RpcAuth) -> Result<Self, RpcError> {
        let builder = || {
            // What it asks stays between us and bitcoind.
            let quiet = reqwest::Client::builder().no_proxy().redirect(Policy::none());
            quiet.tcp_nodelay(true).pool_idle_timeout(IDLE).timeout(TIMEOUT)
        };
        let http = builder().build().map_err(transport)?;
        let fresh = builder().pool_max_idle_per_host(0).build().map_err(transport)?;
        let pace = watch::Sender::new(Pace::Patient);
        Ok(Self { url: url.into(), auth, header: Mutex::new(None), http, fresh, pace })
    }

    /// From now on no answer is waited for longer than five seconds, and none at all after one that did not come so.
    pub fn hurry(&self) {
        self.pace.send_replace(Pace::Hurried);
    }

    /// Returns when no answer is waited for any more.
    async fn is_over(&self) {
        let mut pace = self.pace.subscribe();
        // It cannot fail: we hold the other end.
        let _ = pace.wait_for(|pace| *pace != Pace::Patient).await;
        if timeout(LAST, pace.wait_for(|pace| *pace == Pace::Over)).await.is_err() {
            self.pace.send_replace(Pace::Over);
        }
    }

    /// Calls one method.
    ///
    /// # Errors
    /// [`RpcError::Server`] when bitcoind refuses the call; the others say why there is no answer.
    pub async fn call(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        let body = request(0, method, &params);
        let reply = self.post(method, &body).await?;
        Reply::parse(reply).ok_or(RpcError::Unexpected(method))?.result
    }

    /// Calls several methods in ONE HTTP request. The answers are in the order of the calls.
    ///
    /// # Errors
    /// When there is no answer at all. What bitcoind refuses is an error in its place.
    pub async fn batch(
        &self,
        calls: &[(&'static str, Value)],
    ) -> Result<Vec<Result<Value, RpcError>>, RpcError> {
        let Some(&(name, _)) = calls.first() else { return Ok(Vec::new()) };
        let body =
            calls.iter().enumerate().map(|(id, (method, params))| request(id, method, params)).collect();
        let Value::Array(replies) = self.post(name, &Value::Array(body)).await? else {
            return Err(RpcError::Unexpected(name));
        };
        let mut by_id: HashMap<u64, Reply> =
            replies.into_iter().filter_map(Reply::parse).map(|reply| (reply.id, reply)).collect();
        let answer = |id| by_id.remove(&id).map(|reply| reply.result).ok_or(RpcError::Unexpected(name));
        (0..calls.len() as u64).map(answer).collect()
    }

    /// Posts a body. A cookie that is refused is read again: bitcoind writes a new one at every start.
    async fn post(&self, method: &'static str, body: &Value) -> Result<Value, RpcError> {
        let cached = lock(&self.header).clone();
        if let Some(header) = cached {
            match self.send(method, body, header).await {
                Err(RpcError::Unauthorized) => {}
                done => return done,
            }
        }
        let header = self.credentials()?;
        *lock(&self.header) = Some(header.clone());
        self.send(method, body, header).await
    }

    async fn send(&self, method: &'static str, body: &Value, auth: HeaderValue) -> Result<Value, RpcError> {
        tokio::select! {
            biased;
            answer = self.ask(method, body, auth) => answer,
            () = self.is_over() => Err(RpcError::Stopping),
        }
    }

    async fn ask(&self, method: &'static str, body: &Value, auth: HeaderValue) -> Result<Value, RpcError> {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let response = self.request(body, &auth).await.map_err(transport)?;
            let status = response.status();
            match status {
                StatusCode::UNAUTHORIZED => return Err(RpcError::Unauthorized),
                StatusCode::FORBIDDEN => return Err(RpcError::Forbidden(method)),
                StatusCode::SERVICE_UNAVAILABLE if begun.elapsed() < BUSY => {
                    sleep(pause).await;
                    pause = (pause * 2).min(BUSY / 10);
                    continue;
                }
                StatusCode::SERVICE_UNAVAILABLE => return Err(RpcError::Busy),
                _ => {}
            }
            // A refused call has status 500 and a JSON body that says more than the status.
            let bytes = response.bytes().await.map_err(transport)?;
            return serde_json::from_slice(&bytes).map_err(|_| match status.is_success() {
                true => RpcError::Unexpected(method),
                false => RpcError::Status(status),
            });
        }
    }

    async fn request(&self, body: &Value, auth: &HeaderValue) -> reqwest::Result<reqwest::Response> {
        let request = |http: &reqwest::Client| http.post(&self.url).header(AUTHORIZATION, auth).json(body);
        match request(&self.http).send().await {
            // bitcoind may close a kept connection while a request is on its way. No call of ours does more if it is
            // made twice.
            Err(error) if !error.is_connect() && !error.is_timeout() => request(&self.fresh).send().await,
            sent => sent,
        }
    }

    fn credentials(&self) -> Result<HeaderValue, RpcError> {
        let pair = match &self.auth {
            RpcAuth::Cookie(path) => std::fs::read_to_string(path)
                .map_err(|source| RpcError::Cookie { path: path.clone(), source })?
                .trim()
                .to_owned(),
            RpcAuth::UserPassword { user, password } => format!("{user}:{password}"),
        };
        let mut header = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)))
            .map_err(|_| RpcError::Unauthorized)?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// The URL is known, and may hold what belongs in no log.
fn transport(error: reqwest::Error) -> RpcError {
    RpcError::Transport(error.without_url())
}

fn request(id: usize, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "1.0", "id": id, "method": method, "params": params })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_call_whose_kept_connection_closes_is_made_once_more_on_a_new_one() {
        const ANSWER: &[u8] =
            b"HTTP/1.1 200 OK\r\ncontent-length: 32\r\n\r\n{\"id\":0,\"result\":7,\"error\":null}";
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            let (mut first, _) = listener.accept().await.expect("a connection");
            assert!(first.read(&mut buffer).await.expect("a request") > 0);
            first.write_all(ANSWER).await.expect("an answer");
            assert!(first.read(&mut buffer).await.expect("the next request") > 0);
            drop(first);
            for answer in [ANSWER, b""] {
                let (mut next, _) = listener.accept().await.expect("a connection");
                assert!(next.read(&mut buffer).await.expect("the same request") > 0);
                next.write_all(answer).await.expect("an answer");
            }
        });
        let auth = RpcAuth::UserPassword { user: "u".into(), password: "p".into() };
        let rpc = Rpc::new(url, auth).expect("a client");
        for _ in 0..2 {
            assert_eq!(rpc.call("getblockcount", json!([])).await.expect("an answer"), json!(7));
        }
        assert!(matches!(rpc.call("getblockcount", json!([])).await, Err(RpcError::Transport(_))));
        server.await.expect("the server");
    }

    /// A bitcoind that gives these answers, one on each connection, and then none.
    async fn answering(answers: Vec<&'static [u8]>) -> Rpc {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let mut kept = Vec::new();
            let mut answers = answers.into_iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 4096];
                assert!(stream.read(&mut buffer).await.expect("a request") > 0);
                match answers.next() {
                    Some(answer) => stream.write_all(answer).await.expect("an answer"),
                    None => kept.push(stream),
                }
            }
        });
        Rpc::new(url, RpcAuth::UserPassword { user: "u".into(), password: "p".into() }).expect("a client")
    }

    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 25\r\n\r\nWork queue depth exceeded";

    #[tokio::test]
    async fn a_call_that_a_full_work_queue_refuses_is_made_again() {
        const ANSWER: &[u8] =
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 32\r\n\r\n{\"id\":0,\"result\":7,\"error\":null}";
        let rpc = answering(vec![FULL, FULL, FULL, ANSWER]).await;
        assert_eq!(rpc.call("getblockcount", json!([])).await.expect("an answer"), json!(7));
    }

    #[tokio::test]
    async fn who_may_not_call_a_method_is_told_so_and_not_that_his_password_is_wrong() {
        for (answer, forbidden) in [
            (&b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"[..], true),
            (&b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"[..], false),
        ] {
            let error = answering(vec![answer, answer]).await.call("getblock", json!([])).await.unwrap_err();
            assert_eq!(matches!(error, RpcError::Forbidden("getblock")), forbidden, "{error}");
            assert_eq!(matches!(error, RpcError::Unauthorized), !forbidden, "{error}");
        }
    }

    #[tokio::test]
    async fn who_stops_waits_for_one_answer_five_seconds_and_for_the_next_not_at_all() {
        let rpc = answering(vec![]).await;
        rpc.hurry();
        let begun = Instant::now();
        let calls = futures_util::future::join(rpc.call("a", json!([])), rpc.call("b", json!([]))).await;
        assert!(matches!(calls, (Err(RpcError::Stopping), Err(RpcError::Stopping))), "{calls:?}");
        assert!(begun.elapsed() >= LAST, "an answer may come within that time");
        let last = Instant::now();
        assert!(matches!(rpc.call("c", json!([])).await, Err(RpcError::Stopping)));
        assert!(last.elapsed() < LAST);
    }
}
