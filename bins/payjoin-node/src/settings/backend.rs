//! `[lightning] backend`, `[cln]`, `[lnd]`: the operator's own node.

use std::path::{Path, PathBuf};

use bitcoin::Network;
use serde::{Deserialize, Serialize};

use super::check::{host_with_port, wrong};
use super::home::home;
use super::{Settings, SettingsError};

/// Whose coins and channels these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The node in this process.
    #[default]
    Embedded,
    /// Core Lightning.
    Cln,
    /// LND.
    Lnd,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Embedded, Self::Cln, Self::Lnd];

    /// As in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Cln => "cln",
            Self::Lnd => "lnd",
        }
    }

    /// Is it part of this build?
    pub(crate) fn is_built(self) -> bool {
        match self {
            Self::Embedded => true,
            Self::Cln => cfg!(feature = "cln"),
            Self::Lnd => cfg!(feature = "lnd"),
        }
    }
}

/// `[cln]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cln {
    /// The socket of lightningd's JSON-RPC; default: where lightningd of this user puts it.
    pub socket: Option<PathBuf>,
    /// URL of clnrest, in the place of the socket. Needs `rune`.
    pub rest: Option<String>,
    /// A file with the rune for it.
    pub rune: Option<PathBuf>,
    /// The certificate that it shows, PEM; default: where clnrest of this user puts it.
    pub certificate: Option<PathBuf>,
}

/// `[lnd]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lnd {
    /// `host:port` of its REST server.
    pub address: String,
    /// Its TLS certificate, PEM; default: where LND of this user puts it.
    pub certificate: Option<PathBuf>,
    /// A macaroon file; default: LND's own for administrators.
    pub macaroon: Option<PathBuf>,
    /// LND locks a coin that is offered for so long; renewed at half the time.
    pub lease_seconds: u64,
}

impl Default for Lnd {
    fn default() -> Self {
        let address = "127.0.0.1:8080".to_owned();
        Self { address, certificate: None, macaroon: None, lease_seconds: 24 * 3_600 }
    }
}

impl Settings {
    /// The socket of lightningd's JSON-RPC.
    #[must_use]
    pub fn cln_socket(&self) -> PathBuf {
        let usual = || self.cln_socket_below(&home().unwrap_or_default().join(".lightning"));
        self.cln.socket.clone().unwrap_or_else(usual)
    }

    /// URL, certificate and rune file of clnrest, where that is used.
    #[must_use]
    pub fn cln_rest(&self) -> Option<(String, PathBuf, PathBuf)> {
        let (url, rune) = (self.cln.rest.clone()?, self.cln.rune.clone()?);
        let usual = || self.cln_socket().with_file_name("server.pem");
        Some((url, self.cln.certificate.clone().unwrap_or_else(usual), rune))
    }

    /// The socket of a lightningd with this folder.
    pub(crate) fn cln_socket_below(&self, folder: &Path) -> PathBuf {
        let network = match self.network {
            Network::Testnet => "testnet",
            Network::Testnet4 => "testnet4",
            Network::Signet => "signet",
            Network::Regtest => "regtest",
            Network::Bitcoin => "bitcoin",
        };
        folder.join(network).join("lightning-rpc")
    }

    /// LND's TLS certificate.
    #[must_use]
    pub fn lnd_certificate(&self) -> PathBuf {
        self.lnd.certificate.clone().unwrap_or_else(|| home().unwrap_or_default().join(".lnd/tls.cert"))
    }

    /// The macaroon for LND.
    #[must_use]
    pub fn lnd_macaroon(&self) -> PathBuf {
        let folder = Self::lnd_network(self.network);
        let usual =
            || home().unwrap_or_default().join(".lnd/data/chain/bitcoin").join(folder).join("admin.macaroon");
        self.lnd.macaroon.clone().unwrap_or_else(usual)
    }

    /// LND's name for a network.
    pub(crate) fn lnd_network(network: Network) -> &'static str {
        match network {
            Network::Bitcoin => "mainnet",
            Network::Testnet => "testnet",
            Network::Testnet4 => "testnet4",
            Network::Signet => "signet",
            Network::Regtest => "regtest",
        }
    }

    /// What the operator's own node does itself is not for us to set.
    pub(super) fn check_backend(&self) -> Result<(), SettingsError> {
        let lightning = &self.lightning;
        let name = lightning.backend.name();
        if !lightning.backend.is_built() {
            return Err(SettingsError::Lightning(format!(
                "`backend = \"{name}\"` is not part of this build: build it with `--features {name}`"
            )));
        }
        let own = [
            ("listen", lightning.listen.is_some()),
            ("birthday", lightning.birthday.is_some()),
            ("lookahead", lightning.lookahead.is_some()),
            ("inbound_without_coins", lightning.inbound_without_coins),
        ];
        if lightning.backend == Kind::Lnd {
            host_with_port("[lnd] `address`", &self.lnd.address, "127.0.0.1:8080")?;
        }
        self.check_clnrest()?;
        match own.into_iter().find(|(_, set)| *set) {
            Some((setting, _)) if lightning.backend != Kind::Embedded => {
                Err(SettingsError::Lightning(format!(
                    "`{setting}` is for the embedded node: remove it, your own node has its own settings"
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_clnrest(&self) -> Result<(), SettingsError> {
        const REST: &str = "[cln] `rest`";
        match (&self.cln.rest, &self.cln.rune) {
            (Some(url), _) if !url.starts_with("https://") => {
                Err(wrong(REST, "is the https URL of clnrest, such as https://127.0.0.1:3010"))
            }
            (Some(_), None) => Err(wrong(REST, "needs `rune`, a file with the rune: docs/core-lightning.md")),
            (None, Some(_)) => {
                Err(wrong("[cln] `rune`", "is for clnrest: set `rest` to its URL, or remove `rune`"))
            }
            _ => Ok(()),
        }
    }
}
