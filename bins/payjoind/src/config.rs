//! The settings of `run`: defaults, then `DATADIR/payjoind.toml`, then environment and flags.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use payjoin_node::Settings;

use crate::cli::RunArgs;

/// Why the configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Parse { path: PathBuf, message: String },
}

/// A section and a name in it.
type Name = (&'static str, &'static str);

/// Names that settings had once, and what has their place. They are read until the next version but one.
const RENAMED: &[(Name, &[Name])] = &[
    (("lightning", "poll_ms"), &[("bitcoind", "block_poll_ms"), ("bitcoind", "mempool_poll_ms")]),
    (("payjoin", "session_hours"), &[("payjoin", "code_hours"), ("payjoin", "patience_hours")]),
];

/// Reads `datadir/payjoind.toml` if it exists; flags and environment override it.
pub(crate) fn load(datadir: &Path, args: &RunArgs) -> Result<Settings, ConfigError> {
    let path = path(datadir);
    let mut settings = match std::fs::read_to_string(&path) {
        Ok(text) => {
            let (settings, warnings) = parse(&text)
                .map_err(|e| ConfigError::Parse { path: path.clone(), message: in_one_line(&text, &e) })?;
            warnings.iter().for_each(|warning| tracing::warn!(path = %path.display(), "{warning}"));
            settings
        }
        // Where the datadir is no folder, the start says so.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            tracing::info!(path = %path.display(), "no such file: every setting has its default");
            Settings::default()
        }
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    overlay(&mut settings, args);
    datadir.clone_into(&mut settings.datadir);
    Ok(settings)
}

/// The file of a folder.
pub(crate) fn path(datadir: &Path) -> PathBuf {
    datadir.join("payjoind.toml")
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

fn overlay(settings: &mut Settings, args: &RunArgs) {
    let Settings { network, bitcoind, lightning, http, .. } = settings;
    *network = args.network.unwrap_or(*network);
    bitcoind.url = args.bitcoind_url.clone().or(bitcoind.url.take());
    bitcoind.cookie = args.bitcoind_cookie.clone().or(bitcoind.cookie.take());
    lightning.listen = args.lightning_listen.or(lightning.listen);
    http.listen = args.http_listen.or(http.listen);
}

/// `~/x` as the shell would read it.
pub(crate) fn expand_home(path: &Path) -> Result<PathBuf, &'static str> {
    let Ok(rest) = path.strip_prefix("~") else { return Ok(path.to_path_buf()) };
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.ok_or("HOME is not set, so there is no usual folder: say which with --datadir DIR")?;
    Ok(home.join(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `run` makes of this file, with the folder it lies in.
    fn read(text: &str, args: &RunArgs) -> Result<(PathBuf, Settings), ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("payjoind.toml"), text).unwrap();
        Ok((folder.path().to_owned(), load(folder.path(), args)?))
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
        let refusal = read("[payjoin]\ncode_hour = 3", &RunArgs::default()).unwrap_err().to_string();
        for part in ["payjoind.toml", "line 2", "code_hour`", "code_hours"] {
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
        for (bad, told) in [
            ("network = 'nowhere'", "line 1, `network`: "),
            ("nonsense", "line 1"),
            ("[lightning]\npoll_ms = 'soon'", "invalid type"),
            ("\n[policy]\n  max_fee =  -1", "line 3, [policy] `max_fee`: "),
        ] {
            let refusal = read(bad, &RunArgs::default()).unwrap_err().to_string();
            assert!(refusal.contains(told) && !refusal.contains('\n'), "{bad}: {refusal}");
        }
    }

    #[test]
    fn flags_override_the_file_and_a_folder_without_a_file_has_the_defaults() {
        let file = "network = 'signet'\n[bitcoind]\nurl = 'a'\ncookie = 'b'";
        let args = RunArgs {
            network: Some(bitcoin::Network::Regtest),
            bitcoind_url: Some("c".into()),
            http_listen: Some("127.0.0.1:443".parse().unwrap()),
            ..RunArgs::default()
        };
        let (folder, settings) = read(file, &args).unwrap();
        assert_eq!((settings.network, &settings.datadir), (bitcoin::Network::Regtest, &folder));
        assert_eq!(settings.bitcoind.url.as_deref(), Some("c"));
        assert_eq!(settings.bitcoind.cookie, Some("b".into()));
        assert_eq!(settings.http.listen, args.http_listen);
        let folder = tempfile::tempdir().unwrap();
        let bare = load(folder.path(), &RunArgs::default()).unwrap();
        assert_eq!((bare.network, bare.payjoin.code_hours), (bitcoin::Network::Signet, 24));
        std::fs::create_dir(folder.path().join("payjoind.toml")).unwrap();
        assert!(matches!(load(folder.path(), &RunArgs::default()), Err(ConfigError::Read { .. })));
    }
}
