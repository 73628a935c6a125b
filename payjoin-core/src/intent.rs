//! Channels the operator wants, as far as the payment machines need to know them.

use bitcoin::{Amount, Txid};
use serde::{Deserialize, Serialize};

/// Names a channel intent in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IntentId(pub u64);

/// How much a channel should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelAmount {
    /// This many satoshis, no more and no less.
    Exact(Amount),
    /// What the payment leaves after the other channels.
    Rest,
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
    /// The operator's word that payer and operator are the same person. Lifts money rule 5 for this intent.
    pub payer_is_me: bool,
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
    /// The payjoin was seen in a block but is not buried.
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
    /// Withdrawn by the operator.
    Cancelled,
}
