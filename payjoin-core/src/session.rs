//! A BIP 77 mailbox conversation around one [`Exchange`](crate::Exchange).

mod crate_gaps;
mod message;
mod outbox;
mod refusal;

use bitcoin::{Address, Amount, Transaction};
use payjoin::OhttpKeys;
use payjoin::persist::{InMemoryPersister, OptionalTransitionOutcome, SessionPersister};
use payjoin::receive::ProtocolError;
use payjoin::receive::v2::{self, Initialized, Receiver};
use serde::{Deserialize, Serialize};

use self::crate_gaps::{Key, Timeless};
use self::message::Message;
use self::outbox::Outbox;
use crate::{ErrorCode, Reply, Request, Timestamp};

/// Longest life of a session; a code has room for 32 bits of time.
const LONGEST: u64 = 366 * 24 * 60 * 60;
/// A v1 payer waits 30 s at the directory, from before his message reaches us.
const V1_PATIENCE: u64 = 60;

/// What a session is for.
#[derive(Clone, Debug)]
pub struct SessionTerms {
    /// The address of the code.
    pub address: Address,
    /// The amount of the code.
    pub amount: Option<Amount>,
    /// The directory, `https://directory.example`.
    pub directory: String,
    /// The directory's OHTTP keys.
    pub keys: OhttpKeys,
    /// Seconds until it expires; a year at most.
    pub lifetime: u64,
}

/// An entry of a session's log. It holds the session's secret key.
///
/// There is none for what happens between a message and the reply: the exchange keeps that, and released proposals,
/// in the store. After a crash in between, the exchange begins again and recalls what it released (money rule 8).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEvent {
    /// It was made.
    Created {
        /// The mailbox, with its secret key.
        mailbox: Box<Receiver<Initialized>>,
        /// The directory that has it.
        directory: String,
        /// The directory's keys.
        keys: OhttpKeys,
        /// When it expires.
        expires: Timestamp,
    },
    /// The directory changed its keys.
    Keys(OhttpKeys),
    /// A payer's message came.
    Received {
        /// The message as the `payjoin` crate keeps it.
        message: Box<v2::SessionEvent>,
        /// When it came.
        at: Timestamp,
    },
    /// The end.
    Ended(SessionEnd),
}

/// How a session ended. What becomes of the payment is up to [`Settlement`](crate::Settlement).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The directory has the proposal.
    Answered,
    /// The payer was refused.
    Refused,
    /// The message is no Original: there is nobody to answer.
    Unreadable,
    /// Its time is over.
    Expired,
    /// The operator gave it up.
    Cancelled,
}

/// What opens the directory's answer to one request.
pub struct AnswerKey(Key);

/// An input to a [`Session`].
pub enum SessionInput {
    /// What the last output asked for is done.
    Done,
    /// The directory's answer to a request of [`Session::encapsulate`], with what opens it.
    Answer(Vec<u8>, AnswerKey),
    /// What the exchange replies.
    Reply(Reply),
    /// The directory has new keys.
    Keys(OhttpKeys),
    /// The operator gives it up.
    Cancel,
    /// Time passed.
    Tick,
}

/// What a [`Session`] wants done next. It stays the same until an input changes it.
#[derive(Clone, Debug)]
pub enum SessionOutput {
    /// Make this durable, then bring [`SessionInput::Done`].
    Record(SessionEvent),
    /// Send what [`Session::encapsulate`] makes, and bring the [`SessionInput::Answer`]. The directory may take half a
    /// minute.
    Poll,
    /// Run an exchange with this request and bring its [`SessionInput::Reply`].
    Exchange(Request),
    /// As [`SessionOutput::Poll`], with the reply.
    Post,
    /// The session ends with an Original that got no reply. Broadcast it, unless a proposal was released for it: then
    /// it is the settlement's. Bring [`SessionInput::Done`].
    Fallback(Request, Transaction),
    /// The end. Nothing follows.
    Ended(SessionEnd),
}

/// Why an input had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The directory's address cannot be used.
    #[error("{0} is not the address of a directory")]
    Directory(String),
    /// The log makes no sense.
    #[error("the log of the session is damaged")]
    Log,
    /// The answer cannot be opened. A relay can cause this at will; ask again later.
    #[error("the directory's answer cannot be used: {0}")]
    Answer(String),
    /// The input does not fit the outstanding output.
    #[error("the input does not fit the outstanding output")]
    Unexpected,
    /// The message cannot be encapsulated.
    #[error("no request can be made: {0}")]
    Message(String),
}

/// The receiver's side of a mailbox.
#[derive(Debug)]
pub struct Session {
    mailbox: Receiver<Initialized>,
    /// The mailbox as it makes requests.
    timeless: Timeless,
    directory: String,
    keys: OhttpKeys,
    expires: Timestamp,
    /// To be made durable before anything else.
    record: Option<SessionEvent>,
    /// An Original without reply.
    fallback: Option<Box<Message>>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Answering(Box<Message>),
    Replying(Box<Outbox>, Timestamp),
    Ended(SessionEnd),
}

impl Session {
    /// Makes a mailbox. Its first output is its first event.
    ///
    /// # Errors
    /// [`SessionError::Directory`].
    pub fn create(now: Timestamp, terms: SessionTerms) -> Result<Self, SessionError> {
        let SessionTerms { address, amount, directory, keys, lifetime } = terms;
        let expires = now.plus(lifetime.min(LONGEST));
        let mailbox = crate_gaps::open(address, amount, &directory, keys.clone(), expires);
        let mailbox = Box::new(mailbox.ok_or_else(|| SessionError::Directory(directory.clone()))?);
        let created = SessionEvent::Created { mailbox, directory, keys, expires };
        let mut session = Self::resume([created.clone()])?;
        session.record = Some(created);
        Ok(session)
    }

    /// Resumes a session from its log.
    ///
    /// # Errors
    /// [`SessionError::Log`].
    pub fn resume(events: impl IntoIterator<Item = SessionEvent>) -> Result<Self, SessionError> {
        let mut events = events.into_iter();
        let Some(SessionEvent::Created { mailbox, directory, keys, expires }) = events.next() else {
            return Err(SessionError::Log);
        };
        let timeless = crate_gaps::timeless(&mailbox).ok_or(SessionError::Log)?;
        let (mailbox, record, fallback, phase) = (*mailbox, None, None, Phase::Waiting);
        let mut session = Self { mailbox, timeless, directory, keys, expires, record, fallback, phase };
        for event in events {
            match event {
                SessionEvent::Created { .. } => return Err(SessionError::Log),
                SessionEvent::Keys(keys) => session.rekey(keys)?,
                SessionEvent::Received { message, at } => {
                    session.phase = Phase::Answering(Box::new(Message::new(*message, at)?));
                }
                SessionEvent::Ended(end) => session.phase = Phase::Ended(end),
            }
        }
        Ok(session)
    }

    /// The BIP 21 code that leads to the mailbox.
    #[must_use]
    pub fn bip21(&self) -> String {
        self.mailbox.pj_uri().to_string()
    }

    /// The directory that has the mailbox.
    #[must_use]
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The directory's keys, as far as the session knows.
    #[must_use]
    pub fn keys(&self) -> &OhttpKeys {
        &self.keys
    }

    /// When it expires.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// From when on nobody reads a reply.
    #[must_use]
    pub fn reply_by(&self) -> Timestamp {
        match &self.phase {
            Phase::Answering(message) if !message.v2 => message.at.plus(V1_PATIENCE).min(self.expires),
            Phase::Replying(_, until) => *until,
            _ => self.expires,
        }
    }

    /// What is to be done.
    #[must_use]
    pub fn poll_output(&self) -> SessionOutput {
        if let Some(message) = &self.fallback {
            return SessionOutput::Fallback(message.request.clone(), message.original.clone());
        }
        if let Some(event) = &self.record {
            return SessionOutput::Record(event.clone());
        }
        match &self.phase {
            Phase::Waiting => SessionOutput::Poll,
            Phase::Answering(message) => SessionOutput::Exchange(message.request.clone()),
            Phase::Replying(..) => SessionOutput::Post,
            Phase::Ended(end) => SessionOutput::Ended(*end),
        }
    }

    /// The request for [`SessionOutput::Poll`] or [`SessionOutput::Post`], for a relay. Call it for every attempt: no
    /// two requests share a ciphertext.
    ///
    /// # Errors
    /// [`SessionError::Message`], or [`SessionError::Unexpected`] when nothing is to be sent.
    pub fn encapsulate(&self, relay: &str) -> Result<(payjoin::Request, AnswerKey), SessionError> {
        match &self.phase {
            Phase::Waiting => self.timeless.poll(relay),
            Phase::Replying(outbox, _) => outbox.request(&self.timeless, &self.keys, relay),
            Phase::Answering(_) | Phase::Ended(_) => Err(SessionError::Unexpected),
        }
    }

    /// Handles an input.
    ///
    /// # Errors
    /// [`SessionError::Answer`], [`SessionError::Unexpected`] or [`SessionError::Log`]; the session stays as it is.
    pub fn handle_input(&mut self, now: Timestamp, input: SessionInput) -> Result<(), SessionError> {
        match (input, &self.phase) {
            (SessionInput::Done, _) => {
                if self.fallback.take().is_none() && self.record.take().is_none() {
                    return Err(SessionError::Unexpected);
                }
            }
            (_, Phase::Ended(_)) => {}
            (SessionInput::Cancel, _) => self.end(SessionEnd::Cancelled),
            (_, _) if now >= self.expires => self.end(SessionEnd::Expired),
            (_, Phase::Replying(_, until)) if now >= *until => self.end(SessionEnd::Expired),
            (SessionInput::Tick, _) => {}
            (SessionInput::Keys(keys), _) => {
                self.rekey(keys.clone())?;
                self.record = Some(SessionEvent::Keys(keys));
            }
            (SessionInput::Answer(body, key), Phase::Waiting) => self.polled(now, &body, key)?,
            (SessionInput::Answer(body, key), Phase::Replying(outbox, _)) => {
                let end = outbox.delivered(&body, key)?;
                self.end(end);
            }
            (SessionInput::Reply(reply), Phase::Answering(message)) => {
                let until = self.reply_by();
                let outbox = Outbox::new(&self.timeless, message, &reply)?;
                self.phase = Phase::Replying(Box::new(outbox), until);
            }
            _ => return Err(SessionError::Unexpected),
        }
        Ok(())
    }

    fn polled(&mut self, now: Timestamp, body: &[u8], key: AnswerKey) -> Result<(), SessionError> {
        let Key::Crate(key) = key.0 else { return Err(SessionError::Unexpected) };
        let log = InMemoryPersister::default();
        let error = match self.timeless.mailbox().process_response(body, key).save(&log) {
            Ok(OptionalTransitionOutcome::Stasis(_)) => return Ok(()),
            Ok(OptionalTransitionOutcome::Progress(_)) => {
                let Ok(mut events) = log.load();
                let event = events.next().ok_or(SessionError::Log)?;
                let message = Message::new(event.clone(), now)?;
                self.record = Some(SessionEvent::Received { message: Box::new(event), at: now });
                self.phase = Phase::Answering(Box::new(message));
                return Ok(());
            }
            Err(error) => error,
        };
        match error.api_error_ref() {
            // It was opened: the message itself is bad, and no other one will ever be in this mailbox.
            Some(ProtocolError::OriginalPayload(_)) => self.end(SessionEnd::Unreadable),
            _ => return Err(SessionError::Answer(error.to_string())),
        }
        Ok(())
    }

    fn rekey(&mut self, keys: OhttpKeys) -> Result<(), SessionError> {
        let mailbox = crate_gaps::with_keys(&self.mailbox, &keys).ok_or(SessionError::Log)?;
        let timeless = crate_gaps::timeless(&mailbox).ok_or(SessionError::Log)?;
        if let Phase::Replying(outbox, _) = &mut self.phase {
            **outbox = outbox.again(&timeless)?;
        }
        (self.mailbox, self.timeless) = (mailbox, timeless);
        self.keys = keys;
        Ok(())
    }

    /// A payer who was refused pays by himself. One who waits in vain may be gone: the Original is sent for him.
    fn end(&mut self, end: SessionEnd) {
        let before = std::mem::replace(&mut self.phase, Phase::Ended(end));
        if let (Phase::Answering(message), SessionEnd::Expired | SessionEnd::Cancelled) = (before, end) {
            self.fallback = Some(message);
        }
        self.record = Some(SessionEvent::Ended(end));
    }
}
