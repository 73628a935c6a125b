//! What clnrest does of all that payjoind needs, in front of a real lightningd.
//!
//! clnrest is a plugin in Rust, which not every build of Core Lightning has. As its source (26.06) does, this takes
//! `POST /v1/METHOD` over TLS, has lightningd check the rune with method and parameters, and hands the call on. Whether a rune
//! is good is lightningd's own word.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, thread};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Serves until the program ends.
pub(crate) struct ClnRest {
    pub(crate) url: String,
    /// Its certificate, PEM.
    pub(crate) certificate: PathBuf,
    tls: Arc<Mutex<Arc<ServerConfig>>>,
}

impl ClnRest {
    /// In front of the lightningd at this socket, with its certificate in `folder`.
    pub(crate) fn start(socket: &Path, folder: &Path) -> Result<Self> {
        let certificate = folder.join("server.pem");
        let tls = Arc::new(Mutex::new(certify(&certificate)?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("https://{}", listener.local_addr()?);
        let (socket, shown) = (socket.to_owned(), Arc::clone(&tls));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let socket = socket.clone();
                let tls = Arc::clone(&shown.lock().unwrap_or_else(PoisonError::into_inner));
                // Whoever hangs up ends his own thread alone.
                thread::spawn(move || drop(serve(stream, tls, &socket)));
            }
        });
        Ok(Self { url, certificate, tls })
    }

    /// From now on it shows another certificate. The file stays as it is.
    pub(crate) fn change_certificate(&self, folder: &Path) -> Result<PathBuf> {
        let file = folder.join("other.pem");
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = certify(&file)?;
        Ok(file)
    }
}

fn certify(file: &Path) -> Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["cln".to_owned(), "localhost".to_owned()])?;
    fs::write(file, made.cert.pem())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(Arc::new(config))
}

/// One call for each connection: a certificate that changes is seen at the next one.
fn serve(stream: TcpStream, tls: Arc<ServerConfig>, socket: &Path) -> Result<()> {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls)?, stream));
    let Some((path, rune, body)) = request(&mut stream)? else { return Ok(()) };
    let (status, told) = match answer(socket, &path, &rune, &body)? {
        Ok(result) => ("201 Created", result),
        Err((status, error)) => (status, error),
    };
    let told = told.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        told.len()
    );
    let out = stream.get_mut();
    out.write_all(head.as_bytes())?;
    out.write_all(told.as_bytes())?;
    out.conn.send_close_notify();
    Ok(out.flush()?)
}

/// Path, rune and body; `None` when the other side has gone.
fn request(stream: &mut impl BufRead) -> Result<Option<(String, String, Value)>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).context("no path")?.to_owned();
    let (mut length, mut rune) = (0, String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse()?,
            "rune" => rune = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some((path, rune, serde_json::from_slice(&body)?)))
}

type Answer = std::result::Result<Value, (&'static str, Value)>;

/// `verify_rune`, then `call_rpc`.
fn answer(socket: &Path, path: &str, rune: &str, params: &Value) -> Result<Answer> {
    let method = path.strip_prefix("/v1/").context("no method")?;
    if rune.is_empty() {
        let error = json!({ "code": 1501, "message": "Not authorized: Missing rune", "data": null });
        return Ok(Err(("403 Forbidden", error)));
    }
    let check = json!({ "rune": rune, "method": method, "params": params });
    if let Err(error) = call(socket, "checkrune", &check)? {
        return Ok(Err(("401 Unauthorized", error)));
    }
    Ok(call(socket, method, params)?.map_err(|error| match error["code"].as_i64() {
        Some(-32601) => ("404 Not Found", error),
        _ => ("500 Internal Server Error", error),
    }))
}

fn call(socket: &Path, method: &str, params: &Value) -> Result<std::result::Result<Value, Value>> {
    let mut stream = UnixStream::connect(socket)?;
    let request = json!({ "jsonrpc": "2.0", "id": "rest", "method": method, "params": params });
    stream.write_all(request.to_string().as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 65_536]);
    while !answer.ends_with(b"\n\n") {
        let read = stream.read(&mut piece)?;
        anyhow::ensure!(read > 0, "lightningd hung up");
        answer.extend_from_slice(&piece[..read]);
    }
    let mut answer: Value = serde_json::from_slice(&answer)?;
    Ok(match answer.get_mut("error") {
        Some(error) => Err(error.take()),
        None => Ok(answer["result"].take()),
    })
}
