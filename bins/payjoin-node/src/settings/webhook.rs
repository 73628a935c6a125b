//! `[webhook]`

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::url::url as read_url;
use super::{Settings, SettingsError};

/// Who is told what happens.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Events are posted there: `https`, or `http` on this machine.
    pub url: Option<String>,
    /// Signs them.
    pub secret: Option<String>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Fewer characters can be guessed.
const LEAST_SECRET: usize = 32;

impl Webhook {
    /// Whether this URL names this machine.
    pub(crate) fn is_here(url: &str) -> bool {
        read_url(url).is_ok_and(|url| {
            url.host == "localhost" || url.host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        })
    }
}

impl Settings {
    /// Refuses where events would be posted in the clear, unsigned, or to where there is no way.
    pub(super) fn check_webhook(&self) -> Result<(), SettingsError> {
        let wrong = |name: &str, why: &str| {
            let name = format!("[webhook] `{name}`");
            Err(SettingsError::Value { name, why: why.to_owned() })
        };
        let (text, secret) = match (&self.webhook.url, &self.webhook.secret) {
            (None, None) => return Ok(()),
            (Some(url), Some(secret)) => (url, secret),
            (Some(_), None) => {
                return wrong("url", "goes with a `secret`, by which the receiver knows our events: set it");
            }
            (None, Some(_)) => return wrong("secret", "goes with a `url`: set it, or remove `secret`"),
        };
        if secret.chars().count() < LEAST_SECRET {
            return wrong("secret", "has fewer than 32 characters: make one with `openssl rand -hex 32`");
        }
        let url = match read_url(text) {
            Ok(url) => url,
            Err(why) => return wrong("url", why),
        };
        let by_tor = self.tor.enabled || self.payjoin.socks.is_some();
        match url.scheme {
            "https" if payjoin_core::is_onion(url.host) && !by_tor => wrong(
                "url",
                "is an onion service, and there is no way to it: set `enabled` in [tor], or `socks` in [payjoin]",
            ),
            "https" => Ok(()),
            "http" if Webhook::is_here(text) => Ok(()),
            "http" => wrong("url", "would send events in the clear: use https, or http on this machine"),
            _ => wrong("url", "begins with neither https:// nor http://"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: Option<&str>, secret: Option<&str>, expected: &str) {
        let webhook = Webhook { url: url.map(str::to_owned), secret: secret.map(str::to_owned) };
        let settings = Settings { webhook, ..Settings::default() };
        let told = settings.check_webhook().map_or_else(|error| error.to_string(), |()| "good".to_owned());
        assert!(told.contains(expected), "{url:?}: {told}");
    }

    #[test]
    fn events_go_out_signed_and_encrypted_or_stay_on_this_machine() {
        let secret = Some("0123456789abcdef0123456789abcdef");
        check(None, None, "good");
        for url in [
            "https://shop.example/hook",
            "http://127.0.0.1:80/hook",
            "http://[::1]:9/",
            "http://localhost/hook",
        ] {
            check(Some(url), secret, "good");
        }
        check(Some("http://shop.example/"), secret, "in the clear");
        check(Some("http://127.0.0.1.shop.example/"), secret, "in the clear");
        check(Some("http://10.0.0.1/"), secret, "in the clear");
        check(Some("https://user:word@shop.example/"), secret, "user or a password");
        check(Some("ftp://shop.example/"), secret, "neither https:// nor http://");
        check(Some("https://aaaa.onion/"), secret, "no way to it");
        check(Some("https://shop.example/"), None, "goes with a `secret`");
        check(None, secret, "goes with a `url`");
        check(Some("https://shop.example/"), Some("short"), "fewer than 32");
    }

    #[test]
    fn the_secret_is_in_no_log() {
        let webhook = Webhook { url: None, secret: Some("do not tell".into()) };
        assert!(!format!("{webhook:?}").contains("do not tell"));
    }
}
