//! What LDK tells us, and what we do about it.
//!
//! An event is done when [`Events::handle`] returns `Ok`; LDK repeats it otherwise, after a restart too. So everything
//! here is durable before `Ok`, and may happen twice.

use std::sync::Arc;

use bitcoin::Amount;
use bitcoin::secp256k1::PublicKey;
use lightning::events::{Event, PaymentPurpose, ReplayEvent};
use lightning::ln::types::ChannelId;
use lightning::sign::{EntropySource, KeysManager, SpendableOutputDescriptor};
use lightning::types::features::ChannelTypeFeatures;
use lightning::types::payment::PaymentHash;

use super::closing::Closing;
use super::is_mined;
use super::parts::{Bumper, ChannelManager, Sweeper};
use super::payments::Payments;
use crate::LdkFunder;

/// What a peer is told when we take none of its channels: never why (money rule 11).
const NO_CHANNEL: &str = "channel not accepted";

pub(super) struct Events {
    pub(super) funder: Arc<LdkFunder<Arc<ChannelManager>>>,
    pub(super) manager: Arc<ChannelManager>,
    pub(super) payments: Arc<Payments>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) bumper: Arc<Bumper>,
    pub(super) keys: Arc<KeysManager>,
    pub(super) inbound: Inbound,
    pub(super) closing: Arc<Closing>,
}

/// Which channels peers may open to us.
pub(super) struct Inbound {
    pub(super) per_peer: usize,
    pub(super) total: usize,
    pub(super) min: Amount,
}

impl Events {
    pub(super) fn handle(&self, event: Event) -> Result<(), ReplayEvent> {
        if self.funder.handle_event(&event) {
            return Ok(());
        }
        match event {
            Event::OpenChannelRequest {
                temporary_channel_id,
                counterparty_node_id,
                channel_type,
                funding_satoshis,
                ..
            } => {
                let (id, peer, sat) = (&temporary_channel_id, &counterparty_node_id, funding_satoshis);
                self.open_requested(id, peer, &channel_type, Amount::from_sat(sat));
            }
            // Only the funder opens channels, and it knows its own.
            Event::FundingGenerationReady { temporary_channel_id, counterparty_node_id, .. } => {
                self.refuse(&temporary_channel_id, &counterparty_node_id);
            }
            Event::PaymentClaimable { payment_hash, purpose, .. } => self.claim(payment_hash, &purpose),
            Event::PaymentClaimed { payment_hash, amount_msat, .. } => {
                tracing::info!(payment = %payment_hash, amount_msat, "payment received");
            }
            Event::PaymentSent { .. } | Event::PaymentFailed { .. } => self.payments.handle_event(&event),
            Event::ChannelReady { channel_id, counterparty_node_id, .. } => {
                self.ready(&channel_id, &counterparty_node_id);
            }
            Event::ChannelClosed { channel_id, reason, .. } => {
                tracing::info!(channel = %channel_id, reason = %reason, "channel closed");
            }
            Event::SpendableOutputs { outputs, channel_id } => return self.sweep(outputs, channel_id),
            Event::BumpTransaction(event) => {
                self.closing.note(&event, self.manager.current_best_block().height);
                self.bumper.handle_event(&event);
            }
            event => tracing::trace!(?event, "nothing to do"),
        }
        Ok(())
    }

    fn sweep(
        &self,
        outputs: Vec<SpendableOutputDescriptor>,
        channel: Option<ChannelId>,
    ) -> Result<(), ReplayEvent> {
        // Static outputs pay the wallet itself.
        self.sweeper.track_spendable_outputs(outputs, channel, true, None).map_err(|()| ReplayEvent())?;
        // On failure the background processor tries again.
        let _ = self.sweeper.regenerate_and_broadcast_spend_if_necessary();
        Ok(())
    }

    /// Takes a channel that a peer opens to us. We put no money in, and it must be mined first; but from then on it keeps
    /// back coins of ours, so it must be worth that.
    fn open_requested(&self, id: &ChannelId, peer: &PublicKey, kind: &ChannelTypeFeatures, capacity: Amount) {
        let theirs = self.manager.list_channels_with_counterparty(peer);
        let of_peer = theirs.iter().filter(|channel| !channel.is_outbound).count();
        let all = self.manager.list_channels();
        let mined = all.iter().filter(|channel| !channel.is_outbound && is_mined(channel)).count();
        let limits = &self.inbound;
        let full = of_peer >= limits.per_peer || mined >= limits.total;
        if full || capacity < limits.min || kind.requires_zero_conf() {
            tracing::info!(peer = %peer, of_peer, mined, %capacity, "channel refused");
            return self.refuse(id, peer);
        }
        // Random, but never marked as one of the funder's.
        let mut entropy = [0; 16];
        entropy.iter_mut().zip(self.keys.get_secure_random_bytes()).skip(4).for_each(|(to, byte)| *to = byte);
        let user_channel_id = u128::from_be_bytes(entropy);
        if let Err(error) = self.manager.accept_inbound_channel(id, peer, user_channel_id, None) {
            tracing::info!(peer = %peer, ?error, "channel not accepted");
        }
    }

    fn refuse(&self, id: &ChannelId, peer: &PublicKey) {
        // An error says that it is gone already.
        let _ = self.manager.force_close_broadcasting_latest_txn(id, peer, NO_CHANNEL.to_owned());
    }

    fn claim(&self, hash: PaymentHash, purpose: &PaymentPurpose) {
        match purpose.preimage() {
            Some(preimage) => self.manager.claim_funds(preimage),
            None => self.manager.fail_htlc_backwards(&hash),
        }
    }

    fn ready(&self, id: &ChannelId, peer: &PublicKey) {
        let channels = self.manager.list_channels_with_counterparty(peer);
        let capacity_sat = channels
            .iter()
            .find(|channel| channel.channel_id == *id)
            .map(|channel| channel.channel_value_satoshis);
        tracing::info!(target: "step", step = "channel_ready", peer = %peer, capacity_sat);
    }
}
