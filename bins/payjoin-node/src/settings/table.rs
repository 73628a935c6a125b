//! Every setting with its meaning: from here the help, the documentation and the check of numbers are made.

use std::ops::RangeInclusive;

use super::Settings;

/// A section of the settings file.
#[derive(Debug)]
pub struct Section {
    /// In brackets; empty for what stands before all sections.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its settings.
    pub entries: &'static [Entry],
}

/// A setting.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub about: &'static str,
    /// What it is.
    pub shown: Shown,
}

/// How a setting is shown in an example of the file.
#[derive(Debug)]
pub enum Shown {
    /// With this value, which is none that it has by itself.
    Example(&'static str),
    /// With this value, behind a `#`: most do not need it.
    Other(&'static str),
    /// With its default.
    Number {
        /// Reads it.
        value: fn(&Settings) -> u64,
        /// Outside of it something stops working.
        range: Option<RangeInclusive<u64>>,
        /// Behind a `#`.
        behind: bool,
    },
    /// With its default, behind a `#`.
    Flag(fn(&Settings) -> bool),
}

const fn entry(name: &'static str, shown: Shown, about: &'static str) -> Entry {
    Entry { name, about, shown }
}

const fn number(value: fn(&Settings) -> u64) -> Shown {
    Shown::Number { value, range: None, behind: true }
}

const fn bounded(value: fn(&Settings) -> u64, least: u64, most: u64) -> Shown {
    Shown::Number { value, range: Some(least..=most), behind: true }
}

/// Without a `#`: many want another value.
const fn plain(value: fn(&Settings) -> u64) -> Shown {
    Shown::Number { value, range: None, behind: false }
}

use Shown::{Example, Flag, Other};

/// All sections. Of `[tor]` only what most need: docs/tor.md has the others.
pub const SECTIONS: &[Section] = &[
    Section {
        name: "",
        about: "",
        entries: &[entry("network", Example("\"signet\""), "the default: this is not for mainnet yet")],
    },
    Section {
        name: "bitcoind",
        about: "default: a bitcoind of this user, by its cookie file",
        entries: &[
            entry("url", Example("\"http://127.0.0.1:38332\""), ""),
            entry("cookie", Other("\"/var/lib/bitcoind/signet/.cookie\""), "or `user` and `password`"),
            entry(
                "block_poll_ms",
                bounded(|s| s.bitcoind.block_poll_ms, 10, 60_000),
                "time between looks for a new block, in milliseconds",
            ),
            entry(
                "mempool_poll_ms",
                bounded(|s| s.bitcoind.mempool_poll_ms, 10, 60_000),
                "time between looks into the mempool, in milliseconds",
            ),
        ],
    },
    Section {
        name: "lightning",
        about: "",
        entries: &[
            entry(
                "backend",
                Other("\"cln\""),
                "your own Core Lightning, or \"lnd\"; by itself \"embedded\". For good, for each DATADIR",
            ),
            entry("listen", Example("\"0.0.0.0:9735\""), "without it we only connect outwards"),
            entry(
                "min_inbound",
                plain(|s| s.lightning.min_inbound),
                "smallest channel that a peer may open to us, in sat",
            ),
            entry(
                "inbound_per_peer",
                number(|s| s.lightning.inbound_per_peer as u64),
                "channels that one peer may have opened to us",
            ),
            entry(
                "max_inbound",
                plain(|s| s.lightning.max_inbound as u64),
                "for each of these, about 34,000 sat of our coins are kept back",
            ),
            entry(
                "inbound_without_coins",
                Flag(|s| s.lightning.inbound_without_coins),
                "true: peers may open channels that no coin of ours could close; payments in them may be lost",
            ),
            entry(
                "min_depth",
                bounded(|s| s.lightning.min_depth as u64, 1, 144),
                "confirmations before we use a channel that a peer opened",
            ),
            entry(
                "accept_seconds",
                bounded(|s| s.lightning.accept_seconds, 1, 3600),
                "for a peer to accept a channel while a payer waits; the others are opened without it",
            ),
            entry(
                "sign_seconds",
                bounded(|s| s.lightning.sign_seconds, 1, 3600),
                "for peers to sign it then; where one does not, the others are asked once more without it",
            ),
            entry(
                "several_at_once",
                Other("[\"02ab…cd\"]"),
                "node ids of peers that take several channels in one payment; others get one, and are asked to sign last",
            ),
            entry(
                "birthday",
                Other("850000"),
                "only after a restore: the block from which to look for coins",
            ),
            entry(
                "lookahead",
                Other("1000"),
                "unused addresses in a row after which the search for coins ends",
            ),
        ],
    },
    Section {
        name: "cln",
        about: "with backend = \"cln\": docs/core-lightning.md",
        entries: &[
            entry(
                "socket",
                Other("\"/home/you/.lightning/signet/lightning-rpc\""),
                "by itself that of lightningd under this user",
            ),
            entry(
                "rest",
                Other("\"https://127.0.0.1:3010\""),
                "of clnrest, in the place of the socket; no default",
            ),
            entry("rune", Other("\"/home/you/payjoind.rune\""), "a file with the rune for it; no default"),
            entry(
                "certificate",
                Other("\"/home/you/.lightning/signet/server.pem\""),
                "that it shows; by itself that of clnrest under this user",
            ),
        ],
    },
    Section {
        name: "lnd",
        about: "with backend = \"lnd\": docs/lnd.md",
        entries: &[
            entry("address", Example("\"127.0.0.1:8080\""), "of its REST server, `restlisten` in lnd.conf"),
            entry("certificate", Other("\"/home/you/.lnd/tls.cert\""), ""),
            entry("macaroon", Other("\"/home/you/.lnd/payjoind.macaroon\""), "with the few rights it needs"),
            entry(
                "lease_seconds",
                bounded(|s| s.lnd.lease_seconds, 10, 2_592_000),
                "LND locks a coin that is offered for so long, and longer while it is needed",
            ),
        ],
    },
    Section {
        name: "payjoin",
        about: "payers reach us through these: no port, no certificate",
        entries: &[
            entry("directories", Example("[\"https://directory.example\"]"), ""),
            entry("ohttp_relays", Example("[\"https://relay.example\"]"), ""),
            entry(
                "code_hours",
                bounded(|s| s.payjoin.code_hours, 1, 366 * 24),
                "longest life of a code there",
            ),
            entry(
                "patience_hours",
                bounded(|s| s.payjoin.patience_hours, 1, 366 * 24),
                "how long a payment of ours waits for a receiver who is offline",
            ),
            entry(
                "socks",
                Other("\"127.0.0.1:9050\""),
                "a proxy for relays, directories and receivers; no default",
            ),
            entry(
                "root_certificate",
                Other("\"ca.der\""),
                "to trust besides the public authorities; no default",
            ),
        ],
    },
    Section {
        name: "http",
        about: "or payers reach our own server",
        entries: &[
            entry("listen", Example("\"0.0.0.0:443\""), ""),
            entry("certificate", Example("\"fullchain.pem\""), "relative to DATADIR"),
            entry("key", Example("\"privkey.pem\""), ""),
            entry("public_endpoint", Example("\"https://pay.example.com\""), "what payers see"),
            entry(
                "rate_per_minute",
                number(|s| s.http.rate_per_minute as u64),
                "requests from one address or onion circuit; 0 for no limit",
            ),
            entry(
                "plain_listen",
                Other("\"127.0.0.1:8080\""),
                "without TLS, for a proxy or a Tor daemon of yours; or \"unix:/run/payjoind/payers.sock\"",
            ),
        ],
    },
    Section {
        name: "tor",
        about: "or payers reach our onion service: no port either",
        entries: &[
            entry("enabled", Example("true"), "keep a copy of DATADIR/tor/state: it holds the address"),
            entry(
                "only",
                Flag(|s| s.tor.only),
                "true: all goes through Tor, but for bitcoind on this machine",
            ),
        ],
    },
    Section {
        name: "policy",
        about: "",
        entries: &[
            entry("max_fee", plain(|s| s.policy.max_fee), "most that we pay in fees for one payment, in sat"),
            entry(
                "fallback_seconds",
                Shown::Number {
                    value: |s| s.policy.fallback_seconds,
                    range: Some(1..=31 * 24 * 3600),
                    behind: false,
                },
                "the plain payment is broadcast after this time",
            ),
            entry(
                "min_fee_rate",
                number(|s| s.policy.min_fee_rate.to_sat_per_vb_ceil()),
                "payments below it get no payjoin, in sat/vB; 0: below what bitcoind relays and keeps",
            ),
            entry(
                "max_fee_rate",
                bounded(|s| s.policy.max_fee_rate.to_sat_per_vb_ceil(), 1, 25_000),
                "most that we pay for our inputs and outputs, in sat/vB",
            ),
            entry(
                "top_up",
                Flag(|s| s.policy.top_up),
                "coins of ours may make up for a payment smaller than the channels, without --top-up",
            ),
            entry(
                "channel_seconds",
                bounded(|s| s.policy.channel_seconds, 1, 3600),
                "for the Lightning part of one payment",
            ),
            entry(
                "exchange_seconds",
                bounded(|s| s.policy.exchange_seconds, 10, 3600),
                "for all of it, until the payer has our proposal",
            ),
            entry(
                "offers_per_invoice",
                number(|s| s.policy.offers_per_invoice as u64),
                "proposals with coins of ours; after them only without",
            ),
            entry(
                "wasted_a_day",
                number(|s| s.policy.wasted_a_day as u64),
                "proposals with channels that payers let lie; after them none with channels that day",
            ),
            entry(
                "burial",
                bounded(|s| s.policy.burial as u64, 1, 2016),
                "confirmations after which a payment is settled",
            ),
        ],
    },
    Section {
        name: "fees",
        about: "",
        entries: &[
            entry(
                "fallback",
                bounded(|s| s.fees.fallback.to_sat_per_vb_ceil(), 1, 25_000),
                "rate where bitcoind estimates none, in sat/vB; what its mempool asks for, if that is more",
            ),
            entry(
                "defend",
                bounded(|s| s.fees.defend as u64, 0, 100),
                "% of a payment that we pay at most to outbid a payer who takes it back",
            ),
        ],
    },
    Section {
        name: "store",
        about: "",
        entries: &[
            entry(
                "count_file",
                Other("\"/media/stick/payjoind.count\""),
                "on another disk: shows when all of DATADIR is an older copy; no default",
            ),
            entry(
                "keep_days",
                bounded(|s| s.store.keep_days, 1, 36_500),
                "after which a settled payment keeps its ids and no transactions",
            ),
            entry(
                "event_days",
                bounded(|s| s.store.event_days, 1, 36_500),
                "so long events are kept for those who ask for them",
            ),
        ],
    },
    Section {
        name: "webhook",
        about: "events are posted there as they happen: docs/events.md",
        entries: &[
            entry("url", Other("\"https://shop.example/hook\""), "https, or http on this machine"),
            entry("secret", Other("\"what openssl rand -hex 32 prints\""), "signs each event"),
        ],
    },
    Section {
        name: "api",
        about: "for your own programs: docs/api.md",
        entries: &[
            entry("listen", Other("\"127.0.0.1:8787\""), "without it there is no API; no default"),
            entry("certificate", Other("\"api.pem\""), "relative to DATADIR; no default"),
            entry("key", Other("\"api.key\""), "no default"),
            entry("plain", Flag(|s| s.api.plain), "true: without TLS, on this machine only"),
            entry(
                "rate_per_minute",
                bounded(|s| s.api.rate_per_minute as u64, 1, 1_000_000),
                "requests with one token, and without one from one address",
            ),
        ],
    },
    Section {
        name: "log",
        about: "",
        entries: &[entry("format", Other("\"text\""), "or \"json\": one object a line")],
    },
];
