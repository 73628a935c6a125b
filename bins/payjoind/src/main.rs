//! `payjoind`: parse, wire, run. Everything it does lives in the library crates.

mod bump;
mod cli;
mod commands;
mod config;
mod control;
mod daemon;
mod help;
mod keep;
mod outside;
mod pay;
mod receive;
mod render;
mod rescue;
mod roles;
mod start;
mod steps;
mod tor;
mod watch;
mod ways;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

use cli::{Cli, Command};

/// Exit code of a command line that is wrong; clap has the same.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let datadir = config::expand_home(&cli.datadir);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return fail(cli.json, &format!("cannot start the runtime: {e}")),
    };
    let code = match cli.command {
        Command::Run(args) => {
            steps::start(cli.json);
            match runtime.block_on(start::run(&datadir, &args)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => fail(cli.json, &e.to_string()),
            }
        }
        Command::Rescue => match rescue::rescue(&start::database(&datadir)) {
            Ok(answer) => show(cli.json, &answer),
            Err(e) => fail(cli.json, &e),
        },
        command => match runtime.block_on(control::ask(&start::socket_path(&datadir), &command)) {
            Ok(answer) => show(cli.json, &answer),
            Err(e) => fail(cli.json, &unanswered_text(&datadir, &e)),
        },
    };
    // A name lookup that hangs is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
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
        true => print(&format!("{}\n", json!({ "error": message }))),
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
