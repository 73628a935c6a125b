//! Settings that cannot be used together.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use payjoin_core::Policy;

use super::url::{Url, url as read_url};
use super::{Bitcoind, PlainListen, SECTIONS, Settings, SettingsError, Shown, Tor};

/// Fewer find no coin, and more take for ever.
const LOOKAHEAD: RangeInclusive<u64> = 1..=100_000;

impl Settings {
    /// Refuses what cannot work, alone or together, and numbers with which something stops working.
    ///
    /// # Errors
    /// Says what to change.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_paths()?;
        self.check_bitcoind()?;
        self.check_http()?;
        self.check_api()?;
        self.check_ports()?;
        self.check_payjoin()?;
        self.check_backend()?;
        self.check_numbers()?;
        self.check_tor()?;
        self.check_webhook()?;
        if self.tor.only { self.check_only() } else { Ok(()) }
    }

    fn check_bitcoind(&self) -> Result<(), SettingsError> {
        let Bitcoind { url, cookie, user, password, .. } = &self.bitcoind;
        if let Some(text) = url {
            match read_url(text) {
                Err(why) if why.contains("password") => {
                    return Err(wrong(
                        "[bitcoind] `url`",
                        "holds a user or a password: set `user` and `password` instead",
                    ));
                }
                read => scheme("[bitcoind] `url`", text, read, &["http", "https"])?,
            };
        }
        match (user, password) {
            (Some(_), None) => {
                Err(wrong("[bitcoind] `user`", "goes with a `password`: set it, or remove `user`"))
            }
            (None, Some(_)) => {
                Err(wrong("[bitcoind] `password`", "goes with a `user`: set it, or remove `password`"))
            }
            (Some(_), Some(_)) if cookie.is_some() => {
                Err(wrong("[bitcoind] `cookie`", "and `user` are two ways in: remove one of them"))
            }
            (Some(user), Some(_)) if user.is_empty() || user.contains(':') => Err(wrong(
                "[bitcoind] `user`",
                "is empty or holds a colon: use the name from bitcoind's `rpcauth`",
            )),
            _ => Ok(()),
        }
    }

    fn check_payjoin(&self) -> Result<(), SettingsError> {
        let payjoin = &self.payjoin;
        for (name, urls) in [
            ("[payjoin] `directories`", &payjoin.directories),
            ("[payjoin] `ohttp_relays`", &payjoin.ohttp_relays),
        ] {
            for text in urls {
                scheme(name, text, read_url(text), &["https", "http"])?;
            }
        }
        if !payjoin.directories.is_empty() && payjoin.ohttp_relays.is_empty() {
            return Err(SettingsError::NoRelay);
        }
        match &payjoin.socks {
            Some(proxy) => host_with_port("[payjoin] `socks`", proxy, "127.0.0.1:9050"),
            None => Ok(()),
        }
    }

    /// Numbers beyond which something stops working: an interval of nothing, a deadline that no database holds.
    fn check_numbers(&self) -> Result<(), SettingsError> {
        let entries = SECTIONS.iter().flat_map(|section| section.entries.iter().map(move |e| (section, e)));
        for (section, entry) in entries {
            if let Shown::Number { value, range: Some(range), .. } = &entry.shown
                && !range.contains(&value(self))
            {
                let name = format!("[{}] `{}`", section.name, entry.name);
                return Err(SettingsError::Number { name, value: value(self), range: range.clone() });
            }
        }
        if let Some(lookahead) = self.lightning.lookahead
            && !LOOKAHEAD.contains(&lookahead.into())
        {
            let name = "[lightning] `lookahead`".to_owned();
            return Err(SettingsError::Number { name, value: lookahead.into(), range: LOOKAHEAD });
        }
        let Policy { min_fee_rate, max_fee_rate, .. } = self.policy();
        match min_fee_rate > max_fee_rate {
            true => Err(wrong(
                "[policy] `min_fee_rate`",
                "is above `max_fee_rate`: no payment could be served; lower one, or raise the other",
            )),
            false => Ok(()),
        }
    }

    fn check_http(&self) -> Result<(), SettingsError> {
        let http = &self.http;
        if http.listen.is_some() && (http.certificate.is_none() || http.key.is_none()) {
            return Err(SettingsError::Http(
                "`listen` is for TLS: set `certificate` and `key`, or use `plain_listen` behind a TLS proxy",
            ));
        }
        // What comes in there counts as authenticated (money rule 10).
        if matches!(&http.plain_listen, Some(PlainListen::Tcp(address)) if !address.ip().is_loopback()) {
            return Err(SettingsError::Http(
                "`plain_listen` has no TLS and is for a proxy on this machine: use 127.0.0.1, [::1] or unix:/PATH",
            ));
        }
        if (http.listen.is_some() || http.plain_listen.is_some()) && http.public_endpoint.is_none() {
            return Err(SettingsError::Http("set `public_endpoint` to the URL that payers will see"));
        }
        if http.public_endpoint.is_some() && http.listen.is_none() && http.plain_listen.is_none() {
            return Err(SettingsError::Http(
                "nobody would answer at `public_endpoint`: set `listen` or `plain_listen`, or remove it",
            ));
        }
        if http.listen.is_none() && (http.certificate.is_some() || http.key.is_some()) {
            return Err(SettingsError::Http(
                "`certificate` and `key` are for TLS: set `listen`, or remove them where a proxy speaks TLS for us",
            ));
        }
        let Some(text) = &http.public_endpoint else { return Ok(()) };
        const ENDPOINT: &str = "[http] `public_endpoint`";
        let read = read_url(text);
        scheme(ENDPOINT, text, read, &["https", "http"])?;
        match read.is_ok_and(|url| url.scheme == "http" && !payjoin_core::is_onion(url.host)) {
            true => Err(wrong(
                ENDPOINT,
                format!("is an https URL, or http with an onion address (BIP 78), and not {text:?}"),
            )),
            false => Ok(()),
        }
    }

    /// Each address is one program's, and can be told to somebody.
    fn check_ports(&self) -> Result<(), SettingsError> {
        let plain = match &self.http.plain_listen {
            Some(PlainListen::Tcp(address)) => Some(*address),
            _ => None,
        };
        let open = [
            ("[http] `listen`", self.http.listen),
            ("[http] `plain_listen`", plain),
            ("[lightning] `listen`", self.lightning.listen),
            ("[api] `listen`", self.api.listen),
        ];
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        for (name, address) in open.into_iter().filter_map(|(name, address)| Some((name, address?))) {
            if address.port() == 0 {
                return Err(wrong(
                    name,
                    "has port 0, which nobody could be told: use a number from 1 to 65535",
                ));
            }
            if let Some((other, _)) = taken.iter().find(|(_, known)| *known == address) {
                return Err(wrong(name, format!("is {address}, as {other} is: give each a port of its own")));
            }
            taken.push((name, address));
        }
        Ok(())
    }

    fn check_tor(&self) -> Result<(), SettingsError> {
        let Tor { port, nickname, state_dir, cache_dir, .. } = &self.tor;
        let in_name =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_".contains(letter);
        if *port == 0 {
            return Err(wrong("[tor] `port`", "must be from 1 to 65535, not 0"));
        }
        if nickname.is_empty() || !nickname.chars().all(in_name) {
            return Err(wrong(
                "[tor] `nickname`",
                format!("has small letters, digits, - and _ only, not {nickname:?}"),
            ));
        }
        match state_dir == cache_dir {
            true => Err(wrong(
                "[tor] `cache_dir`",
                "is `state_dir`, too: what can be lost and what cannot need two folders",
            )),
            false => Ok(()),
        }
    }

    /// Whatever would show our address to somebody.
    fn check_only(&self) -> Result<(), SettingsError> {
        let open = |address: Option<SocketAddr>| address.is_some_and(|address| !address.ip().is_loopback());
        let wrong = if !self.tor.enabled {
            "`only = true` needs `enabled = true`"
        } else if self.payjoin.socks.is_some() {
            "`only = true` takes our own way to Tor: remove `socks` from [payjoin]"
        } else if open(self.http.listen) {
            "`only = true` allows no open port: remove `listen` from [http], or listen on 127.0.0.1"
        } else if open(self.lightning.listen) {
            "`only = true` allows no open port: remove `listen` from [lightning], or listen on 127.0.0.1"
        } else if open(self.api.listen) {
            "`only = true` allows no open port: remove `listen` from [api], or listen on 127.0.0.1"
        } else if !is_loopback(&self.bitcoind_url()) {
            "`only = true` needs a bitcoind on this machine: set `url` in [bitcoind] to http://127.0.0.1:PORT"
        } else {
            return Ok(());
        };
        Err(SettingsError::Tor(wrong))
    }
}

/// A setting that cannot work, by its section and name, and what to do.
pub(super) fn wrong(name: &str, why: impl Into<String>) -> SettingsError {
    SettingsError::Value { name: name.to_owned(), why: why.into() }
}

/// Only these schemes lead there.
fn scheme(
    name: &str,
    text: &str,
    read: Result<Url<'_>, &'static str>,
    schemes: &[&str],
) -> Result<(), SettingsError> {
    match read {
        Ok(url) if schemes.contains(&url.scheme) => Ok(()),
        Ok(url) => {
            let schemes = schemes.join(":// or ");
            Err(wrong(name, format!("{text:?} begins with {}://: use {schemes}://", url.scheme)))
        }
        Err(why) if why.contains("password") => Err(wrong(name, why)),
        Err(why) => Err(wrong(name, format!("{text:?} {why}"))),
    }
}

/// `example` shows how it is written.
pub(super) fn host_with_port(name: &str, text: &str, example: &str) -> Result<(), SettingsError> {
    match super::url::host_with_port(text) {
        Ok(_) => Ok(()),
        Err(why) if why.contains("password") => Err(wrong(name, why)),
        Err(why) => Err(wrong(name, format!("{text:?} {why}, such as {example}"))),
    }
}

/// Does the URL lead to an onion service?
pub(crate) fn is_onion(url: &str) -> bool {
    payjoin_core::is_onion(host(url))
}

/// Does it stay on this machine? A name might be looked up elsewhere.
fn is_loopback(url: &str) -> bool {
    host(url).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Without the brackets of an IPv6 address.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}
