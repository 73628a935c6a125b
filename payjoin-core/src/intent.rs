//! Channels the operator wants, as far as the payment machines need to know them.

use bitcoin::{Amount, Txid};
use serde::{Deserialize, Serialize};

/// Names a channel intent in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IntentId(pub u64);

/// How much a channel should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelAmount {
    /// This many satoshis, no more and no less.
    Exact(Amount),
    /// What the payment leaves after the other channels.
    Rest,
    /// The payment, and the coins of ours that go with it, whole: nothing comes back that amounts could tell from the
    /// payer's. As [`ChannelAmount::Rest`] where it is not alone, or where the payment's script must stay.
    Absorb,
}

/// A queued intent as the planner sees it: no peer, no address, only money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelWish {
    /// The intent it stands for.
    pub id: IntentId,
    /// What it should hold.
    pub amount: ChannelAmount,
    /// Least value the node can open, in satoshis (counts for [`ChannelAmount::Rest`]).
    pub min: Amount,
    /// Greatest value the node can open.
    pub max: Amount,
}

impl ChannelWish {
    /// What it takes at least.
    #[must_use]
    pub fn least(&self) -> Amount {
        match self.amount {
            ChannelAmount::Exact(amount) => amount,
            ChannelAmount::Rest | ChannelAmount::Absorb => self.min,
        }
    }

    /// What a peer is asked for when nobody pays: of "the rest" nobody knows how much it will be.
    #[must_use]
    pub fn typical(&self) -> Amount {
        const REST: Amount = Amount::from_sat(1_000_000);
        match self.amount {
            ChannelAmount::Exact(amount) => amount,
            ChannelAmount::Rest | ChannelAmount::Absorb => REST.max(self.min).min(self.max),
        }
    }
}

/// One channel with its exact value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedChannel {
    /// The intent it serves.
    pub intent: IntentId,
    /// The value of its funding output, to the satoshi.
    pub amount: Amount,
}

/// How a channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Closure {
    /// Both sides agreed on the transaction that ended it.
    Cooperative,
    /// By force: we sent our commitment.
    ForcedByUs,
    /// By force: the peer sent his.
    ForcedByPeer,
    /// Its funding was never mined.
    NotFunded,
    /// Nobody noted it, or the node does not say.
    Unknown,
}

/// The end of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelEnd {
    /// How.
    pub how: Closure,
    /// Why, in words for the operator.
    pub reason: String,
}

/// Where an intent stands. Money rule 9: at most one live channel per intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum IntentState {
    /// Waits for a payment. `reason` says why an earlier attempt came back.
    Queued {
        /// Why the last attempt failed, in words for the operator.
        reason: Option<String>,
    },
    /// Taken by an exchange that has not released its proposal.
    Negotiating,
    /// A signed proposal with this funding output has left.
    Released {
        /// The payjoin's transaction id.
        txid: Txid,
        /// Index of the funding output.
        vout: u32,
    },
    /// The payjoin was seen in a block, but it is not buried or the channel is not usable yet.
    Confirming {
        /// The payjoin's transaction id.
        txid: Txid,
        /// Index of the funding output.
        vout: u32,
    },
    /// The channel is usable and its funding is buried.
    Open {
        /// The payjoin's transaction id.
        txid: Txid,
        /// Index of the funding output.
        vout: u32,
    },
    /// The channel was closed, by whomever.
    Closed {
        /// The payjoin's transaction id.
        txid: Txid,
        /// Index of the funding output.
        vout: u32,
        /// The transaction that spent the funding output, once it is in a block.
        closing: Option<Txid>,
        /// Why, in words for the operator.
        reason: String,
    },
    /// Withdrawn by the operator.
    Cancelled,
}
