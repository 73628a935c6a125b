//! A server that answers as LND does, but for the faults that a test wants: a real LND cannot be made to have them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test support: failing is reporting")]

use std::fs;
use std::sync::{Arc, Mutex};

use bitcoin::Network;
use payjoin_core::NodeState;
use payjoin_lightning::lnd::{Lnd, LndAccess, LndConfig};
use payjoin_lightning::{LightningError, OwnNodeConfig, PaidOnce};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::state::State;

pub(crate) const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// How one call is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// With this.
    Json(Value),
    /// With an error of LND's.
    Refuse(&'static str),
    /// With these pieces, a few bytes at a time, the later ones after a transaction was handed over; then nothing more comes.
    Pieces(Vec<Value>),
}

/// What was asked: method and path, and the body.
type Asked = (String, Value);
type Script = dyn Fn(&Asked, &str) -> Option<Answer> + Send + Sync;

pub(crate) struct FakeLnd {
    folder: TempDir,
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<Arc<Script>>>,
}

impl FakeLnd {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("tls.cert"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("macaroon"), b"good").unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let nothing: Arc<Script> = Arc::new(|_, _| None);
        let fake = Self { folder, address, asked: Arc::default(), script: Arc::new(Mutex::new(nothing)) };
        let (asked, script) = (Arc::clone(&fake.asked), Arc::clone(&fake.script));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, asked, script) = (acceptor.clone(), Arc::clone(&asked), Arc::clone(&script));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &asked, &script).await;
                    }
                });
            }
        });
        fake
    }

    /// From now on these calls are answered so, and the others as by an LND without channels. The script is given the call
    /// and the macaroon.
    pub(crate) fn answer(&self, script: impl Fn(&Asked, &str) -> Option<Answer> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// What it was asked that begins so.
    pub(crate) fn asked(&self, begin: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|(call, _)| call.starts_with(begin)).cloned().collect()
    }

    pub(crate) fn set_macaroon(&self, bytes: &[u8]) {
        fs::write(self.folder.path().join("macaroon"), bytes).unwrap();
    }

    pub(crate) async fn beside(&self, state: &Arc<State>) -> Result<Arc<Lnd>, LightningError> {
        self.beside_with(state, None).await
    }

    /// The same where somebody decides about payments.
    pub(crate) async fn beside_with(
        &self,
        state: &Arc<State>,
        once: Option<Arc<dyn PaidOnce>>,
    ) -> Result<Arc<Lnd>, LightningError> {
        let access = LndAccess {
            address: self.address.clone(),
            certificate: self.folder.path().join("tls.cert"),
            macaroon: self.folder.path().join("macaroon"),
        };
        let config = OwnNodeConfig {
            network: Network::Regtest,
            held: Vec::new(),
            state: Arc::clone(state) as Arc<dyn NodeState>,
            wanted: None,
            once,
            events: None,
        };
        Lnd::start(LndConfig { access, lease: std::time::Duration::from_secs(600) }, config).await
    }
}

async fn serve(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    asked: &Mutex<Vec<Asked>>,
    script: &Mutex<Arc<Script>>,
) {
    let mut stream = BufReader::new(stream);
    while let Some((call, macaroon)) = request(&mut stream).await {
        let script = Arc::clone(&script.lock().unwrap());
        let answer = script(&call, &macaroon).unwrap_or_else(|| usual(&call.0));
        asked.lock().unwrap().push(call);
        let (status, body) = match answer {
            Answer::Json(body) => ("200 OK", body.to_string()),
            Answer::Refuse(message) => {
                let body = json!({ "code": 2, "message": message, "details": [] });
                ("500 Internal Server Error", body.to_string())
            }
            Answer::Pieces(pieces) => return slowly(&mut stream, &pieces, asked).await,
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(head.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<(Asked, String)> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let call = line.rsplit_once(' ')?.0.to_owned();
    let (mut length, mut macaroon) = (0, String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "grpc-metadata-macaroon" => macaroon = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(((call, serde_json::from_slice(&body).unwrap_or(Value::Null)), macaroon))
}

/// Then it stays silent until the other side has gone.
async fn slowly(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    pieces: &[Value],
    asked: &Mutex<Vec<Asked>>,
) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let _ = stream.flush().await;
    for (at, piece) in pieces.iter().enumerate() {
        let handed_over = || asked.lock().unwrap().iter().any(|(_, body)| body["psbt_verify"].is_object());
        while at > 0 && !handed_over() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        for part in format!("{}\n", json!({ "result": piece })).as_bytes().chunks(7) {
            let _ = stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await;
            let _ = stream.write_all(part).await;
            let _ = stream.write_all(b"\r\n").await;
            let _ = stream.flush().await;
        }
    }
    let _ = stream.read(&mut [0; 1]).await;
}

/// An LND without channels, peers and coins.
fn usual(call: &str) -> Answer {
    let (_, path) = call.split_once(' ').unwrap();
    Answer::Json(match path.split('?').next().unwrap() {
        "/v1/getinfo" => json!({
            "identity_pubkey": KEY, "block_height": 100, "synced_to_chain": true,
            "chains": [{ "chain": "bitcoin", "network": "regtest" }],
        }),
        "/v2/wallet/utxos" => json!({ "utxos": [] }),
        "/v2/wallet/utxos/leases" => json!({ "locked_utxos": [] }),
        "/v2/wallet/reserve" => json!({ "required_reserve": "0" }),
        "/v1/channels" | "/v1/channels/closed" => json!({ "channels": [] }),
        "/v1/channels/pending" => pending(&[]),
        "/v1/channels/subscribe" | "/v1/transactions/subscribe" => return Answer::Pieces(Vec::new()),
        "/v1/peers" if call.starts_with("GET") => json!({ "peers": [] }),
        _ => json!({}),
    })
}

/// Channels that wait: note, funding output, and the height of its block.
pub(crate) fn pending(channels: &[(&str, &str, u32)]) -> Value {
    let channel = |(memo, point, height): &(&str, &str, u32)| {
        json!({
            "confirmation_height": height,
            "channel": {
                "remote_node_pub": KEY, "channel_point": point, "capacity": "300000", "local_balance": "0",
                "remote_balance": "0", "memo": memo,
            },
        })
    };
    let waiting: Vec<_> = channels.iter().map(channel).collect();
    json!({
        "pending_open_channels": waiting, "pending_force_closing_channels": [], "waiting_close_channels": [],
    })
}
