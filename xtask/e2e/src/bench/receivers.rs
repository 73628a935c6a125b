//! The three receivers, started and ready.

use std::env;
use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bitcoin::{Address, Amount, Network, ScriptBuf};
use clap::ValueEnum;

use super::coins::Bank;
use super::key::Key;
use super::originals::PAYMENT;
use crate::demo::Backend;
use crate::harness::{Certificate, Chain, Daemon, Fields, Foreign, Options, wait};
use crate::tools;
use xtask_programs::ports;
use xtask_programs::process::Server;

/// What each coin of a receiver holds.
const COIN: Amount = Amount::from_sat(50_000);

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// payjoind, as an operator runs it
    Ours,
    /// payjoind beside a Core Lightning
    OursCln,
    /// payjoind beside an LND
    OursLnd,
    /// The v1 server of the reference wallet
    PayjoinCli,
    /// The least that any receiver must do
    Floor,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::PayjoinCli, Self::Floor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursCln => "ours-cln",
            Self::OursLnd => "ours-lnd",
            Self::PayjoinCli => "payjoin-cli",
            Self::Floor => "floor",
        }
    }

    /// Does it serve several payers at a time? Each connection of payjoin-cli's pool wants its database for itself: the
    /// second of two requests at a time gets "database is locked" after five seconds, and so do later ones.
    pub(crate) fn serves_many(self) -> bool {
        self != Self::PayjoinCli
    }
}

/// A receiver that answers.
pub(crate) struct Receiver {
    pub(crate) kind: Kind,
    /// One BIP 21 code for each Original.
    pub(crate) codes: Vec<String>,
    _process: Process,
}

/// Ends with the receiver.
enum Process {
    Daemon { _daemon: Daemon, _own: Option<Rc<dyn Foreign>> },
    Server { _server: Server },
}

/// Where receivers start.
pub(crate) struct Site<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) chain: &'a Chain,
    pub(crate) tls: &'a Certificate,
    pub(crate) bank: &'a Bank<'a>,
    /// How many Originals each receiver will get.
    pub(crate) originals: usize,
    /// Coins in the wallet of payjoin-cli.
    pub(crate) foreign_coins: usize,
}

impl Site<'_> {
    pub(crate) fn start(&self, kinds: &[Kind]) -> Result<Vec<Receiver>> {
        let shared = self.chain.wallet("payjoin-cli")?.address("bech32")?;
        kinds
            .iter()
            .map(|kind| match kind {
                Kind::Ours => self.ours(*kind, None),
                Kind::OursCln => self.ours(*kind, Some(Backend::Cln.run(self.dir, self.chain)?)),
                Kind::OursLnd => self.ours(*kind, Some(Backend::Lnd.run(self.dir, self.chain)?)),
                Kind::PayjoinCli => self.payjoin_cli(&shared),
                Kind::Floor => self.floor(&shared),
            })
            .collect()
    }

    /// Each request needs an invoice of its own, because a repeated Original is answered from the store, and a coin
    /// of its own, because coins once shown stay locked.
    fn ours(&self, kind: Kind, beside: Option<Rc<dyn Foreign>>) -> Result<Receiver> {
        let own = beside.as_deref().map(Foreign::own).transpose()?;
        // No payer ever broadcasts here: keep the Originals out of the mempool.
        let policy = "fallback_seconds = 86400";
        let options = Options { policy, poll_ms: Some(1000), own, ..Options::default() };
        let daemon = Daemon::start(&super::payjoind(), self.dir, kind.name(), options, self.chain, self.tls)?;
        let address = daemon.call(&["wallet", "address"])?.text("address")?.to_owned();
        self.bank.coins(&script(&address)?, COIN, self.originals)?;
        let total = COIN * self.originals as u64;
        wait::until("payjoind sees its coins", Duration::from_secs(60), || {
            Ok((daemon.call(&["wallet", "balance"])?.sat("confirmed_sat")? >= total).then_some(()))
        })?;
        let amount = PAYMENT.to_sat().to_string();
        let mut codes = Vec::with_capacity(self.originals);
        for _ in 0..self.originals {
            codes.push(daemon.call(&["receive", "--amount", &amount])?.text("uri")?.to_owned());
        }
        Ok(Receiver { kind, codes, _process: Process::Daemon { _daemon: daemon, _own: beside } })
    }

    fn payjoin_cli(&self, address: &str) -> Result<Receiver> {
        let wallet = self.chain.known_wallet("payjoin-cli");
        self.bank.coins(&script(&wallet.address("bech32")?)?, COIN, self.foreign_coins)?;
        let port = ports::free()?;
        let log = File::create(self.dir.join("payjoin-cli.log"))?;
        let mut command = Command::new(tools::payjoin_cli_release()?);
        command
            .current_dir(self.dir)
            .args(["--bip78", "--rpchost", &wallet.url(), "--cookie-file"])
            .arg(self.chain.cookie())
            .arg("--root-certificate")
            .arg(&self.tls.certificate)
            .arg("--certificate-key")
            .arg(&self.tls.key)
            .args(["--port", &port.to_string(), "--pj-endpoint", &endpoint(port)])
            .args(["receive", &PAYMENT.to_sat().to_string()])
            .stdout(log.try_clone()?)
            .stderr(Stdio::from(log));
        self.server(Kind::PayjoinCli, &mut command, address, port)
    }

    /// Paid to the address of payjoin-cli, for it signs for no output: one output less in every Original, and two
    /// calls less for payjoin-cli, which asks bitcoind about each.
    fn floor(&self, address: &str) -> Result<Receiver> {
        let coins = self.bank.coins(&Key::floor()?.script, COIN, 1)?;
        let coin = coins.first().context("no coin for the floor")?;
        let port = ports::free()?;
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["bench", "floor", "--port", &port.to_string(), "--certificate"])
            .arg(&self.tls.certificate)
            .arg("--key")
            .arg(&self.tls.key)
            .args(["--bitcoind", self.chain.url(), "--cookie"])
            .arg(self.chain.cookie())
            .args(["--address", address, "--coin", &coin.outpoint.to_string()])
            .args(["--coin-sat", &COIN.to_sat().to_string(), "--record"])
            .arg(self.dir.join("floor.record"))
            .stderr(File::create(self.dir.join("floor.log"))?);
        self.server(Kind::Floor, &mut command, address, port)
    }

    fn server(&self, kind: Kind, command: &mut Command, address: &str, port: u16) -> Result<Receiver> {
        let mut server = Server::start(command)?;
        wait::until(&format!("{} listens", kind.name()), Duration::from_secs(20), || {
            if let Some(status) = server.ended()? {
                bail!("{} ended at once ({status}); see its log", kind.name());
            }
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        })?;
        let code = format!("bitcoin:{address}?amount={}&pj={}", PAYMENT.to_btc(), endpoint(port));
        Ok(Receiver {
            kind,
            codes: vec![code; self.originals],
            _process: Process::Server { _server: server },
        })
    }
}

fn endpoint(port: u16) -> String {
    format!("https://localhost:{port}/")
}

fn script(address: &str) -> Result<ScriptBuf> {
    let address: Address<_> = address.parse()?;
    Ok(address.require_network(Network::Regtest)?.script_pubkey())
}
