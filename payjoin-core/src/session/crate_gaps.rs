//! What the `payjoin` crate does that a machine without a clock must not do, and what it has no call for. All of it is
//! here.
//!
//! **The clock.** `ReceiverBuilder::build`, each `create_*_request` and `replay_event_log` read the system's clock, and
//! panic when it is before November 1985. A code's expiration is therefore written over by one that the caller's time
//! gives, and the mailbox that makes requests never expires for the crate: whatever the clock says, nothing depends on
//! it. When a session expires is decided in [`Session::handle_input`](super::Session::handle_input).
//!
//! **Other keys.** There is no call that gives a mailbox new keys of its directory.
//!
//! These are edits of the form in which the crate keeps sessions, and reads them back.

use bitcoin::{Address, Amount};
use bitcoin_ohttp::ClientResponse;
use payjoin::persist::{InMemoryPersister, SessionPersister};
use payjoin::receive::v2::{
    HasReplyableError, Initialized, PayjoinProposal, ReceiveSession, Receiver, ReceiverBuilder, SessionEvent,
    replay_event_log,
};
use payjoin::{OhttpKeys, OhttpResponse};
use serde_json::{Value, json};

use super::{AnswerKey, SessionError};
use crate::Timestamp;

/// A request for a relay, and what opens the answer.
pub(super) type Sealed = Result<(payjoin::Request, AnswerKey), SessionError>;

/// What opens an answer: the crate's key to what the crate sealed, or ours.
pub(super) enum Key {
    Crate(OhttpResponse),
    Ours(ClientResponse),
}

fn sealed<E: std::error::Error>(made: Result<(payjoin::Request, OhttpResponse), E>) -> Sealed {
    let (request, key) = made.map_err(|error| SessionError::Message(error.to_string()))?;
    Ok((request, AnswerKey(Key::Crate(key))))
}

/// A mailbox whose code expires at this moment. `None` when the directory's address cannot be used.
pub(super) fn open(
    address: Address,
    amount: Option<Amount>,
    directory: &str,
    keys: OhttpKeys,
    expires: Timestamp,
) -> Option<Receiver<Initialized>> {
    let mut builder = ReceiverBuilder::new(address, directory, keys).ok()?;
    if let Some(amount) = amount {
        builder = builder.with_amount(amount);
    }
    let Ok(mailbox) = builder.build().save(&InMemoryPersister::default());
    edit(&mailbox, "/session_context/expiration", json!(u32::try_from(expires.0).unwrap_or(u32::MAX)))
}

/// The mailbox with other keys of its directory.
pub(super) fn with_keys(mailbox: &Receiver<Initialized>, keys: &OhttpKeys) -> Option<Receiver<Initialized>> {
    edit(mailbox, "/session_context/ohttp_keys", serde_json::to_value(keys).ok()?)
}

/// The mailbox for requests: it does not expire.
pub(super) fn timeless(mailbox: &Receiver<Initialized>) -> Option<Timeless> {
    edit(mailbox, "/session_context/expiration", json!(u32::MAX)).map(Timeless)
}

fn edit(mailbox: &Receiver<Initialized>, at: &str, to: Value) -> Option<Receiver<Initialized>> {
    let mut value = serde_json::to_value(mailbox).ok()?;
    *value.pointer_mut(at)? = to;
    serde_json::from_value(value).ok()
}

/// A mailbox that does not expire.
#[derive(Debug)]
pub(super) struct Timeless(Receiver<Initialized>);

impl Timeless {
    /// Asks for a message.
    pub(super) fn poll(&self, relay: &str) -> Sealed {
        sealed(self.0.create_poll_request(relay))
    }

    /// Its address at the directory.
    pub(super) fn endpoint(&self) -> String {
        let endpoint = self.0.pj_uri().extras().endpoint();
        endpoint.split('#').next().unwrap_or_default().to_owned()
    }

    /// The mailbox, to open an answer.
    pub(super) fn mailbox(&self) -> Receiver<Initialized> {
        self.0.clone()
    }

    /// The reply at the end of this log, which lacks the first event.
    pub(super) fn replay(&self, log: &[SessionEvent]) -> Option<Letter> {
        let events = InMemoryPersister::default();
        let context = serde_json::to_value(&self.0).ok()?.get("session_context")?.clone();
        let Ok(()) = events.save_event(event("Created", context)?);
        for event in log {
            let Ok(()) = events.save_event(event.clone());
        }
        match replay_event_log(&events).ok()? {
            (ReceiveSession::PayjoinProposal(receiver), _) => Some(Letter::Proposal(Box::new(receiver))),
            (ReceiveSession::HasReplyableError(receiver), _) => Some(Letter::Refusal(Box::new(receiver))),
            _ => None,
        }
    }
}

/// A reply that the crate can seal.
#[derive(Debug)]
pub(super) enum Letter {
    Proposal(Box<Receiver<PayjoinProposal>>),
    Refusal(Box<Receiver<HasReplyableError>>),
}

impl Letter {
    pub(super) fn post(&self, relay: &str) -> Sealed {
        match self {
            Self::Proposal(receiver) => sealed(receiver.create_post_request(relay)),
            Self::Refusal(receiver) => sealed(receiver.create_error_request(relay)),
        }
    }
}

/// An entry of the crate's log in the form in which it keeps it.
pub(super) fn event(name: &str, content: Value) -> Option<SessionEvent> {
    serde_json::from_value(json!({ name: content })).ok()
}
