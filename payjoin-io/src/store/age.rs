//! Whether the file is an older copy of itself.
//!
//! An older copy of channels loses them: whatever it would send may be punished. So each commit is counted in the file
//! itself, and the number is written outside of it, too, at most a second later and at the end. A file that has seen
//! fewer commits than are written there is refused, and marked, so that it stays refused. What changed within that last
//! second of a crash, and a folder that is copied as a whole, show only in a second place.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::error::OpenError;

/// At most so much is lost of the number in a crash.
const EVERY: Duration = Duration::from_secs(1);

/// How many commits a file has seen, and which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Age {
    id: [u8; 16],
    commits: u64,
}

impl Age {
    /// The id in hex, a space, the number.
    fn encode(self) -> String {
        format!("{:032x} {}\n", u128::from_be_bytes(self.id), self.commits)
    }

    fn decode(text: &str) -> Option<Self> {
        let (id, commits) = text.trim_end().split_once(' ')?;
        let id = u128::from_str_radix(id, 16).ok()?.to_be_bytes();
        Some(Self { id, commits: commits.parse().ok()? })
    }

    /// As the database has it; `None` before the first commit that is counted.
    fn of(db: &Connection) -> rusqlite::Result<Option<Self>> {
        let sql = "SELECT value, generation FROM kv WHERE primary_ns = 'store' AND key = 'commits'";
        db.query_row(sql, [], |row| Ok(Self { id: row.get(0)?, commits: row.get(1)? })).optional()
    }
}

/// Counts one more commit, in the transaction that it counts.
pub(super) fn count(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO kv VALUES ('store', '', 'commits', randomblob(16), 1)
         ON CONFLICT DO UPDATE SET generation = generation + 1",
    )?
    .execute([])?;
    Ok(())
}

/// Refuses a database that is older than one of the files says, and marks it as such.
pub(super) fn check(db: &Connection, files: &[PathBuf]) -> Result<(), OpenError> {
    let found = Age::of(db)?;
    if let Some(known) = marked(db)? {
        return Err(older(found, known).into());
    }
    for path in files {
        let known = read(path).map_err(|source| StoreError::Open { path: path.clone(), source })?;
        let Some(known) = known else { continue };
        let is_older = match found {
            Some(found) => found.id != known.id || found.commits < known.commits,
            // A new one holds nothing that could be punished.
            None => !is_new(db)?,
        };
        if is_older {
            mark(db, known.commits)?;
            return Err(older(found, known.commits).into());
        }
    }
    Ok(())
}

/// From now on the database is an older copy, for good.
pub(super) fn mark(db: &Connection, known: u64) -> Result<(), OpenError> {
    db.execute("INSERT OR IGNORE INTO kv VALUES ('store', '', 'older_copy', x'', ?1)", [known])?;
    Ok(())
}

/// Whether it was marked, and how many commits were known then.
pub(super) fn marked(db: &Connection) -> Result<Option<u64>, OpenError> {
    let sql = "SELECT generation FROM kv WHERE primary_ns = 'store' AND key = 'older_copy'";
    Ok(db.query_row(sql, [], |row| row.get(0)).optional()?)
}

fn older(found: Option<Age>, known: u64) -> StoreError {
    StoreError::Older { found: found.map_or(0, |age| age.commits), known }
}

fn is_new(db: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM kv) AND NOT EXISTS (SELECT 1 FROM exchanges)";
    db.query_row(sql, params![], |row| row.get(0))
}

/// `None` where there is no file yet. A folder that is not there is an error: a disk may be missing.
fn read(path: &Path) -> io::Result<Option<Age>> {
    let damaged = || io::Error::new(ErrorKind::InvalidData, "it holds no number of commits");
    match fs::read_to_string(path) {
        Ok(text) => Age::decode(&text).map(Some).ok_or_else(damaged),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::metadata(folder(path))?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// As a whole or not at all, and durable.
fn write(path: &Path, age: Age) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = File::create(&name)?;
    file.write_all(age.encode().as_bytes())?;
    file.sync_all()?;
    fs::rename(&name, path)?;
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Keeps the files up to date, on a thread of its own: a disk that is slow or away holds no commit up.
pub(super) struct Keeper {
    /// Never sent on; its end is the end.
    open: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// `commits` counts on from what the database has now.
    pub(super) fn start(path: PathBuf, files: Vec<PathBuf>, commits: Arc<AtomicU64>) -> io::Result<Self> {
        let (open, ended) = channel();
        let run = move || keep(&path, &files, &commits, &ended);
        let thread = std::thread::Builder::new().name("commits".into()).spawn(run)?;
        Ok(Self { open: Some(open), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.open = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A database to which nothing is written since it was opened leaves the files alone.
fn keep(path: &Path, files: &[PathBuf], commits: &AtomicU64, ended: &Receiver<()>) {
    let (mut kept, mut fails) = (0, false);
    loop {
        let over = ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected);
        let now = commits.load(Ordering::Relaxed);
        if now != kept {
            let written = copy(path, files);
            match &written {
                Ok(()) => kept = now,
                Err(error) if !fails => {
                    tracing::error!(%error, "an older copy of the database would not show: its age cannot be written");
                }
                Err(_) => {}
            }
            fails = written.is_err();
        }
        if over {
            return;
        }
    }
}

/// Reads what is committed: nothing that is not durable may be written outside.
fn copy(path: &Path, files: &[PathBuf]) -> Result<(), StoreError> {
    let age = Age::of(&super::schema::open_to_read(path)?.0).map_err(OpenError::from)?;
    let Some(age) = age else { return Ok(()) };
    let written =
        |path: &PathBuf| write(path, age).map_err(|source| StoreError::Open { path: path.clone(), source });
    // Each of them, also when one cannot be written.
    files.iter().map(written).fold(Ok(()), Result::and)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_read_back_as_it_was_written() {
        let age = Age { id: std::array::from_fn(|at| at as u8), commits: 77 };
        assert_eq!(age.encode(), "000102030405060708090a0b0c0d0e0f 77\n");
        assert_eq!(Age::decode(&age.encode()), Some(age));
        for damaged in ["", "77", "000102030405060708090a0b0c0d0e0f", "x 7", "00 seven"] {
            assert_eq!(Age::decode(damaged), None, "{damaged:?}");
        }
    }
}
