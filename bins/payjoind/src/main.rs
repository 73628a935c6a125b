//! `payjoind`: parse, wire, run. Everything it does lives in `payjoin-node`.

mod ask;
mod cli;
mod config;
mod csv;
mod generate;
mod help;
mod init;
mod log;
mod pages;
#[cfg(feature = "cln")]
mod plugin;
mod render;
mod run;
mod seen;
mod steps;
mod tell;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use payjoin_node::requests::ExchangeRequest;
use payjoin_node::{Output, Recover, Request, control};
use tokio::runtime::Runtime;

use cli::{Cli, Command, RunArgs};
use config::Place;
use log::Reader;
use tell::{answered, fail, misused, print, show_all, written};

/// The last lines have this long to be read, on each of two ways.
const LAST_WORDS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    #[cfg(feature = "cln")]
    if payjoin_node::plugin::is_started(std::env::args_os().skip(1)) {
        return plugin::run();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let place = match Place::of(&cli) {
        Ok(place) => place,
        Err(e) => return fail(cli.json, e),
    };
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return fail(cli.json, &format!("cannot start the runtime: {e}")),
    };
    let code = match cli.command {
        Command::Run(args) => run(&runtime, cli.json, &place, &args, None),
        Command::Recover(args) => run(&runtime, cli.json, &place, &args.run, Some(args.copy())),
        Command::Rescue => match payjoin_node::rescue(&place.datadir) {
            Ok(rescued) => show_all(cli.json, &rescued),
            Err(e) => fail(cli.json, &e.to_string()),
        },
        Command::Init(args) => init::init(cli.json, &place, args),
        Command::Doctor(args) => init::doctor(&runtime, cli.json, &place, &args),
        Command::Seen(command) => runtime.block_on(seen::run(&place, cli.json, command)),
        Command::Completions { shell } => written(cli.json, print(&generate::completions(shell))),
        Command::Man { folder } => written(cli.json, generate::manual(&folder)),
        Command::Stop => ask(&runtime, cli.json, &place, None),
        Command::Ask(asked) => match asked.request() {
            Ok(request) => ask(&runtime, cli.json, &place, Some(&request)),
            Err(e) => fail(cli.json, &e),
        },
    };
    // A name lookup that hangs is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

fn run(runtime: &Runtime, json: bool, place: &Place, args: &RunArgs, copy: Option<Recover>) -> ExitCode {
    let log = Output::to(std::io::stderr(), |lost| {
        Some(format!("{lost} lines of the log were dropped: nobody read them\n"))
    });
    let steps = Output::to(std::io::stdout(), |lost| {
        tracing::warn!(lost, "steps were dropped: nobody read them");
        None
    });
    // What cannot be read is told once `run` reads it, too.
    let format = place.load(args).map(|settings| settings.log.format).unwrap_or_default();
    log::start(log.clone(), Reader::of_stderr(std::io::stderr().is_terminal()), format);
    let ended = runtime.block_on(run::run(place, args, copy, (steps.clone(), json)));
    if let Err(error) = &ended {
        let error = error.to_string();
        match json {
            true => steps.tell(format!("{}\n", render::error(error))),
            false => log.tell(format!("payjoind: {error}\n")),
        }
    }
    // Nothing waits longer for whoever does not read.
    [steps, log].iter().for_each(|output| output.flush(LAST_WORDS));
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ask(runtime: &Runtime, json: bool, place: &Place, request: Option<&Request>) -> ExitCode {
    let socket = place.daemon();
    let answer = match request {
        Some(Request::Exchange(ExchangeRequest::List(args))) => {
            runtime.block_on(pages::exchanges(&socket, *args, json, print))
        }
        request => runtime.block_on(control::ask(&socket, request)).map(Some),
    };
    answered(json, place, answer)
}
