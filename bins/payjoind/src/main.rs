//! `payjoind`: parse, wire, run. Everything it does lives in `payjoin-node`.

mod ask;
mod cli;
mod config;
mod control;
mod generate;
mod help;
mod log;
mod output;
mod pages;
mod render;
mod run;
mod steps;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use payjoin_node::requests::ExchangeRequest;
use payjoin_node::{Recover, Request};
use serde_json::Value;
use tokio::runtime::Runtime;

use cli::{Cli, Command, RunArgs};
use output::Output;
use pages::PageError;

/// Exit code of a command line that is wrong; clap has the same.
const MISUSED: u8 = 2;

/// The last lines have this long to be read, on each of two ways.
const LAST_WORDS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let datadir = match config::expand_home(&cli.datadir) {
        Ok(datadir) => datadir,
        Err(e) => return fail(cli.json, e),
    };
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return fail(cli.json, &format!("cannot start the runtime: {e}")),
    };
    let code = match cli.command {
        Command::Run(args) => run(&runtime, cli.json, &datadir, &args, None),
        Command::Recover(args) => {
            let copy = if args.older_copy { Recover::Declared } else { Recover::Refused };
            run(&runtime, cli.json, &datadir, &args.run, Some(copy))
        }
        Command::Rescue => match payjoin_node::rescue(&datadir) {
            Ok(rescued) => show(cli.json, &serde_json::to_value(rescued).unwrap_or_else(render::error)),
            Err(e) => fail(cli.json, &e.to_string()),
        },
        Command::Completions { shell } => written(cli.json, print(&generate::completions(shell))),
        Command::Man { folder } => written(cli.json, generate::manual(&folder)),
        Command::Stop => ask(&runtime, cli.json, &datadir, None),
        Command::Ask(asked) => match asked.request() {
            Ok(Request::Exchange(ExchangeRequest::List(args))) => {
                let socket = run::socket_path(&datadir);
                match runtime.block_on(pages::exchanges(&socket, args, cli.json, print)) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(PageError::Refused(e)) => fail(cli.json, &e),
                    Err(PageError::Unanswered(e)) => fail(cli.json, &unanswered_text(&datadir, &e)),
                }
            }
            Ok(request) => ask(&runtime, cli.json, &datadir, Some(&request)),
            Err(e) => fail(cli.json, &e),
        },
    };
    // A name lookup that hangs is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

fn run(runtime: &Runtime, json: bool, datadir: &Path, args: &RunArgs, copy: Option<Recover>) -> ExitCode {
    let log = Output::to(std::io::stderr(), |lost| {
        Some(format!("{lost} lines of the log were dropped: nobody read them\n"))
    });
    let steps = Output::to(std::io::stdout(), |lost| {
        tracing::warn!(lost, "steps were dropped: nobody read them");
        None
    });
    log::start(log.clone());
    let ended = runtime.block_on(run::run(datadir, args, copy, (steps.clone(), json)));
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

fn ask(runtime: &Runtime, json: bool, datadir: &Path, request: Option<&Request>) -> ExitCode {
    match runtime.block_on(control::ask(&run::socket_path(datadir), request)) {
        Ok(answer) => show(json, &answer),
        Err(e) => fail(json, &unanswered_text(datadir, &e)),
    }
}

fn show(json: bool, answer: &Value) -> ExitCode {
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        return fail(json, error);
    }
    let text = match json {
        true => format!("{answer}\n"),
        false => render::text(answer, std::io::stdout().is_terminal()),
    };
    print(&text).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// `println!` would panic when the reader has left, as `head` does.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn written(json: bool, result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(json, &format!("cannot write it: {e}")),
    }
}

fn fail(json: bool, message: &str) -> ExitCode {
    // When nobody reads it, the exit code says enough.
    let _ = match json {
        true => print(&format!("{}\n", render::error(message))),
        false => writeln!(std::io::stderr(), "payjoind: {message}"),
    };
    ExitCode::FAILURE
}

/// A command line that cannot be parsed, or that asks for help. Whether it asks for JSON was not parsed either.
fn misused(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|word| word == "--json");
    if !(json && error.use_stderr()) {
        error.exit();
    }
    let message = error.render().to_string();
    fail(true, message.trim_start_matches("error: ").trim_end());
    ExitCode::from(MISUSED)
}

fn unanswered_text(datadir: &Path, error: &std::io::Error) -> String {
    let datadir = datadir.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused => {
            format!("no daemon runs in {datadir}. Start one with: payjoind --datadir {datadir} run")
        }
        ErrorKind::PermissionDenied => {
            format!("{datadir} is not open to you: run this as the user who runs the daemon")
        }
        _ => format!("the daemon in {datadir} gave no answer: {error}"),
    }
}
