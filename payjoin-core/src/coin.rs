//! Coins of ours, what it weighs to spend them, and what must stay.

use bitcoin::transaction::InputWeightPrediction;
use bitcoin::{Amount, OutPoint, TxOut, Weight};
use serde::{Deserialize, Serialize};

/// Outpoint and sequence of an input, in weight units; the rest of it is in the prediction.
const INPUT_BASE: Weight = Weight::from_wu((36 + 4) * 4);

/// A coin of ours that may be spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is. P2WPKH or P2TR key spend.
    pub txout: TxOut,
}

impl Coin {
    /// Weight of an input that spends it; `None` for a script that we do not spend.
    pub(crate) fn weight(&self) -> Option<Weight> {
        Some(self.signature_weight()? + INPUT_BASE)
    }

    /// What of it comes with the signature.
    pub(crate) fn signature_weight(&self) -> Option<Weight> {
        let script = &self.txout.script_pubkey;
        let prediction = if script.is_p2wpkh() {
            InputWeightPrediction::P2WPKH_MAX
        } else if script.is_p2tr() {
            InputWeightPrediction::P2TR_KEY_DEFAULT_SIGHASH
        } else {
            return None;
        };
        Some(prediction.weight())
    }
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
    /// Where a sum is not enough; `None` for a node that asks for a sum alone.
    pub stock: Option<Stock>,
}

/// Coins apart: closing a channel takes coins that close no other at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// How many coins that are not locked are worth [`Reserve::per_channel`] each, the offered ones included.
    pub whole: usize,
    /// The others together, less what it costs to spend them.
    pub parts: Amount,
    /// Channels that may have to be closed.
    pub channels: usize,
}

impl Reserve {
    /// How many channels more than there are the coins could close if these were spent; `None` when not even those that
    /// there are.
    pub(crate) fn spare<'a>(&self, spent: impl IntoIterator<Item = &'a Coin>) -> Option<usize> {
        let Some(Stock { mut whole, mut parts, channels }) = self.stock else { return Some(usize::MAX) };
        for coin in spent {
            match coin.txout.value {
                value if value >= self.per_channel => whole = whole.saturating_sub(1),
                value => parts = parts.checked_sub(value).unwrap_or_default(),
            }
        }
        // Whoever chooses among parts takes up to twice what is needed.
        let pairs = parts.to_sat().checked_div(self.per_channel.to_sat()).unwrap_or_default() / 2;
        let closable = usize::try_from(pairs).unwrap_or(usize::MAX).saturating_add(whole);
        closable.checked_sub(channels)
    }
}
