//! The loop around one [`Session`].

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Transaction;
use payjoin_core::{
    Broadcast, ErrorCode, Exchange, Invoice, InvoiceId, LedgerError, Reply, Request, Session, SessionError,
    SessionEvent, SessionInput, SessionKey, SessionOutput,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::Inner;
use crate::backoff::Backoff;
use crate::{HostError, OhttpError, drive_for};

/// A directory holds a poll for about 30 s.
const POLL: Duration = Duration::from_secs(60);
/// An empty answer that comes sooner is from a directory that holds no polls: ask it less and less often.
const HELD: Duration = Duration::from_secs(1);
/// Exchanges begun for one message while the answer is `unavailable`: our node may be starting.
const ATTEMPTS: u32 = 4;

/// One session and what drives it. Small, since there may be thousands: an exchange runs in a task of its own.
pub(super) struct Conversation {
    poller: Arc<Inner>,
    key: SessionKey,
    session: Session,
    backoff: Backoff,
    attempts: u32,
}

impl Conversation {
    pub(super) fn new(poller: Arc<Inner>, key: SessionKey, session: Session) -> Self {
        Self { poller, key, session, backoff: Backoff::default(), attempts: 0 }
    }

    pub(super) fn name(&self) -> &str {
        &self.key.name
    }

    /// Runs until the end of the session, or until the poller stops.
    pub(super) async fn run(
        mut self,
        delay: Duration,
        cancel: Arc<Notify>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut pause = delay;
        loop {
            // Only what can be begun again is cut: a pause or a request.
            let given_up = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                () = cancel.notified() => true,
                () = sleep(pause) => false,
            };
            // It may have expired meanwhile, or while no process ran.
            self.give(if given_up { SessionInput::Cancel } else { SessionInput::Tick });
            pause = match self.session.poll_output() {
                SessionOutput::Ended(end) => {
                    tracing::info!(session = self.key.name, ?end, "session ended");
                    break;
                }
                SessionOutput::Poll | SessionOutput::Post => tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => break,
                    () = cancel.notified() => {
                        self.give(SessionInput::Cancel);
                        Duration::ZERO
                    }
                    pause = self.travel() => pause,
                },
                output => self.act(output).await,
            };
        }
        self.poller.running().remove(&self.key.name);
    }

    /// Makes the outstanding event durable.
    pub(super) async fn record(&mut self) -> Result<(), LedgerError> {
        let SessionOutput::Record(event) = self.session.poll_output() else { return Ok(()) };
        let text =
            serde_json::to_string(&event).map_err(|_| LedgerError::Failed("an event has no form".into()))?;
        let store = &self.poller.host.store;
        match event {
            SessionEvent::Ended(_) => store.close(&self.key, text).await?,
            _ => store.append(&self.key, text).await?,
        }
        self.give(SessionInput::Done);
        Ok(())
    }

    /// Everything but requests. Gives the pause before the next step.
    async fn act(&mut self, output: SessionOutput) -> Duration {
        let result = match output {
            SessionOutput::Exchange(request) => self.exchange(request).await,
            SessionOutput::Fallback(request, original) => self.fall_back(request, original).await,
            _ => self.record().await.map_err(HostError::from),
        };
        match result {
            Ok(()) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(%error, session = self.key.name, "a session has to wait");
                self.give(SessionInput::Tick);
                self.backoff.pause()
            }
        }
    }

    /// One request and its answer. Gives the pause before the next.
    async fn travel(&mut self) -> Duration {
        let begun = Instant::now();
        let session = &self.session;
        match self.poller.ohttp.send(POLL, |relay| session.encapsulate(relay)).await {
            Ok((answer, context)) => {
                let moved = self.session.handle_input(self.now(), SessionInput::Answer(answer, context));
                let waits = matches!(self.session.poll_output(), SessionOutput::Poll);
                if moved.is_ok() && !(waits && begun.elapsed() < HELD) {
                    self.backoff = Backoff::default();
                    return Duration::ZERO;
                }
                if let Err(error) = moved {
                    tracing::warn!(%error, session = self.key.name, "an answer of the directory is of no use");
                }
            }
            Err(OhttpError::KeyRejected) => self.renew_keys().await,
            Err(error) => tracing::debug!(%error, session = self.key.name, "the directory was not reached"),
        }
        self.give(SessionInput::Tick);
        self.backoff.pause()
    }

    async fn renew_keys(&mut self) {
        let stale = self.session.keys().clone();
        match self.poller.ohttp.keys_after(self.session.directory(), &stale).await {
            Ok(keys) if keys != stale => {
                // The code carries the old one.
                tracing::warn!(session = self.key.name, "the directory has a new OHTTP key: show a new code");
                self.give(SessionInput::Keys(keys));
            }
            Ok(_) => tracing::warn!(session = self.key.name, "the directory rejects the key that it offers"),
            Err(error) => tracing::warn!(%error, session = self.key.name, "no new key of the directory"),
        }
    }

    /// Runs in a task of its own: it goes on when the session is dropped, and its panic stays in it.
    async fn exchange(&mut self, request: Request) -> Result<(), HostError> {
        let invoice = self.invoice().await?;
        let permit = self.poller.exchanges.clone().acquire_owned().await;
        let permit = permit.map_err(|_| HostError("no exchange begins any more: the poller stops".into()))?;
        let host = self.poller.host.clone();
        let claim = host.claim(&invoice.id).ok_or_else(|| HostError("another payer is served".into()))?;
        let reply_by = self.session.reply_by();
        let running = tokio::spawn(async move {
            let _held = (permit, claim);
            let mut exchange = Exchange::new(host.now(), invoice, request, host.policy());
            drive_for(&host, &mut exchange, &reply_by).await
        });
        let reply = running.await.map_err(|_| HostError("an exchange panicked".into()))?;
        self.attempts += 1;
        if matches!(&reply, Reply::Error { code: ErrorCode::Unavailable, .. }) && self.attempts < ATTEMPTS {
            return Err(HostError("no payjoin is possible now".into()));
        }
        self.session
            .handle_input(self.now(), SessionInput::Reply(reply))
            .map_err(|error| HostError(error.to_string()))
    }

    async fn fall_back(&mut self, request: Request, original: Transaction) -> Result<(), HostError> {
        let host = &self.poller.host;
        let exchange = Exchange::new(host.now(), self.invoice().await?, request, host.policy());
        if host.store.recall(exchange.original_id()).await?.is_none()
            && let Broadcast::Refused(reason) = host.chain.broadcast(&original).await?
        {
            let txid = original.compute_txid();
            tracing::warn!(?reason, %txid, session = self.key.name, "an Original cannot be broadcast");
        }
        self.give(SessionInput::Done);
        Ok(())
    }

    async fn invoice(&self) -> Result<Invoice, HostError> {
        let id = InvoiceId(self.key.name.clone());
        let invoice = self.poller.host.store.invoice(&id).await?;
        invoice.ok_or_else(|| HostError(format!("no invoice {id}")))
    }

    fn now(&self) -> payjoin_core::Timestamp {
        self.poller.host.now()
    }

    /// For inputs that fit at any time.
    fn give(&mut self, input: SessionInput) {
        if let Err(error) = self.session.handle_input(self.now(), input) {
            tracing::error!(%error, session = self.key.name, "a session did not take an input");
        }
    }
}

impl From<SessionError> for OhttpError {
    fn from(error: SessionError) -> Self {
        Self::Message(error.to_string())
    }
}
