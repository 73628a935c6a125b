//! What runs on this machine, by the files that it leaves where it usually does.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bitcoin::Network;

use crate::settings::{Kind, Settings};

const NETWORKS: [Network; 5] =
    [Network::Bitcoin, Network::Signet, Network::Testnet, Network::Testnet4, Network::Regtest];

/// Everything that was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Cookie files of bitcoinds.
    cookies: Vec<(Network, PathBuf)>,
    /// Sockets of Core Lightnings that answer.
    sockets: Vec<(Network, PathBuf)>,
    lnd: Option<LndFound>,
}

/// An LND, as far as its files tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LndFound {
    /// `host:port` of its REST server.
    pub(super) address: String,
    /// Its certificate.
    pub(super) certificate: PathBuf,
    /// A macaroon for each network that it was on.
    pub(super) macaroons: Vec<(Network, PathBuf)>,
}

impl Found {
    /// Looks below this user's home.
    pub(super) fn below(home: &Path) -> Self {
        let at = |network| Settings { network, ..Settings::default() };
        let cookie = |network| (network, at(network).cookie_below(&home.join(".bitcoin")));
        let socket = |network| (network, at(network).cln_socket_below(&home.join(".lightning")));
        Self {
            cookies: NETWORKS.map(cookie).into_iter().filter(|(_, file)| file.is_file()).collect(),
            sockets: NETWORKS
                .map(socket)
                .into_iter()
                .filter(|(_, file)| UnixStream::connect(file).is_ok())
                .collect(),
            lnd: lnd(&home.join(".lnd")),
        }
    }

    /// Networks that something was found on, and by what.
    pub(super) fn networks(&self) -> (Vec<String>, Option<String>) {
        let mut found = Vec::new();
        for network in NETWORKS {
            let mut here: Vec<&str> = self.nodes(network).into_iter().map(|(kind, _)| called(kind)).collect();
            if self.cookie(network).is_some() {
                here.insert(0, "a bitcoind");
            }
            if !here.is_empty() {
                found.push((network.to_string(), format!("{} on {network}", here.join(" and "))));
            }
        }
        // Where a Lightning node is, it is meant.
        found.sort_by_key(|(_, what)| !what.contains("Lightning") && !what.contains("LND"));
        let what: Vec<_> = found.iter().map(|(_, what)| what.clone()).collect();
        (found.into_iter().map(|(name, _)| name).collect(), (!what.is_empty()).then(|| what.join(", ")))
    }

    /// Lightning nodes on this network.
    pub(super) fn nodes(&self, network: Network) -> Vec<(Kind, &'static str)> {
        let cln = self.socket(network).is_some().then_some(Kind::Cln);
        let lnd = self.macaroon(network).is_some().then_some(Kind::Lnd);
        let built = [cln, lnd].into_iter().flatten().filter(|kind| kind.is_built());
        built.map(|kind| (kind, called(kind))).collect()
    }

    pub(super) fn cookie(&self, network: Network) -> Option<&PathBuf> {
        of(&self.cookies, network)
    }

    pub(super) fn socket(&self, network: Network) -> Option<&PathBuf> {
        of(&self.sockets, network)
    }

    pub(super) fn lnd(&self) -> Option<&LndFound> {
        self.lnd.as_ref()
    }

    pub(super) fn macaroon(&self, network: Network) -> Option<&PathBuf> {
        of(&self.lnd.as_ref()?.macaroons, network)
    }
}

fn called(kind: Kind) -> &'static str {
    match kind {
        Kind::Embedded => "embedded",
        Kind::Cln => "a Core Lightning",
        Kind::Lnd => "an LND",
    }
}

fn of(all: &[(Network, PathBuf)], network: Network) -> Option<&PathBuf> {
    all.iter().find(|(known, _)| *known == network).map(|(_, file)| file)
}

/// An LND whose folder this is.
fn lnd(folder: &Path) -> Option<LndFound> {
    let conf = fs::read_to_string(folder.join("lnd.conf")).unwrap_or_default();
    let setting = |name: &str| {
        let values = conf.lines().filter_map(|line| line.split_once('='));
        values.into_iter().find(|(known, _)| known.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let certificate = setting("tlscertpath").map_or_else(|| folder.join("tls.cert"), PathBuf::from);
    if !certificate.is_file() {
        return None;
    }
    let macaroon = |network| {
        let below = folder.join("data/chain/bitcoin").join(Settings::lnd_network(network));
        // The one that was baked for us goes first.
        let places =
            [folder.join("payjoind.macaroon"), below.join("payjoind.macaroon"), below.join("admin.macaroon")];
        let is_there = below.join("admin.macaroon").is_file();
        places.into_iter().find(|file| is_there && file.is_file()).map(|file| (network, file))
    };
    let address = setting("restlisten").map_or_else(|| "127.0.0.1:8080".to_owned(), |at| loopback(&at));
    Some(LndFound { address, certificate, macaroons: NETWORKS.into_iter().filter_map(macaroon).collect() })
}

/// Where to connect to what listens there: on all addresses, or on a port alone.
fn loopback(listens: &str) -> String {
    match listens.rsplit_once(':') {
        Some(("" | "0.0.0.0" | "[::]" | "localhost", port)) => format!("127.0.0.1:{port}"),
        Some(_) => listens.to_owned(),
        None => format!("127.0.0.1:{listens}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lnd_is_connected_to_where_it_listens() {
        for (listens, expected) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("localhost:8081", "127.0.0.1:8081"),
            ("8082", "127.0.0.1:8082"),
            (":8083", "127.0.0.1:8083"),
            ("10.0.0.2:8084", "10.0.0.2:8084"),
        ] {
            assert_eq!(loopback(listens), expected);
        }
    }
}
