//! Why a node did not start, or ended.

use std::path::PathBuf;

use payjoin_core::{ChainError, LedgerError};
use payjoin_io::{HttpError, OhttpError, PollError, StoreError};
use payjoin_lightning::LightningError;
use payjoin_lightning::node::{NodeError, SeedError, WalletError};

use crate::settings::SettingsError;
use crate::tor::TorError;

/// Why the node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A clock that cannot be right.
    #[error("the system clock is wrong: set it, deadlines depend on it")]
    Clock,
    /// Settings that cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A folder, file or port.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The folder is locked.
    #[error("another payjoind runs in {0}: stop it first, or choose another --datadir")]
    InUse(PathBuf),
    /// The database.
    #[error("the database: {0}")]
    Store(StoreError),
    /// What is in the database.
    #[error("the database: {0}")]
    Ledger(LedgerError),
    /// The database is no whole one any more.
    #[error("the database is damaged: {0}. `payjoind rescue` prints the payments in it that are still owed")]
    Damaged(String),
    /// The database has seen fewer commits than were made.
    #[error(
        "the database is an older copy, and refused for good: it has seen {found} of {known} changes. The peers of its \
         channels have later states and could take all that is in them. If the newest database is anywhere, put it in \
         its place. If it is lost, `payjoind recover` asks the peers to close the channels, collects what is ours, and \
         broadcasts the payments that are owed, which `payjoind rescue` prints"
    )]
    OlderCopy {
        /// Changes that it has seen.
        found: u64,
        /// Changes that were made.
        known: u64,
    },
    /// It is to be recovered, and nothing says that it is old.
    #[error(
        "nothing says that this database is an older copy: `payjoind run` starts it. If you know that it is one, say \
         `payjoind recover --older-copy`: then its channels can only be closed by their peers, for good"
    )]
    NotOlder,
    /// There is a seed, and nothing beside it that says what became of its coins and channels.
    #[error(
        "there is a seed, {0}, and an empty database. If the database was lost, restore it: no seed brings channels \
         back. To start without it, say from which block on the coins of this seed are to be looked for: \
         `birthday = HEIGHT` under [lightning]"
    )]
    EmptyDatabase(PathBuf),
    /// Coins and channels of this folder are another node's.
    #[error(
        "this folder belongs to the backend `{known}`, whose coins and channels it knows: a folder has one for good. Set \
         `backend = \"{known}\"` under [lightning], or use another --datadir with `{wanted}`"
    )]
    OtherBackend {
        /// Whose it is.
        known: String,
        /// Whose it should be.
        wanted: &'static str,
    },
    /// The operator's own node does not want us.
    #[error("the Lightning node: {0}")]
    OwnNode(LightningError),
    /// bitcoind does not answer, or not as it should.
    #[error(
        "{error}. bitcoind should answer at {url}: is it running, and is [bitcoind] in payjoind.toml right?"
    )]
    Bitcoind {
        /// Where it should be, without its password.
        url: String,
        /// What came instead.
        error: ChainError,
    },
    /// The seed.
    #[error("{path}: {error}")]
    Seed {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        error: SeedError,
    },
    /// The Lightning node did not start.
    #[error("the Lightning node: {0}")]
    Node(NodeError),
    /// Sessions at directories.
    #[error("sessions at directories: {0}")]
    Poll(#[from] PollError),
    /// The Lightning node cannot go on.
    #[error("the Lightning node stopped: {0}")]
    Broken(String),
    /// The Lightning node ended by itself.
    #[error("the Lightning node stopped: its store or one of its tasks failed, see the log")]
    NodeEnded,
    /// Another part ended by itself.
    #[error("a part of the daemon stopped unexpectedly: see the log")]
    PartEnded,
    /// Tor.
    #[error(transparent)]
    Tor(#[from] TorError),
    /// The way out.
    #[error("[payjoin] {0}")]
    Http(#[from] HttpError),
    /// Relays.
    #[error("[payjoin] {0}")]
    Ohttp(#[from] OhttpError),
}

impl From<LedgerError> for StartError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Damaged(what) => Self::Damaged(what),
            error => Self::Ledger(error),
        }
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InUse(file) => Self::InUse(file.parent().unwrap_or(&file).to_owned()),
            StoreError::Corrupt(what) => Self::Damaged(what),
            StoreError::Older { found, known } => Self::OlderCopy { found, known },
            StoreError::NotOlder => Self::NotOlder,
            error => Self::Store(error),
        }
    }
}

impl StartError {
    pub(crate) fn node(error: NodeError, url: &str, seed: PathBuf) -> Self {
        match error {
            // What stands before an `@` is a password.
            NodeError::Source(error) => {
                Self::Bitcoind { url: url.rsplit('@').next().unwrap_or_default().to_owned(), error }
            }
            NodeError::Seed(error) => Self::Seed { path: seed, error },
            NodeError::Damaged { .. }
            | NodeError::Incomplete(_)
            | NodeError::Wallet(WalletError::Damaged(_)) => Self::Damaged(error.to_string()),
            error => Self::Node(error),
        }
    }
}

pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.into();
    move |source| StartError::Io { what, source }
}
