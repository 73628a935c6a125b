//! `[tor]`

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Our onion service, and the way out through Tor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tor {
    /// Start Tor and an onion service for payers.
    pub enabled: bool,
    /// No connection leaves but through Tor; bitcoind's excepted.
    pub only: bool,
    /// The address's key is here: back it up.
    pub state_dir: PathBuf,
    /// What can be downloaded again.
    pub cache_dir: PathBuf,
    /// Names the key: another nickname is another address.
    pub nickname: String,
    /// The port in the address. 80 is not shown.
    pub port: u16,
    /// Ask payers' Tor for proof of work under load.
    pub pow: bool,
    /// arti's settings for a test network.
    pub network_file: Option<PathBuf>,
    /// If not empty, nobody else finds the service: a name for us, and `descriptor:x25519:…`.
    pub clients: BTreeMap<String, String>,
}

impl Default for Tor {
    fn default() -> Self {
        Self {
            enabled: false,
            only: false,
            state_dir: "tor/state".into(),
            cache_dir: "tor/cache".into(),
            nickname: "payjoin".into(),
            port: 80,
            pow: false,
            network_file: None,
            clients: BTreeMap::new(),
        }
    }
}
