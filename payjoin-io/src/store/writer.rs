//! The thread that owns the writing connection, and its group commit.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rusqlite::{Connection, Transaction};

use super::StoreError;

/// Jobs in one transaction at most: bounds how long the first of them waits.
const BATCH: usize = 256;

/// Does its work under a savepoint and gives back the answer, to be sent once the fate of the batch is known.
type Job = Box<dyn FnOnce(&mut Transaction<'_>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Option<&rusqlite::Error>) + Send>;

pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    commits: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(db: Connection) -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let commits = Arc::new(AtomicU64::new(0));
        let counter = commits.clone();
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || run(db, &waiting, &counter))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), commits })
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// `answer` is called with the result after the commit, or dropped when there is no transaction to be had.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        answer: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        let job: Job = Box::new(move |transaction| {
            let result = under_savepoint(transaction, work);
            Box::new(move |lost| {
                answer(match lost {
                    None => result,
                    Some(error) => result.and(Err(StoreError::Commit(error.to_string()))),
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

fn run(mut db: Connection, jobs: &Receiver<Job>, commits: &AtomicU64) {
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
    }
}

fn commit_batch(
    db: &mut Connection,
    first: Job,
    jobs: &Receiver<Job>,
    answers: &mut Vec<Answer>,
) -> rusqlite::Result<()> {
    let mut transaction = db.transaction()?;
    answers.push(first(&mut transaction));
    while answers.len() < BATCH {
        let Ok(job) = jobs.try_recv() else { break };
        answers.push(job(&mut transaction));
    }
    transaction.commit()
}

/// A job that fails leaves no trace and does not disturb the others of its batch.
fn under_savepoint<T>(
    transaction: &mut Transaction<'_>,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // A full disk makes SQLite roll the whole batch back at once. A savepoint would then commit on its own.
    if transaction.is_autocommit() {
        return Err(StoreError::Commit("the transaction was rolled back".into()));
    }
    let savepoint = transaction.savepoint()?;
    let value = work(&savepoint)?;
    savepoint.commit()?;
    Ok(value)
}
