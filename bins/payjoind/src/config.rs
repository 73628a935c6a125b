//! The settings of `run`: defaults, then `DATADIR/payjoind.toml`, then environment and flags.

use std::path::{Path, PathBuf};

use payjoin_node::Settings;
use payjoin_node::settings::FileError;

use crate::cli::RunArgs;

/// Reads `datadir/payjoind.toml` if it exists; flags and environment override it.
pub(crate) fn load(datadir: &Path, args: &RunArgs) -> Result<Settings, FileError> {
    let mut settings = Settings::load(datadir)?;
    overlay(&mut settings, args);
    Ok(settings)
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
    fn read(text: &str, args: &RunArgs) -> Result<(PathBuf, Settings), FileError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("payjoind.toml"), text).unwrap();
        Ok((folder.path().to_owned(), load(folder.path(), args)?))
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
        assert!(matches!(load(folder.path(), &RunArgs::default()), Err(FileError::Read { .. })));
    }
}
