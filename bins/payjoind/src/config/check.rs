//! Settings that cannot be used together.

use std::net::SocketAddr;

use super::{Config, ConfigError, PlainListen};

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_http()?;
        let is_url = |url: &&String| url.starts_with("https://") || url.starts_with("http://");
        if let Some(bad) = self.payjoin.directories.iter().find(|url| !is_url(url)) {
            return Err(ConfigError::Directory(bad.clone()));
        }
        if self.tor.only { self.check_only() } else { Ok(()) }
    }

    fn check_http(&self) -> Result<(), ConfigError> {
        let http = &self.http;
        if http.listen.is_some() && (http.certificate.is_none() || http.key.is_none()) {
            return Err(ConfigError::Http(
                "`listen` is for TLS: set `certificate` and `key`, or use `plain_listen` behind a TLS proxy",
            ));
        }
        // What comes in there counts as authenticated (money rule 10).
        if matches!(&http.plain_listen, Some(PlainListen::Tcp(address)) if !address.ip().is_loopback()) {
            return Err(ConfigError::Http(
                "`plain_listen` has no TLS and is for a proxy on this machine: use 127.0.0.1, [::1] or unix:/PATH",
            ));
        }
        if (http.listen.is_some() || http.plain_listen.is_some()) && http.public_endpoint.is_none() {
            return Err(ConfigError::Http("set `public_endpoint` to the URL that payers will see"));
        }
        Ok(())
    }

    /// Whatever would show our address to somebody.
    fn check_only(&self) -> Result<(), ConfigError> {
        let open = |address: Option<SocketAddr>| address.is_some_and(|address| !address.ip().is_loopback());
        let wrong = if !self.tor.enabled {
            "`only = true` needs `enabled = true`"
        } else if self.payjoin.socks.is_some() {
            "`only = true` takes our own way to Tor: remove `socks` from [payjoin]"
        } else if open(self.http.listen) {
            "`only = true` allows no open port: remove `listen` from [http], or listen on 127.0.0.1"
        } else if open(self.lightning.listen) {
            "`only = true` allows no open port: remove `listen` from [lightning], or listen on 127.0.0.1"
        } else {
            return Ok(());
        };
        Err(ConfigError::Tor(wrong))
    }
}
