//! One SQLite file that holds whatever must change together.
//!
//! One thread owns the writing connection. It runs each job under a savepoint and commits all jobs that wait in one
//! transaction, so that many exchanges at once cost one `fsync`. A job's caller hears of it after the commit. Reads
//! use a second connection and see what is committed.

mod exchanges;
mod intents;
mod invoices;
mod kv;
mod locks;
mod payments;
mod rescue;
mod schema;
mod sessions;
mod writer;

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use payjoin_core::{ExchangeId, IntentId, InvoiceId};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

pub use exchanges::{AdmitOutcome, ExchangeRecord, ExchangeState};
pub use intents::{IntentRecord, NewIntent};
pub use kv::KvWrite;
pub use payments::{Paid, PaymentRecord};
pub use rescue::{Rescued, rescue};
use writer::Writer;

/// Why the store could not do it. Nothing of a failed call was written.
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
    /// A later version of this software wrote the file.
    #[error("the store has schema version {found}, this software knows {known} at most")]
    TooNew {
        /// Version in the file.
        found: u32,
        /// Latest version known here.
        known: u32,
    },
    /// SQLite refused, for example because the disk is full.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The transaction that carried this write, and maybe others, did not commit.
    #[error("not committed: {0}")]
    Commit(String),
    /// The writer thread ended.
    #[error("the store is closed")]
    Closed,
    /// There is no such invoice.
    #[error("no invoice {}", .0.0)]
    NoInvoice(InvoiceId),
    /// There is no such exchange, or its state does not allow this.
    #[error("exchange {} is not in a state for this", .0.0)]
    WrongState(ExchangeId),
    /// There is no such intent, or it is not queued.
    #[error("intent {} is not queued", .0.0)]
    NotQueued(IntentId),
    /// A coin is locked by an exchange at another invoice, or not locked by the exchange that releases it.
    #[error("coin {0} is not this exchange's to offer")]
    CoinLocked(bitcoin::OutPoint),
}

/// The durable store. Clones share one file; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

// Fields drop in this order: the writer's connection closes last, because only a writer can fold the log into the file,
// and the lock goes after it.
struct Inner {
    reader: Mutex<Connection>,
    writer: Writer,
    _lock: Lock,
}

struct Lock(File);

impl Drop for Lock {
    /// Closing would not do while a child process that was forked a moment ago has a copy of the file.
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

impl Store {
    /// Opens the store, or makes one. A second process that tries gets [`StoreError::InUse`].
    ///
    /// # Errors
    /// [`StoreError::Open`], [`InUse`](StoreError::InUse), [`Corrupt`](StoreError::Corrupt),
    /// [`TooNew`](StoreError::TooNew) or [`Sqlite`](StoreError::Sqlite).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let lock = lock(path)?;
        private_file(path)?;
        let db = schema::open(path)?;
        let writer = Writer::start(db).map_err(|source| StoreError::Open { path: path.into(), source })?;
        let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        schema::keep_plans(&reader)?;
        Ok(Self { inner: Arc::new(Inner { reader: Mutex::new(reader), writer, _lock: lock }) })
    }

    /// Transactions committed since the store was opened: with many writers at once, fewer than the writes.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.inner.writer.commits()
    }

    /// Reads what is committed. Takes microseconds: every look-up goes by an index.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        work(&self.inner.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes, and returns once it is durable. Dropping the future does not undo the write.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, result) = oneshot::channel();
        self.inner.writer.submit(work, move |done| drop(reply.send(done)));
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// As [`Store::write`], for callers that are not async: any thread, a runtime's worker included.
    fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, result) = std::sync::mpsc::sync_channel(1);
        self.inner.writer.submit(work, move |done| drop(reply.send(done)));
        result.recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// One process at a time. A file of its own, because SQLite must be able to give its locks to our second connection.
fn lock(path: &Path) -> Result<Lock, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |source| StoreError::Open { path: path.into(), source };
    let options = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).clone();
    let file = options.open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.into())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// It holds keys: nobody else may read it. SQLite gives the same mode to the files it puts beside it.
fn private_file(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open { path: path.into(), source };
    let options = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).clone();
    let file = options.open(path).map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)
}

#[cfg(test)]
mod tests;
