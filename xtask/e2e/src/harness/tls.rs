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
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (certificate, pem, key) =
            (dir.join("localhost.der"), dir.join("localhost.pem"), dir.join("localhost.key.der"));
        fs::write(&pem, made.cert.pem())?;
        fs::write(&certificate, made.cert.der())?;
        fs::write(&key, made.signing_key.serialize_der())?;
        Ok(Self { certificate, pem, key })
    }
}
