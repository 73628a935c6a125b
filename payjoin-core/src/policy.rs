//! What the operator allows.

use bitcoin::{Amount, FeeRate};
use serde::{Deserialize, Serialize};

/// Channels that one exchange opens at most.
pub const MOST_CHANNELS: u32 = 16;

/// Limits and choices of the receiver. The defaults work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Originals below this fee rate are refused. Default 1 sat/vB.
    pub min_fee_rate: FeeRate,
    /// We never pay for our own inputs and outputs above this fee rate. Default 100 sat/vB.
    pub max_fee_rate: FeeRate,
    /// Absolute cap on what we pay in fees for one exchange. Default 50,000 sat.
    pub max_fee: Amount,
    /// May wallet coins make up for a payment smaller than the queued channels? Default yes.
    pub top_up: bool,
    /// Seconds for all Lightning work of one exchange. Default 20.
    pub channel_seconds: u64,
    /// Seconds for a whole exchange. Default 50.
    pub exchange_seconds: u64,
    /// Seconds after which an Original is broadcast when the payjoin was not seen. Default 600.
    pub fallback_seconds: u64,
    /// After this many proposals with coins of ours, an invoice gets only proposals without any. Default 4.
    pub offers_per_invoice: u32,
    /// Confirmations after which a transaction counts as buried. Default 6.
    pub burial: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_fee_rate: FeeRate::BROADCAST_MIN,
            max_fee_rate: FeeRate::from_sat_per_vb_u32(100),
            max_fee: Amount::from_sat(50_000),
            top_up: true,
            channel_seconds: 20,
            exchange_seconds: 50,
            fallback_seconds: 600,
            offers_per_invoice: 4,
            burial: 6,
        }
    }
}
