//! Where things are, and the settings of `run`: defaults, then the settings file, then environment and flags.

use std::path::{Path, PathBuf};

use payjoin_node::Settings;
use payjoin_node::settings::{FILE, FileError};

use crate::cli::{Cli, RunArgs};

/// The folder, where nobody says another.
pub(crate) const USUAL: &str = "~/.payjoind";

/// The control socket of a daemon that systemd started.
const SYSTEMS: &str = "/run/payjoind/payjoind.sock";

/// The socket, below the folder.
const SOCKET: &str = "payjoind.sock";

/// Where a daemon has its files.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) datadir: PathBuf,
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
    /// Nobody said which folder.
    is_usual: bool,
}

impl Place {
    /// As the command line says; the error is for the operator.
    pub(crate) fn of(cli: &Cli) -> Result<Self, &'static str> {
        let expand = |path: &Option<PathBuf>| path.as_deref().map(expand_home).transpose();
        Ok(Self {
            datadir: expand_home(&cli.datadir)?,
            config: expand(&cli.config)?,
            socket: expand(&cli.socket)?,
            is_usual: cli.datadir == Path::new(USUAL),
        })
    }

    /// Everything in one folder.
    #[cfg(any(test, feature = "cln"))]
    pub(crate) fn below(datadir: &Path) -> Self {
        Self { datadir: datadir.to_owned(), config: None, socket: None, is_usual: false }
    }

    /// The settings file, which need not be there.
    pub(crate) fn file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.datadir.join(FILE))
    }

    /// Where a daemon hears commands.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.datadir.join(SOCKET))
    }

    /// Where a command finds the daemon: the user's own, or the system's where he has none and names none.
    pub(crate) fn daemon(&self) -> PathBuf {
        let (own, systems) = (self.socket(), PathBuf::from(SYSTEMS));
        let ask_system = self.is_usual && self.socket.is_none() && !own.exists() && systems.exists();
        if ask_system { systems } else { own }
    }

    /// Reads the settings file, which must be there if it was named; flags and environment override it.
    pub(crate) fn load(&self, args: &RunArgs) -> Result<Settings, FileError> {
        let mut settings = match &self.config {
            Some(file) => Settings::load_from(file, &self.datadir)?,
            None => Settings::load(&self.datadir)?,
        };
        overlay(&mut settings, args);
        Ok(settings)
    }
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
        Ok((folder.path().to_owned(), Place::below(folder.path()).load(args)?))
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
        let place = Place::below(folder.path());
        let bare = place.load(&RunArgs::default()).unwrap();
        assert_eq!((bare.network, bare.payjoin.code_hours), (bitcoin::Network::Signet, 24));
        std::fs::create_dir(folder.path().join("payjoind.toml")).unwrap();
        assert!(matches!(place.load(&RunArgs::default()), Err(FileError::Read { .. })));
    }

    #[test]
    fn a_settings_file_that_is_named_must_be_there_and_the_others_stay_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("elsewhere.toml");
        let place = Place { config: Some(file.clone()), ..Place::below(folder.path()) };
        assert!(matches!(place.load(&RunArgs::default()), Err(FileError::Read { path, .. }) if path == file));
        std::fs::write(&file, "network = 'regtest'").unwrap();
        let settings = place.load(&RunArgs::default()).unwrap();
        assert_eq!((settings.network, &*settings.datadir), (bitcoin::Network::Regtest, folder.path()));
        assert_eq!(place.socket(), folder.path().join(SOCKET));
        let socket = PathBuf::from("/run/x");
        assert_eq!(Place { socket: Some(socket.clone()), is_usual: true, ..place }.daemon(), socket);
    }
}
