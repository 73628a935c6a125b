//! `run`: the node, its control socket, what it tells, and the end of all three.

use std::io;
use std::path::PathBuf;
use std::pin::pin;

use payjoin_node::control::{self, Access};
use payjoin_node::settings::{FileError, SettingsError};
use payjoin_node::{Asked, Builder, Node, Output, Recover, Settings, StartError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cli::RunArgs;
use crate::config::Place;
use crate::steps::{self, Phase};

/// Why the daemon did not start, or ended. In one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Config(#[from] FileError),
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
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on no signal kills.
    pub(crate) fn hear() -> Result<Self, RunError> {
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

/// Runs the daemon until a signal or `stop`, with an older copy of the database where `copy` says so. `json` prints one
/// JSON object a step instead of a line of text.
pub(crate) async fn run(
    place: &Place,
    args: &RunArgs,
    copy: Option<Recover>,
    (out, json): (Output, bool),
) -> Result<(), RunError> {
    let signals = Signals::hear()?;
    let load = || place.load(args);
    let builder = Node::builder(load()?);
    let builder = match copy {
        Some(copy) => builder.recover(copy),
        None => builder,
    };
    let asked = watch::Sender::new(Asked::Starting(builder.starting()));
    let door = Door::new(place.clone(), asked, watch::Sender::new(false));
    work(door, builder, signals, (out, json), &load).await
}

/// Runs a node behind this door, and shows what it does. `load` reads the settings again.
pub(crate) async fn work(
    mut door: Door,
    builder: Builder,
    mut signals: Signals,
    (out, json): (Output, bool),
    load: Load<'_>,
) -> Result<(), RunError> {
    allow_many_files();
    let (phase, phases) = watch::channel(Phase::Starting);
    let showing = tokio::spawn(steps::show(builder.events(), out, json, phases));
    let ended = start(&mut door, builder, &phase, &mut signals, load).await;
    phase.send_replace(Phase::Over);
    // It waits for nobody.
    let _ = showing.await;
    ended.map_err(|error| match error {
        RunError::Node(StartError::Settings(error)) => RunError::Settings { path: door.place.file(), error },
        error => error,
    })
}

/// Reads the settings again.
type Load<'a> = &'a (dyn Fn() -> Result<Settings, FileError> + Sync);

/// Starts the node and answers commands until the end is asked for, or comes. A start that waits for blocks answers, too.
async fn start(
    door: &mut Door,
    builder: Builder,
    phase: &watch::Sender<Phase>,
    signals: &mut Signals,
    load: Load<'_>,
) -> Result<(), RunError> {
    let starting = builder.starting();
    door.asked.send_replace(Asked::Starting(starting.clone()));
    let mut start = pin!(builder.start());
    let node = tokio::select! {
        biased;
        node = &mut start => node.map_err(RunError::Node)?,
        () = signals.end() => return Ok(()),
        () = door.is_told_to_stop() => return Ok(()),
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
    let ended = serve(&node, door, phase, signals, load).await;
    node.stop().await;
    ended
}

/// The socket answers until the process ends.
async fn serve(
    node: &Node,
    door: &mut Door,
    phase: &watch::Sender<Phase>,
    signals: &mut Signals,
    load: Load<'_>,
) -> Result<(), RunError> {
    door.asked.send_replace(Asked::Running(node.clone()));
    door.open()?;
    phase.send_replace(Phase::Open);
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => reload(node, &door.place, load),
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            () = door.is_told_to_stop() => return Ok(()),
            ended = node.ended() => return ended.map_err(RunError::Node),
        }
    }
}

/// SIGHUP: what cannot be used changes nothing.
fn reload(node: &Node, place: &Place, load: Load<'_>) {
    match load().map(|settings| node.reload(settings)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("{}: {error}. Nothing was changed", place.file().display()),
        Err(error) => tracing::error!("{error}. Nothing was changed"),
    }
}

/// The control socket, from the moment when somebody answers there. Whoever opens it holds the folder's lock.
pub(crate) struct Door {
    place: Place,
    is_open: bool,
    asked: watch::Sender<Asked>,
    stop: watch::Sender<bool>,
}

impl Door {
    /// For a node with its files there. Whoever has `asked` can ask it, too, and whoever has `stop` end it.
    pub(crate) fn new(place: Place, asked: watch::Sender<Asked>, stop: watch::Sender<bool>) -> Self {
        Self { place, is_open: false, asked, stop }
    }

    fn open(&mut self) -> Result<(), RunError> {
        if !self.is_open {
            let path = self.place.socket();
            // In the folder it is the owner's, as everything there.
            let access = if path.starts_with(&self.place.datadir) { Access::Owner } else { Access::Group };
            let socket = control::bind(&path, access).map_err(RunError::Socket)?;
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
            let _ = std::fs::remove_file(self.place.socket());
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
