//! What channels that are closing on chain need of the wallet.

use std::collections::HashMap;
use std::sync::Mutex;

use bitcoin::{Amount, OutPoint};
use lightning::events::bump_transaction::BumpTransactionEvent;
use lightning::ln::types::ChannelId;

use crate::lock::lock;

/// Weight of a child that pays for a commitment: anchor and P2WPKH input, P2TR output.
const ANCHOR_CHILD: u64 = 770;
/// Weight of a transaction for one HTLC, and of a wallet's input and output beside it.
const HTLC: u64 = 710;
const WALLET_PART: u64 = 450;
/// The change must be worth an output: without one LDK makes an empty one, which not every node relays.
const DUST: u64 = 330;
/// LDK asks for a quarter more every now and then. A deposit has to do for three times, so that it is there when it is.
const RISE: u64 = 2;

/// Closed channels for which LDK has asked for a fee, and what was missing then.
#[derive(Default)]
pub(super) struct Closing(Mutex<HashMap<ChannelId, Option<Amount>>>);

impl Closing {
    /// `true` when it is news that something is missing.
    pub(super) fn note(&self, event: &BumpTransactionEvent, needs: Option<Amount>) -> bool {
        let (BumpTransactionEvent::ChannelClose { channel_id, .. }
        | BumpTransactionEvent::HTLCResolution { channel_id, .. }) = event;
        let before = lock(&self.0).insert(*channel_id, needs);
        needs.is_some() && before.flatten().is_none()
    }

    /// What is missing for this channel, as far as LDK has asked.
    pub(super) fn needs(&self, channel: &ChannelId) -> Option<Amount> {
        *lock(&self.0).get(channel)?
    }
}

/// What the transaction spends that LDK asks for, and what the wallet has to have for it.
pub(super) fn asked(event: &BumpTransactionEvent) -> (Vec<OutPoint>, Amount) {
    let fee = |rate: u64, weight: u64| rate.saturating_mul(weight).div_ceil(1000);
    match event {
        BumpTransactionEvent::ChannelClose {
            package_target_feerate_sat_per_1000_weight: rate,
            commitment_tx,
            commitment_tx_fee_satoshis: paid,
            anchor_descriptor,
            ..
        } => {
            let (weight, rate) = (commitment_tx.weight().to_wu(), u64::from(*rate));
            let missing = match fee(rate, weight) <= *paid {
                true => 0,
                false => fee(rate * RISE, weight + ANCHOR_CHILD).saturating_sub(*paid) + DUST,
            };
            (vec![anchor_descriptor.outpoint], Amount::from_sat(missing))
        }
        BumpTransactionEvent::HTLCResolution {
            target_feerate_sat_per_1000_weight: rate,
            htlc_descriptors,
            ..
        } => {
            let outputs: Vec<_> = htlc_descriptors.iter().map(|htlc| htlc.outpoint()).collect();
            let missing = fee(u64::from(*rate) * RISE, HTLC * outputs.len() as u64 + WALLET_PART) + DUST;
            (outputs, Amount::from_sat(missing))
        }
    }
}
