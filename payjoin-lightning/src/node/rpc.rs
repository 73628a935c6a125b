//! A small JSON-RPC client for bitcoind.
//!
//! One connection pool with keep-alive, and batches: however many questions an exchange has, they are one HTTP
//! request.

mod block_source;
mod reply;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bitcoin::base64::Engine as _;
use bitcoin::base64::prelude::BASE64_STANDARD;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, BlockHash, OutPoint, Transaction, TxOut, Txid};
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use serde_json::{Value, json};

use reply::Reply;

use super::lock;

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

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The cookie file cannot be read: bitcoind does not run, or the path is wrong.
    #[error("cannot read the cookie file {path}: {source}")]
    Cookie {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// bitcoind does not accept our credentials.
    #[error("bitcoind refuses the RPC credentials")]
    Unauthorized,
    /// No answer, or not over HTTP.
    #[error("bitcoind cannot be reached: {}", root(.0))]
    Transport(reqwest::Error),
    /// An HTTP error without a JSON-RPC body, such as a full work queue.
    #[error("bitcoind answered {0}")]
    Status(StatusCode),
    /// bitcoind understood the call and refused it.
    #[error("bitcoind: {message} ({code})")]
    Server {
        /// JSON-RPC error code.
        code: i64,
        /// bitcoind's words.
        message: String,
    },
    /// The answer does not have the shape that the call promises.
    #[error("bitcoind's answer to {0} cannot be read")]
    Unexpected(&'static str),
}

/// What the HTTP client's own words leave out, such as "Connection refused".
fn root(error: &reqwest::Error) -> String {
    let first: &dyn std::error::Error = error;
    std::iter::successors(Some(first), |error| error.source()).last().unwrap_or(first).to_string()
}

/// What [`Rpc::inspect`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// `testmempoolaccept`; `Err` carries the reject reason.
    pub acceptable: Result<(), String>,
    /// The output each input spends, in order; `None` when it is not in the chain, or is spent there or in the mempool.
    pub prevouts: Vec<Option<TxOut>>,
}

/// bitcoind closes idle connections after 30 seconds (`-rpcservertimeout`); we let go of them before that.
const IDLE: Duration = Duration::from_secs(20);
/// A call that takes longer has failed. Blocks of 4 MB arrive well within it.
const TIMEOUT: Duration = Duration::from_secs(30);
/// `RPC_INVALID_ADDRESS_OR_KEY`: no such block, no such transaction in the mempool.
pub(super) const NOT_FOUND: i64 = -5;
/// `RPC_VERIFY_ALREADY_IN_UTXO_SET`: the transaction is in the chain.
const ALREADY_IN_CHAIN: i64 = -27;

/// A connection to bitcoind. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Rpc {
    url: String,
    auth: RpcAuth,
    header: Mutex<Option<HeaderValue>>,
    http: reqwest::Client,
}

impl Rpc {
    /// A client for `url`, for example `http://127.0.0.1:8332`. Does not connect yet.
    ///
    /// # Errors
    /// [`RpcError::Transport`] when the HTTP client cannot be built.
    pub fn new(url: impl Into<String>, auth: RpcAuth) -> Result<Self, RpcError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            // What it asks stays between us and bitcoind.
            .redirect(Policy::none())
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE)
            .timeout(TIMEOUT)
            .build()
            .map_err(transport)?;
        Ok(Self { url: url.into(), auth, header: Mutex::new(None), http })
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

    /// Would the mempool take this transaction, and what do its inputs really spend? One HTTP request.
    ///
    /// # Errors
    /// [`RpcError`] when a question was not answered. A transaction that the mempool would not take is no error.
    pub async fn inspect(&self, transaction: &Transaction) -> Result<Inspected, RpcError> {
        let mut calls = vec![("testmempoolaccept", json!([[serialize_hex(transaction)]]))];
        calls.extend(transaction.input.iter().map(|input| {
            let OutPoint { txid, vout } = input.previous_output;
            ("gettxout", json!([txid, vout, true]))
        }));
        let mut answers = self.batch(&calls).await?.into_iter();
        let verdict = answers.next().ok_or(RpcError::Unexpected("testmempoolaccept"))??;
        let acceptable = reply::acceptance(&verdict).ok_or(RpcError::Unexpected("testmempoolaccept"))?;
        let prevouts = answers
            .map(|answer| reply::utxo(&answer?).ok_or(RpcError::Unexpected("gettxout")))
            .collect::<Result<_, _>>()?;
        Ok(Inspected { acceptable, prevouts })
    }

    /// Sends a transaction to the network. `Ok` too when it is in the mempool or the chain already.
    ///
    /// # Errors
    /// [`RpcError::Server`] with the reject reason when the mempool does not take it.
    pub async fn broadcast(&self, transaction: &Transaction) -> Result<(), RpcError> {
        match self.call("sendrawtransaction", json!([serialize_hex(transaction)])).await {
            Ok(_) => Ok(()),
            Err(RpcError::Server { code: ALREADY_IN_CHAIN, .. }) => Ok(()),
            Err(RpcError::Server { message, .. })
                if message.contains("txn-already-known") || message.contains("txn-already-in-mempool") =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The mempool transaction that spends each outpoint, in order. Two HTTP requests, one when nothing is spent.
    ///
    /// # Errors
    /// [`RpcError`] when a question was not answered.
    pub async fn spenders(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Transaction>>, RpcError> {
        const METHOD: &str = "gettxspendingprevout";
        if outpoints.is_empty() {
            return Ok(Vec::new());
        }
        let params: Vec<_> = outpoints.iter().map(|o| json!({ "txid": o.txid, "vout": o.vout })).collect();
        let answer = self.call(METHOD, json!([params])).await?;
        let txids = reply::spending_txids(&answer).ok_or(RpcError::Unexpected(METHOD))?;
        if txids.len() != outpoints.len() {
            return Err(RpcError::Unexpected(METHOD));
        }
        let transactions = self.mempool_transactions(&txids).await?;
        Ok(txids.into_iter().map(|txid| transactions.get(&txid?).cloned()).collect())
    }

    /// Which of these transactions the mempool has, in order, and the best block. One HTTP request.
    pub(super) async fn in_mempool(&self, txids: &[Txid]) -> Result<(Vec<bool>, BlockHash), RpcError> {
        const BEST: &str = "getbestblockhash";
        let mut calls: Vec<_> = txids.iter().map(|txid| ("getmempoolentry", json!([txid]))).collect();
        // Asked last: when a block has just taken a transaction out of the mempool, this is that block or a later one.
        calls.push((BEST, json!([])));
        let mut answers = self.batch(&calls).await?;
        let best = answers.pop().ok_or(RpcError::Unexpected(BEST))??;
        let best = best.as_str().and_then(|hash| hash.parse().ok()).ok_or(RpcError::Unexpected(BEST))?;
        let is_there = |answer| match answer {
            Ok(_) => Ok(true),
            Err(RpcError::Server { code: NOT_FOUND, .. }) => Ok(false),
            Err(error) => Err(error),
        };
        Ok((answers.into_iter().map(is_there).collect::<Result<_, _>>()?, best))
    }

    /// The fee of a transaction in the mempool; `None` when it is not there.
    ///
    /// # Errors
    /// [`RpcError`] when the question was not answered.
    pub async fn mempool_fee(&self, txid: Txid) -> Result<Option<Amount>, RpcError> {
        const METHOD: &str = "getmempoolentry";
        let entry = match self.call(METHOD, json!([txid])).await {
            Err(RpcError::Server { code: NOT_FOUND, .. }) => return Ok(None),
            entry => entry?,
        };
        let fee = entry["fees"]["base"].as_f64().and_then(|fee| Amount::from_btc(fee).ok());
        Ok(Some(fee.ok_or(RpcError::Unexpected(METHOD))?))
    }

    /// Fetches what is still in the mempool; a transaction that left it meanwhile is missing from the answer.
    async fn mempool_transactions(
        &self,
        txids: &[Option<Txid>],
    ) -> Result<HashMap<Txid, Transaction>, RpcError> {
        const METHOD: &str = "getrawtransaction";
        let mut wanted: Vec<Txid> = txids.iter().flatten().copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let calls: Vec<_> = wanted.iter().map(|txid| (METHOD, json!([txid]))).collect();
        let mut found = HashMap::new();
        for (txid, answer) in wanted.into_iter().zip(self.batch(&calls).await?) {
            match answer {
                Ok(hex) => {
                    found.insert(txid, reply::transaction(&hex).ok_or(RpcError::Unexpected(METHOD))?);
                }
                Err(RpcError::Server { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
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
        let request = self.http.post(&self.url).header(AUTHORIZATION, auth).json(body);
        let response = request.send().await.map_err(transport)?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(RpcError::Unauthorized);
        }
        // A refused call has status 500 and a JSON body that says more than the status.
        let bytes = response.bytes().await.map_err(transport)?;
        serde_json::from_slice(&bytes).map_err(|_| match status.is_success() {
            true => RpcError::Unexpected(method),
            false => RpcError::Status(status),
        })
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
