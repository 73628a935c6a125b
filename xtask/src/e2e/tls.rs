//! A certificate for `localhost` that is its own root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

pub(crate) struct Certificate {
    /// The certificate, DER.
    pub(crate) certificate: PathBuf,
    /// Its private key, PKCS #8 DER.
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes one and writes both files to `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (certificate, key) = (dir.join("localhost.der"), dir.join("localhost.key.der"));
        fs::write(&certificate, made.cert.der())?;
        fs::write(&key, made.signing_key.serialize_der())?;
        Ok(Self { certificate, key })
    }
}
