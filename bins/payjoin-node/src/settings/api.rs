//! `[api]`, the way in for the operator's programs, and `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::wrong;
use super::{Settings, SettingsError};

/// `[api]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Address for the operator's programs; unset: there is no API.
    pub listen: Option<SocketAddr>,
    /// Certificate chain, PEM or DER.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM or DER.
    pub key: Option<PathBuf>,
    /// Without TLS, on this machine only.
    pub plain: bool,
    /// Requests a minute with one token, and without one from one address.
    pub rate_per_minute: u32,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: None, certificate: None, key: None, plain: false, rate_per_minute: 120 }
    }
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How lines of the log look.
    pub format: LogFormat,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Settings {
    pub(super) fn check_api(&self) -> Result<(), SettingsError> {
        let Api { listen, certificate, key, plain, .. } = &self.api;
        let has_files = certificate.is_some() || key.is_some();
        let why = match listen {
            None if has_files || *plain => {
                "is not set, and `certificate`, `key` or `plain` is: set it to IP:PORT, or remove them"
            }
            Some(address) if *plain && !address.ip().is_loopback() => {
                "has no TLS with `plain`: use 127.0.0.1 or [::1], or `certificate` and `key`"
            }
            Some(_) if *plain && has_files => {
                "has `plain` and a certificate: remove `plain`, or `certificate` and `key`"
            }
            Some(_) if !*plain && (certificate.is_none() || key.is_none()) => {
                "is for TLS: set `certificate` and `key`, or on this machine `plain = true`"
            }
            _ => return Ok(()),
        };
        Err(wrong("[api] `listen`", why))
    }
}
