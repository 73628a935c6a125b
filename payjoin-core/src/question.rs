//! What an [`Exchange`](crate::Exchange) asks of its host, and the answers.
//!
//! Every question is one act of one role: chain, wallet, store or Lightning node.

use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, Txid};
use serde::{Deserialize, Serialize};

use crate::{
    ChannelWish, CheckedProposal, Coin, IntentId, InvoiceId, PlannedChannel, Reserve, StableProposal,
    Timestamp,
};

/// Names an Original: SHA-256 over the invoice id, the query and the body, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OriginalId(pub String);

/// Names an admitted exchange in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExchangeId(pub u64);

/// A question to the host. Exactly one is outstanding at a time.
#[derive(Clone, Debug)]
pub enum Question {
    /// Store: was this very Original answered with a proposal before? (money rule 8) -> [`Answer::Recalled`]
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
    /// Original and its deadline, lock the coins, take the intents. -> [`Answer::Admitted`] or [`Answer::Seen`]
    Admit(Admission),
    /// Store, one durable transaction in place of [`Question::Admit`] and [`Question::Release`]: a plain payjoin waits
    /// for nobody in between. -> [`Answer::Released`] or [`Answer::Seen`]
    Offer(Box<Admission>, Release),
    /// Lightning: `create_channel` for each, side by side, all or nothing. -> [`Answer::Opened`] with one funding
    /// script each, in order, or [`Answer::ChannelsFailed`] with every channel already abandoned.
    OpenChannels(Vec<PlannedChannel>),
    /// Lightning: give every channel its funding transaction and wait until every `FundingTxBroadcastSafe` came.
    /// -> [`Answer::Funded`], or [`Answer::ChannelsFailed`] with every channel already abandoned.
    Fund(StableProposal),
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
    /// Funding scripts, one per channel asked for, in order.
    Opened(Vec<ScriptBuf>),
    /// Every channel has its commitment signed by the peer and its monitor is durable.
    Funded,
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

/// What the chain knows about an Original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// `testmempoolaccept`: `Err` carries the node's reject reason for the log.
    pub acceptable: Result<(), String>,
    /// The real output each input spends, in input order; `None` when it is not in the chain or is spent. Of an output
    /// that is only in the mempool say `None`: its parent can be replaced, and then nothing ever settles the exchange.
    pub prevouts: Vec<Option<TxOut>>,
}

/// What the host must know to choose coins and intents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRequest {
    /// The invoice that is paid. Coins shown to an earlier unfinished attempt at it come first.
    pub invoice: InvoiceId,
    /// Value of the payment output.
    pub payment: Amount,
    /// Script of the payer's first input: coins of the same type come first.
    pub payer_script: ScriptBuf,
    /// `false` when no output may be replaced: queued intents are only named then, and none is taken.
    pub channels: bool,
}

/// What an exchange may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Queued intents in the operator's order.
    pub wishes: Vec<ChannelWish>,
    /// Confirmed coins, best first; a bounded number of them. Not locked, but for those in `shown`.
    pub coins: Vec<Coin>,
    /// Coins that unfinished attempts at the same invoice hold: they may be spent whatever this exchange takes.
    pub shown: Vec<OutPoint>,
    /// What must stay in the wallet.
    pub reserve: Reserve,
}

/// The first durable write of an exchange ("write 1" in ARCHITECTURE.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The invoice that is paid.
    pub invoice: InvoiceId,
    /// Identity of the Original.
    pub original_id: OriginalId,
    /// The Original as a transaction that can be broadcast.
    pub original: Transaction,
    /// Coins of ours to lock.
    pub coins: Vec<OutPoint>,
    /// Intents to take; each must still be queued.
    pub intents: Vec<IntentId>,
    /// When it was admitted.
    pub now: Timestamp,
    /// When the Original is to be broadcast if nothing else happened.
    pub fallback_at: Timestamp,
}

/// One channel of a released proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FundedChannel {
    /// The intent it serves.
    pub intent: IntentId,
    /// Index of its funding output in the payjoin.
    pub vout: u32,
    /// Its value.
    pub amount: Amount,
}

/// The second durable write of an exchange ("write 2" in ARCHITECTURE.md). After it the proposal may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The Proposal PSBT in base64: these bytes and no others answer this Original from now on.
    pub proposal: String,
    /// The payjoin's transaction id. Stable when there are channels (money rule 4); otherwise the id it has if the
    /// payer's inputs are native segwit.
    pub txid: Txid,
    /// The channels it funds; empty for a plain payjoin.
    pub channels: Vec<FundedChannel>,
    /// Why queued intents are not among `channels`; those that were taken go back to the queue with it.
    pub reason: Option<String>,
    /// Coins of ours that it spends. Locks on others of this exchange end here.
    pub coins: Vec<OutPoint>,
    /// When the Original is to be broadcast if the payjoin was not seen.
    pub fallback_at: Timestamp,
}
