//! What an [`Exchange`](crate::Exchange) asks of its host, and the answers.
//!
//! Every question is one act of one role: chain, wallet, store or Lightning node.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};

use crate::{
    CheckedProposal, Inspection, IntentId, InvoiceId, Left, PlannedChannel, Resources, StableProposal,
    Timestamp,
};

/// Names an Original: SHA-256 over the invoice id and the transaction without its signatures, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OriginalId(pub String);

impl OriginalId {
    /// The name of this transaction as an Original of this invoice, in whatever bytes it comes: with another query,
    /// encoded or signed anew it is the same (money rule 8).
    #[must_use]
    pub fn of(invoice: &InvoiceId, original: &Transaction) -> Self {
        Self::over(invoice, original.compute_ntxid().as_byte_array())
    }

    /// The name of what is no Original: nothing is ever kept of it.
    pub(crate) fn of_bytes(invoice: &InvoiceId, body: &[u8]) -> Self {
        Self::over(invoice, body)
    }

    /// Lengths keep the two parts apart.
    fn over(invoice: &InvoiceId, named: &[u8]) -> Self {
        let mut engine = sha256::Hash::engine();
        for part in [invoice.0.as_bytes(), named] {
            engine.input(&(part.len() as u64).to_le_bytes());
            engine.input(part);
        }
        Self(sha256::Hash::from_engine(engine).to_string())
    }
}

/// Names an admitted exchange in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExchangeId(pub u64);

/// Names a payment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PaymentId(pub u64);

/// A question to the host. Exactly one is outstanding at a time.
#[derive(Clone, Debug)]
pub enum Question {
    /// Store: was this Original answered with a proposal before? (money rule 8) -> [`Answer::Recalled`]
    Recall(OriginalId),
    /// Chain, one round trip: would the mempool take this transaction, and what do its inputs really spend?
    /// -> [`Answer::Inspected`]
    Inspect(Transaction),
    /// Wallet: which of these scripts are ours? One answer per script, in order. -> [`Answer::Owned`]
    Owns(Vec<ScriptBuf>),
    /// Wallet and queue: what may this exchange use? The host reserves what it names until the exchange ends.
    /// -> [`Answer::Resources`]
    Resources(ResourceRequest),
    /// Store, one durable transaction, the first of two: record the inputs as seen (all or none), keep the
    /// Original and its deadline, lock the coins, take the intents. -> [`Answer::Admitted`], [`Answer::Seen`] or
    /// [`Answer::Paid`]
    Admit(Admission),
    /// Store, one durable transaction in place of [`Question::Admit`] and [`Question::Release`]: a plain payjoin waits
    /// for nobody in between. -> [`Answer::Released`], [`Answer::Seen`] or [`Answer::Paid`]
    Offer(Box<Admission>, Release),
    /// Wallet: so many fresh scripts, durably, for what is split off the change. Not asked before the Original is on record:
    /// scripts cost the payer a payment. -> [`Answer::Scripts`]
    Scripts(usize),
    /// Lightning: `create_channel` for each, side by side. -> [`Answer::Opened`] with one answer for each, in order, or
    /// [`Answer::ChannelsFailed`] with every channel of the exchange already abandoned. It may be asked again, for those
    /// that [`Left::Abandoned`] names: the slot that such a channel had is lost, and it needs another one.
    OpenChannels(Vec<PlannedChannel>),
    /// Lightning: give every channel its funding transaction and wait until every `FundingTxBroadcastSafe` came. Channels
    /// of these intents come last, one after another: their peers are not known to have a slot to spare. No peer gets it
    /// while the payer is known to wait no longer. -> [`Answer::Funded`], [`Answer::Short`] with what is left of each
    /// channel, in order, or [`Answer::ChannelsFailed`] with every channel of the exchange already abandoned.
    Fund(StableProposal, Vec<IntentId>),
    /// Lightning: forget every channel of this exchange; nothing of it was released. -> [`Answer::Abandoned`]
    Abandon(&'static str),
    /// Wallet: sign our inputs, and no others. -> [`Answer::Signed`]
    Sign(CheckedProposal),
    /// Store, one durable transaction, the second of two: the node's state, the proposal bytes, the locks, the
    /// intents and the deadline. -> [`Answer::Released`], or [`Answer::Failed`] when nothing was written for certain:
    /// the channels are abandoned then, so a write that went through after all would offer dead channels.
    Release(ExchangeId, Release),
}

/// The answer to a [`Question`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// The proposal released for this Original, byte for byte, if there is one.
    Recalled(Option<String>),
    /// What the chain says.
    Inspected(Inspection),
    /// `true` where the script is ours, in the order asked.
    Owned(Vec<bool>),
    /// What the exchange may use.
    Resources(Resources),
    /// The Original is kept and everything it needs is locked.
    Admitted(ExchangeId),
    /// An input was offered before in another Original; nothing was written.
    Seen,
    /// The invoice was paid over Lightning.
    Paid,
    /// As many scripts of ours as were asked for.
    Scripts(Vec<ScriptBuf>),
    /// For each channel asked for, in order, its funding script, or why it is abandoned, for the operator.
    Opened(Vec<Result<ScriptBuf, String>>),
    /// Every channel has its commitment signed by the peer and its monitor is durable.
    Funded,
    /// At least one channel was not signed, so that the transaction is void: what is left of each.
    Short(Vec<Left>),
    /// At least one channel failed and all are abandoned. The text goes to the operator.
    ChannelsFailed(String),
    /// All channels of the exchange are forgotten.
    Abandoned,
    /// The proposal with our inputs finalized.
    Signed(Box<Psbt>),
    /// The proposal is durable and may leave.
    Released,
    /// The host could not do it. The text goes to the operator's log; the payer reads `unavailable`.
    Failed(String),
}

/// What the host must know to choose coins and intents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRequest {
    /// The invoice that is paid. While coins are shown to an unfinished attempt at it, there are no others for it.
    pub invoice: InvoiceId,
    /// Value of the payment output.
    pub payment: Amount,
    /// Script of the payer's first input: coins of the same type come first.
    pub payer_script: ScriptBuf,
    /// `false` when no output may be replaced: queued intents are only named then, and none is taken.
    pub channels: bool,
}

/// The first durable write of an exchange ("write 1" in ARCHITECTURE.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The invoice that is paid.
    pub invoice: InvoiceId,
    /// Identity of the Original.
    pub original_id: OriginalId,
    /// The Original as a transaction that can be broadcast. Without inputs it is nobody's: coins of ours alone open a channel
    /// ([`OwnFunding`](crate::OwnFunding)).
    pub original: Transaction,
    /// What the Original pays the miners.
    pub fee: Amount,
    /// Coins of ours to lock.
    pub coins: Vec<OutPoint>,
    /// Intents to take; each must still be queued.
    pub intents: Vec<IntentId>,
    /// When it was admitted.
    pub now: Timestamp,
    /// The best block's height then.
    pub height: u32,
    /// When the Original is to be broadcast if nothing else happened.
    pub fallback_at: Timestamp,
}

impl Admission {
    /// Nobody pays: what is released is a transaction of ours alone.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.original.input.is_empty()
    }
}

/// One channel of a released proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FundedChannel {
    /// The intent it serves.
    pub intent: IntentId,
    /// Index of its funding output in the payjoin.
    pub vout: u32,
    /// Its value.
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    pub amount: Amount,
}

/// The second durable write of an exchange ("write 2" in ARCHITECTURE.md). After it the proposal may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The Proposal PSBT in base64: these bytes and no others answer this Original from now on.
    pub proposal: String,
    /// The payjoin's transaction id without scriptSigs: the id it will have where `is_final`.
    pub txid: Txid,
    /// The payer's inputs are native segwit, so that the id does not change with his signatures. Always, where there are
    /// channels (money rule 4).
    pub is_final: bool,
    /// What it pays the miners.
    pub fee: Amount,
    /// The channels it funds; empty for a plain payjoin.
    pub channels: Vec<FundedChannel>,
    /// Why queued intents are not among `channels`; those that were taken go back to the queue with it.
    pub reason: Option<String>,
    /// Coins of ours that it spends. Locks on others of this exchange end here.
    pub coins: Vec<OutPoint>,
    /// In how many ways its amounts can be split ([`partitions`](crate::partitions)); `None` when that was not counted.
    pub partitions: Option<u32>,
    /// When the Original is to be broadcast if the payjoin was not seen.
    pub fallback_at: Timestamp,
    /// The transaction with all signatures, where nobody else signs it: from now on it is sent until it is mined.
    pub signed: Option<Box<Transaction>>,
}
