//! Receives through BIP 77 directories: every session of the process, in one set of tasks.
//!
//! Each session keeps a long poll open at its directory, so that a payer's message is here as soon as the directory has
//! it, whatever the number of sessions. That costs a connection for each, and a file descriptor.

mod conversation;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::key::rand::{Rng, thread_rng};
use bitcoin::{Address, Network};
use payjoin_core::{
    Invoice, InvoiceId, LedgerError, Session, SessionEnd, SessionError, SessionEvent, SessionKey,
    SessionKind, SessionOutput, SessionTerms, Timestamp,
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use self::conversation::Conversation;
use crate::{Host, Ohttp, OhttpError};

/// Resumed sessions begin to poll at this rate at most, each second.
const RESUMED_EACH_SECOND: u64 = 500;

/// Why a session was not opened or shown.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// No directory answers.
    #[error(transparent)]
    Directory(#[from] OhttpError),
    /// The session cannot be made, or its log is damaged.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The invoice's script has no address on this network.
    #[error("the invoice has no address")]
    Address,
    /// The invoice has a session already.
    #[error("{0} has a session already")]
    Known(InvoiceId),
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] LedgerError),
}

/// Choices of the operator.
#[derive(Clone, Debug)]
pub struct PollSettings {
    /// Directories, `https://directory.example`. A new session takes one at random among those that answer.
    pub directories: Vec<String>,
    /// Seconds until a new session expires; never longer than its invoice. Default 24 h.
    pub lifetime: u64,
    /// Exchanges that run at once; further payers wait. Default 16.
    pub exchanges: usize,
}

impl Default for PollSettings {
    fn default() -> Self {
        Self { directories: Vec::new(), lifetime: 24 * 60 * 60, exchanges: 16 }
    }
}

/// A session as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The invoice it is for.
    pub invoice: InvoiceId,
    /// The code to pay.
    pub uri: String,
    /// The directory that has the mailbox.
    pub directory: String,
    /// When it expires.
    pub expires: Timestamp,
    /// A payer's message is here.
    pub received: bool,
    /// How it ended.
    pub end: Option<SessionEnd>,
}

/// All sessions of a process. Clones share them.
#[derive(Clone)]
pub struct Poller {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    ohttp: Arc<Ohttp>,
    settings: PollSettings,
    exchanges: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    /// Wakes a running session to be cancelled.
    running: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Poller {
    /// Polls nothing yet: see [`Poller::resume`] and [`Poller::open`].
    #[must_use]
    pub fn new(host: Host, ohttp: Arc<Ohttp>, settings: PollSettings) -> Self {
        let exchanges = Arc::new(Semaphore::new(settings.exchanges));
        let (stop, _) = watch::channel(false);
        let (tasks, running) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { host, ohttp, settings, exchanges, stop, tasks, running }) }
    }

    /// Opens a session for an invoice of the store and gives its BIP 21 code. The session is durable before it does.
    ///
    /// # Errors
    /// See [`PollError`].
    pub async fn open(&self, invoice: &Invoice, network: Network) -> Result<String, PollError> {
        let Inner { host, ohttp, settings, .. } = &*self.inner;
        let key = key(&invoice.id);
        if !host.store.events(&key).await?.is_empty() {
            return Err(PollError::Known(invoice.id.clone()));
        }
        let address = Address::from_script(&invoice.script, network).map_err(|_| PollError::Address)?;
        let (directory, keys) = ohttp.directory(&settings.directories).await?;
        let now = host.now();
        let lifetime = settings.lifetime.min(invoice.expires.0.saturating_sub(now.0));
        let terms = SessionTerms { address, amount: invoice.amount, directory, keys, lifetime };
        let session = Session::create(now, terms)?;
        let uri = session.bip21();
        let mut conversation = Conversation::new(self.inner.clone(), key, session);
        conversation.record().await?;
        self.spawn(conversation, Duration::ZERO);
        Ok(uri)
    }

    /// Resumes every open session of the store and returns how many there are. Call it once, at start. A session whose log
    /// is damaged is logged and left alone.
    ///
    /// # Errors
    /// [`PollError::Store`].
    pub async fn resume(&self) -> Result<usize, PollError> {
        let names = self.inner.host.store.open_sessions(SessionKind::Receive).await?;
        let spread = names.len() as u64 * 1000 / RESUMED_EACH_SECOND;
        let mut resumed = 0;
        for name in names {
            let key = SessionKey { kind: SessionKind::Receive, name };
            match self.load(&key).await {
                Ok(Some(session)) => {
                    let delay = Duration::from_millis(thread_rng().gen_range(0..=spread));
                    self.spawn(Conversation::new(self.inner.clone(), key, session), delay);
                    resumed += 1;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, session = key.name, "a session is not resumed"),
            }
        }
        Ok(resumed)
    }

    /// Cancels a running session. An exchange that runs comes to its end, but its reply is not sent any more; what it
    /// released or admitted is the settler's. `false` when no such session runs.
    #[must_use]
    pub fn cancel(&self, invoice: &InvoiceId) -> bool {
        let running = self.inner.running();
        running.get(&invoice.0).inspect(|cancel| cancel.notify_one()).is_some()
    }

    /// The session of an invoice, running or ended.
    ///
    /// # Errors
    /// [`PollError::Store`] or [`PollError::Session`].
    pub async fn session(&self, invoice: &InvoiceId) -> Result<Option<SessionInfo>, PollError> {
        let Some(session) = self.load(&key(invoice)).await? else { return Ok(None) };
        let output = session.poll_output();
        Ok(Some(SessionInfo {
            invoice: invoice.clone(),
            uri: session.bip21(),
            directory: session.directory().to_owned(),
            expires: session.expires(),
            received: matches!(output, SessionOutput::Exchange(_)),
            end: if let SessionOutput::Ended(end) = output { Some(end) } else { None },
        }))
    }

    /// Invoices with an open session, oldest first.
    ///
    /// # Errors
    /// [`PollError::Store`].
    pub async fn open_sessions(&self) -> Result<Vec<InvoiceId>, PollError> {
        let names = self.inner.host.store.open_sessions(SessionKind::Receive).await?;
        Ok(names.into_iter().map(InvoiceId).collect())
    }

    /// Stops polling and waits for exchanges that run. Sessions stay open in the store. A payer whose exchange has not
    /// begun is served after the next start.
    pub async fn stop(&self) {
        self.inner.stop.send_replace(true);
        self.inner.exchanges.close();
        let mut tasks = std::mem::take(&mut *self.inner.tasks());
        while tasks.join_next().await.is_some() {}
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Session>, PollError> {
        let texts = self.inner.host.store.events(key).await?;
        if texts.is_empty() {
            return Ok(None);
        }
        // The parser's text could show a secret key.
        let events: Result<Vec<SessionEvent>, _> =
            texts.iter().map(|text| serde_json::from_str(text).map_err(|_| SessionError::Log)).collect();
        Ok(Some(Session::resume(events?)?))
    }

    fn spawn(&self, conversation: Conversation, delay: Duration) {
        let mut tasks = self.inner.tasks();
        while tasks.try_join_next().is_some() {}
        let (cancel, stopped) = (Arc::<Notify>::default(), self.inner.stop.subscribe());
        self.inner.running().insert(conversation.name().to_owned(), cancel.clone());
        tasks.spawn(conversation.run(delay, cancel, stopped));
    }
}

impl Inner {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("running", &self.inner.running().len()).finish_non_exhaustive()
    }
}

fn key(invoice: &InvoiceId) -> SessionKey {
    SessionKey { kind: SessionKind::Receive, name: invoice.0.clone() }
}

#[cfg(feature = "sender")]
#[cfg(test)]
mod tests;
