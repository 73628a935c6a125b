//! What a command prints, and the code with which it ends.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use crate::config::Place;
use crate::render;

/// Exit code of a command line that is wrong; clap has the same.
const MISUSED: u8 = 2;

/// The same for an answer that is not JSON yet.
pub(crate) fn show_all(json: bool, answer: &impl Serialize) -> ExitCode {
    show(json, &serde_json::to_value(answer).unwrap_or_else(render::error))
}

/// Prints an answer.
pub(crate) fn show(json: bool, answer: &Value) -> ExitCode {
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
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

pub(crate) fn written(json: bool, result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(json, &format!("cannot write it: {e}")),
    }
}

pub(crate) fn fail(json: bool, message: &str) -> ExitCode {
    // When nobody reads it, the exit code says enough.
    let _ = match json {
        true => print(&format!("{}\n", render::error(message))),
        false => writeln!(std::io::stderr(), "payjoind: {message}"),
    };
    ExitCode::FAILURE
}

/// A command line that cannot be parsed, or that asks for help. Whether it asks for JSON was not parsed either.
pub(crate) fn misused(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|word| word == "--json");
    if !(json && error.use_stderr()) {
        error.exit();
    }
    let message = error.render().to_string();
    fail(true, message.trim_start_matches("error: ").trim_end());
    ExitCode::from(MISUSED)
}

pub(crate) fn unanswered_text(place: &Place, error: &std::io::Error) -> String {
    let (datadir, socket) = (place.datadir.display(), place.daemon());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused => {
            format!("no daemon runs in {datadir}. Start one with: payjoind --datadir {datadir} run")
        }
        ErrorKind::PermissionDenied => {
            let socket = socket.display();
            format!(
                "{socket} is not open to you: run this as the user who runs the daemon, or in its group where \
                     the group may use it"
            )
        }
        _ => format!("the daemon in {datadir} gave no answer: {error}"),
    }
}
