//! What happens, for whoever watches: the one source of steps, logs and pages.

use bitcoin::amount::serde::as_sat;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, Txid};
use serde::{Deserialize, Serialize};

use crate::{ExchangeId, InvoiceId, Timestamp};

/// A step, when it was taken, and what it belongs to as far as whoever tells it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// The exchange.
    pub exchange: Option<ExchangeId>,
    /// The invoice that is paid.
    pub invoice: Option<InvoiceId>,
    /// The transaction.
    pub txid: Option<Txid>,
    /// What.
    pub step: Step,
}

/// A step of a payment to us or of ours, or of what both need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step")]
pub enum Step {
    /// Everything is up.
    #[serde(rename = "ready")]
    Ready {
        /// Our Lightning key.
        node_id: PublicKey,
        /// The last block that was dealt with.
        height: u32,
    },
    /// A code to pay was made.
    #[serde(rename = "BIP 21")]
    Code {
        /// Its invoice.
        invoice: InvoiceId,
        /// What it asks for.
        #[serde(
            rename = "amount_sat",
            default,
            skip_serializing_if = "Option::is_none",
            with = "as_sat::opt"
        )]
        amount: Option<Amount>,
        /// The code.
        uri: String,
    },
    /// A payer's Original was looked at and can be paid by payjoin.
    #[serde(rename = "Original PSBT")]
    Original {
        /// The invoice that it pays.
        invoice: InvoiceId,
        /// What it pays.
        #[serde(rename = "amount_sat", with = "as_sat")]
        amount: Amount,
    },
    /// `open_channel` is out.
    #[serde(rename = "open_channel")]
    OpenChannel {
        /// To whom.
        peer: PublicKey,
        /// Value of the channel.
        #[serde(rename = "amount_sat", with = "as_sat")]
        amount: Amount,
    },
    /// The peer accepted.
    #[serde(rename = "accept_channel")]
    AcceptChannel {
        /// Who.
        peer: PublicKey,
    },
    /// `funding_created` is out.
    #[serde(rename = "funding_created")]
    FundingCreated {
        /// To whom.
        peer: PublicKey,
    },
    /// The peer signed, and what it signed is durable.
    #[serde(rename = "funding_signed")]
    FundingSigned {
        /// Who.
        peer: PublicKey,
    },
    /// A proposal is durable and leaves.
    #[serde(rename = "Proposal PSBT")]
    Proposal {
        /// The payjoin. `None` where the payer's signatures change its id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        txid: Option<Txid>,
        /// How many channels it funds.
        channels: usize,
        /// Why channels that were wanted are not in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A channel from coins of ours alone is durable, and its transaction is sent.
    #[serde(rename = "opening")]
    Opening {
        /// The transaction.
        txid: Txid,
        /// What of it goes into channels.
        #[serde(rename = "amount_sat", with = "as_sat")]
        amount: Amount,
    },
    /// A payment to a code that came without payjoin was seen, in the mempool or in a block.
    #[serde(rename = "plain payment")]
    PlainPayment {
        /// The invoice that it pays.
        invoice: InvoiceId,
        /// What it pays.
        #[serde(rename = "amount_sat", with = "as_sat")]
        amount: Amount,
        /// The transaction.
        txid: Txid,
    },
    /// A code was paid over Lightning: no payjoin is made for it any more.
    #[serde(rename = "paid over Lightning")]
    PaidOverLightning {
        /// Its invoice.
        invoice: InvoiceId,
    },
    /// The payer broadcast the payjoin.
    #[serde(rename = "broadcast")]
    Broadcast {
        /// The payjoin.
        txid: Txid,
    },
    /// A payment to us is in a block.
    #[serde(rename = "confirmed")]
    Confirmed {
        /// What pays: the payjoin, the Original or another spend of the payer's coins.
        txid: Txid,
        /// The block's height.
        height: u32,
    },
    /// A channel can be used.
    #[serde(rename = "channel_ready")]
    ChannelReady {
        /// With whom.
        peer: PublicKey,
        /// Value of the channel.
        #[serde(
            rename = "capacity_sat",
            default,
            skip_serializing_if = "Option::is_none",
            with = "as_sat::opt"
        )]
        capacity: Option<Amount>,
    },
    /// A channel was closed, by whomever.
    #[serde(rename = "channel_closed")]
    ChannelClosed {
        /// With whom.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<PublicKey>,
        /// Why.
        reason: String,
    },
    /// A setting refuses a channel that a peer wants to open to us. Told once for each peer and setting.
    #[serde(rename = "channel refused")]
    InboundRefused {
        /// Who asked.
        peer: PublicKey,
        /// The setting in `[lightning]`.
        setting: String,
        /// Its value.
        limit: u64,
        /// What it would have to be, at most or at least.
        asked: u64,
    },
    /// The Original of a payment of ours is at the receiver's directory.
    #[serde(rename = "posted")]
    Posted {
        /// The payment's name.
        payment: String,
    },
    /// A payment of ours is to be paid by this transaction.
    #[serde(rename = "paid")]
    Paid {
        /// The payment's number.
        payment: u64,
        /// The transaction.
        txid: Txid,
        /// Why it is not a payjoin.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// Our onion service, and whether payers reach it.
    #[serde(rename = "onion")]
    Onion {
        /// What payers see.
        endpoint: String,
        /// Can they reach it?
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reachable: Option<bool>,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// How far Tor has come.
    #[serde(rename = "tor")]
    Tor {
        /// 0 to 100.
        percent: u8,
        /// What is in its way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blocked: Option<String>,
    },
}

impl Event {
    /// A step, with the invoice and the transaction that it names.
    #[must_use]
    pub fn new(time: Timestamp, step: Step) -> Self {
        let invoice = match &step {
            Step::Code { invoice, .. }
            | Step::Original { invoice, .. }
            | Step::PaidOverLightning { invoice }
            | Step::PlainPayment { invoice, .. } => Some(invoice.clone()),
            _ => None,
        };
        let txid = match &step {
            Step::Proposal { txid, .. } => *txid,
            Step::Broadcast { txid }
            | Step::Confirmed { txid, .. }
            | Step::PlainPayment { txid, .. }
            | Step::Paid { txid, .. } => Some(*txid),
            _ => None,
        };
        Self { time, exchange: None, invoice, txid, step }
    }

    /// The same, of this exchange.
    #[must_use]
    pub fn of(self, exchange: ExchangeId) -> Self {
        Self { exchange: Some(exchange), ..self }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    #[track_caller]
    fn check(step: Step, json: &str) {
        assert_eq!(serde_json::to_string(&step).unwrap(), json);
        assert_eq!(serde_json::from_str::<Step>(json).unwrap(), step);
    }

    #[test]
    fn a_step_is_its_name_and_what_is_known_of_it() {
        let peer = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap();
        let (invoice, txid) = (InvoiceId("a".into()), Txid::all_zeros());
        check(
            Step::Code { invoice: invoice.clone(), amount: None, uri: "bitcoin:b".into() },
            r#"{"step":"BIP 21","invoice":"a","uri":"bitcoin:b"}"#,
        );
        check(
            Step::Original { invoice, amount: Amount::from_sat(7) },
            r#"{"step":"Original PSBT","invoice":"a","amount_sat":7}"#,
        );
        check(
            Step::OpenChannel { peer, amount: Amount::from_sat(7) },
            &format!(r#"{{"step":"open_channel","peer":"{peer}","amount_sat":7}}"#),
        );
        check(
            Step::Proposal { txid: Some(txid), channels: 2, reason: Some("late".into()) },
            &format!(r#"{{"step":"Proposal PSBT","txid":"{txid}","channels":2,"reason":"late"}}"#),
        );
        check(
            Step::Proposal { txid: None, channels: 0, reason: None },
            r#"{"step":"Proposal PSBT","channels":0}"#,
        );
        check(
            Step::Paid { payment: 3, txid, fallback: None },
            &format!(r#"{{"step":"paid","payment":3,"txid":"{txid}"}}"#),
        );
        check(
            Step::ChannelReady { peer, capacity: Some(Amount::from_sat(9)) },
            &format!(r#"{{"step":"channel_ready","peer":"{peer}","capacity_sat":9}}"#),
        );
        check(
            Step::InboundRefused { peer, setting: "min_inbound".into(), limit: 100_000, asked: 50_000 },
            &format!(
                r#"{{"step":"channel refused","peer":"{peer}","setting":"min_inbound","limit":100000,"asked":50000}}"#
            ),
        );
        check(
            Step::ChannelClosed { peer: Some(peer), reason: "asked".into() },
            &format!(r#"{{"step":"channel_closed","peer":"{peer}","reason":"asked"}}"#),
        );
        check(Step::Tor { percent: 45, blocked: None }, r#"{"step":"tor","percent":45}"#);
    }

    #[test]
    fn an_event_knows_the_invoice_and_the_transaction_of_its_step() {
        let txid = Txid::all_zeros();
        let broadcast = Event::new(Timestamp(1), Step::Broadcast { txid }).of(ExchangeId(2));
        assert_eq!(
            (broadcast.txid, broadcast.exchange, broadcast.invoice),
            (Some(txid), Some(ExchangeId(2)), None)
        );
        let original = Step::Original { invoice: InvoiceId("a".into()), amount: Amount::ZERO };
        assert_eq!(Event::new(Timestamp(1), original).invoice, Some(InvoiceId("a".into())));
    }
}
