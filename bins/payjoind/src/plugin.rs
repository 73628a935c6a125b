//! `payjoind` as a plugin of lightningd's: no arguments, lightningd on stdin and stdout, the log in lightningd's own.

use std::future::pending;
use std::io::Write;
use std::process::ExitCode;

use payjoin_node::plugin::{Lightningd, Voice, with_bitcoind};
use payjoin_node::settings::LogFormat;
use payjoin_node::{Asked, Node, Output, Settings};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::config::Place;
use crate::run::{self, Door, Signals};
use crate::{LAST_WORDS, log};

/// Lines for lightningd's log.
struct Log(Voice);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        String::from_utf8_lossy(bytes).lines().for_each(|line| self.0.log(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs until lightningd ends, or says that we should.
pub(crate) fn run() -> ExitCode {
    let Ok(runtime) = Runtime::new() else { return ExitCode::FAILURE };
    let out = Output::to(std::io::stdout(), |_| None);
    let to_lightningd = out.clone();
    let voice = Voice::new(move |message| to_lightningd.tell(message));
    let said = Output::to(Log(voice.clone()), |lost| Some(format!("{lost} lines were dropped")));
    // lightningd's log has levels and times of its own.
    log::start(said.clone(), log::Reader::Other, LogFormat::Text);
    let ended = runtime.block_on(work(voice, &said));
    [said, out].iter().for_each(|output| output.flush(LAST_WORDS));
    // Somebody may still read what lightningd says.
    runtime.shutdown_background();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn work(voice: Voice, said: &Output) -> std::io::Result<()> {
    let met = Lightningd::meet(tokio::io::stdin(), voice).await?;
    let Some((lightningd, settings)) = met else { return Ok(()) };
    let asked = watch::Sender::new(Asked::Nobody("payjoind starts: ask again".to_owned()));
    let stop = watch::Sender::new(false);
    let working = async {
        let ended = match settings {
            Ok(settings) => node(settings, said.clone(), &asked, &stop).await,
            Err(why) => Err(why),
        };
        let Err(why) = ended else { return };
        tracing::error!("payjoind does not run: {why}");
        // lightningd goes on, and whoever asks is told.
        asked.send_replace(Asked::Nobody(format!("payjoind does not run: {why}")));
        let _ = stop.subscribe().wait_for(|stop| *stop).await;
    };
    let serving = async {
        lightningd.serve(asked.subscribe()).await;
        stop.send_replace(true);
        pending::<()>().await;
    };
    tokio::select! {
        () = working => Ok(()),
        () = serving => Ok(()),
    }
}

/// The node, with its control socket as everywhere. The error is for lightningd's log.
async fn node(
    settings: Settings,
    said: Output,
    asked: &watch::Sender<Asked>,
    stop: &watch::Sender<bool>,
) -> Result<(), String> {
    let mut stopped = stop.subscribe();
    let settings = tokio::select! {
        settings = with_bitcoind(settings) => settings,
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
    };
    let door = Door::new(Place::below(&settings.datadir), asked.clone(), stop.clone());
    let signals = Signals::hear().map_err(|error| error.to_string())?;
    let (builder, load) = (Node::builder(settings.clone()), || Ok(settings.clone()));
    let ended = run::work(door, builder, signals, (said, false), &load).await;
    ended.map_err(|error| error.to_string())
}
