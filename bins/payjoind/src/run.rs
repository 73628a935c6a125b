//! `run`: the node, its control socket, what it tells, and the end of all three.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use payjoin_node::{Builder, Node, Recover, StartError, Starting};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cli::RunArgs;
use crate::config::{self, ConfigError};
use crate::control::{self, Asked};
use crate::steps::{self, Phase};

/// The last steps have this long to be shown.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Node(#[from] StartError),
    #[error("the control socket: {0}")]
    Socket(io::Error),
    #[error("signals: {0}")]
    Signals(io::Error),
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
    json: bool,
) -> Result<(), RunError> {
    allow_many_files();
    let builder = Node::builder(config::load(datadir, args)?);
    let builder = match copy {
        Some(copy) => builder.recover(copy),
        None => builder,
    };
    let (phase, phases) = watch::channel(Phase::Starting);
    let showing = tokio::spawn(steps::show(builder.events(), tokio::io::stdout(), json, phases));
    let ended = work(datadir, builder, &phase).await;
    phase.send_replace(Phase::Over);
    // Whoever reads the steps may have stopped reading.
    let _ = timeout(LAST_STEPS, showing).await;
    ended
}

/// Starts the node and answers commands until the end is asked for, or comes. A start that waits for blocks answers, too.
async fn work(datadir: &Path, builder: Builder, phase: &watch::Sender<Phase>) -> Result<(), RunError> {
    let starting = builder.starting();
    let mut door = Door::new(socket_path(datadir), starting.clone());
    let mut start = pin!(builder.start());
    let node = tokio::select! {
        biased;
        node = &mut start => node?,
        () = starting.waits() => {
            door.open()?;
            tokio::select! {
                biased;
                node = start => node?,
                () = door.is_told_to_stop() => return Ok(()),
            }
        }
    };
    let ended = serve(&node, &mut door, phase).await;
    node.stop().await;
    ended
}

/// The socket answers until the process ends.
async fn serve(node: &Node, door: &mut Door, phase: &watch::Sender<Phase>) -> Result<(), RunError> {
    door.asked.send_replace(Asked::Running(node.clone()));
    door.open()?;
    phase.send_replace(Phase::Open);
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = door.is_told_to_stop() => Ok(()),
        ended = node.ended() => Ok(ended?),
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
