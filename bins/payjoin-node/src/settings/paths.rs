//! Where files and programs are.

use std::path::PathBuf;

use bitcoin::Network;

use super::{PlainListen, Settings};

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
            &mut payjoin.root_certificate,
            &mut self.bitcoind.cookie,
            &mut tor.network_file,
            &mut self.store.count_file,
            &mut self.cln.socket,
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
        let folder = match self.network {
            Network::Bitcoin => ".bitcoin",
            Network::Testnet => ".bitcoin/testnet3",
            Network::Testnet4 => ".bitcoin/testnet4",
            Network::Signet => ".bitcoin/signet",
            Network::Regtest => ".bitcoin/regtest",
        };
        self.bitcoind.cookie.clone().unwrap_or_else(|| home().join(folder).join(".cookie"))
    }
}

/// The user's home folder.
pub(super) fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
}
