//! A reply on its way to the payer's mailbox.

use bitcoin::Psbt;
use payjoin::OhttpKeys;
use payjoin::persist::InMemoryPersister;
use payjoin::receive::v2::SessionEvent;
use serde_json::json;

use super::crate_gaps::{Key, Letter, Sealed, Timeless, event};
use super::refusal::{self, Refusal};
use super::{AnswerKey, ErrorCode, Message, Reply, SessionEnd, SessionError};

/// A reply that can be sealed as often as it is sent.
#[derive(Debug)]
pub(super) enum Outbox {
    /// The crate keeps the mailbox's secret keys to itself and seals only what went through all of its states. Ours are
    /// those of [`Exchange`](crate::Exchange); so it is shown a log, without the first event, in which the reply has gone
    /// through them.
    Letter(Vec<SessionEvent>, Letter),
    /// For a v1 payer.
    Refusal(Refusal),
}

impl Outbox {
    pub(super) fn new(mailbox: &Timeless, message: &Message, reply: &Reply) -> Result<Self, SessionError> {
        let log = match reply {
            Reply::Proposal(proposal) => proposal_log(&message.event, proposal),
            Reply::Error { code, message: text, .. } if message.v2 => {
                refusal_log(&message.event, *code, text)
            }
            Reply::Error { .. } => return Ok(Self::Refusal(Refusal(reply.body()))),
        };
        Self::replayed(mailbox, log.ok_or(SessionError::Log)?)
    }

    fn replayed(mailbox: &Timeless, log: Vec<SessionEvent>) -> Result<Self, SessionError> {
        let letter = mailbox.replay(&log).ok_or(SessionError::Log)?;
        Ok(Self::Letter(log, letter))
    }

    /// The same reply from a mailbox with other keys of the directory.
    pub(super) fn again(&self, mailbox: &Timeless) -> Result<Self, SessionError> {
        match self {
            Self::Letter(log, _) => Self::replayed(mailbox, log.clone()),
            Self::Refusal(refusal) => Ok(Self::Refusal(refusal.clone())),
        }
    }

    pub(super) fn request(&self, mailbox: &Timeless, keys: &OhttpKeys, relay: &str) -> Sealed {
        match self {
            Self::Letter(_, letter) => letter.post(relay),
            Self::Refusal(refusal) => refusal.post(mailbox, keys, relay),
        }
    }

    pub(super) fn delivered(&self, answer: &[u8], key: AnswerKey) -> Result<SessionEnd, SessionError> {
        let log = InMemoryPersister::default();
        let failed = |error: &dyn std::fmt::Display| SessionError::Answer(error.to_string());
        match (self, key.0) {
            (Self::Letter(_, Letter::Proposal(receiver)), Key::Crate(key)) => {
                let sent = (**receiver).clone().process_response(answer, key).save(&log);
                sent.map(|_| SessionEnd::Answered).map_err(|error| failed(&error))
            }
            (Self::Letter(_, Letter::Refusal(receiver)), Key::Crate(key)) => {
                let sent = (**receiver).clone().process_error_response(answer, key).save(&log);
                sent.map(|_| SessionEnd::Refused).map_err(|error| failed(&error))
            }
            (Self::Refusal(_), Key::Ours(key)) => {
                refusal::delivered(answer, key).map(|()| SessionEnd::Refused)
            }
            _ => Err(SessionError::Unexpected),
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
