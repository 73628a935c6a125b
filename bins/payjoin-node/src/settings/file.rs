//! The settings file, with the names that settings had once.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Settings;

/// Its name, below the folder of a node.
pub const FILE: &str = "payjoind.toml";

/// Why the settings file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is in it.
    #[error("{path}: {message}")]
    Parse {
        /// Where it is.
        path: PathBuf,
        /// What is wrong, and in which line.
        message: String,
    },
}

/// A section and a name in it.
type Name = (&'static str, &'static str);

/// Names that settings had once, and what has their place. They are read until the next version but one.
const RENAMED: &[(Name, &[Name])] = &[
    (("lightning", "poll_ms"), &[("bitcoind", "block_poll_ms"), ("bitcoind", "mempool_poll_ms")]),
    (("payjoin", "session_hours"), &[("payjoin", "code_hours"), ("payjoin", "patience_hours")]),
];

impl Settings {
    /// Reads `datadir/payjoind.toml`; without one every setting has its default.
    ///
    /// # Errors
    /// Names the file, and what to change.
    pub fn load(datadir: &Path) -> Result<Self, FileError> {
        let path = datadir.join(FILE);
        match Self::load_from(&path, datadir) {
            // Where the datadir is no folder, the start says so.
            Err(FileError::Read { source, .. })
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                tracing::info!(path = %path.display(), "no such file: every setting has its default");
                Ok(Self { datadir: datadir.to_owned(), ..Self::default() })
            }
            loaded => loaded,
        }
    }

    /// Reads this file, for a node with its data in `datadir`.
    ///
    /// # Errors
    /// Names the file, and what to change. It must be there.
    pub fn load_from(path: &Path, datadir: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        let (mut settings, warnings) = parse(&text)
            .map_err(|e| FileError::Parse { path: path.to_owned(), message: in_one_line(&text, &e) })?;
        warnings.iter().for_each(|warning| tracing::warn!(path = %path.display(), "{warning}"));
        datadir.clone_into(&mut settings.datadir);
        Ok(settings)
    }
}

/// Where it is, by line, section and name, and what is wrong there.
fn in_one_line(text: &str, error: &toml::de::Error) -> String {
    let why = error.message().lines().collect::<Vec<_>>().join(" ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return why };
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let section = text.lines().take(number + 1).map(str::trim).filter(|line| line.starts_with('[')).last();
    let section = section.map_or(String::new(), |section| format!(" {section}"));
    let name = line.split_once('=').map_or(String::new(), |(name, _)| format!(" `{}`", name.trim()));
    format!("line {},{section}{name}: {why}; `payjoind run --help` shows every setting", number + 1)
}

/// The settings, and what the operator should change in the file.
fn parse(text: &str) -> Result<(Settings, Vec<String>), toml::de::Error> {
    let mut table: toml::Table = text.parse()?;
    let warnings = rename(&mut table);
    // From the text, an error names its line.
    let settings = if warnings.is_empty() { toml::from_str(text)? } else { table.try_into()? };
    Ok((settings, warnings))
}

/// Gives old settings their new names. Where a new name is there too, it counts.
fn rename(table: &mut toml::Table) -> Vec<String> {
    let mut warnings = Vec::new();
    for ((section, name), new) in RENAMED {
        let old = table.get_mut(*section).and_then(toml::Value::as_table_mut);
        let Some(value) = old.and_then(|old| old.remove(*name)) else { continue };
        for (section, name) in *new {
            let section = table.entry(*section).or_insert_with(|| toml::Table::new().into());
            if let Some(section) = section.as_table_mut() {
                section.entry(*name).or_insert_with(|| value.clone());
            }
        }
        let new: Vec<_> = new.iter().map(|(section, name)| format!("[{section}] `{name}`")).collect();
        warnings.push(format!("[{section}] `{name}` is an old name: set {} instead", new.join(" and ")));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node makes of this file, with the folder it lies in.
    fn read(text: &str) -> Result<Settings, FileError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        Settings::load(folder.path())
    }

    #[test]
    fn old_names_are_read_with_a_warning_and_new_names_count() {
        let old = "[lightning]\npoll_ms = 200\n[payjoin]\nsession_hours = 7\n";
        let (settings, warnings) = parse(old).unwrap();
        let (bitcoind, payjoin) = (settings.bitcoind, settings.payjoin);
        assert_eq!((bitcoind.block_poll_ms, bitcoind.mempool_poll_ms), (200, 200));
        assert_eq!((payjoin.code_hours, payjoin.patience_hours), (7, 7));
        assert_eq!(
            warnings,
            [
                "[lightning] `poll_ms` is an old name: set [bitcoind] `block_poll_ms` and [bitcoind] \
                 `mempool_poll_ms` instead",
                "[payjoin] `session_hours` is an old name: set [payjoin] `code_hours` and [payjoin] \
                 `patience_hours` instead",
            ]
        );
        let both = format!("{old}code_hours = 9\n[bitcoind]\nblock_poll_ms = 300");
        let Settings { bitcoind, payjoin, .. } = parse(&both).unwrap().0;
        assert_eq!((bitcoind.block_poll_ms, bitcoind.mempool_poll_ms), (300, 200));
        assert_eq!((payjoin.code_hours, payjoin.patience_hours), (9, 7));
    }

    #[test]
    fn a_file_with_new_names_warns_of_nothing_and_a_wrong_name_is_found_by_its_line() {
        let (settings, warnings) = parse("[payjoin]\ncode_hours = 3").unwrap();
        assert_eq!((settings.payjoin.code_hours, warnings.len()), (3, 0));
        let refusal = read("[payjoin]\ncode_hour = 3").unwrap_err().to_string();
        for part in ["payjoind.toml", "line 2", "code_hour`", "code_hours"] {
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
        for (bad, told) in [
            ("network = 'nowhere'", "line 1, `network`: "),
            ("nonsense", "line 1"),
            ("[lightning]\npoll_ms = 'soon'", "invalid type"),
            ("\n[policy]\n  max_fee =  -1", "line 3, [policy] `max_fee`: "),
        ] {
            let refusal = read(bad).unwrap_err().to_string();
            assert!(refusal.contains(told) && !refusal.contains('\n'), "{bad}: {refusal}");
        }
    }
}
