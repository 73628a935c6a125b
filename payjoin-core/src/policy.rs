//! What the operator allows.

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, FeeRate};
use serde::{Deserialize, Serialize};

/// Channels that one exchange opens at most.
pub const MOST_CHANNELS: u32 = 16;

/// Limits and choices of the receiver. The defaults work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Originals below this fee rate are refused, and below what the mempool takes. Default 0: nothing but that.
    pub min_fee_rate: FeeRate,
    /// We never pay for our own inputs and outputs above this fee rate. Default 100 sat/vB.
    pub max_fee_rate: FeeRate,
    /// Absolute cap on what we pay in fees for one exchange. Default 50,000 sat.
    pub max_fee: Amount,
    /// May wallet coins make up for a payment smaller than the queued channels, also where the code does not
    /// say so ([`Invoice::top_up`](crate::Invoice::top_up))? Default no.
    pub top_up: bool,
    /// Seconds for all Lightning work of one exchange. Default 20.
    pub channel_seconds: u64,
    /// Seconds of it for a peer to accept its channel; without those that do not, the others are opened. Default 6.
    pub accept_seconds: u64,
    /// Seconds of it for peers to sign: for all that are asked side by side, and for each that is asked alone. Default 5.
    pub sign_seconds: u64,
    /// Seconds for a whole exchange. Default 50.
    pub exchange_seconds: u64,
    /// Seconds after which an Original is broadcast when the payjoin was not seen. Default 600.
    pub fallback_seconds: u64,
    /// After this many proposals with coins of ours, an invoice gets only proposals without any. Default 4.
    pub offers_per_invoice: u32,
    /// After this many proposals with channels in one day that came to nothing, payers get none with channels. Default 4.
    pub wasted_a_day: u32,
    /// What is done with an Original of which the chain cannot tell whether the mempool would take it.
    pub unjudged: Unjudged,
    /// Most that a payment is defended with against a payer who spends his coins elsewhere, in percent of it. Default 25.
    pub defend: u32,
    /// Peers that take more than one channel in one payment. The others get one each.
    pub several_at_once: Vec<PublicKey>,
    /// Confirmations after which a transaction counts as buried. Default 6.
    pub burial: u32,
}

/// What is done with an Original of which nobody can tell whether the mempool would take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unjudged {
    /// The payer is told to try again later.
    #[default]
    Unavailable,
    /// It is served. A payer who never signed it may be shown a coin of ours, and it may be no fallback (money rule 6):
    /// only for a source of the chain that cannot judge, and payers who are trusted.
    Accept,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_fee_rate: FeeRate::ZERO,
            max_fee_rate: FeeRate::from_sat_per_vb_u32(100),
            max_fee: Amount::from_sat(50_000),
            top_up: false,
            channel_seconds: 20,
            accept_seconds: 6,
            sign_seconds: 5,
            exchange_seconds: 50,
            fallback_seconds: 600,
            offers_per_invoice: 4,
            wasted_a_day: 4,
            unjudged: Unjudged::default(),
            defend: 25,
            several_at_once: Vec::new(),
            burial: 6,
        }
    }
}
