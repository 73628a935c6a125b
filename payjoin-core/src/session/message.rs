//! A payer's message from a mailbox, in the shape of a BIP 78 request.

use bitcoin::{Amount, FeeRate, Psbt, Transaction};
use payjoin::OutputSubstitution;
use payjoin::receive::v2::SessionEvent;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::SessionError;
use crate::{Delivery, Request, Timestamp};

/// An Original from a mailbox.
#[derive(Debug)]
pub(super) struct Message {
    /// As the crate keeps it.
    pub(super) event: SessionEvent,
    pub(super) at: Timestamp,
    /// The same for the same message, always: it names the exchange (money rule 8).
    pub(super) request: Request,
    pub(super) original: Transaction,
    /// It was encrypted for us and names a mailbox for the reply. Not `v` decides: a plaintext may claim anything.
    pub(super) v2: bool,
}

/// The least rate of a payer who names none, for the crate. It cannot be told from one who names this; but who pays less himself
/// does not ask for it.
const NOT_SAID: FeeRate = FeeRate::BROADCAST_MIN;

/// By what the Original says of the outputs that it spends.
fn pays_less_than(original: &Psbt, rate: FeeRate) -> bool {
    let weight = original.clone().extract_tx_unchecked_fee_rate().weight();
    original.fee().is_ok_and(|fee| rate.checked_mul_by_weight(weight).is_some_and(|least| fee < least))
}

/// The crate's record of a message. It has no getters; this is the form in which it keeps sessions.
#[derive(Deserialize)]
struct Record {
    #[serde(rename = "RetrievedOriginalPayload")]
    retrieved: Retrieved,
}

#[derive(Deserialize)]
struct Retrieved {
    original: Original,
    reply_key: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Original {
    psbt: Psbt,
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    output_substitution: OutputSubstitution,
    additional_fee_contribution: Option<(Amount, usize)>,
    min_fee_rate: FeeRate,
}

impl Message {
    pub(super) fn new(event: SessionEvent, at: Timestamp) -> Result<Self, SessionError> {
        let value = serde_json::to_value(&event).map_err(|_| SessionError::Log)?;
        let Record { retrieved } = serde_json::from_value(value).map_err(|_| SessionError::Log)?;
        let Retrieved { original: Original { psbt, params }, reply_key } = retrieved;
        let v2 = reply_key.is_some();
        let body = psbt.to_string().into_bytes();
        let pays_less = pays_less_than(&psbt, NOT_SAID);
        let original = psbt.extract_tx_unchecked_fee_rate();
        let request = Request {
            query: params.query(v2, pays_less),
            content_type: Some("text/plain".into()),
            content_length: Some(body.len().to_string()),
            body,
            authenticated: v2,
            delivery: if v2 { Delivery::Mailbox } else { Delivery::DirectoryV1 },
        };
        Ok(Self { event, at, request, original, v2 })
    }
}

impl Params {
    /// Money rule 10: a directory could have written a v1 message, so its outputs stay.
    fn query(&self, v2: bool, pays_less: bool) -> String {
        let fixed = !v2 || self.output_substitution == OutputSubstitution::Disabled;
        let mut query = format!("disableoutputsubstitution={fixed}");
        if self.min_fee_rate != NOT_SAID || !pays_less {
            query += &format!("&minfeerate={}", self.min_fee_rate.to_sat_per_kwu() as f64 / 250.0);
        }
        if let Some((most, index)) = self.additional_fee_contribution {
            let most = most.to_sat();
            query += &format!("&maxadditionalfeecontribution={most}&additionalfeeoutputindex={index}");
        }
        query
    }
}
