//! The event log of a payment.

use payjoin::send::{v1, v2};
use payjoin_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::{SendError, Sent};

/// One entry. The last one says all: where the payment stands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// The Original is for a v1 receiver, who has until `give_up`.
    V1 { sender: Box<v1::Sender>, give_up: Timestamp },
    /// The Original is for the directory of a v2 receiver, who has until `give_up`.
    V2 { sender: Box<v2::Sender<v2::WithReplyKey>>, give_up: Timestamp },
    /// The directory has the Original.
    Posted { sender: Box<v2::Sender<v2::PollingForProposal>>, give_up: Timestamp },
    /// The end.
    Ended(Sent),
}

/// Where a payment stands.
pub(super) fn last(name: &str, log: &[String]) -> Result<Event, SendError> {
    let text = log.last().ok_or_else(|| SendError::Unknown(name.to_owned()))?;
    // The parser's text could show a secret key.
    serde_json::from_str(text).map_err(|_| SendError::Damaged(name.to_owned()))
}
