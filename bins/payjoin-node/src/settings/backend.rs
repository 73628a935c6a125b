//! `[lightning] backend`, `[cln]`, `[lnd]`: the operator's own node.

use std::path::PathBuf;

use bitcoin::Network;
use serde::{Deserialize, Serialize};

use super::check::host_with_port;
use super::paths::home;
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
    fn is_built(self) -> bool {
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
        let folder = match self.network {
            Network::Testnet => "testnet",
            Network::Testnet4 => "testnet4",
            Network::Signet => "signet",
            Network::Regtest => "regtest",
            Network::Bitcoin => "bitcoin",
        };
        let usual = || home().unwrap_or_default().join(".lightning").join(folder).join("lightning-rpc");
        self.cln.socket.clone().unwrap_or_else(usual)
    }

    /// LND's TLS certificate.
    #[must_use]
    pub fn lnd_certificate(&self) -> PathBuf {
        self.lnd.certificate.clone().unwrap_or_else(|| home().unwrap_or_default().join(".lnd/tls.cert"))
    }

    /// The macaroon for LND.
    #[must_use]
    pub fn lnd_macaroon(&self) -> PathBuf {
        let folder = match self.network {
            Network::Bitcoin => "mainnet",
            Network::Testnet => "testnet",
            Network::Testnet4 => "testnet4",
            Network::Signet => "signet",
            Network::Regtest => "regtest",
        };
        let usual =
            || home().unwrap_or_default().join(".lnd/data/chain/bitcoin").join(folder).join("admin.macaroon");
        self.lnd.macaroon.clone().unwrap_or_else(usual)
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
        match own.into_iter().find(|(_, set)| *set) {
            Some((setting, _)) if lightning.backend != Kind::Embedded => {
                Err(SettingsError::Lightning(format!(
                    "`{setting}` is for the embedded node: remove it, your own node has its own settings"
                )))
            }
            _ => Ok(()),
        }
    }
}
