//! One SQLite file that holds whatever must change together.
//!
//! One thread owns the writing connection. It runs each job under a savepoint and commits all jobs that wait in one
//! transaction, so that many exchanges at once cost one `fsync`. A job's caller hears of it after the commit. Reads
//! use a second connection and see what is committed.

mod age;
mod claims;
mod error;
mod exchanges;
mod intents;
mod invoices;
mod journal;
mod kv;
mod lightning;
mod listed;
mod locks;
mod movements;
mod payments;
mod peers;
mod rescue;
mod roles;
mod schema;
mod sessions;
mod tokens;
mod writer;

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use payjoin_core::LedgerError;
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::sync::oneshot;

use age::Keeper;
pub use error::StoreError;
use error::{DbError, OpenError};
pub use rescue::{Rescued, rescue};
pub use schema::schema_version;
use writer::Writer;

/// The durable store. Clones share one file; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

// Fields drop in this order: the keeper after the last commit is made, but while the log is there to be folded into the
// file by the writer's connection, which closes last, because only a writer can do that. The lock goes after it.
struct Inner {
    reader: Mutex<Connection>,
    exchanges: AtomicU64,
    payments: AtomicU64,
    _keeper: Option<Keeper>,
    writer: Writer,
    _lock: Lock,
}

struct Lock(File);

impl Drop for Lock {
    /// Closing would not do while a child process that was forked a moment ago has a copy of the file.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Store {
    /// Opens the store, or makes one. A second process that tries gets [`StoreError::InUse`].
    ///
    /// # Errors
    /// [`StoreError::Open`], [`InUse`](StoreError::InUse), [`Corrupt`](StoreError::Corrupt),
    /// [`TooNew`](StoreError::TooNew) or [`Sqlite`](StoreError::Sqlite).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_counted(path, None)
    }

    /// [`Store::open`], with a second file for the number of commits besides `PATH.count`, on another disk: it shows also
    /// when the store's folder as a whole is an older copy. A file that is not there is made; its folder must be there.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Older`].
    pub fn open_counted(path: impl AsRef<Path>, second: Option<&Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let files: Vec<PathBuf> =
            [path.with_extension("count")].into_iter().chain(second.map(Path::to_owned)).collect();
        Self::open_if(path, Some(files.clone()), |db| age::check(db, &files))
    }

    /// Opens a store that [`StoreError::Older`] says to be an older copy; with `declare` any other, too, which is one from
    /// now on. Nothing in it may be offered to anybody, and no channel of it be closed by us.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::NotOlder`].
    pub fn open_older(path: impl AsRef<Path>, declare: bool) -> Result<Self, StoreError> {
        Self::open_if(path.as_ref(), None, |db| match age::marked(db)? {
            Some(_) => Ok(()),
            None if declare => age::mark(db, 0),
            None => Err(StoreError::NotOlder.into()),
        })
    }

    /// Opens it if `check` says so. `count`: where the number of its commits is written.
    fn open_if(
        path: &Path,
        count: Option<Vec<PathBuf>>,
        check: impl FnOnce(&Connection) -> Result<(), OpenError>,
    ) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        private_file(path)?;
        let db = schema::open(path)?;
        check(&db)?;
        let failed = |source| StoreError::Open { path: path.into(), source };
        let writer = Writer::start(db).map_err(failed)?;
        let (reader, exchanges, payments) = schema::open_to_read(path)?;
        let (exchanges, payments) = (AtomicU64::new(exchanges), AtomicU64::new(payments));
        let reader = Mutex::new(reader);
        let keep = |files| Keeper::start(path.to_owned(), files, Arc::clone(writer.commits()));
        let keeper = count.map(keep).transpose().map_err(failed)?;
        let inner = Inner { reader, exchanges, payments, _keeper: keeper, writer, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn next_exchange(&self) -> u64 {
        self.inner.exchanges.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn next_payment(&self) -> u64 {
        self.inner.payments.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Transactions committed since the store was opened: with many writers at once, fewer than the writes.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.inner.writer.commits().load(Ordering::Relaxed)
    }

    /// Reads what is committed. Takes microseconds: every look-up goes by an index.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, DbError>) -> Result<T, LedgerError> {
        Ok(work(&self.inner.reader.lock().unwrap_or_else(PoisonError::into_inner))?)
    }

    /// Writes, and returns once it is durable. Dropping the future does not undo the write.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, result) = oneshot::channel();
        self.inner.writer.submit(work, move |done| drop(reply.send(done)));
        Ok(result.await.unwrap_or_else(|_| Err(closed()))?)
    }

    /// As [`Store::write`], for callers that are not async: any thread, a runtime's worker included.
    fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, result) = std::sync::mpsc::sync_channel(1);
        self.inner.writer.submit(work, move |done| drop(reply.send(done)));
        Ok(result.recv().unwrap_or_else(|_| Err(closed()))?)
    }
}

/// The writer thread ended.
fn closed() -> DbError {
    LedgerError::Failed("the store is closed".to_owned()).into()
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
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(Errno::WOULDBLOCK) => Err(StoreError::InUse(path.into())),
        Err(error) => Err(failed(error.into())),
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
