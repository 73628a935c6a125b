//! Pays a BIP 21 code by payjoin, v2 (BIP 77) or v1 (BIP 78), or says why the Original is to be broadcast.

mod log;
mod run_v1;
mod run_v2;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{FeeRate, Network, Psbt};
use payjoin::persist::InMemoryPersister;
use payjoin::send::{BuildSenderError, ResponseError, v1, v2};
use payjoin::uri::v2::PjParam as PjParamV2;
use payjoin::{PjParam, PjUri, Uri};
use payjoin_core::{Code, CodeError, LedgerError, SessionKey, SessionKind, Sessions, Step, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use self::log::Event;
use crate::{HttpClient, Ohttp, OhttpError};

/// What is to be paid.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The code, `bitcoin:…`.
    pub uri: String,
    /// The network its address must be of.
    pub network: Network,
    /// The Original: pays the code's address and amount, signed and finalized.
    pub original: Psbt,
    /// The payjoin may not pay less than this.
    pub min_fee_rate: FeeRate,
}

/// How a payment ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// The receiver's proposal, checked against BIP 78. Sign the inputs of the Original again and broadcast it.
    Payjoin(Box<Psbt>),
    /// Broadcast the Original.
    Original(Fallback),
}

/// Why the Original is to be broadcast. The texts are ours, never the receiver's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// The code does not ask for a payjoin.
    #[error("the receiver does not ask for a payjoin")]
    NotOffered,
    /// The code asks for a payjoin in a way that nobody could make.
    #[error("the receiver's offer of a payjoin cannot be used: {0}")]
    Unusable(String),
    /// The receiver sent an error of BIP 78.
    #[error("the receiver refused: {0}")]
    Refused(String),
    /// The receiver's proposal breaks the rules of BIP 78.
    #[error("the proposal is not acceptable: {0}")]
    Unacceptable(String),
    /// The receiver or the directory could not be reached.
    #[error("the receiver could not be reached: {0}")]
    Unreachable(String),
    /// The receiver did not answer in the time we wait.
    #[error("the receiver did not answer in time")]
    NoAnswer,
    /// The code has expired.
    #[error("the payment request has expired")]
    Expired,
    /// Given up by the operator.
    #[error("cancelled")]
    Cancelled,
}

/// Why a payment was not begun or cannot go on. Nothing is known of its outcome: the Original may be broadcast.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The code cannot be paid.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The Original does not fit the code.
    #[error("the Original cannot be offered: {0}")]
    Original(String),
    /// A payment of this name was begun before.
    #[error("{0} was begun before")]
    Known(String),
    /// There is no payment of this name.
    #[error("there is no payment {0}")]
    Unknown(String),
    /// The event log makes no sense.
    #[error("the log of the payment is damaged: {0}")]
    Damaged(String),
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] LedgerError),
}

/// How long to wait for what.
#[derive(Clone, Debug)]
pub struct SendSettings {
    /// For the answer to a v1 request; BIP 78 senders wait a minute or two.
    pub v1_timeout: Duration,
    /// For a v2 receiver, who may be offline. Past it the Original is to be broadcast.
    pub v2_patience: Duration,
}

impl Default for SendSettings {
    fn default() -> Self {
        Self { v1_timeout: Duration::from_secs(100), v2_patience: Duration::from_secs(24 * 60 * 60) }
    }
}

/// Sends payjoins. Each payment has a name and an event log, so that it goes on after a crash.
pub struct Sender {
    client: Arc<dyn HttpClient>,
    ohttp: Option<Arc<Ohttp>>,
    store: Arc<dyn Sessions>,
    settings: SendSettings,
    clock: fn() -> Timestamp,
    events: Option<broadcast::Sender<payjoin_core::Event>>,
}

impl Sender {
    /// Without `ohttp` only v1 receivers can be paid.
    #[must_use]
    pub fn new(
        client: Arc<dyn HttpClient>,
        ohttp: Option<Arc<Ohttp>>,
        store: Arc<dyn Sessions>,
        settings: SendSettings,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self { client, ohttp, store, settings, clock, events: None }
    }

    /// Tells the steps here; nobody is waited for.
    #[must_use]
    pub fn with_events(self, events: broadcast::Sender<payjoin_core::Event>) -> Self {
        Self { events: Some(events), ..self }
    }

    fn tell(&self, step: Step) {
        if let Some(events) = &self.events {
            // Nobody may be listening.
            let _ = events.send(payjoin_core::Event::new((self.clock)(), step));
        }
    }

    /// Begins a payment and takes it to its end: [`Sender::begin`], then [`Sender::resume`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, name: &str, payment: &Payment) -> Result<Sent, SendError> {
        self.begin(name, payment).await?;
        self.resume(name).await
    }

    /// Records a payment; nothing leaves yet.
    ///
    /// # Errors
    /// [`SendError::Code`], [`Original`](SendError::Original), [`Known`](SendError::Known) or
    /// [`Store`](SendError::Store).
    pub async fn begin(&self, name: &str, payment: &Payment) -> Result<(), SendError> {
        let key = key(name);
        if !self.store.events(&key).await?.is_empty() {
            return Err(SendError::Known(name.to_owned()));
        }
        let event = self.first_event(payment)?;
        self.record(&key, &event).await
    }

    /// Takes a payment to its end, from wherever it stands. A payment that has ended gives the same outcome again.
    ///
    /// # Errors
    /// [`SendError::Unknown`], [`Damaged`](SendError::Damaged) or [`Store`](SendError::Store).
    pub async fn resume(&self, name: &str) -> Result<Sent, SendError> {
        let key = key(name);
        let sent = match log::last(name, &self.store.events(&key).await?)? {
            Event::Ended(sent) => return Ok(sent),
            Event::V1 { sender, give_up } => self.run_v1(&sender, give_up).await,
            Event::V2 { sender, give_up } => match &self.ohttp {
                Some(ohttp) => self.post_v2(ohttp, &key, &sender, give_up).await?,
                None => no_relay(),
            },
            Event::Posted { sender, give_up } => match &self.ohttp {
                Some(ohttp) => self.poll_v2(ohttp, &sender, give_up).await,
                None => no_relay(),
            },
        };
        self.record(&key, &Event::Ended(sent.clone())).await?;
        Ok(sent)
    }

    /// Cancels a payment. Call it when no [`Sender::resume`] runs for it. A payment that has ended keeps its outcome.
    ///
    /// # Errors
    /// As for [`Sender::resume`].
    pub async fn cancel(&self, name: &str) -> Result<Sent, SendError> {
        let key = key(name);
        if let Event::Ended(sent) = log::last(name, &self.store.events(&key).await?)? {
            return Ok(sent);
        }
        let sent = Sent::Original(Fallback::Cancelled);
        self.record(&key, &Event::Ended(sent.clone())).await?;
        Ok(sent)
    }

    /// Names of payments that were begun and have not ended.
    ///
    /// # Errors
    /// [`SendError::Store`].
    pub async fn unfinished(&self) -> Result<Vec<String>, SendError> {
        Ok(self.store.open_sessions(SessionKind::Send).await?)
    }

    fn first_event(&self, payment: &Payment) -> Result<Event, SendError> {
        let code = Code::read(&payment.uri, payment.network)?;
        let uri = code.uri();
        if let Some(why) = code.unusable {
            return Ok(Event::Ended(Sent::Original(Fallback::Unusable(why))));
        }
        let uri = Uri::try_from(uri).map_err(|_| CodeError::Unreadable)?;
        let Ok(uri) = uri.assume_checked().check_pj_supported() else {
            return Ok(Event::Ended(Sent::Original(Fallback::NotOffered)));
        };
        let event = match uri.extras().pj_param() {
            PjParam::V2(param) => self.v2_event(payment, &uri, param),
            _ => self.v1_event(payment, uri),
        };
        event.map_err(|error| SendError::Original(error.to_string()))
    }

    fn v1_event(&self, payment: &Payment, uri: PjUri) -> Result<Event, BuildSenderError> {
        let sender =
            v1::SenderBuilder::new(payment.original.clone(), uri).build_recommended(payment.min_fee_rate)?;
        Ok(Event::V1 { sender: Box::new(sender), give_up: self.after(self.settings.v1_timeout) })
    }

    fn v2_event(&self, payment: &Payment, uri: &PjUri, param: &PjParamV2) -> Result<Event, BuildSenderError> {
        let (address, amount) = (uri.address(), uri.amount());
        let Ok(sender) = v2::SenderBuilder::from_parts(payment.original.clone(), param, address, amount)
            .build_recommended(payment.min_fee_rate)?
            .save(&InMemoryPersister::default());
        Ok(Event::V2 { sender: Box::new(sender), give_up: self.after(self.settings.v2_patience) })
    }

    fn after(&self, wait: Duration) -> Timestamp {
        (self.clock)().plus(wait.as_secs())
    }

    /// Time that is left; `None` when it is over.
    fn left(&self, until: Timestamp) -> Option<Duration> {
        until.0.checked_sub((self.clock)().0).filter(|left| *left > 0).map(Duration::from_secs)
    }

    async fn record(&self, key: &SessionKey, event: &Event) -> Result<(), SendError> {
        let text = serde_json::to_string(event).map_err(|error| SendError::Damaged(error.to_string()))?;
        match event {
            Event::Ended(_) => self.store.close(key, text).await?,
            _ => self.store.append(key, text).await?,
        }
        Ok(())
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn no_relay() -> Sent {
    Sent::Original(Fallback::Unreachable(OhttpError::NoRelay.to_string()))
}

fn key(name: &str) -> SessionKey {
    SessionKey { kind: SessionKind::Send, name: name.to_owned() }
}

/// What an answer of the receiver means that is no proposal.
fn refusal(error: &ResponseError) -> Fallback {
    match error {
        ResponseError::WellKnown(error) => Fallback::Refused(error.to_string()),
        ResponseError::Unrecognized { .. } => Fallback::Refused("an error unknown to BIP 78".into()),
        error => Fallback::Unacceptable(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
