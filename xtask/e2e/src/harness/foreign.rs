//! Lightning nodes of other projects, as peers. Each is spoken to with its project's own command line.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bitcoin::{Amount, OutPoint};
use serde_json::{Deserializer, Value};
use xtask_programs::process::{self, Server};

use super::daemon::Own;
use super::{Chain, wait};

mod cln;
mod lnd;

pub(crate) use cln::Cln;
pub(crate) use lnd::Lnd;

/// For a start with an empty folder on a busy machine.
const START: Duration = Duration::from_secs(180);

/// For what two nodes and a chain must agree on.
const PATIENCE: Duration = Duration::from_secs(120);

/// A channel as the other side sees it.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Can carry payments.
    pub(crate) usable: bool,
    pub(crate) capacity: Amount,
    /// What is on the foreign node's side.
    pub(crate) theirs: Amount,
    pub(crate) private: bool,
    /// In its own words.
    pub(crate) state: String,
}

/// A node of another project. It ends when it is dropped.
pub(crate) trait Foreign {
    fn process(&self) -> &Process;

    /// Does it answer, and can it take channels?
    fn is_ready(&self) -> Result<bool>;

    fn id(&self) -> Result<String>;

    /// The last block that it has dealt with.
    fn height(&self) -> Result<u64>;

    /// An address of its on-chain wallet.
    fn deposit(&self) -> Result<String>;

    /// Confirmed coins of its on-chain wallet.
    fn balance(&self) -> Result<Amount>;

    /// Connects to `id@host:port`.
    fn connect(&self, peer: &str) -> Result<()>;

    /// The channel on this output, unless it is closed on the chain, or was never heard of.
    fn channel(&self, funding: OutPoint) -> Result<Option<Channel>>;

    /// A BOLT 11 invoice.
    fn invoice(&self, amount: Amount) -> Result<String>;

    /// Pays a BOLT 11 invoice.
    fn pay(&self, bolt11: &str) -> Result<()>;

    /// Begins to close a channel; with force without the other side.
    fn close(&self, funding: OutPoint, force: bool) -> Result<()>;

    /// How a daemon uses it as its own node.
    fn own(&self) -> Result<Own> {
        bail!("{} is no backend", self.process().name)
    }
}

/// What cases do with one, whatever it is.
impl dyn Foreign + '_ {
    pub(crate) fn name(&self) -> &str {
        &self.process().name
    }

    /// As other nodes want it: `id@host:port`.
    pub(crate) fn peer(&self) -> Result<String> {
        Ok(format!("{}@127.0.0.1:{}", self.id()?, self.process().port))
    }

    /// Starts it, again if it was killed, and waits until it has the chain.
    pub(crate) fn run(&self, chain: &Chain) -> Result<()> {
        self.process().start()?;
        let what = format!("{} is ready", self.name());
        wait::until(&what, START, || {
            self.process().check_alive()?;
            Ok(self.is_ready().unwrap_or(false).then_some(()))
        })?;
        self.wait_for_height(chain.height()?)
    }

    /// Kills it without a word.
    pub(crate) fn kill(&self) {
        self.process().server.take();
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn stop(&self) -> Result<()> {
        self.process().tell(&["stop"])?;
        wait::until(&format!("{} ends", self.name()), PATIENCE, || {
            let mut server = self.process().server.borrow_mut();
            Ok(server.as_mut().context("it does not run")?.ended()?.map(drop))
        })?;
        self.kill();
        Ok(())
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.process().log)?)
    }

    /// The folder with everything of its.
    pub(crate) fn folder(&self) -> PathBuf {
        self.process().log.with_extension("")
    }

    /// The words that its command line begins with.
    pub(crate) fn client(&self) -> &[String] {
        &self.process().client
    }

    /// Runs one of its own commands and returns the JSON that it prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value> {
        self.process().call(arguments)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process().server.borrow().is_some()
    }

    pub(crate) fn wait_for_height(&self, height: u64) -> Result<()> {
        wait::until(&format!("{} has block {height}", self.name()), PATIENCE, || {
            Ok((self.height()? >= height).then_some(()))
        })
    }

    /// Waits until the channel can carry payments.
    pub(crate) fn await_channel(&self, funding: OutPoint) -> Result<Channel> {
        let mut last = String::new();
        let found = wait::until(&format!("{} can use channel {funding}", self.name()), PATIENCE, || {
            let found = self.channel(funding)?;
            last = found.as_ref().map_or("unknown".to_owned(), |channel| channel.state.clone());
            Ok(found.filter(|channel| channel.usable))
        });
        found.with_context(|| format!("last seen: {last}"))
    }

    /// Gives its wallet a confirmed coin.
    pub(crate) fn give(&self, chain: &Chain, amount: Amount) -> Result<()> {
        let enough = self.balance()? + amount;
        chain.give(&[(self.deposit()?, amount)])?;
        wait::until(&format!("{} holds {enough}", self.name()), PATIENCE, || {
            Ok((self.balance()? >= enough).then_some(()))
        })
    }
}

/// The process of a foreign node, and how it is started and spoken to.
pub(crate) struct Process {
    name: String,
    /// Where it listens for peers.
    port: u16,
    /// With its arguments.
    program: Vec<String>,
    /// The program that speaks to it, with its arguments.
    client: Vec<String>,
    log: PathBuf,
    server: RefCell<Option<Server>>,
}

impl Process {
    fn new(name: &str, dir: &Path, port: u16, program: Vec<String>, client: Vec<String>) -> Result<Self> {
        let folder = dir.join(name);
        fs::create_dir_all(&folder)?;
        let log = folder.with_extension("log");
        Ok(Self { name: name.to_owned(), port, program, client, log, server: RefCell::default() })
    }

    fn start(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = words(&self.program)?;
        let server = Server::start(command.stdout(log.try_clone()?).stderr(Stdio::from(log)))?;
        self.server.replace(Some(server));
        Ok(())
    }

    fn check_alive(&self) -> Result<()> {
        let mut server = self.server.borrow_mut();
        if let Some(status) = server.as_mut().context("it does not run")?.ended()? {
            bail!("{} ended at once ({status}); see its log", self.name);
        }
        Ok(())
    }

    /// Runs one of its commands and returns the JSON that it prints.
    fn call(&self, arguments: &[&str]) -> Result<Value> {
        let printed = process::output(words(&self.client)?.args(arguments))?;
        // Of several values the last is the outcome.
        let told = Deserializer::from_str(&printed).into_iter().last().and_then(Result::ok);
        told.with_context(|| format!("{} {}: not JSON: {printed}", self.name, arguments.join(" ")))
    }

    /// The same for a command that prints no JSON.
    fn tell(&self, arguments: &[&str]) -> Result<()> {
        process::output(words(&self.client)?.args(arguments)).map(drop)
    }
}

fn words(words: &[String]) -> Result<Command> {
    let (program, arguments) = words.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// A number that a program prints as text, in satoshis.
fn sat(value: &Value) -> Result<Amount> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.map(Amount::from_sat).with_context(|| format!("no amount: {value}"))
}

/// Splits `id@host:port`.
fn parts(peer: &str) -> Result<(&str, &str, &str)> {
    let split = peer.split_once('@').and_then(|(id, address)| Some((id, address.rsplit_once(':')?)));
    let (id, (host, port)) = split.with_context(|| format!("{peer} is no peer"))?;
    ensure!(!id.is_empty(), "{peer} has no id");
    Ok((id, host, port))
}
