//! The seed: twelve BIP 39 words in a file of mode 0600. Every key of the node comes from it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use bdk_wallet::keys::bip39::{Error as WordsError, Mnemonic};
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::secp256k1::rand::RngCore;
use bitcoin::secp256k1::rand::rngs::OsRng;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Network, NetworkKind, bip32};

/// Entropy of twelve words, in bytes.
const ENTROPY: usize = 16;

/// Why there is no seed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// There is stored state, but the seed that it belongs to is gone. A new one would not open the channels.
    #[error("the seed file is missing, but a wallet or channels exist: restore it from your twelve words")]
    Missing,
    /// Others may read the seed.
    #[error("the seed file must have mode 0600, but has {0:o}")]
    Mode(u32),
    /// The seed belongs to another user than its folder.
    #[error("the seed file must belong to the owner of its folder")]
    Owner,
    /// The file does not hold BIP 39 words.
    #[error("the seed file does not hold a BIP 39 mnemonic: {0}")]
    Words(WordsError),
    /// The file cannot be read or written.
    #[error("the seed file: {0}")]
    Io(#[from] io::Error),
}

/// The root of all keys. Never printed, never logged.
pub struct Seed(Mnemonic);

impl Seed {
    /// Reads the seed, or makes one when there is none and `fresh` says that nothing depends on an older one.
    ///
    /// # Errors
    /// See [`SeedError`]. A file that cannot be used is never replaced.
    pub fn open(path: &Path, fresh: bool) -> Result<Self, SeedError> {
        match fs::symlink_metadata(path) {
            Ok(_) => Self::read(path),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Err(_) if fresh => Self::create(path),
            Err(_) => Err(SeedError::Missing),
        }
    }

    fn read(path: &Path) -> Result<Self, SeedError> {
        let file = fs::symlink_metadata(path)?;
        let mode = file.permissions().mode() & 0o7777;
        if !file.is_file() || mode != 0o600 {
            return Err(SeedError::Mode(mode));
        }
        if file.uid() != fs::metadata(folder(path))?.uid() {
            return Err(SeedError::Owner);
        }
        fs::read_to_string(path)?.trim().parse().map(Self).map_err(SeedError::Words)
    }

    /// The file appears whole or not at all, and never replaces one.
    fn create(path: &Path) -> Result<Self, SeedError> {
        let mut entropy = [0; ENTROPY];
        OsRng.try_fill_bytes(&mut entropy).map_err(io::Error::other)?;
        let words = Mnemonic::from_entropy(&entropy).map_err(SeedError::Words)?;
        let draft = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(format!("{words}\n").as_bytes())?;
        file.sync_all()?;
        fs::hard_link(&draft, path)?;
        fs::remove_file(&draft)?;
        fs::File::open(folder(path))?.sync_all()?;
        tracing::info!(path = %path.display(), "a new seed: write its twelve words down and keep them elsewhere");
        Ok(Self(words))
    }

    /// The key of one account: `m / purpose' / coin' / 0'`.
    pub(super) fn account(
        &self,
        network: Network,
        purpose: u32,
        secp: &Secp256k1<All>,
    ) -> Result<Account, bip32::Error> {
        let master = Xpriv::new_master(network, &self.0.to_seed(""))?;
        let coin = if NetworkKind::from(network).is_mainnet() { 0 } else { 1 };
        let path = [
            ChildNumber::from_hardened_idx(purpose)?,
            ChildNumber::from_hardened_idx(coin)?,
            ChildNumber::from_hardened_idx(0)?,
        ];
        let origin = format!("{}/{purpose}'/{coin}'/0'", master.fingerprint(secp));
        Ok(Account { key: master.derive_priv(secp, &path)?, origin })
    }
}

/// A BIP 32 account.
pub(super) struct Account {
    /// Its private key.
    pub(super) key: Xpriv,
    /// Fingerprint and path for a descriptor's key origin.
    pub(super) origin: String,
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str =
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about\n";

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn is_made_once_with_mode_0600_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        let made = Seed::open(&path, true).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays behind");
        for fresh in [true, false] {
            assert_eq!(Seed::open(&path, fresh).unwrap().0, made.0);
        }
        assert_eq!(made.0.word_count(), 12);
    }

    #[test]
    fn is_never_made_anew_when_state_exists() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        assert!(matches!(Seed::open(&path, false), Err(SeedError::Missing)));
        assert!(!path.exists());
    }

    #[test]
    fn is_refused_when_others_may_read_it() {
        for mode in [0o644, 0o640, 0o400, 0o604, 0o700] {
            let (_dir, path) = written(WORDS, mode);
            assert!(matches!(Seed::open(&path, true), Err(SeedError::Mode(found)) if found == mode));
        }
    }

    #[test]
    fn is_refused_when_it_is_a_link_or_holds_no_words() {
        let (dir, path) = written(WORDS, 0o600);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(Seed::open(&link, true), Err(SeedError::Mode(_))));
        let (_dir, path) = written("abandon about", 0o600);
        assert!(matches!(Seed::open(&path, true), Err(SeedError::Words(_))));
    }

    /// Test vector of BIP 86: the account extended private key of the all-"abandon" mnemonic.
    #[test]
    fn derives_the_account_of_bip86() {
        let (_dir, path) = written(WORDS, 0o600);
        let seed = Seed::open(&path, false).unwrap();
        let account = seed.account(Network::Bitcoin, 86, &Secp256k1::new()).unwrap();
        assert_eq!(account.origin, "73c5da0a/86'/0'/0'");
        assert_eq!(
            account.key.to_string(),
            "xprv9xgqHN7yz9MwCkxsBPN5qetuNdQSUttZNKw1dcYTV4mkaAFiBVGQziHs3NRSWMkCzvgjEe3n9xV8oYywvM8at9yRqyaZVz6TYYhX98VjsUk"
        );
    }
}
