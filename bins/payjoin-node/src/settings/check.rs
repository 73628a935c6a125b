//! Settings that cannot be used together.

use std::net::{IpAddr, SocketAddr};

use super::{PlainListen, SECTIONS, Settings, SettingsError, Shown};

impl Settings {
    /// Refuses what cannot be used together, and numbers with which something stops working.
    ///
    /// # Errors
    /// Says what to change.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_http()?;
        self.check_payjoin()?;
        self.check_backend()?;
        self.check_numbers()?;
        if self.tor.only { self.check_only() } else { Ok(()) }
    }

    fn check_payjoin(&self) -> Result<(), SettingsError> {
        let payjoin = &self.payjoin;
        let is_url = |url: &&String| url.starts_with("https://") || url.starts_with("http://");
        if let Some(bad) = payjoin.directories.iter().find(|url| !is_url(url)) {
            return Err(SettingsError::Directory(bad.clone()));
        }
        if !payjoin.directories.is_empty() && payjoin.ohttp_relays.is_empty() {
            return Err(SettingsError::NoRelay);
        }
        let has_port = |proxy: &str| {
            proxy.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        match &payjoin.socks {
            Some(bad) if !has_port(bad) => Err(SettingsError::Socks(bad.clone())),
            _ => Ok(()),
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
        Ok(())
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
        if http.public_endpoint.as_ref().is_some_and(|url| !url.starts_with("https://") && !is_onion(url)) {
            return Err(SettingsError::Http(
                "`public_endpoint` is an https URL, or http with an onion address (BIP 78)",
            ));
        }
        Ok(())
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
        } else if !is_loopback(&self.bitcoind_url()) {
            "`only = true` needs a bitcoind on this machine: set `url` in [bitcoind] to http://127.0.0.1:PORT"
        } else {
            return Ok(());
        };
        Err(SettingsError::Tor(wrong))
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
