//! One payjoind: started, spoken to through its command line, and killed.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::chain::Chain;
use super::json::Fields;
use super::tls::Certificate;
use super::{ports, wait};
use crate::process::{self, Server};

/// Called for every step that a daemon reports.
pub(crate) type Listener = Box<dyn Fn(&Value) + Send>;

/// How to start a daemon. The defaults do for most cases.
#[derive(Default)]
pub(crate) struct Options {
    /// Lines of the `[policy]` table.
    pub(crate) policy: &'static str,
    /// Lines of the `[payjoin]` table.
    pub(crate) payjoin: String,
    /// Hears every step as it happens.
    pub(crate) listener: Option<Listener>,
}

pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    /// Its Lightning identity with its address, as other nodes want it.
    pub(crate) peer: String,
    /// The listener without TLS.
    pub(crate) plain: SocketAddr,
    program: PathBuf,
    dir: PathBuf,
    server: RefCell<Option<Server>>,
    steps: Arc<Mutex<Vec<Value>>>,
}

impl Daemon {
    /// Writes its configuration below `dir`, starts it and waits until it has the chain.
    pub(crate) fn start(
        program: &Path,
        dir: &Path,
        name: &'static str,
        options: Options,
        chain: &Chain,
        tls: &Certificate,
    ) -> Result<Self> {
        let data = dir.join(name);
        DirBuilder::new().mode(0o700).create(&data)?;
        let lightning = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let plain = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let settings = configuration(lightning, ports::free()?, plain, &options, chain, tls);
        fs::write(data.join("payjoind.toml"), settings)?;
        let mut daemon = Self {
            name,
            peer: String::new(),
            plain,
            program: program.to_path_buf(),
            dir: data,
            server: RefCell::new(None),
            steps: Arc::default(),
        };
        daemon.run(options.listener, dir)?;
        daemon.peer = format!("{}@{lightning}", daemon.call(&["status"])?.text("node_id")?);
        daemon.wait_for_height(chain.height()?)?;
        Ok(daemon)
    }

    fn run(&self, listener: Option<Listener>, dir: &Path) -> Result<()> {
        // A restart goes on in the same logs.
        let open =
            |end| File::options().create(true).append(true).open(dir.join(format!("{}.{end}", self.name)));
        let (log, mut told) = (open("log")?, open("steps.log")?);
        let mut server = Server::start(self.command().arg("run").stdout(Stdio::piped()).stderr(log))?;
        let stdout = server.stdout().context("no pipe to the daemon")?;
        let steps = Arc::clone(&self.steps);
        thread::spawn(move || record(stdout, &mut told, listener, &steps));
        wait::until(&format!("{} answers", self.name), Duration::from_secs(20), || {
            if let Some(status) = server.ended()? {
                bail!("{} ended at once ({status}); see its logs", self.name);
            }
            Ok(self.call(&["status"]).ok())
        })?;
        self.server.replace(Some(server));
        Ok(())
    }

    /// Kills it without a word. What it made durable stays.
    pub(crate) fn kill(&self) {
        self.server.replace(None);
    }

    /// Starts it again after [`Daemon::kill`].
    pub(crate) fn restart(&self) -> Result<()> {
        self.run(None, self.dir.parent().context("a folder without a parent")?)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.server.borrow().is_some()
    }

    /// Runs a command and returns the object that it prints.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<Value> {
        let printed = process::output(self.command().args(arguments))?;
        serde_json::from_str(&printed)
            .with_context(|| format!("{}: not JSON: {printed}", arguments.join(" ")))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--datadir").arg(&self.dir).arg("--json");
        command
    }

    pub(crate) fn wait_for_height(&self, height: u64) -> Result<()> {
        wait::until(&format!("{} has block {height}", self.name), Duration::from_secs(20), || {
            Ok((self.call(&["status"])?.number("height")? >= height).then_some(()))
        })
    }

    /// The first report of this step, past or to come.
    pub(crate) fn step(&self, name: &str) -> Result<Value> {
        wait::until(&format!("{} reports \"{name}\"", self.name), Duration::from_secs(20), || {
            let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(steps.iter().find(|step| step["step"] == name).cloned())
        })
    }
}

/// Reads what the daemon tells until it ends.
fn record(stdout: ChildStdout, told: &mut File, listener: Option<Listener>, steps: &Mutex<Vec<Value>>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        // The file is for people who look for a fault; a full disk shows elsewhere.
        let _ = writeln!(told, "{line}");
        let Ok(step) = serde_json::from_str(&line) else { continue };
        if let Some(listener) = &listener {
            listener(&step);
        }
        steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }
}

fn configuration(
    lightning: SocketAddr,
    port: u16,
    plain: SocketAddr,
    options: &Options,
    chain: &Chain,
    tls: &Certificate,
) -> String {
    let Options { policy, payjoin, .. } = options;
    format!(
        r#"network = "regtest"

[bitcoind]
url = "{url}"
cookie = {cookie:?}

[lightning]
listen = "{lightning}"
poll_ms = 200

[http]
listen = "127.0.0.1:{port}"
plain_listen = "{plain}"
certificate = {certificate:?}
key = {key:?}
public_endpoint = "https://localhost:{port}"
rate_per_minute = 0

[policy]
{policy}

[payjoin]
{payjoin}
"#,
        url = chain.url(),
        cookie = chain.cookie(),
        certificate = tls.certificate,
        key = tls.key,
    )
}
