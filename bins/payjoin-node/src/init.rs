//! `init`: finds what is on this machine, asks what it cannot know, and writes the settings file.

mod found;
mod text;

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bitcoin::Network;
use serde::Serialize;

use crate::settings::{FILE, Kind};
use found::Found;

/// What the operator has said already.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Which chain.
    pub network: Option<Network>,
    /// Whose coins and channels.
    pub backend: Option<Kind>,
    /// Where bitcoind's JSON-RPC is.
    pub bitcoind_url: Option<String>,
    /// Its cookie file.
    pub bitcoind_cookie: Option<PathBuf>,
    /// A directory, BIP 77.
    pub directory: Option<String>,
    /// A relay in front of it.
    pub relay: Option<String>,
}

/// What the operator is asked. No answer takes the first choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// In words.
    pub text: String,
    /// What he may say, what is proposed first; empty: anything.
    pub choices: Vec<String>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There are settings already.
    #[error("{0} is there already, and is left as it is: remove it first, or choose another --datadir")]
    Exists(PathBuf),
    /// Something that is none of the choices.
    #[error("{said} is none of these: {}", .choices.join(", "))]
    Choice {
        /// What was said.
        said: String,
        /// What may be said.
        choices: Vec<String>,
    },
    /// A folder or a file.
    #[error("cannot write {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What was said does not go together.
    #[error("nothing was written: {0}")]
    Settings(String),
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The settings file.
    pub file: PathBuf,
    /// Its network.
    pub network: String,
    /// Its backend.
    pub backend: &'static str,
    /// What to do next.
    pub next: String,
}

/// The settings file in the making: ask until there is no question, then write.
#[derive(Debug)]
pub struct Init {
    datadir: PathBuf,
    found: Found,
    wishes: Wishes,
}

impl Init {
    /// Looks around below `home`, for settings in `datadir`.
    ///
    /// # Errors
    /// [`InitError::Exists`]: settings are never replaced.
    pub fn new(datadir: &Path, home: &Path, wishes: Wishes) -> Result<Self, InitError> {
        let file = datadir.join(FILE);
        if file.symlink_metadata().is_ok() {
            return Err(InitError::Exists(file));
        }
        Ok(Self { datadir: datadir.to_owned(), found: Found::below(home), wishes })
    }

    /// What is still to be said.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        let Some(network) = self.wishes.network else { return Some(self.which_network()) };
        if self.wishes.backend.is_none() {
            return Some(self.which_backend(network));
        }
        if self.wishes.directory.is_none() {
            let text =
                "URL of a payjoin directory, through which payers reach you; nothing for none".to_owned();
            return Some(Question { text, choices: Vec::new() });
        }
        let has_directory = self.wishes.directory.as_ref().is_some_and(|url| !url.is_empty());
        (has_directory && self.wishes.relay.is_none()).then(|| Question {
            text: "URL of an OHTTP relay, which hides your address from the directory".to_owned(),
            choices: Vec::new(),
        })
    }

    /// Takes the answer to [`Init::question`]; an empty one takes the first choice.
    ///
    /// # Errors
    /// [`InitError::Choice`]: ask again.
    pub fn answer(&mut self, said: &str) -> Result<(), InitError> {
        let Some(Question { choices, .. }) = self.question() else { return Ok(()) };
        let said = said.trim();
        let said = if said.is_empty() { choices.first().map_or("", String::as_str) } else { said };
        if !choices.is_empty() && !choices.iter().any(|choice| choice == said) {
            return Err(InitError::Choice { said: said.to_owned(), choices });
        }
        let wishes = &mut self.wishes;
        if wishes.network.is_none() {
            wishes.network = said.parse().ok();
        } else if wishes.backend.is_none() {
            wishes.backend = Kind::ALL.into_iter().find(|kind| kind.name() == said);
        } else if wishes.directory.is_none() {
            wishes.directory = Some(said.to_owned());
        } else {
            wishes.relay = Some(said.to_owned());
        }
        Ok(())
    }

    fn which_network(&self) -> Question {
        let (first, found) = self.found.networks();
        let others = ["signet", "bitcoin", "testnet", "testnet4", "regtest"].into_iter();
        let mut choices: Vec<String> = first;
        choices.extend(others.map(str::to_owned));
        let mut seen = std::collections::HashSet::new();
        choices.retain(|name| seen.insert(name.clone()));
        let text = match found {
            Some(found) => format!("Which network? There is {found}"),
            None => "Which network?".to_owned(),
        };
        Question { text, choices }
    }

    fn which_backend(&self, network: Network) -> Question {
        let mut choices: Vec<String> = Vec::new();
        let (mut text, found) = ("Whose coins and channels? ".to_owned(), self.found.nodes(network));
        for (kind, what) in &found {
            choices.push(kind.name().to_owned());
            text += &format!("{what} is here. ");
        }
        text += "embedded: a new node in this program, with a seed of its own";
        choices.extend(
            Kind::ALL
                .iter()
                .map(|kind| kind.name().to_owned())
                .filter(|name| !found.iter().any(|(kind, _)| kind.name() == name)),
        );
        if found.is_empty() {
            // The embedded one first: it is all that is here.
            choices.sort_by_key(|name| name != Kind::Embedded.name());
        }
        Question { text, choices }
    }

    /// Writes the file, mode 0600, and its folder, mode 0700. What was not said has its first choice.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn write(mut self) -> Result<Written, InitError> {
        while self.question().is_some() {
            self.answer("")?;
        }
        let (network, backend) =
            (self.wishes.network.unwrap_or(Network::Signet), self.wishes.backend.unwrap_or_default());
        let text = text::of(&self.wishes, network, backend, &self.found);
        text::check(&text, &self.datadir).map_err(InitError::Settings)?;
        let file = self.datadir.join(FILE);
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AlreadyExists => InitError::Exists(file.clone()),
            _ => InitError::Io { path: file.clone(), source },
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.datadir).map_err(failed)?;
        let opened = File::options().write(true).create_new(true).mode(0o600).open(&file);
        let written = opened.and_then(|mut opened| {
            opened.write_all(text.as_bytes())?;
            opened.sync_all()
        });
        written.map_err(failed)?;
        let next = format!("payjoind --datadir {} doctor, then run", self.datadir.display());
        Ok(Written { file, network: network.to_string(), backend: backend.name(), next })
    }
}

#[cfg(test)]
mod tests;
