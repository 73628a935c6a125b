//! Addresses that were used before, and the keys that belong to them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fs_mistrust::Mistrust;
use payjoin_core::is_onion;

use crate::ListenError;

/// Where arti keeps a service's identity.
pub(crate) fn key_file(state_dir: &Path, nickname: &str) -> PathBuf {
    state_dir.join("keystore/hss").join(nickname).join("ks_hs_id.ed25519_expanded_private")
}

/// Is there a key, and is it safe? arti checks too, but trusts groups and can be told by the environment not to.
pub(crate) fn check_key(key: &Path) -> Result<bool, ListenError> {
    let unsafe_key = |source: fs_mistrust::Error| match source {
        fs_mistrust::Error::NotFound(_) => Ok(false),
        source => Err(ListenError::KeyUnsafe { key: key.to_owned(), source: source.into() }),
    };
    let check = || {
        let mistrust = Mistrust::builder().trust_no_group_id().ignore_environment().build()?;
        if let Some(folder) = key.parent() {
            mistrust.check_directory(folder)?;
        }
        mistrust.verifier().require_file().check(key)
    };
    check().map_or_else(unsafe_key, |()| Ok(true))
}

/// The file that remembers which address each nickname has: one line each, `nickname address`.
#[derive(Debug)]
pub(crate) struct AddressFile {
    path: PathBuf,
    known: BTreeMap<String, String>,
}

impl AddressFile {
    /// A missing file knows no address.
    pub(crate) fn read(path: &Path) -> Result<Self, ListenError> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        let known = text.and_then(|text| parse(&text));
        match known {
            Ok(known) => Ok(Self { path: path.to_owned(), known }),
            Err(source) => Err(ListenError::AddressFile { path: path.to_owned(), source }),
        }
    }

    pub(crate) fn address(&self, nickname: &str) -> Option<&str> {
        self.known.get(nickname).map(String::as_str)
    }

    /// Remembers an address, durably.
    pub(crate) fn record(&mut self, nickname: &str, address: &str) -> Result<(), ListenError> {
        self.known.insert(nickname.to_owned(), address.to_owned());
        self.write().map_err(|source| ListenError::AddressFile { path: self.path.clone(), source })
    }

    fn write(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        for (nickname, address) in &self.known {
            writeln!(file, "{nickname} {address}")?;
        }
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn parse(text: &str) -> io::Result<BTreeMap<String, String>> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(nickname), Some(address), None) if is_onion(address) => {
                Ok((nickname.to_owned(), address.to_owned()))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not `nickname address`: {line:?}"))),
        }
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// A state folder as arti lays it out, with these modes.
    fn key(folder_mode: u32, key_mode: u32) -> (TempDir, PathBuf) {
        let state = tempfile::tempdir().unwrap();
        let key = key_file(state.path(), "payjoin");
        let folder = key.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(&key, "secret").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(key_mode)).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(folder_mode)).unwrap();
        (state, key)
    }

    fn checked(folder_mode: u32, key_mode: u32) -> Result<bool, ListenError> {
        let (_state, key) = key(folder_mode, key_mode);
        check_key(&key)
    }

    #[test]
    fn a_key_for_its_owner_alone_is_safe() {
        assert!(checked(0o700, 0o600).unwrap());
        assert!(checked(0o700, 0o400).unwrap());
    }

    #[test]
    fn a_key_or_folder_open_to_anybody_else_is_refused() {
        for (folder, key) in [(0o700, 0o644), (0o700, 0o640), (0o700, 0o620), (0o755, 0o600), (0o770, 0o600)]
        {
            let error = checked(folder, key).unwrap_err();
            assert!(matches!(error, ListenError::KeyUnsafe { .. }), "{folder:o} {key:o}: {error:?}");
        }
    }

    #[test]
    fn a_folder_in_the_place_of_the_key_is_refused() {
        let (_state, key) = key(0o700, 0o600);
        fs::remove_file(&key).unwrap();
        fs::create_dir(&key).unwrap();
        assert!(matches!(check_key(&key), Err(ListenError::KeyUnsafe { .. })));
    }

    #[test]
    fn a_missing_key_is_told_apart_from_an_unsafe_one() {
        let (state, key) = key(0o700, 0o600);
        fs::remove_file(&key).unwrap();
        assert!(!check_key(&key).unwrap());
        assert!(!check_key(&key_file(&state.path().join("nothing"), "payjoin")).unwrap());
    }

    #[test]
    fn addresses_survive_a_restart_each_under_its_nickname() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses");
        let mut file = AddressFile::read(&path).unwrap();
        assert_eq!(file.address("a"), None);
        file.record("a", "aaa.onion").unwrap();
        file.record("b", "bbb.onion").unwrap();
        let again = AddressFile::read(&path).unwrap();
        assert_eq!(again.address("a"), Some("aaa.onion"));
        assert_eq!(again.address("b"), Some("bbb.onion"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_address_file_that_cannot_be_understood_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses");
        for text in ["payjoin", "payjoin aaa.onion more", "payjoin example.org", "\0"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(AddressFile::read(&path), Err(ListenError::AddressFile { .. })), "{text:?}");
        }
    }
}
