//! A reply on its way to the payer's mailbox.

use bitcoin::Psbt;
use payjoin::OhttpResponse;
use payjoin::persist::{InMemoryPersister, SessionPersister};
use payjoin::receive::v2::{
    CreateRequestError, HasReplyableError, Initialized, PayjoinProposal, ReceiveSession, Receiver,
    SessionEvent, replay_event_log,
};
use serde_json::{Value, json};

use super::{ErrorCode, Message, Reply, SessionEnd, SessionError};

/// The crate keeps the mailbox's secret keys to itself and seals only what went through all of its states. Ours are
/// those of [`Exchange`](crate::Exchange); so it is shown a log in which the proposal has gone through them.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The log without its first event.
    log: Vec<SessionEvent>,
    letter: Letter,
}

#[derive(Debug)]
enum Letter {
    Proposal(Box<Receiver<PayjoinProposal>>),
    Refusal(Box<Receiver<HasReplyableError>>),
}

impl Outbox {
    /// `None` when there is nobody to send it to: the crate has no errors for v1 payers at a directory.
    pub(super) fn new(
        mailbox: &Receiver<Initialized>,
        message: &Message,
        reply: &Reply,
    ) -> Result<Option<Self>, SessionError> {
        let log = match reply {
            Reply::Proposal(proposal) => proposal_log(&message.event, proposal),
            Reply::Error { code, message: text, .. } if message.v2 => {
                refusal_log(&message.event, *code, text)
            }
            Reply::Error { .. } => return Ok(None),
        };
        let log = log.ok_or(SessionError::Log)?;
        let letter = replay(mailbox, &log)?;
        Ok(Some(Self { log, letter }))
    }

    /// The same reply from a mailbox with other keys of the directory.
    pub(super) fn again(&self, mailbox: &Receiver<Initialized>) -> Result<Self, SessionError> {
        Ok(Self { log: self.log.clone(), letter: replay(mailbox, &self.log)? })
    }

    pub(super) fn request(
        &self,
        relay: &str,
    ) -> Result<(payjoin::Request, OhttpResponse), CreateRequestError> {
        match &self.letter {
            Letter::Proposal(receiver) => receiver.create_post_request(relay),
            Letter::Refusal(receiver) => receiver.create_error_request(relay),
        }
    }

    pub(super) fn delivered(
        &self,
        answer: &[u8],
        context: OhttpResponse,
    ) -> Result<SessionEnd, SessionError> {
        let log = InMemoryPersister::default();
        let refused = |error: &dyn std::fmt::Display| SessionError::Answer(error.to_string());
        match &self.letter {
            Letter::Proposal(receiver) => {
                let sent = (**receiver).clone().process_response(answer, context).save(&log);
                sent.map(|_| SessionEnd::Answered).map_err(|error| refused(&error))
            }
            Letter::Refusal(receiver) => {
                let sent = (**receiver).clone().process_error_response(answer, context).save(&log);
                sent.map(|_| SessionEnd::Refused).map_err(|error| refused(&error))
            }
        }
    }
}

fn proposal_log(message: &SessionEvent, proposal: &str) -> Option<Vec<SessionEvent>> {
    let psbt: Psbt = proposal.parse().ok()?;
    let value = serde_json::to_value(message).ok()?;
    let original = value.pointer("/RetrievedOriginalPayload/original/psbt")?;
    let context = json!({ "original_psbt": original, "payjoin_psbt": serde_json::to_value(&psbt).ok()? });
    Some(vec![
        message.clone(),
        SessionEvent::CheckedBroadcastSuitability(),
        SessionEvent::CheckedInputsNotOwned(),
        SessionEvent::CheckedNoInputsSeenBefore(),
        SessionEvent::IdentifiedReceiverOutputs(vec![0]),
        SessionEvent::CommittedOutputs { outputs: psbt.unsigned_tx.output.clone(), change_vout: 0 },
        SessionEvent::CommittedInputs { receiver_inputs: Vec::new(), payjoin_psbt: psbt.clone() },
        event("AppliedFeeRange", context)?,
        SessionEvent::FinalizedProposal(psbt),
    ])
}

fn refusal_log(message: &SessionEvent, code: ErrorCode, text: &str) -> Option<Vec<SessionEvent>> {
    let code = match code {
        ErrorCode::Unavailable => "Unavailable",
        ErrorCode::NotEnoughMoney => "NotEnoughMoney",
        ErrorCode::VersionUnsupported => "VersionUnsupported",
        ErrorCode::OriginalPsbtRejected => "OriginalPsbtRejected",
    };
    let reply = json!({ "error_code": code, "message": text, "extra": {} });
    Some(vec![message.clone(), event("GotReplyableError", reply)?])
}

fn event(name: &str, content: Value) -> Option<SessionEvent> {
    serde_json::from_value(json!({ name: content })).ok()
}

fn replay(mailbox: &Receiver<Initialized>, log: &[SessionEvent]) -> Result<Letter, SessionError> {
    let created = || {
        let value = serde_json::to_value(mailbox).ok()?;
        event("Created", value.get("session_context")?.clone())
    };
    let events = InMemoryPersister::default();
    let Ok(()) = events.save_event(created().ok_or(SessionError::Log)?);
    for event in log {
        let Ok(()) = events.save_event(event.clone());
    }
    match replay_event_log(&events) {
        Ok((ReceiveSession::PayjoinProposal(receiver), _)) => Ok(Letter::Proposal(Box::new(receiver))),
        Ok((ReceiveSession::HasReplyableError(receiver), _)) => Ok(Letter::Refusal(Box::new(receiver))),
        Err(error) if error.is_expired() => Err(SessionError::Expired),
        _ => Err(SessionError::Log),
    }
}
