//! Settings: defaults, then `DATADIR/payjoind.toml`, then environment and flags.

mod check;
mod listen;
mod tor;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bitcoin::{Amount, FeeRate, Network};
use payjoin_core::Policy;
use serde::Deserialize;

pub(crate) use check::is_onion;
pub(crate) use listen::PlainListen;
pub(crate) use tor::Tor;

use crate::cli::RunArgs;

/// The whole configuration.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Which chain. Signet unless said otherwise: this is not for mainnet yet.
    pub(crate) network: Network,
    /// Where the chain comes from.
    pub(crate) bitcoind: Bitcoind,
    /// The Lightning node.
    pub(crate) lightning: Lightning,
    /// The endpoint for payers.
    pub(crate) http: Http,
    /// Payjoins through directories, and payments of ours.
    pub(crate) payjoin: Payjoin,
    /// Our onion service, and the way out through Tor.
    pub(crate) tor: Tor,
    /// What the operator allows.
    pub(crate) policy: Allowed,
}

/// `[bitcoind]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bitcoind {
    /// JSON-RPC address; default: loopback and the network's usual port.
    pub(crate) url: Option<String>,
    /// Cookie file; default: where bitcoind puts it.
    pub(crate) cookie: Option<PathBuf>,
    /// User and password instead of a cookie.
    pub(crate) user: Option<String>,
    /// See `user`.
    pub(crate) password: Option<String>,
}

/// `[lightning]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Lightning {
    /// Address for peers; unset: we only connect outwards.
    pub(crate) listen: Option<SocketAddr>,
    /// Milliseconds between looks at the chain.
    pub(crate) poll_ms: u64,
    /// Confirmations before a channel is used.
    pub(crate) min_depth: u32,
    /// Smallest channel that a peer may open to us, sat.
    pub(crate) min_inbound: u64,
    /// Most channels that peers may have opened to us: each keeps coins of the wallet back.
    pub(crate) max_inbound: usize,
    /// For a seed that was used before: the block from which its coins are looked for, when there is no wallet yet.
    pub(crate) birthday: Option<u32>,
}

/// `[http]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Http {
    /// Address for payers, with TLS. Needs `certificate`, `key` and `public_endpoint`.
    pub(crate) listen: Option<SocketAddr>,
    /// Certificate chain, PEM or DER.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key, PEM or DER.
    pub(crate) key: Option<PathBuf>,
    /// Where the operator's TLS proxy or Tor daemon connects to, on this machine and without TLS.
    pub(crate) plain_listen: Option<PlainListen>,
    /// The URL that payers see, without the invoice: `https://pay.example.com` or `http://…onion`.
    pub(crate) public_endpoint: Option<String>,
    /// Requests a minute from one address or onion circuit; 0 for no limit (behind a proxy every payer has the proxy's
    /// address).
    pub(crate) rate_per_minute: u32,
}

/// `[payjoin]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Payjoin {
    /// BIP 77 directories, `https://directory.example`.
    pub(crate) directories: Vec<String>,
    /// OHTTP relays, `https://relay.example`: they hide our address from the directories. With several of them, one
    /// that fails does not matter.
    pub(crate) ohttp_relays: Vec<String>,
    /// Hours that a payment of ours waits for a receiver who is offline, and the longest life of a code of ours.
    pub(crate) session_hours: u64,
    /// `host:port` of a SOCKS5 proxy, such as a Tor daemon's, for relays, directories and receivers.
    pub(crate) socks: Option<String>,
    /// A certificate in DER to trust besides the public authorities; for tests.
    pub(crate) root_certificate: Option<PathBuf>,
}

/// `[policy]`: [`Policy`] in the units that operators use.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Allowed {
    /// Originals below this are refused, sat/vB.
    pub(crate) min_fee_rate: u32,
    /// Never more than this for what we add, sat/vB.
    pub(crate) max_fee_rate: u32,
    /// Never more fee than this in one exchange, sat.
    pub(crate) max_fee: u64,
    /// May wallet coins make up for a payment smaller than the channels?
    pub(crate) top_up: bool,
    /// Seconds for the Lightning work of one exchange.
    pub(crate) channel_seconds: u64,
    /// Seconds for a whole exchange.
    pub(crate) exchange_seconds: u64,
    /// Seconds until the Original is broadcast when no payjoin was seen.
    pub(crate) fallback_seconds: u64,
    /// Proposals with coins of ours for one invoice.
    pub(crate) offers_per_invoice: u32,
    /// Confirmations that bury a transaction.
    pub(crate) burial: u32,
}

impl Default for Allowed {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            min_fee_rate: 1,
            max_fee_rate: 100,
            max_fee: policy.max_fee.to_sat(),
            top_up: policy.top_up,
            channel_seconds: policy.channel_seconds,
            exchange_seconds: policy.exchange_seconds,
            fallback_seconds: policy.fallback_seconds,
            offers_per_invoice: policy.offers_per_invoice,
            burial: policy.burial,
        }
    }
}

impl Allowed {
    /// As the machines take it.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            min_fee_rate: FeeRate::from_sat_per_vb_u32(self.min_fee_rate),
            max_fee_rate: FeeRate::from_sat_per_vb_u32(self.max_fee_rate),
            max_fee: Amount::from_sat(self.max_fee),
            top_up: self.top_up,
            channel_seconds: self.channel_seconds,
            exchange_seconds: self.exchange_seconds,
            fallback_seconds: self.fallback_seconds,
            offers_per_invoice: self.offers_per_invoice,
            burial: self.burial,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: Network::Signet,
            bitcoind: Bitcoind::default(),
            lightning: Lightning::default(),
            http: Http::default(),
            payjoin: Payjoin::default(),
            tor: Tor::default(),
            policy: Allowed::default(),
        }
    }
}

impl Default for Lightning {
    fn default() -> Self {
        let (min_inbound, max_inbound, birthday) = (100_000, 10, None);
        Self { listen: None, poll_ms: 1000, min_depth: 3, min_inbound, max_inbound, birthday }
    }
}

impl Default for Payjoin {
    fn default() -> Self {
        Self {
            directories: Vec::new(),
            ohttp_relays: Vec::new(),
            session_hours: 24,
            socks: None,
            root_certificate: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: None,
            certificate: None,
            key: None,
            plain_listen: None,
            public_endpoint: None,
            rate_per_minute: 5,
        }
    }
}

/// Why the configuration cannot be used. Each message says what to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("[http] {0}")]
    Http(&'static str),
    #[error("[payjoin] {0} is not the URL of a directory, such as https://directory.example")]
    Directory(String),
    #[error("[payjoin] directories are reached through relays only: set `ohttp_relays`")]
    NoRelay,
    #[error("[payjoin] `socks` is HOST:PORT, such as 127.0.0.1:9050, and not {0}")]
    Socks(String),
    #[error("{name} must be from {} to {}, not {value}", range.start(), range.end())]
    Number { name: &'static str, value: u64, range: RangeInclusive<u64> },
    #[error("[tor] {0}")]
    Tor(&'static str),
}

impl Config {
    /// Reads `datadir/payjoind.toml` if it exists; flags and environment override it.
    pub(crate) fn load(datadir: &Path, args: &RunArgs) -> Result<Self, ConfigError> {
        let path = datadir.join("payjoind.toml");
        let mut config = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|e| ConfigError::Parse { path: path.clone(), message: e.to_string() })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                tracing::info!(path = %path.display(), "no such file: every setting has its default");
                Self::default()
            }
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        config.overlay(args);
        config.resolve(datadir);
        config.check()?;
        Ok(config)
    }

    fn overlay(&mut self, args: &RunArgs) {
        self.network = args.network.unwrap_or(self.network);
        self.bitcoind.url = args.bitcoind_url.clone().or(self.bitcoind.url.take());
        self.bitcoind.cookie = args.bitcoind_cookie.clone().or(self.bitcoind.cookie.take());
        self.lightning.listen = args.lightning_listen.or(self.lightning.listen);
        self.http.listen = args.http_listen.or(self.http.listen);
    }

    /// Relative paths are relative to the datadir.
    fn resolve(&mut self, datadir: &Path) {
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
        ];
        let always = [&mut tor.state_dir, &mut tor.cache_dir];
        for path in given.into_iter().flatten().chain(always).chain(socket) {
            *path = datadir.join(&*path);
        }
    }

    /// JSON-RPC address of bitcoind.
    pub(crate) fn bitcoind_url(&self) -> String {
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
    pub(crate) fn bitcoind_cookie(&self) -> PathBuf {
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
pub(crate) fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// `~/x` as the shell would read it.
pub(crate) fn expand_home(path: &Path) -> PathBuf {
    path.strip_prefix("~").map_or_else(|_| path.to_path_buf(), |rest| home().join(rest))
}

#[cfg(test)]
mod tests;
