//! What lightningd says to a program that it has started as its plugin, and what such a program says: one JSON-RPC message
//! after another over stdin and stdout.

use std::io;
use std::path::PathBuf;

use bitcoin::Network;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::error::RpcError;
use super::rpc::{ClnAccess, Rpc};
use super::{core_arg, reply};
use crate::LightningError;

/// What ends a message, in both directions.
const END: &[u8] = b"\n\n";
/// No message that is meant for us is longer.
const MOST: usize = 16 << 20;

/// What a plugin offers. `getmanifest`.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// Settings that lightningd takes for it.
    pub options: Vec<ManifestOption>,
    /// Commands that lightningd hands on to it.
    pub rpcmethods: Vec<ManifestMethod>,
    /// What it hears of; `shutdown` is all that we know.
    pub subscriptions: Vec<&'static str>,
    /// It may be started and stopped while lightningd runs.
    pub dynamic: bool,
    /// Ids of calls may be texts.
    pub nonnumericids: bool,
}

/// A setting of lightningd's that is ours.
#[derive(Debug, Serialize)]
pub struct ManifestOption {
    /// Its name, after two dashes or in the file.
    pub name: &'static str,
    /// `string`, for example.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What it means.
    pub description: &'static str,
    /// It may be given several times.
    pub multi: bool,
}

/// A command of lightningd's that is ours.
#[derive(Debug, Serialize)]
pub struct ManifestMethod {
    /// Its name.
    pub name: &'static str,
    /// Its parameters, those in brackets that may be left out.
    pub usage: String,
    /// What it does.
    pub description: &'static str,
}

/// Names a call, as lightningd does.
pub type CallId = Value;

/// What lightningd says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// It asks what the plugin offers.
    Manifest(CallId),
    /// It has read its settings.
    Init(CallId, Init),
    /// Somebody calls a command of ours.
    Call {
        /// Names the call.
        id: CallId,
        /// Which command.
        method: String,
        /// An array or an object.
        params: Value,
    },
    /// It ends, or the plugin is to end.
    Shutdown,
    /// Something that is not for us, or that nobody understands.
    Other,
}

/// What lightningd tells a plugin of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Init {
    /// Where its JSON-RPC listens.
    pub socket: PathBuf,
    /// Its folder for the network.
    pub folder: PathBuf,
    /// Its network; `None` for one that Bitcoin Core does not know.
    pub network: Option<Network>,
    /// The settings that are ours, as far as they were given.
    pub options: Map<String, Value>,
}

/// Hears lightningd.
#[derive(Debug)]
pub struct Ear<R> {
    from: R,
    heard: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Ear<R> {
    /// Hears it from here.
    pub fn new(from: R) -> Self {
        Self { from, heard: Vec::new() }
    }

    /// The next message; `None` when lightningd has gone. A call that is dropped loses nothing.
    ///
    /// # Errors
    /// When nothing can be heard any more.
    pub async fn next(&mut self) -> io::Result<Option<Said>> {
        loop {
            if let Some(at) = self.heard.windows(END.len()).position(|window| window == END) {
                let message: Vec<u8> = self.heard.drain(..at + END.len()).collect();
                return Ok(Some(said(&message)));
            }
            if self.heard.len() > MOST {
                return Err(io::Error::other("lightningd's message has no end"));
            }
            if self.from.read_buf(&mut self.heard).await? == 0 {
                return Ok(None);
            }
        }
    }
}

fn said(message: &[u8]) -> Said {
    let read = || {
        let mut message: Value = serde_json::from_slice(message).ok()?;
        let method = reply::text(&message, "method")?.to_owned();
        let params = message.get_mut("params").map(Value::take).unwrap_or_default();
        let id = message.get_mut("id").map(Value::take);
        Some(match (id, method.as_str()) {
            (Some(id), "getmanifest") => Said::Manifest(id),
            (Some(id), "init") => Said::Init(id, init(params)?),
            (Some(id), _) => Said::Call { id, method, params },
            (None, "shutdown") => Said::Shutdown,
            (None, _) => Said::Other,
        })
    };
    read().unwrap_or(Said::Other)
}

fn init(mut params: Value) -> Option<Init> {
    let configuration = params.get("configuration")?;
    let folder = PathBuf::from(reply::text(configuration, "lightning-dir")?);
    // Absolute where the operator gave it so.
    let socket = folder.join(reply::text(configuration, "rpc-file")?);
    let network = Network::from_core_arg(core_arg(reply::text(configuration, "network")?)).ok();
    let options = params.get_mut("options").and_then(Value::as_object_mut).map(std::mem::take);
    Some(Init { socket, folder, network, options: options.unwrap_or_default() })
}

/// The answer to a call.
#[must_use]
pub fn answer(id: &CallId, result: &Value) -> String {
    line(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

/// A call that failed.
#[must_use]
pub fn refusal(id: &CallId, why: &str) -> String {
    line(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -1, "message": why } }))
}

/// For lightningd's log; its levels are `debug`, `info`, `unusual` and `broken`.
#[must_use]
pub fn log(level: &str, text: &str) -> String {
    line(&json!({ "jsonrpc": "2.0", "method": "log", "params": { "level": level, "message": text } }))
}

fn line(message: &Value) -> String {
    format!("{message}\n\n")
}

/// How lightningd reaches its bitcoind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitcoindOfCln {
    /// Host, where it is said.
    pub host: Option<String>,
    /// Port, where it is said.
    pub port: Option<String>,
    /// Name and password, where they are said.
    pub login: Option<(String, String)>,
    /// Its folder, where that is said: the cookie is in it.
    pub folder: Option<PathBuf>,
}

/// Asks the lightningd at this socket how it reaches its bitcoind.
///
/// # Errors
/// As every call: [`LightningError::Away`] while it starts.
pub async fn bitcoind(socket: &std::path::Path) -> Result<BitcoindOfCln, LightningError> {
    const METHOD: &str = "listconfigs";
    let rpc = Rpc::new(ClnAccess::Socket(socket.to_owned()));
    let answer = rpc.call(METHOD, json!({})).await?;
    Ok(read_bitcoind(&answer).ok_or(RpcError::Unexpected(METHOD))?)
}

fn read_bitcoind(answer: &Value) -> Option<BitcoindOfCln> {
    let configs = answer.get("configs")?;
    let setting = |name: &str| {
        let of = configs.get(name)?;
        let number = || of.get("value_int").and_then(Value::as_u64).map(|number| number.to_string());
        reply::text(of, "value_str").map(str::to_owned).or_else(number)
    };
    Some(BitcoindOfCln {
        host: setting("bitcoin-rpcconnect"),
        port: setting("bitcoin-rpcport"),
        login: setting("bitcoin-rpcuser").zip(setting("bitcoin-rpcpassword")),
        folder: setting("bitcoin-datadir").map(PathBuf::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = r#"{"jsonrpc":"2.0","id":"cln:init#2","method":"init","params":{
        "options":{"payjoin-dir":"/var/p"},
        "configuration":{"lightning-dir":"/l/testnet","rpc-file":"lightning-rpc","startup":true,"network":"testnet"}}}"#;

    async fn heard(text: &str) -> Vec<Said> {
        let (mut ear, mut all) = (Ear::new(text.as_bytes()), Vec::new());
        while let Some(said) = ear.next().await.unwrap() {
            all.push(said);
        }
        all
    }

    #[tokio::test]
    async fn what_lightningd_says_is_read_one_after_another() {
        let init = Init {
            socket: "/l/testnet/lightning-rpc".into(),
            folder: "/l/testnet".into(),
            network: Some(Network::Testnet),
            options: Map::from_iter([("payjoin-dir".to_owned(), json!("/var/p"))]),
        };
        let call = |params| Said::Call { id: json!(7), method: "payjoin-list".to_owned(), params };
        for (text, expected) in [
            (
                r#"{"id":"a","method":"getmanifest","params":{"allow-deprecated-apis":false}}"#,
                Said::Manifest(json!("a")),
            ),
            (INIT, Said::Init(json!("cln:init#2"), init)),
            (r#"{"id":7,"method":"payjoin-list","params":[]}"#, call(json!([]))),
            (r#"{"id":7,"method":"payjoin-list"}"#, call(Value::Null)),
            (r#"{"method":"shutdown","params":{}}"#, Said::Shutdown),
            (r#"{"method":"block_added","params":{}}"#, Said::Other),
            (r#"{"id":1,"method":"init","params":{}}"#, Said::Other),
            ("nonsense", Said::Other),
        ] {
            let twice = format!("{text}\n\n{text}\n\n{{\"half");
            assert_eq!(heard(&twice).await, [expected.clone(), expected], "{text}");
        }
    }

    #[test]
    fn what_is_said_to_lightningd_ends_as_it_expects() {
        for (said, expected) in [
            (answer(&json!("a"), &json!({ "b": 1 })), r#"{"id":"a","jsonrpc":"2.0","result":{"b":1}}"#),
            (refusal(&json!(1), "no"), r#"{"error":{"code":-1,"message":"no"},"id":1,"jsonrpc":"2.0"}"#),
            (
                log("info", "a\n\nb"),
                r#"{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"a\n\nb"}}"#,
            ),
        ] {
            let (body, end) = said.split_at(said.len() - 2);
            assert_eq!(end, "\n\n");
            let (body, expected): (Value, Value) =
                (serde_json::from_str(body).unwrap(), serde_json::from_str(expected).unwrap());
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn lightningd_tells_how_it_reaches_its_bitcoind() {
        let configs = json!({ "configs": {
            "bitcoin-rpcuser": { "value_str": "u" }, "bitcoin-rpcpassword": { "value_str": "p" },
            "bitcoin-rpcport": { "value_int": 18443 }, "rpc-file": { "value_str": "x" } } });
        let expected = BitcoindOfCln {
            port: Some("18443".into()),
            login: Some(("u".into(), "p".into())),
            ..BitcoindOfCln::default()
        };
        assert_eq!(read_bitcoind(&configs), Some(expected));
        assert_eq!(read_bitcoind(&json!({ "configs": {} })), Some(BitcoindOfCln::default()));
        assert_eq!(read_bitcoind(&json!({})), None);
    }
}
