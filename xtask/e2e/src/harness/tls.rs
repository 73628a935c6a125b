//! A certificate for `localhost` that is its own root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

pub(crate) struct Certificate {
    /// The certificate, DER.
    pub(crate) certificate: PathBuf,
    /// The same, PEM.
    pub(crate) pem: PathBuf,
    /// Its private key, PKCS #8 DER.
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes one and writes all files to `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        Self::until(dir, 4096)
    }

    /// The same with one that ends when this year begins.
    pub(crate) fn until(dir: &Path, year: i32) -> Result<Self> {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()])?;
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let signing_key = rcgen::KeyPair::generate()?;
        let cert = parameters.self_signed(&signing_key)?;
        let (certificate, pem, key) =
            (dir.join("localhost.der"), dir.join("localhost.pem"), dir.join("localhost.key.der"));
        fs::write(&pem, cert.pem())?;
        fs::write(&certificate, cert.der())?;
        fs::write(&key, signing_key.serialize_der())?;
        Ok(Self { certificate, pem, key })
    }
}
