//! `init` and `doctor`: before there is a daemon.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use payjoin_node::init::{Init, Wishes, Written};
use payjoin_node::settings::FILE;
use tokio::runtime::Runtime;

use crate::cli::{InitArgs, RunArgs};
use crate::config::{self, Place};
use crate::tell::{fail, show_all};

/// Asks, where somebody is there to answer, and writes the settings file.
pub(crate) fn init(json: bool, place: &Place, args: InitArgs) -> ExitCode {
    if place.file() != place.datadir.join(FILE) {
        return fail(
            json,
            &format!("`init` writes {FILE} into the folder: leave --config out, and move it afterwards"),
        );
    }
    match write(&place.datadir, args) {
        Ok(written) => show_all(json, &written),
        Err(e) => fail(json, &e),
    }
}

/// Looks at all that `run` needs.
pub(crate) fn doctor(runtime: &Runtime, json: bool, place: &Place, args: &RunArgs) -> ExitCode {
    let settings = match place.load(args) {
        Ok(settings) => settings,
        Err(e) => return fail(json, &e.to_string()),
    };
    let found = runtime.block_on(payjoin_node::doctor::diagnose(settings));
    let shown = show_all(json, &found);
    if found.healthy { shown } else { ExitCode::FAILURE }
}

fn write(datadir: &Path, args: InitArgs) -> Result<Written, String> {
    let ask = !args.yes && std::io::stdin().is_terminal();
    let InitArgs { network, backend, bitcoind_url, bitcoind_cookie, directory, relay, .. } = args;
    let wishes = Wishes { network, backend, bitcoind_url, bitcoind_cookie, directory, relay };
    let home = config::expand_home(Path::new("~"))?;
    let mut init = Init::new(datadir, &home, wishes).map_err(|error| error.to_string())?;
    while let Some(question) = init.question().filter(|_| ask) {
        let choices = question.choices.join(", ");
        let choices = if choices.is_empty() { choices } else { format!(" [{choices}]") };
        let mut err = std::io::stderr();
        std::write!(err, "{}{choices}: ", question.text)
            .and_then(|()| err.flush())
            .map_err(|e| e.to_string())?;
        let mut said = String::new();
        let read = std::io::stdin().lock().read_line(&mut said).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("nothing was written: the answers ended".to_owned());
        }
        if let Err(error) = init.answer(&said) {
            std::writeln!(err, "{error}").map_err(|e| e.to_string())?;
        }
    }
    init.write().map_err(|error| error.to_string())
}
