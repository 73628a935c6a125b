//! `payjoind`: parse, wire, run. Everything it does lives in `payjoin-node`.

mod ask;
mod cli;
mod config;
mod control;
mod help;
mod log;
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

/// Exit code of a command line that is wrong; clap has the same.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let datadir = config::expand_home(&cli.datadir);
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
        Command::Stop => ask(&runtime, cli.json, &datadir, None),
        Command::Ask(asked) => match asked.request() {
            Ok(request) => ask(&runtime, cli.json, &datadir, Some(&request)),
            Err(e) => fail(cli.json, &e),
        },
    };
    // A name lookup that hangs is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

fn run(runtime: &Runtime, json: bool, datadir: &Path, args: &RunArgs, copy: Option<Recover>) -> ExitCode {
    log::start();
    match runtime.block_on(run::run(datadir, args, copy, json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(json, &e.to_string()),
    }
}

fn ask(runtime: &Runtime, json: bool, datadir: &Path, request: Option<&Request>) -> ExitCode {
    let socket = run::socket_path(datadir);
    let answer = match request {
        Some(Request::Exchange(ExchangeRequest::List(args))) => {
            runtime.block_on(pages::exchanges(&socket, *args, json, print))
        }
        request => runtime.block_on(control::ask(&socket, request)).map(Some),
    };
    match answer {
        Ok(Some(answer)) => show(json, &answer),
        Ok(None) => ExitCode::SUCCESS,
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
