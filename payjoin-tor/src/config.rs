//! Settings, and their translation into arti's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arti_client::TorClientConfig;
use arti_client::config::onion_service::{OnionServiceConfig, OnionServiceConfigBuilder};
use arti_client::config::{CfgPath, TorClientConfigBuilder};
use tor_hsservice::config::TokenBucketConfig;

use crate::error::{Cause, StartError};

/// Nearly every stream has a circuit to itself, which is of no use to anybody after it. arti would keep each for ten
/// minutes: twenty for every session that polls. A circuit with an open stream lasts as long as that.
const CIRCUIT_KEPT: Duration = Duration::from_secs(60);

/// Settings of the Tor client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorConfig {
    /// Keys and guards. Back it up: whoever loses it loses the onion address. Made with mode 0700 when missing.
    pub state_dir: PathBuf,
    /// What Tor can download again. Made with mode 0700 when missing.
    pub cache_dir: PathBuf,
    /// A file with settings in arti's own TOML format, to be used instead of the public Tor network's. For test
    /// networks. Its `storage` table is ignored.
    pub network_file: Option<PathBuf>,
}

impl TorConfig {
    /// The public Tor network, with `state` and `cache` below one folder.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { state_dir: dir.join("state"), cache_dir: dir.join("cache"), network_file: None }
    }

    pub(crate) fn build(&self) -> Result<TorClientConfig, StartError> {
        let mut builder = match &self.network_file {
            Some(path) => read(path)?,
            None => TorClientConfigBuilder::default(),
        };
        builder
            .storage()
            .state_dir(CfgPath::new_literal(&self.state_dir))
            .cache_dir(CfgPath::new_literal(&self.cache_dir));
        builder.address_filter().allow_onion_addrs(true);
        builder.circuit_timing().max_dirtiness(CIRCUIT_KEPT);
        builder.build().map_err(|error| StartError::Settings(error.into()))
    }
}

fn read(path: &Path) -> Result<TorClientConfigBuilder, StartError> {
    let failed = |source: Cause| StartError::NetworkFile { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.into()))?;
    toml::from_str(&text).map_err(|error| failed(error.into()))
}

/// Settings of an onion service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnionConfig {
    /// Names the service's key in the state folder: another nickname is another address. Lower-case letters, digits,
    /// `-` and `_`.
    pub nickname: String,
    /// A small file that remembers the address of each nickname. It should not be in the state folder, so that both
    /// are not lost together.
    pub address_file: PathBuf,
    /// The port that payers connect to; other ports are refused. Default 80.
    pub port: u16,
    /// Ask for proof of work under load. Needs the feature `pow`.
    pub pow: bool,
    /// If not empty, only clients that hold one of these keys can find the service. The value is
    /// `descriptor:x25519:<base32 public key>`, the name is for the operator. Not more than about 160.
    pub clients: BTreeMap<String, String>,
    /// Limits against floods.
    pub flood: Flood,
}

impl OnionConfig {
    /// A service for everybody on port 80.
    #[must_use]
    pub fn new(nickname: impl Into<String>, address_file: impl Into<PathBuf>) -> Self {
        Self {
            nickname: nickname.into(),
            address_file: address_file.into(),
            port: 80,
            pow: false,
            clients: BTreeMap::new(),
            flood: Flood::default(),
        }
    }

    pub(crate) fn build(&self) -> Result<OnionServiceConfig, Cause> {
        let mut builder = OnionServiceConfigBuilder::default();
        builder
            .nickname(self.nickname.parse()?)
            .enable_pow(self.pow)
            .num_intro_points(self.flood.intro_points)
            .max_concurrent_streams_per_circuit(self.flood.streams_per_circuit)
            .rate_limit_at_intro(Some(TokenBucketConfig::new(
                self.flood.intros_per_second,
                self.flood.intro_burst,
            )));
        if !self.clients.is_empty() {
            let discovery = builder.restricted_discovery().enabled(true);
            for (name, key) in &self.clients {
                discovery.static_keys().access().push((name.parse()?, key.parse()?));
            }
        }
        Ok(builder.build()?)
    }
}

/// Limits against floods. Payers beyond [`Flood::circuits`] and [`Flood::streams`] wait their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Introduction points, 3 to 20. An attacker must overwhelm them all. Default 3.
    pub intro_points: u8,
    /// Introductions that each introduction point lets through in a second. Default 25.
    pub intros_per_second: u32,
    /// Introductions that it lets through at once. Default 200.
    pub intro_burst: u32,
    /// Circuits from payers at once; an idle one takes some 100 kB. Default 512.
    pub circuits: u32,
    /// Open streams at once, over all circuits. More than the server takes connections: it cuts the oldest that says
    /// nothing, for which the next must get as far as there. Default 512.
    pub streams: u32,
    /// Open streams at once in a circuit. One more, and the circuit is closed. Default 16.
    pub streams_per_circuit: u32,
}

impl Default for Flood {
    fn default() -> Self {
        Self {
            intro_points: 3,
            intros_per_second: 25,
            intro_burst: 200,
            circuits: 512,
            streams: 512,
            streams_per_circuit: 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "descriptor:x25519:DTDRNE2PF7NZTLYDMGE6FUR3UPBFZLPSGQVJX5OHWRHCMRA7GVYQ";

    fn service(change: impl FnOnce(&mut OnionConfig)) -> Result<OnionServiceConfig, Cause> {
        let mut config = OnionConfig::new("payjoin", "addresses");
        change(&mut config);
        config.build()
    }

    #[test]
    fn the_defaults_make_a_service() {
        assert_eq!(service(|_| {}).unwrap().nickname().to_string(), "payjoin");
    }

    #[test]
    fn a_nickname_that_would_leave_its_folder_is_refused() {
        for nickname in ["", "..", "a/b", "../other", "UPPER"] {
            assert!(service(|config| config.nickname = nickname.to_owned()).is_err(), "{nickname:?}");
        }
    }

    #[test]
    fn arti_s_bounds_on_introduction_points_hold() {
        assert!(service(|config| config.flood.intro_points = 2).is_err());
        assert!(service(|config| config.flood.intro_points = 20).is_ok());
        assert!(service(|config| config.flood.intro_points = 21).is_err());
    }

    #[test]
    fn a_client_s_key_is_accepted_and_nonsense_is_not() {
        let with = |key: &str| {
            let key = key.to_owned();
            service(|config| drop(config.clients.insert("alice".to_owned(), key)))
        };
        assert!(with(CLIENT).is_ok());
        assert!(with("descriptor:x25519:SHORT").is_err());
        assert!(with("").is_err());
    }

    #[test]
    fn proof_of_work_is_refused_unless_it_was_built_in() {
        assert_eq!(service(|config| config.pow = true).is_ok(), cfg!(feature = "pow"));
    }

    fn network(text: &str) -> Result<TorClientConfig, StartError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("network.toml");
        std::fs::write(&file, text).unwrap();
        TorConfig { network_file: Some(file), ..TorConfig::new(dir.path()) }.build()
    }

    #[test]
    fn a_network_file_replaces_the_public_network() {
        let public = TorConfig::new(Path::new("/tor")).build().unwrap();
        let text = "[override_net_params]\nhsdir_interval = 8\n[storage]\nstate_dir = '/elsewhere'\n";
        assert_ne!(network(text).unwrap(), public);
    }

    #[test]
    fn a_network_file_that_is_missing_or_wrong_is_named() {
        let missing =
            TorConfig { network_file: Some("/no/such.toml".into()), ..TorConfig::new(Path::new("/")) };
        for error in [missing.build().unwrap_err(), network("tor_network = 3").unwrap_err()] {
            assert!(matches!(error, StartError::NetworkFile { .. }), "{error:?}");
        }
    }
}
