//! `run`: the node, its control socket, what it tells, and the end of all three.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;

use payjoin_node::settings::SettingsError;
use payjoin_node::{Builder, Node, Recover, StartError, Starting};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cli::RunArgs;
use crate::config::{self, ConfigError};
use crate::control::{self, Asked};
use crate::output::Output;
use crate::steps::{self, Phase};

/// Why the daemon did not start, or ended. In one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{path}: {error}")]
    Settings { path: PathBuf, error: SettingsError },
    #[error(transparent)]
    Node(StartError),
    #[error("the control socket: {0}")]
    Socket(io::Error),
    #[error("signals: {0}")]
    Signals(io::Error),
}

/// What signals ask for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on no signal kills.
    fn hear() -> Result<Self, RunError> {
        let hear = |kind| signal(kind).map_err(RunError::Signals);
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            hangup: hear(SignalKind::hangup())?,
        })
    }

    /// SIGTERM or Ctrl-C.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where commands reach the daemon.
pub(crate) fn socket_path(datadir: &Path) -> PathBuf {
    datadir.join("payjoind.sock")
}

/// Runs the daemon until a signal or `stop`, with an older copy of the database where `copy` says so. `json` prints one
/// JSON object a step instead of a line of text.
pub(crate) async fn run(
    datadir: &Path,
    args: &RunArgs,
    copy: Option<Recover>,
    (out, json): (Output, bool),
) -> Result<(), RunError> {
    let mut signals = Signals::hear()?;
    allow_many_files();
    let builder = Node::builder(config::load(datadir, args)?);
    let builder = match copy {
        Some(copy) => builder.recover(copy),
        None => builder,
    };
    let (phase, phases) = watch::channel(Phase::Starting);
    let showing = tokio::spawn(steps::show(builder.events(), out, json, phases));
    let ended = work((datadir, args), builder, &phase, &mut signals).await;
    phase.send_replace(Phase::Over);
    // It waits for nobody.
    let _ = showing.await;
    ended.map_err(|error| match error {
        RunError::Node(StartError::Settings(error)) => {
            RunError::Settings { path: config::path(datadir), error }
        }
        error => error,
    })
}

/// Starts the node and answers commands until the end is asked for, or comes. A start that waits for blocks answers, too.
async fn work(
    (datadir, args): (&Path, &RunArgs),
    builder: Builder,
    phase: &watch::Sender<Phase>,
    signals: &mut Signals,
) -> Result<(), RunError> {
    let starting = builder.starting();
    let mut door = Door::new(socket_path(datadir), starting.clone());
    let mut start = pin!(builder.start());
    let node = tokio::select! {
        biased;
        node = &mut start => node.map_err(RunError::Node)?,
        () = signals.end() => return Ok(()),
        () = starting.waits() => {
            door.open()?;
            tokio::select! {
                biased;
                node = start => node.map_err(RunError::Node)?,
                () = signals.end() => return Ok(()),
                () = door.is_told_to_stop() => return Ok(()),
            }
        }
    };
    let ended = serve(&node, (datadir, args), &mut door, phase, signals).await;
    node.stop().await;
    ended
}

/// The socket answers until the process ends.
async fn serve(
    node: &Node,
    (datadir, args): (&Path, &RunArgs),
    door: &mut Door,
    phase: &watch::Sender<Phase>,
    signals: &mut Signals,
) -> Result<(), RunError> {
    door.asked.send_replace(Asked::Running(node.clone()));
    door.open()?;
    phase.send_replace(Phase::Open);
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => reload(node, datadir, args),
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            () = door.is_told_to_stop() => return Ok(()),
            ended = node.ended() => return ended.map_err(RunError::Node),
        }
    }
}

/// SIGHUP: what cannot be used changes nothing.
fn reload(node: &Node, datadir: &Path, args: &RunArgs) {
    match config::load(datadir, args).map(|settings| node.reload(settings)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!("{}: {error}. Nothing was changed", config::path(datadir).display())
        }
        Err(error) => tracing::error!("{error}. Nothing was changed"),
    }
}

/// The control socket, from the moment when somebody answers there. Whoever opens it holds the folder's lock.
struct Door {
    path: PathBuf,
    is_open: bool,
    asked: watch::Sender<Asked>,
    stop: watch::Sender<bool>,
}

impl Door {
    fn new(path: PathBuf, starting: Starting) -> Self {
        let (asked, stop) = (watch::Sender::new(Asked::Starting(starting)), watch::Sender::new(false));
        Self { path, is_open: false, asked, stop }
    }

    fn open(&mut self) -> Result<(), RunError> {
        if !self.is_open {
            let socket = control::bind(&self.path).map_err(RunError::Socket)?;
            tokio::spawn(control::serve(socket, self.asked.subscribe(), self.stop.clone()));
            self.is_open = true;
        }
        Ok(())
    }

    async fn is_told_to_stop(&self) {
        // It cannot fail: we hold the other end.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.is_open {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Every open session holds a connection: raises the limit of open files as far as the system allows.
fn allow_many_files() {
    let granted = Rlimit { current: getrlimit(Resource::Nofile).maximum, ..getrlimit(Resource::Nofile) };
    if let Err(error) = setrlimit(Resource::Nofile, granted) {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}
