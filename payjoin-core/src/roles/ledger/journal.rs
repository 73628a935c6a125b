//! The journal: what became of payments and channels, in the order in which it became durable.

use async_trait::async_trait;
use bitcoin::amount::serde::as_sat;
use bitcoin::{Amount, Txid};
use serde::{Deserialize, Serialize};

use super::LedgerError;
use crate::{ExchangeId, IntentId, InvoiceId, Label, PaymentId, Settled, Timestamp};

/// Entries are written in the same call as the change that they tell, or not at all. They are numbered without a gap, so
/// that whoever reads on from a number misses nothing.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Entries after this number, oldest first. One that was [pruned](Journal::prune_journal) is not among them.
    async fn entries(&self, since: EntryId, limit: u32) -> Result<Vec<Entry>, LedgerError>;

    /// The number of the last entry; 0 before the first.
    async fn last_entry(&self) -> Result<EntryId, LedgerError>;

    /// Returns once there is an entry after this number, or sooner.
    async fn grown(&self, since: EntryId);

    /// Writes [`EntryKind::CodeExpired`] for the codes that expired until now, were not told before, and of which no
    /// payment is known. Says how many. Costs nothing where none did.
    async fn expire_codes(&self, now: Timestamp) -> Result<u32, LedgerError>;

    /// Drops the oldest entries, those before this moment, at most so many. Says how many.
    async fn prune_journal(&self, before: Timestamp, most: u32) -> Result<u32, LedgerError>;

    /// How far this reader has come; `None` for one that never kept it.
    async fn read_until(&self, reader: &str) -> Result<Option<EntryId>, LedgerError>;

    /// Keeps how far this reader has come.
    async fn keep_read(&self, reader: &str, until: EntryId) -> Result<(), LedgerError>;
}

/// The number of an entry, and so a place in the journal: after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EntryId(pub u64);

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Entry {
    /// Its number.
    pub id: EntryId,
    /// When it was written.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
    /// The operator's words for the code.
    pub label: Option<Label>,
    /// The operator's own name for the code.
    pub own_id: Option<Label>,
}

/// What happened, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fact {
    /// What.
    pub kind: EntryKind,
    /// The code.
    pub invoice: Option<InvoiceId>,
    /// The payment to a code on chain.
    pub exchange: Option<ExchangeId>,
    /// The payment of ours on chain.
    pub payment: Option<PaymentId>,
    /// The channel that was asked for.
    pub intent: Option<IntentId>,
    /// The transaction.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub txid: Option<Txid>,
    /// The payment hash of a payment over Lightning, in hex.
    pub payment_hash: Option<String>,
    /// How much.
    #[serde(rename = "amount_sat", with = "as_sat::opt")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"))]
    pub amount: Option<Amount>,
    /// Which way, or why. It may hold words of a peer's.
    pub detail: Option<String>,
}

impl Fact {
    /// What happened, without anything known of it.
    #[must_use]
    pub fn new(kind: EntryKind) -> Self {
        Self {
            kind,
            invoice: None,
            exchange: None,
            payment: None,
            intent: None,
            txid: None,
            payment_hash: None,
            amount: None,
            detail: None,
        }
    }
}

/// What happened. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EntryKind {
    /// A code to pay was made.
    CodeCreated,
    /// A code can no longer be paid by payjoin, and no payment to it is known. One on chain would still be ours.
    CodeExpired,
    /// A payer's Original is kept: the payment can be broadcast by us.
    OriginalReceived,
    /// A proposal for it left.
    ProposalSent,
    /// There is no proposal for it. The Original is broadcast at its deadline.
    ExchangeFailed,
    /// A payment to a code is in the mempool or in a block: `payjoin` or `plain`.
    PaymentSeen,
    /// A payment to a code is in a block: `payjoin`, `original`, `plain`, or `other` for what is none of them.
    PaymentConfirmed,
    /// It is in that block no more: the chain was reorganised.
    PaymentUnconfirmed,
    /// A payment to a code is buried.
    PaymentSettled,
    /// A payment to a code can come no more: another transaction is buried, or it left the mempool for good.
    PaymentLost,
    /// A payment over Lightning was received: for a code, or for a BOLT 11 invoice.
    LightningReceived,
    /// A payment of ours over Lightning arrived.
    LightningSent,
    /// A payment of ours over Lightning failed.
    LightningFailed,
    /// A payment of ours on chain was begun.
    SendCreated,
    /// It is sent to the network.
    SendBroadcast,
    /// It is buried.
    SendSettled,
    /// A channel that was asked for can be used.
    ChannelUsable,
    /// Such a channel was closed.
    ChannelClosed,
}

impl EntryKind {
    /// What is told of a payment to a code that ended so.
    #[must_use]
    pub fn of_outcome(outcome: Settled) -> Self {
        match outcome {
            Settled::Payjoin | Settled::Original | Settled::Plain => Self::PaymentSettled,
            Settled::Conflict | Settled::Gone => Self::PaymentLost,
        }
    }

    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CodeCreated => "code_created",
            Self::CodeExpired => "code_expired",
            Self::OriginalReceived => "original_received",
            Self::ProposalSent => "proposal_sent",
            Self::ExchangeFailed => "exchange_failed",
            Self::PaymentSeen => "payment_seen",
            Self::PaymentConfirmed => "payment_confirmed",
            Self::PaymentUnconfirmed => "payment_unconfirmed",
            Self::PaymentSettled => "payment_settled",
            Self::PaymentLost => "payment_lost",
            Self::LightningReceived => "lightning_received",
            Self::LightningSent => "lightning_sent",
            Self::LightningFailed => "lightning_failed",
            Self::SendCreated => "send_created",
            Self::SendBroadcast => "send_broadcast",
            Self::SendSettled => "send_settled",
            Self::ChannelUsable => "channel_usable",
            Self::ChannelClosed => "channel_closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_spelled_as_it_is_named() {
        use EntryKind as K;
        for kind in [
            K::CodeCreated,
            K::CodeExpired,
            K::OriginalReceived,
            K::ProposalSent,
            K::ExchangeFailed,
            K::PaymentSeen,
            K::PaymentConfirmed,
            K::PaymentUnconfirmed,
            K::PaymentSettled,
            K::PaymentLost,
            K::LightningReceived,
            K::LightningSent,
            K::LightningFailed,
            K::SendCreated,
            K::SendBroadcast,
            K::SendSettled,
            K::ChannelUsable,
            K::ChannelClosed,
        ] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.name()));
        }
    }

    #[test]
    fn an_entry_is_flat_in_json() {
        let fact = Fact { amount: Some(Amount::from_sat(7)), ..Fact::new(EntryKind::PaymentSeen) };
        let entry =
            Entry { id: EntryId(3), time: Timestamp(9), fact, label: None, own_id: "17".parse().ok() };
        let json = serde_json::to_string(&entry).unwrap();
        assert!(json.starts_with(r#"{"id":3,"time":9,"kind":"payment_seen","invoice":null"#), "{json}");
        assert!(json.ends_with(r#""amount_sat":7,"detail":null,"label":null,"own_id":"17"}"#), "{json}");
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
    }
}
