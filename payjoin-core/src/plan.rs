//! Which intents a payment can fund, with which coins of ours, and what comes back as change. A pure function.

use bitcoin::{Amount, OutPoint, TxOut};
use serde::{Deserialize, Serialize};

use crate::IntentId;

/// A coin of ours that may be spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is. P2WPKH or P2TR key spend.
    pub txout: TxOut,
}

/// What must stay in the wallet so that channels with anchors can be closed (all values in satoshis).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// Confirmed coins of the wallet that are not locked, the offered ones included.
    pub balance: Amount,
    /// Needed for the channels that exist.
    pub existing: Amount,
    /// Needed for each channel more.
    pub per_channel: Amount,
}

/// One channel with its exact value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedChannel {
    /// The intent it serves.
    pub intent: IntentId,
    /// The value of its funding output, to the satoshi.
    pub amount: Amount,
}

/// What to do with a payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Channels to open; empty for a plain payjoin.
    pub channels: Vec<PlannedChannel>,
    /// Coins of ours to add.
    pub coins: Vec<Coin>,
}
