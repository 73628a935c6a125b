//! payjoin-cli as the one who is paid.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use bitcoin::Amount;

use super::chain::{Chain, Wallet};
use super::mailroom::Mailroom;
use super::tls::Certificate;
use xtask_programs::ports;
use xtask_programs::process::Server;

/// `payjoin-cli receive`, waiting for a payer until it is dropped.
pub(crate) struct Receiver {
    // Dropped with it: kills the process.
    _server: Server,
    /// The code to pay.
    pub(crate) uri: String,
    pub(crate) amount: Amount,
}

/// What every receiver needs.
pub(crate) struct Receiving<'a> {
    pub(crate) program: &'a Path,
    pub(crate) dir: &'a Path,
    pub(crate) chain: &'a Chain,
    pub(crate) wallet: Wallet<'a>,
    pub(crate) amount: Amount,
}

impl Receiving<'_> {
    /// By BIP 78, over TLS.
    pub(crate) fn v1(&self, tls: &Certificate) -> Result<Receiver> {
        let port = ports::free()?.to_string();
        let mut command = self.command("--bip78")?;
        command.arg("--root-certificate").arg(&tls.certificate).arg("--certificate-key").arg(&tls.key);
        command.args(["receive", &self.sat(), "--port", &port]);
        command.args(["--pj-endpoint", &format!("https://localhost:{port}")]);
        self.run(command)
    }

    /// By BIP 77. The code expires after this many seconds.
    pub(crate) fn v2(&self, relay: &Mailroom, directory: &Mailroom, seconds: u32) -> Result<Receiver> {
        let mut command = self.command("--bip77")?;
        command.args(["--ohttp-relays", relay.url(), "receive", &self.sat()]);
        command.args(["--pj-directories", directory.url(), "--expire-in", &seconds.to_string()]);
        command.arg("--ohttp-keys").arg(directory.keys(self.dir)?);
        self.run(command)
    }

    /// Takes the payment of a code of [`Receiving::v2`] up again.
    pub(crate) fn resume(&self, relay: &Mailroom) -> Result<Server> {
        let mut command = self.command("--bip77")?;
        command.args(["--ohttp-relays", relay.url(), "resume"]);
        let log = File::options().append(true).open(self.dir.join("receiver.log"))?;
        Server::start(command.stdout(log.try_clone()?).stderr(log))
    }

    fn sat(&self) -> String {
        self.amount.to_sat().to_string()
    }

    fn command(&self, version: &str) -> Result<Command> {
        let folder = self.dir.join("receiver");
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(self.program);
        command.current_dir(folder).env("NO_PROXY", "localhost");
        command.args([version, "--rpchost", &self.wallet.url(), "--cookie-file"]).arg(self.chain.cookie());
        Ok(command)
    }

    fn run(&self, mut command: Command) -> Result<Receiver> {
        let log = File::create(self.dir.join("receiver.log"))?;
        let mut server = Server::start(command.stdout(Stdio::piped()).stderr(log))?;
        let stdout = server.stdout().context("no pipe to the receiver")?;
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let uri = lines.find(|line| line.to_ascii_lowercase().starts_with("bitcoin:"));
        // It stops when nobody reads.
        thread::spawn(move || lines.for_each(drop));
        let uri = uri.context("payjoin-cli showed no code; see receiver.log")?;
        Ok(Receiver { _server: server, uri, amount: self.amount })
    }
}
