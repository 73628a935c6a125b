//! The thread that owns the writing connection, and its group commit.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use payjoin_core::LedgerError;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::watch;

use super::{DbError, age};

/// Jobs in one transaction at most: bounds how long the first of them waits.
const BATCH: usize = 256;

/// Does its work under a savepoint and gives back the answer, to be sent once the fate of the batch is known.
type Job = Box<dyn FnOnce(&mut Transaction<'_>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Option<&rusqlite::Error>) + Send>;

pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    commits: Arc<AtomicU64>,
    grown: watch::Receiver<u64>,
}

impl Writer {
    pub(super) fn start(db: Connection) -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let commits = Arc::new(AtomicU64::new(0));
        let counter = commits.clone();
        let (told, grown) = watch::channel(entries(&db));
        let run = move || run(db, &waiting, &counter, &told);
        let thread = std::thread::Builder::new().name("store".into()).spawn(run)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), commits, grown })
    }

    /// How often it has committed.
    pub(super) fn commits(&self) -> &Arc<AtomicU64> {
        &self.commits
    }

    /// The number of the last entry of the journal that is committed.
    pub(super) fn grown(&self) -> watch::Receiver<u64> {
        self.grown.clone()
    }

    /// `answer` is called with the result after the commit, or dropped when there is no transaction to be had.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
        answer: impl FnOnce(Result<T, DbError>) + Send + 'static,
    ) {
        let job: Job = Box::new(move |transaction| {
            let result = under_savepoint(transaction, work);
            Box::new(move |lost| {
                answer(match lost {
                    None => result,
                    Some(error) => result.and(Err(not_committed(error))),
                });
            })
        });
        if let Some(jobs) = &self.jobs {
            // A dead thread drops the job, and with it the caller's channel: it reads `Closed`.
            drop(jobs.send(job));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn run(mut db: Connection, jobs: &Receiver<Job>, commits: &AtomicU64, told: &watch::Sender<u64>) {
    while let Ok(first) = jobs.recv() {
        let mut answers = Vec::new();
        let committed = commit_batch(&mut db, first, jobs, &mut answers);
        match &committed {
            Ok(()) => drop(commits.fetch_add(1, Ordering::Relaxed)),
            Err(error) => tracing::error!(%error, jobs = answers.len(), "the store cannot commit"),
        }
        for answer in answers {
            answer(committed.as_ref().err());
        }
        let last = entries(&db);
        told.send_if_modified(|known| std::mem::replace(known, last) != last);
    }
}

/// The number of the last entry of the journal. Who waits for one looks himself, too: an error tells nobody anything.
fn entries(db: &Connection) -> u64 {
    let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'journal'";
    db.prepare_cached(sql).and_then(|mut last| last.query_row([], |row| row.get(0))).unwrap_or(0)
}

fn commit_batch(
    db: &mut Connection,
    first: Job,
    jobs: &Receiver<Job>,
    answers: &mut Vec<Answer>,
) -> rusqlite::Result<()> {
    // The right to write comes first, and is waited for: a transaction that has read could not wait any more.
    let mut transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changes = transaction.total_changes();
    answers.push(first(&mut transaction));
    while answers.len() < BATCH {
        let Ok(job) = jobs.try_recv() else { break };
        answers.push(job(&mut transaction));
    }
    if changes < transaction.total_changes() && !transaction.is_autocommit() {
        age::count(&transaction)?;
    }
    transaction.commit()
}

/// A job that fails leaves no trace and does not disturb the others of its batch.
fn under_savepoint<T>(
    transaction: &mut Transaction<'_>,
    work: impl FnOnce(&Connection) -> Result<T, DbError>,
) -> Result<T, DbError> {
    // A full disk makes SQLite roll the whole batch back at once. A savepoint would then commit on its own.
    if transaction.is_autocommit() {
        return Err(not_committed("the transaction was rolled back"));
    }
    let savepoint = transaction.savepoint()?;
    // A panic ends the job, not the thread that all others need. The savepoint undoes what it wrote.
    let value = catch_unwind(AssertUnwindSafe(|| work(&savepoint)))
        .map_err(|_| LedgerError::Failed("a write panicked".to_owned()))??;
    savepoint.commit()?;
    Ok(value)
}

fn not_committed(why: impl std::fmt::Display) -> DbError {
    LedgerError::Failed(format!("not committed: {why}")).into()
}
