//! payjoin-mailroom: a relay and a directory of BIP 77 in one process. For one request it may not be both.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{ports, wait};
use crate::process::Server;

pub(crate) struct Mailroom {
    // Dropped with it: kills the process.
    _server: Server,
    url: String,
}

impl Mailroom {
    /// Starts one that keeps its mail below `dir`. Polls are held for two seconds.
    pub(crate) fn start(program: &Path, dir: &Path, name: &str) -> Result<Self> {
        let (folder, port) = (dir.join(name), ports::free()?);
        fs::create_dir_all(&folder)?;
        let settings = folder.join("config.toml");
        let text = format!("listener = \"127.0.0.1:{port}\"\nstorage_dir = {folder:?}\ntimeout = 2\n[v1]\n");
        fs::write(&settings, text)?;
        let log = File::create(dir.join(format!("{name}.log")))?;
        let mut server = Server::start(
            Command::new(program)
                .arg("--config")
                .arg(settings)
                .stdout(log.try_clone()?)
                .stderr(Stdio::from(log)),
        )?;
        wait::until(&format!("{name} listens"), Duration::from_secs(20), || {
            if let Some(status) = server.ended()? {
                bail!("{name} ended at once ({status}); see its log");
            }
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        })?;
        Ok(Self { _server: server, url: format!("http://127.0.0.1:{port}") })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Fetches its OHTTP keys into a file. payjoin-cli would fetch them through a relay only, and with TLS.
    pub(crate) fn keys(&self, dir: &Path) -> Result<PathBuf> {
        let client = reqwest::blocking::Client::builder().no_proxy().build()?;
        let url = format!("{}/.well-known/ohttp-gateway", self.url);
        let reply = client.get(url).header("Accept", "application/ohttp-keys").send()?;
        ensure!(reply.status().is_success(), "the directory gave no keys: {}", reply.status());
        let path = dir.join("ohttp-keys");
        fs::write(&path, reply.bytes()?).context("cannot keep the keys")?;
        Ok(path)
    }
}
