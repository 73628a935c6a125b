//! `init`: questions, where somebody is there to answer them.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use payjoin_node::init::{Init, Wishes, Written};

use crate::cli::InitArgs;
use crate::config;

/// Asks, where somebody is there to answer, and writes the settings file.
pub(crate) fn init(datadir: &Path, args: InitArgs) -> Result<Written, String> {
    let ask = !args.yes && std::io::stdin().is_terminal();
    let InitArgs { network, backend, bitcoind_url, bitcoind_cookie, directory, relay, .. } = args;
    let wishes = Wishes { network, backend, bitcoind_url, bitcoind_cookie, directory, relay };
    let home = config::expand_home(Path::new("~"))?;
    let mut init = Init::new(datadir, &home, wishes).map_err(|error| error.to_string())?;
    while let Some(question) = init.question().filter(|_| ask) {
        let choices = question.choices.join(", ");
        let choices = if choices.is_empty() { choices } else { format!(" [{choices}]") };
        let mut err = std::io::stderr();
        write!(err, "{}{choices}: ", question.text).and_then(|()| err.flush()).map_err(|e| e.to_string())?;
        let mut said = String::new();
        let read = std::io::stdin().lock().read_line(&mut said).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("nothing was written: the answers ended".to_owned());
        }
        if let Err(error) = init.answer(&said) {
            writeln!(err, "{error}").map_err(|e| e.to_string())?;
        }
    }
    init.write().map_err(|error| error.to_string())
}
