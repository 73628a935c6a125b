//! What a package installs beside the program, made from the command line itself.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;

/// A script that completes commands and options in this shell.
pub(crate) fn completions(shell: Shell) -> String {
    let (mut command, mut script) = (command(), Vec::new());
    clap_complete::generate(shell, &mut command, "payjoind", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// A manual page for the program and for each command, `NAME.1`, in a folder that exists.
pub(crate) fn manual(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(command(), folder)
}

fn command() -> Command {
    Cli::command().name("payjoind").bin_name("payjoind")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = completions(shell);
            for word in ["receive", "channel", "payer-is-me"] {
                assert!(script.contains(word), "{shell} lacks {word}");
            }
        }
    }

    #[test]
    fn each_command_has_a_page_with_its_options() {
        let folder = tempfile::tempdir().unwrap();
        manual(folder.path()).unwrap();
        for (page, words) in [("payjoind.1", "PAYJOIND_DATADIR"), ("payjoind-receive.1", "payer\\-is\\-me")] {
            let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(words), "{page} lacks {words}");
        }
    }
}
