//! What went wrong, without the library that said so.

use std::path::PathBuf;

use payjoin_core::LedgerError;
use rusqlite::ErrorCode;

/// Why the store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its folder cannot be used.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The store's file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process has the store open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// The file is no store, or is damaged. Restore it; never go on with it.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The file is an older copy of itself: channels in it have later states, and payments may be known elsewhere.
    #[error("the store is an older copy: it has seen {found} commits of {known}")]
    Older {
        /// Commits that the file has seen.
        found: u64,
        /// Commits that were made.
        known: u64,
    },
    /// It should have been an older copy.
    #[error("the store is not known to be an older copy")]
    NotOlder,
    /// A later version of this software wrote the file.
    #[error("the store has schema version {found}, this software knows {known} at most")]
    TooNew {
        /// Version in the file.
        found: u32,
        /// Latest version known here.
        known: u32,
    },
    /// SQLite refused, for example because the disk is full.
    #[error("{0}")]
    Sqlite(String),
}

/// Inside of the store: what the caller reads, or what SQLite says.
#[derive(Debug)]
pub(crate) enum Inner<E> {
    Known(E),
    Sqlite(rusqlite::Error),
}

pub(crate) type DbError = Inner<LedgerError>;
pub(crate) type OpenError = Inner<StoreError>;

impl<E> From<rusqlite::Error> for Inner<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<LedgerError> for DbError {
    fn from(error: LedgerError) -> Self {
        Self::Known(error)
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Known(error)
    }
}

impl From<DbError> for LedgerError {
    fn from(error: DbError) -> Self {
        match error {
            Inner::Known(error) => error,
            Inner::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::ConstraintViolation) => Self::Conflict(error.to_string()),
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                    Self::Damaged(error.to_string())
                }
                _ => Self::Failed(error.to_string()),
            },
        }
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        match error {
            Inner::Known(error) => error,
            Inner::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                    Self::Corrupt(error.to_string())
                }
                _ => Self::Sqlite(error.to_string()),
            },
        }
    }
}
