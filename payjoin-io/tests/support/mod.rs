//! Real programs: `payjoin-mailroom` as relay and directory of BIP 77, bitcoind, and `payjoin-cli` as the other side.
#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bitcoind;
mod cli;

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
pub(crate) use bitcoind::Bitcoind;
pub(crate) use cli::{Receiver, send};
use payjoin_core::Timestamp;
use payjoin_io::{DirectClient, DirectSettings, HttpClient, HttpError, HttpRequest, HttpResponse};
use tempfile::TempDir;

pub(crate) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// Passes requests on and keeps them; those to a dead relay it loses.
pub(crate) struct Recorder {
    inner: DirectClient,
    pub(crate) sent: Mutex<Vec<HttpRequest>>,
    dead: Option<String>,
}

impl Recorder {
    pub(crate) fn new(dead: Option<String>) -> Arc<Self> {
        Self::with(DirectSettings::default(), dead)
    }

    pub(crate) fn with(settings: DirectSettings, dead: Option<String>) -> Arc<Self> {
        let inner = DirectClient::new(settings).unwrap();
        Arc::new(Self { inner, sent: Mutex::default(), dead })
    }

    /// No body may be sent twice: it would tell a relay which requests belong together.
    pub(crate) fn assert_no_ciphertext_twice(&self) {
        let sent = self.sent.lock().unwrap();
        let bodies: Vec<_> = sent.iter().filter_map(|request| request.body.as_ref()).collect();
        for (index, body) in bodies.iter().enumerate() {
            assert!(!bodies[..index].contains(body), "a ciphertext was sent twice");
        }
    }
}

#[async_trait]
impl HttpClient for Recorder {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.sent.lock().unwrap().push(request.clone());
        match &self.dead {
            Some(dead) if request.url.starts_with(dead) => Err(HttpError::Timeout),
            _ => self.inner.send(request).await,
        }
    }
}

/// An installed tool: `$VARIABLE`, else `target/tools/bin/NAME`.
pub(crate) fn tool(variable: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin").join(name);
    let path = std::env::var_os(variable).map_or(root, PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing: `cargo xtask test` installs it, or set {variable}",
        path.display()
    );
    path
}

pub(crate) fn free_port() -> u16 {
    xtask_programs::ports::free().unwrap()
}

/// A relay and directory on loopback. The same process may not be both for one request.
pub(crate) struct Mailroom {
    folder: TempDir,
    port: u16,
    hold: u32,
    child: Child,
}

impl Mailroom {
    /// Holds a poll for 2 s, so that tests see several.
    pub(crate) fn start() -> Self {
        Self::holding(2)
    }

    pub(crate) fn holding(hold: u32) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let child = launch(folder.path(), port, hold);
        Self { folder, port, hold, child }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// As a relay it asks each directory once whether it takes part, at the first request. Where that first look is cut off
    /// (who made the request is killed), it closes every later request for that directory without an answer: so it looks
    /// before anybody comes.
    pub(crate) async fn meet(&self, directory: &Self) {
        let request = reqwest::Client::new().post(format!("{}/{}/", self.url(), directory.url()));
        let answer =
            request.header("Content-Type", "message/ohttp-req").body("nothing").send().await.unwrap();
        assert!(!answer.status().is_success(), "a directory takes what is no request");
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// With what it kept on disk.
    pub(crate) fn start_again(&mut self) {
        self.child = launch(self.folder.path(), self.port, self.hold);
    }

    /// Restarts with a new OHTTP key.
    pub(crate) fn rotate_keys(&mut self) {
        self.stop();
        std::fs::remove_dir_all(self.folder.path().join("ohttp-keys")).unwrap();
        self.start_again();
    }
}

impl Drop for Mailroom {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Serves v1 payers too.
fn launch(folder: &Path, port: u16, hold: u32) -> Child {
    let settings = folder.join("config.toml");
    let text = format!("listener = \"127.0.0.1:{port}\"\nstorage_dir = {folder:?}\ntimeout = {hold}\n[v1]\n");
    std::fs::write(&settings, text).unwrap();
    let mut child = Command::new(tool("PAYJOIN_MAILROOM_EXE", "payjoin-mailroom"))
        .arg("--config")
        .arg(settings)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert_eq!(child.try_wait().unwrap(), None, "payjoin-mailroom ended at once");
        assert!(begun.elapsed() < Duration::from_secs(20), "payjoin-mailroom does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}
