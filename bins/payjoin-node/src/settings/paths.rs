//! Where files and programs are.

use std::path::{Path, PathBuf};

use bitcoin::Network;

use super::check::wrong;
use super::home::home;
use super::{Kind, PlainListen, Settings, SettingsError};

impl Settings {
    /// Makes relative paths absolute.
    pub(crate) fn resolve(&mut self) {
        let datadir = &self.datadir;
        let (http, payjoin, tor) = (&mut self.http, &mut self.payjoin, &mut self.tor);
        let socket = match &mut http.plain_listen {
            Some(PlainListen::Unix(path)) => Some(path),
            _ => None,
        };
        let given = [
            &mut http.certificate,
            &mut http.key,
            &mut self.api.certificate,
            &mut self.api.key,
            &mut payjoin.root_certificate,
            &mut self.bitcoind.cookie,
            &mut tor.network_file,
            &mut self.store.count_file,
            &mut self.cln.socket,
            &mut self.cln.rune,
            &mut self.cln.certificate,
            &mut self.lnd.certificate,
            &mut self.lnd.macaroon,
        ];
        let always = [&mut tor.state_dir, &mut tor.cache_dir];
        for path in given.into_iter().flatten().chain(always).chain(socket) {
            *path = datadir.join(&*path);
        }
    }

    /// JSON-RPC address of bitcoind.
    pub fn bitcoind_url(&self) -> String {
        let port = match self.network {
            Network::Bitcoin => 8332,
            Network::Testnet => 18332,
            Network::Testnet4 => 48332,
            Network::Signet => 38332,
            Network::Regtest => 18443,
        };
        self.bitcoind.url.clone().unwrap_or_else(|| format!("http://127.0.0.1:{port}"))
    }

    /// Cookie file of bitcoind.
    pub fn bitcoind_cookie(&self) -> PathBuf {
        self.bitcoind
            .cookie
            .clone()
            .unwrap_or_else(|| self.cookie_below(&home().unwrap_or_default().join(".bitcoin")))
    }

    /// The cookie file of a bitcoind with this folder.
    pub(crate) fn cookie_below(&self, folder: &Path) -> PathBuf {
        let network = match self.network {
            Network::Bitcoin => "",
            Network::Testnet => "testnet3",
            Network::Testnet4 => "testnet4",
            Network::Signet => "signet",
            Network::Regtest => "regtest",
        };
        folder.join(network).join(".cookie")
    }

    /// Files by themselves, before it is asked how they go together.
    pub(super) fn check_paths(&self) -> Result<(), SettingsError> {
        let empty = self.files().into_iter().find(|(_, path)| path.is_some_and(|path| path == &self.datadir));
        if let Some((name, _)) = empty {
            return Err(wrong(name, "is empty: name a file, or remove the line"));
        }
        if home().is_some() {
            return Ok(());
        }
        let Self { bitcoind, cln, lnd, lightning, .. } = self;
        let needs_home = [
            ("[bitcoind] `cookie`", bitcoind.user.is_none() && bitcoind.cookie.is_none()),
            ("[cln] `socket`", lightning.backend == Kind::Cln && cln.socket.is_none()),
            ("[lnd] `certificate`", lightning.backend == Kind::Lnd && lnd.certificate.is_none()),
            ("[lnd] `macaroon`", lightning.backend == Kind::Lnd && lnd.macaroon.is_none()),
        ];
        match needs_home.into_iter().find(|(_, needs)| *needs) {
            Some((name, _)) => {
                Err(wrong(name, "has no usual place, because HOME is not set: set it to the file"))
            }
            None => Ok(()),
        }
    }

    fn files(&self) -> [(&'static str, Option<&PathBuf>); 13] {
        [
            ("[http] `certificate`", self.http.certificate.as_ref()),
            ("[http] `key`", self.http.key.as_ref()),
            ("[api] `certificate`", self.api.certificate.as_ref()),
            ("[api] `key`", self.api.key.as_ref()),
            ("[payjoin] `root_certificate`", self.payjoin.root_certificate.as_ref()),
            ("[bitcoind] `cookie`", self.bitcoind.cookie.as_ref()),
            ("[tor] `network_file`", self.tor.network_file.as_ref()),
            ("[store] `count_file`", self.store.count_file.as_ref()),
            ("[cln] `socket`", self.cln.socket.as_ref()),
            ("[cln] `rune`", self.cln.rune.as_ref()),
            ("[cln] `certificate`", self.cln.certificate.as_ref()),
            ("[lnd] `certificate`", self.lnd.certificate.as_ref()),
            ("[lnd] `macaroon`", self.lnd.macaroon.as_ref()),
        ]
    }
}
