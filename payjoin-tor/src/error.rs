//! What can go wrong, one enum for each operation.

use std::error::Error;
use std::io;
use std::path::PathBuf;

pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// Why the Tor client did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The network file cannot be used.
    #[error("cannot use the Tor network file {}", path.display())]
    NetworkFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Cause,
    },
    /// arti refuses the settings.
    #[error("arti refuses the settings")]
    Settings(#[source] Cause),
    /// The client could not be made: most often the state or cache folder is missing or others can write to it.
    #[error("cannot start the Tor client")]
    Client(#[source] Cause),
}

/// Why no onion service was started. A new address was not made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// arti refuses the settings.
    #[error("arti refuses the onion service's settings")]
    Settings(#[source] Cause),
    /// The address file cannot be read or written.
    #[error("cannot use the address file {}", path.display())]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The address was used before, and its key is gone.
    #[error(
        "the key of {address} is missing: restore {} from a backup, or give this address up for good by removing its \
         line from {}", key.display(), address_file.display()
    )]
    KeyMissing {
        /// The address that payers know.
        address: String,
        /// Where its key should be.
        key: PathBuf,
        /// The file that remembers the address.
        address_file: PathBuf,
    },
    /// Others than the owner can read or write the key or a folder above it, or own it.
    #[error(
        "the onion service's key {} is not safe: its file must have mode 0600, its folder 0700, and both must belong \
         to the user of this process", key.display()
    )]
    KeyUnsafe {
        /// The key.
        key: PathBuf,
        /// What is wrong, and where.
        source: Cause,
    },
    /// The key is there but arti cannot use it.
    #[error("the onion service's key {} cannot be read: restore it from a backup", key.display())]
    KeyUnreadable {
        /// The key.
        key: PathBuf,
    },
    /// The key belongs to another address than the one used before.
    #[error(
        "the key {} is that of {found}, but payers know {address}: restore the key, or give the known address up for \
         good by removing its line from {}", key.display(), address_file.display()
    )]
    KeyDiffers {
        /// The address that payers know.
        address: String,
        /// The address of the key.
        found: String,
        /// The key.
        key: PathBuf,
        /// The file that remembers the address.
        address_file: PathBuf,
    },
    /// The service runs already, in this process or another.
    #[error("another process runs this onion service")]
    Busy(#[source] Cause),
    /// arti could not launch the service.
    #[error("cannot launch the onion service")]
    Launch(#[source] Cause),
}

/// Why no stream was opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach {host}:{port} through Tor")]
pub struct ConnectError {
    pub(crate) host: String,
    pub(crate) port: u16,
    #[source]
    pub(crate) source: Cause,
}
