//! The floor: the least that any receiver of BIP 78 must do. One `testmempoolaccept`, the typestates of the payjoin
//! crate, one signature, one durable write. It remembers no payer, looks up no prevout, locks no coin.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use bitcoin::address::NetworkUnchecked;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, TxOut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use payjoin::receive::v1::{Headers, UncheckedOriginalPayload, WantsOutputs};
use payjoin::receive::{InputPair, mark_checklist};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::key::Key;

#[derive(clap::Args)]
pub(crate) struct Settings {
    #[arg(long)]
    pub(crate) port: u16,
    #[arg(long)]
    pub(crate) certificate: PathBuf,
    #[arg(long)]
    pub(crate) key: PathBuf,
    #[arg(long)]
    pub(crate) bitcoind: String,
    #[arg(long)]
    pub(crate) cookie: PathBuf,
    /// Where Originals pay to
    #[arg(long)]
    pub(crate) address: Address<NetworkUnchecked>,
    /// A coin of the floor's key: it is in every proposal
    #[arg(long)]
    pub(crate) coin: OutPoint,
    #[arg(long)]
    pub(crate) coin_sat: u64,
    /// Every proposal is appended here before it leaves
    #[arg(long)]
    pub(crate) record: PathBuf,
}

struct Floor {
    key: Key,
    script: ScriptBuf,
    coin: InputPair,
    record: Arc<File>,
    bitcoind: Bitcoind,
}

struct Bitcoind {
    http: reqwest::Client,
    url: String,
    user: String,
    password: String,
}

/// Serves until it is killed.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(settings))
}

async fn serve(settings: &Settings) -> Result<()> {
    let floor = Arc::new(Floor::new(settings)?);
    let tls = acceptor(settings)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (floor, tls) = (Arc::clone(&floor), tls.clone());
        tokio::spawn(async move {
            if let Err(error) = converse(floor, tls, stream).await {
                eprintln!("{error:#}");
            }
        });
    }
}

fn acceptor(settings: &Settings) -> Result<TlsAcceptor> {
    let certificate = CertificateDer::from(fs::read(&settings.certificate)?);
    let key = PrivateKeyDer::try_from(fs::read(&settings.key)?).map_err(|error| anyhow!("{error}"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn converse(floor: Arc<Floor>, tls: TlsAcceptor, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(tls.accept(stream).await?);
    let service = service_fn(|request| async {
        let (status, body) = match floor.answer(request).await {
            Ok(proposal) => (StatusCode::OK, proposal),
            Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}")),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        Ok::<_, Infallible>(response)
    });
    http1::Builder::new().serve_connection(stream, service).await?;
    Ok(())
}

struct Named<'a>(&'a HeaderMap);

impl Headers for Named<'_> {
    fn get_header(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }
}

impl Floor {
    fn new(settings: &Settings) -> Result<Self> {
        let key = Key::floor()?;
        let output = TxOut { value: Amount::from_sat(settings.coin_sat), script_pubkey: key.script.clone() };
        let cookie = fs::read_to_string(&settings.cookie)?;
        let (user, password) = cookie.split_once(':').context("the cookie has no colon")?;
        let record = File::options().create(true).append(true).open(&settings.record)?;
        Ok(Self {
            key,
            script: settings.address.assume_checked_ref().script_pubkey(),
            coin: InputPair::new_p2wpkh(output, settings.coin)?,
            record: Arc::new(record),
            bitcoind: Bitcoind {
                http: reqwest::Client::builder().no_proxy().build()?,
                url: settings.bitcoind.clone(),
                user: user.to_owned(),
                password: password.to_owned(),
            },
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<String> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let query = parts.uri.query().unwrap_or_default();
        let payload = UncheckedOriginalPayload::from_request(&body, query, Named(&parts.headers))?;
        let transaction = payload.extract_tx_to_check_broadcast_suitability();
        let accepted = self.bitcoind.accepts(&transaction).await?;
        let proposal = self.propose(self.examine(payload, accepted)?)?.to_string();
        self.keep(proposal.clone()).await?;
        Ok(proposal)
    }

    fn examine(&self, payload: UncheckedOriginalPayload, accepted: bool) -> Result<WantsOutputs> {
        let maybe_owned = payload.apply_broadcast_suitability(None, accepted)?;
        let inputs = mark_checklist(maybe_owned.inputs_owned_checklist(), &mut |_| Ok(false))?;
        let maybe_seen = maybe_owned.apply_inputs_owned_checklist(inputs)?;
        let inputs = mark_checklist(maybe_seen.inputs_seen_checklist(), &mut |_| Ok(false))?;
        let unknown = maybe_seen.apply_inputs_seen_checklist(inputs)?;
        let outputs =
            mark_checklist(unknown.outputs_owned_checklist(), &mut |script| Ok(*script == self.script))?;
        Ok(unknown.apply_outputs_owned_checklist(outputs)?)
    }

    fn propose(&self, wants_outputs: WantsOutputs) -> Result<Psbt> {
        let coin = self.coin.clone();
        let wants_fee = wants_outputs.commit_outputs().contribute_inputs([coin])?.commit_inputs();
        let provisional = wants_fee.apply_fee_range(None, Some(FeeRate::BROADCAST_MIN))?;
        let mut psbt = provisional.psbt_to_sign();
        let outpoint = self.coin.outpoint();
        let index = psbt.unsigned_tx.input.iter().position(|input| input.previous_output == outpoint);
        self.key.sign(&mut psbt, index.context("our coin is not in the proposal")?)?;
        Ok(provisional.finalize_signed_proposal(&psbt)?.psbt().clone())
    }

    async fn keep(&self, proposal: String) -> Result<()> {
        let record = Arc::clone(&self.record);
        tokio::task::spawn_blocking(move || {
            (&*record).write_all(proposal.as_bytes())?;
            record.sync_data()
        })
        .await??;
        Ok(())
    }
}

impl Bitcoind {
    async fn accepts(&self, transaction: &Transaction) -> Result<bool> {
        let hex = serialize_hex(transaction);
        let call = json!({ "jsonrpc": "1.0", "id": 0, "method": "testmempoolaccept", "params": [[hex]] });
        let request = self.http.post(&self.url).basic_auth(&self.user, Some(&self.password));
        let reply = request.body(call.to_string()).send().await?.bytes().await?;
        let reply: Value = serde_json::from_slice(&reply)?;
        ensure!(reply["error"].is_null(), "bitcoind refuses testmempoolaccept: {}", reply["error"]);
        reply["result"][0]["allowed"].as_bool().context("testmempoolaccept gave no verdict")
    }
}
