//! Settings, as plain data: whoever starts a node reads them from where it likes.

mod api;
mod backend;
mod check;
mod example;
mod file;
mod home;
mod listen;
mod paths;
mod reload;
mod table;
mod tor;
mod url;
mod webhook;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, FeeRate, Network};
use payjoin_core::Policy;
use serde::{Deserialize, Serialize};

pub use api::{Api, Log, LogFormat};
pub use backend::{Cln, Kind, Lnd};
pub(crate) use check::is_onion;
pub use file::{FILE, FileError};
pub use listen::PlainListen;
pub use table::{Entry, SECTIONS, Section, Shown};
pub use tor::Tor;
pub use webhook::Webhook;

use crate::values::sat_per_vb;

/// The whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The folder of the seed and the database. Relative paths in the settings are relative to it.
    #[serde(skip)]
    pub datadir: PathBuf,
    /// Which chain. Signet unless said otherwise: this is not for mainnet yet.
    pub network: Network,
    /// Where the chain comes from.
    pub bitcoind: Bitcoind,
    /// The Lightning node.
    pub lightning: Lightning,
    /// A Core Lightning of the operator's.
    pub cln: Cln,
    /// An LND of the operator's.
    pub lnd: Lnd,
    /// The endpoint for payers.
    pub http: Http,
    /// Payjoins through directories, and payments of ours.
    pub payjoin: Payjoin,
    /// Our onion service, and the way out through Tor.
    pub tor: Tor,
    /// What the operator allows.
    pub policy: Allowed,
    /// What he pays miners.
    pub fees: Fees,
    /// The database, and how long it keeps what is over.
    pub store: Store,
    /// Who is told what happens.
    pub webhook: Webhook,
    /// The way in for the operator's programs.
    pub api: Api,
    /// How the log looks.
    pub log: Log,
}

/// `[bitcoind]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bitcoind {
    /// JSON-RPC address; default: loopback and the network's usual port.
    pub url: Option<String>,
    /// Cookie file; default: where bitcoind puts it.
    pub cookie: Option<PathBuf>,
    /// User and password instead of a cookie.
    pub user: Option<String>,
    /// See `user`.
    pub password: Option<String>,
    /// Milliseconds between looks for a new block.
    pub block_poll_ms: u64,
    /// Milliseconds between looks into the mempool.
    pub mempool_poll_ms: u64,
}

/// `[lightning]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lightning {
    /// Which node: the embedded one, or the operator's own. A folder has one for good.
    pub backend: Kind,
    /// Address for peers; unset: we only connect outwards.
    pub listen: Option<SocketAddr>,
    /// Confirmations before a channel is used.
    pub min_depth: u32,
    /// Smallest channel that a peer may open to us, sat.
    pub min_inbound: u64,
    /// Most channels that one peer may have opened to us, mined or not.
    pub inbound_per_peer: usize,
    /// Most channels that peers may have opened to us: each keeps coins of the wallet back.
    pub max_inbound: usize,
    /// Accept channels of peers also when no coin of the wallet could pay for closing them.
    pub inbound_without_coins: bool,
    /// Seconds that a peer has to accept a channel while a payer waits; the others are opened without it.
    pub accept_seconds: u64,
    /// Seconds that peers have to sign: all that are asked side by side, and each that is asked alone.
    pub sign_seconds: u64,
    /// Node ids of peers that take several channels of ours in one payment. The others get one at a time.
    pub several_at_once: Vec<PublicKey>,
    /// For a seed that was used before: the block from which its coins are looked for, when there is no wallet yet.
    pub birthday: Option<u32>,
    /// Unused addresses in a row after which the search for coins ends; unset: 25, and 1000 with a birthday.
    pub lookahead: Option<u32>,
}

/// `[http]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address for payers, with TLS. Needs `certificate`, `key` and `public_endpoint`.
    pub listen: Option<SocketAddr>,
    /// Certificate chain, PEM or DER.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM or DER.
    pub key: Option<PathBuf>,
    /// Where the operator's TLS proxy or Tor daemon connects to, on this machine and without TLS.
    pub plain_listen: Option<PlainListen>,
    /// The URL that payers see, without the invoice: `https://pay.example.com` or `http://…onion`.
    pub public_endpoint: Option<String>,
    /// Requests a minute from one address or onion circuit; 0 for no limit (behind a proxy every payer has the proxy's
    /// address).
    pub rate_per_minute: u32,
}

/// `[payjoin]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Payjoin {
    /// BIP 77 directories, `https://directory.example`.
    pub directories: Vec<String>,
    /// OHTTP relays, `https://relay.example`: they hide our address from the directories. With several of them, one
    /// that fails does not matter.
    pub ohttp_relays: Vec<String>,
    /// Longest life of a code of ours at a directory, in hours.
    pub code_hours: u64,
    /// Hours that a payment of ours waits for a receiver who is offline.
    pub patience_hours: u64,
    /// `host:port` of a SOCKS5 proxy, such as a Tor daemon's, for relays, directories and receivers.
    pub socks: Option<String>,
    /// A certificate in DER to trust besides the public authorities; for tests.
    pub root_certificate: Option<PathBuf>,
}

/// `[store]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// A second file for the number of commits, on another disk than the folder.
    pub count_file: Option<PathBuf>,
    /// Days after which a settled exchange keeps no transactions, and a cancelled intent leaves.
    pub keep_days: u64,
    /// Days after which an event of the journal leaves.
    pub event_days: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { count_file: None, keep_days: 365, event_days: 90 }
    }
}

/// `[fees]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fees {
    /// What payments of ours and closes pay where bitcoind estimates nothing, sat/vB.
    #[serde(with = "sat_per_vb")]
    pub fallback: FeeRate,
    /// Most of a payment that goes to miners so that it arrives although its payer spends his coins elsewhere, too, in
    /// percent; 0 sends it again at each block, and pays nothing.
    pub defend: u32,
}

impl Default for Fees {
    fn default() -> Self {
        Self { fallback: FeeRate::from_sat_per_vb_u32(5), defend: Policy::default().defend }
    }
}

/// `[policy]`: [`Policy`] in the units that operators use.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowed {
    /// Originals below this are refused, sat/vB; 0: such as bitcoind does not relay and keep.
    #[serde(with = "sat_per_vb")]
    pub min_fee_rate: FeeRate,
    /// Never more than this for what we add, sat/vB.
    #[serde(with = "sat_per_vb")]
    pub max_fee_rate: FeeRate,
    /// Never more fee than this in one exchange, sat.
    pub max_fee: u64,
    /// May wallet coins make up for a payment smaller than the channels?
    pub top_up: bool,
    /// Seconds for the Lightning work of one exchange.
    pub channel_seconds: u64,
    /// Seconds for a whole exchange.
    pub exchange_seconds: u64,
    /// Seconds until the Original is broadcast when no payjoin was seen.
    pub fallback_seconds: u64,
    /// Proposals with coins of ours for one invoice.
    pub offers_per_invoice: u32,
    /// Proposals with channels in one day that came to nothing, after which payments open none.
    pub wasted_a_day: u32,
    /// Confirmations that bury a transaction.
    pub burial: u32,
}

impl Default for Allowed {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            min_fee_rate: policy.min_fee_rate,
            max_fee_rate: policy.max_fee_rate,
            max_fee: policy.max_fee.to_sat(),
            top_up: policy.top_up,
            channel_seconds: policy.channel_seconds,
            exchange_seconds: policy.exchange_seconds,
            fallback_seconds: policy.fallback_seconds,
            offers_per_invoice: policy.offers_per_invoice,
            wasted_a_day: policy.wasted_a_day,
            burial: policy.burial,
        }
    }
}

impl Settings {
    /// What the operator allows, as the machines take it.
    pub fn policy(&self) -> Policy {
        let allowed = &self.policy;
        Policy {
            min_fee_rate: allowed.min_fee_rate,
            max_fee_rate: allowed.max_fee_rate,
            max_fee: Amount::from_sat(allowed.max_fee),
            top_up: allowed.top_up,
            channel_seconds: allowed.channel_seconds,
            exchange_seconds: allowed.exchange_seconds,
            fallback_seconds: allowed.fallback_seconds,
            offers_per_invoice: allowed.offers_per_invoice,
            wasted_a_day: allowed.wasted_a_day,
            defend: self.fees.defend,
            accept_seconds: self.lightning.accept_seconds,
            sign_seconds: self.lightning.sign_seconds,
            several_at_once: self.lightning.several_at_once.clone(),
            burial: allowed.burial,
            ..Policy::default()
        }
    }
}

impl Settings {
    /// What is paid where bitcoind estimates no fees.
    pub(crate) fn fee_fallback(&self) -> FeeRate {
        self.fees.fallback
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            datadir: PathBuf::new(),
            network: Network::Signet,
            bitcoind: Bitcoind::default(),
            lightning: Lightning::default(),
            cln: Cln::default(),
            lnd: Lnd::default(),
            http: Http::default(),
            payjoin: Payjoin::default(),
            tor: Tor::default(),
            policy: Allowed::default(),
            fees: Fees::default(),
            store: Store::default(),
            webhook: Webhook::default(),
            api: Api::default(),
            log: Log::default(),
        }
    }
}

impl Default for Bitcoind {
    fn default() -> Self {
        let (block_poll_ms, mempool_poll_ms) = (1000, 1000);
        Self { url: None, cookie: None, user: None, password: None, block_poll_ms, mempool_poll_ms }
    }
}

impl Default for Lightning {
    fn default() -> Self {
        Self {
            backend: Kind::Embedded,
            listen: None,
            min_depth: 3,
            min_inbound: 100_000,
            inbound_per_peer: 4,
            max_inbound: 10,
            inbound_without_coins: false,
            accept_seconds: Policy::default().accept_seconds,
            sign_seconds: Policy::default().sign_seconds,
            several_at_once: Vec::new(),
            birthday: None,
            lookahead: None,
        }
    }
}

impl Default for Payjoin {
    fn default() -> Self {
        Self {
            directories: Vec::new(),
            ohttp_relays: Vec::new(),
            code_hours: 24,
            patience_hours: 24,
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

/// Why the settings cannot be used. Each message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The endpoint for payers.
    #[error("[http] {0}")]
    Http(&'static str),
    /// Directories without a relay.
    #[error("[payjoin] directories are reached through relays only: set `ohttp_relays`")]
    NoRelay,
    /// A setting that cannot work by itself.
    #[error("{name} {why}")]
    Value {
        /// Section and name.
        name: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A number with which something stops working.
    #[error("{name} must be from {} to {}, not {value}", range.start(), range.end())]
    Number {
        /// Section and name.
        name: String,
        /// What was set.
        value: u64,
        /// What may be set.
        range: RangeInclusive<u64>,
    },
    /// The Lightning node.
    #[error("[lightning] {0}")]
    Lightning(String),
    /// Tor.
    #[error("[tor] {0}")]
    Tor(&'static str),
}

#[cfg(test)]
mod tests;
