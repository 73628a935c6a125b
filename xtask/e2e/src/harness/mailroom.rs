//! payjoin-mailroom: a relay and a directory of BIP 77 in one process. For one request it may not be both.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::wait;
use xtask_programs::ports;
use xtask_programs::process::Server;

pub(crate) struct Mailroom {
    program: PathBuf,
    name: String,
    folder: PathBuf,
    port: u16,
    url: String,
    // Dropped with it: kills the process.
    server: Option<Server>,
}

impl Mailroom {
    /// Starts one that keeps its mail below `dir` and holds polls for so many seconds.
    pub(crate) fn start(program: &Path, dir: &Path, name: &str, hold: u32) -> Result<Self> {
        let (folder, port) = (dir.join(name), ports::free()?);
        fs::create_dir_all(&folder)?;
        let text =
            format!("listener = \"127.0.0.1:{port}\"\nstorage_dir = {folder:?}\ntimeout = {hold}\n[v1]\n");
        fs::write(folder.join("config.toml"), text)?;
        let url = format!("http://127.0.0.1:{port}");
        let (program, name) = (program.to_path_buf(), name.to_owned());
        let mut mailroom = Self { program, name, folder, port, url, server: None };
        mailroom.run()?;
        Ok(mailroom)
    }

    /// Starts the process, again if it was stopped, with what it kept on disk.
    pub(crate) fn run(&mut self) -> Result<()> {
        let (name, port) = (&self.name, self.port);
        let log = File::options().create(true).append(true).open(self.folder.with_extension("log"))?;
        let mut server = Server::start(
            Command::new(&self.program)
                .arg("--config")
                .arg(self.folder.join("config.toml"))
                .stdout(log.try_clone()?)
                .stderr(Stdio::from(log)),
        )?;
        wait::until(&format!("{name} listens"), Duration::from_secs(20), || {
            if let Some(status) = server.ended()? {
                bail!("{name} ended at once ({status}); see its log");
            }
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        })?;
        self.server = Some(server);
        Ok(())
    }

    /// As a relay it asks each directory once whether it takes part, at the first request. Where that first look is cut off
    /// (who made the request is killed), it closes every later request for that directory without an answer, and where
    /// nobody answers it remembers a no for some seconds. So it looks before anybody comes.
    pub(crate) fn meet(&self, directory: &Self) -> Result<()> {
        let client = reqwest::blocking::Client::builder().no_proxy().build()?;
        let request = client.post(format!("{}/{}/", self.url, directory.url));
        let answer = request.header("Content-Type", "message/ohttp-req").body("nothing").send()?;
        ensure!(!answer.status().is_success(), "{} takes what is no request", directory.name);
        Ok(())
    }

    /// Kills the process.
    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    /// The next [`Mailroom::run`] makes a new OHTTP key.
    pub(crate) fn forget_key(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.folder.join("ohttp-keys"))?)
    }

    /// Did it break off a write to a mailbox because who asked for it had gone? That mailbox takes nothing any more.
    pub(crate) fn has_broken_mailbox(&self) -> Result<bool> {
        Ok(fs::read_to_string(self.folder.with_extension("log"))?.contains("Db error: File exists"))
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
