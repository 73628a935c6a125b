//! Real programs for tests: `payjoin-mailroom`, the reference relay and directory of BIP 77.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// An installed tool: `$VARIABLE`, else `target/tools/bin/NAME`.
pub(crate) fn tool(variable: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin").join(name);
    let path = std::env::var_os(variable).map_or(root, PathBuf::from);
    assert!(path.exists(), "{} is missing: run `cargo xtask tools`, or set {variable}", path.display());
    path
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A relay and directory on loopback. The same process may not be both for one request.
pub(crate) struct Mailroom {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Mailroom {
    pub(crate) fn start() -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let child = launch(folder.path(), port);
        Self { folder, port, child }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Restarts with a new OHTTP key.
    pub(crate) fn rotate_keys(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_dir_all(self.folder.path().join("ohttp-keys")).unwrap();
        self.child = launch(self.folder.path(), self.port);
    }
}

impl Drop for Mailroom {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Long polls end after 2 seconds; v1 payers are served.
fn launch(folder: &Path, port: u16) -> Child {
    let settings = folder.join("config.toml");
    let text = format!("listener = \"127.0.0.1:{port}\"\nstorage_dir = {folder:?}\ntimeout = 2\n[v1]\n");
    std::fs::write(&settings, text).unwrap();
    let child = Command::new(tool("PAYJOIN_MAILROOM_EXE", "payjoin-mailroom"))
        .arg("--config")
        .arg(settings)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "payjoin-mailroom does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}
