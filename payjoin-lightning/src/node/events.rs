//! What LDK tells us, and what we do about it.
//!
//! An event is done when [`Events::handle`] returns `Ok`; LDK repeats it otherwise, after a restart too. So everything
//! here is durable before `Ok`, and may happen twice.

use std::sync::Arc;

use bitcoin::Amount;
use bitcoin::secp256k1::PublicKey;
use lightning::chain::chaininterface::BroadcasterInterface as _;
use lightning::chain::transaction;
use lightning::events::bump_transaction::BumpTransactionEvent;
use lightning::events::{ClosureReason, Event, PaymentPurpose, ReplayEvent};
use lightning::ln::types::ChannelId;
use lightning::sign::{EntropySource, KeysManager, SpendableOutputDescriptor};
use lightning::types::features::ChannelTypeFeatures;
use lightning::types::payment::PaymentHash;
use payjoin_core::Step;

use super::broadcast::Broadcaster;
use super::census::Census;
use super::closed::{self, Closed};
use super::closing::{self, Closing};
use super::fallen::FallenChannels;
use super::funder::NodeFunder;
use super::limits::{Limits, Refused};
use super::log::Log;
use super::parts::{Bumper, Sweeper};
use super::payments::Payments;
use super::types::{ChannelManager, is_mined};
use super::wallet::NodeWallet;
use crate::unborn::Unborn;
use crate::{ChannelKey, PaidOnce};

/// What a peer is told when we take none of its channels: never why (money rule 11).
const NO_CHANNEL: &str = "channel not accepted";

pub(super) struct Events {
    pub(super) funder: Arc<NodeFunder>,
    pub(super) manager: Arc<ChannelManager>,
    pub(super) payments: Arc<Payments>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) bumper: Arc<Bumper>,
    pub(super) keys: Arc<KeysManager>,
    pub(super) limits: Limits,
    pub(super) closing: Arc<Closing>,
    pub(super) ended: Arc<Closed>,
    pub(super) broadcaster: Arc<Broadcaster>,
    pub(super) fallen: Arc<FallenChannels>,
    pub(super) wallet: Arc<NodeWallet>,
    pub(super) census: Arc<Census>,
    pub(super) log: Arc<Log>,
    pub(super) once: Option<Arc<dyn PaidOnce>>,
}

fn unrecorded(error: impl std::fmt::Display) -> ReplayEvent {
    tracing::error!(%error, "the outcome of a payment is not recorded; LDK says it again");
    ReplayEvent()
}

impl Events {
    pub(super) async fn handle(&self, event: Event) -> Result<(), ReplayEvent> {
        if self.funder.ldk.handle_event(&event) {
            return Ok(());
        }
        match event {
            Event::OpenChannelRequest {
                temporary_channel_id: id,
                counterparty_node_id: peer,
                channel_type,
                funding_satoshis: sat,
                ..
            } => self.open_requested(&id, &peer, &channel_type, Amount::from_sat(sat)),
            Event::ChannelPending { channel_id: id, user_channel_id: key, .. } => self.pending(id, key),
            // Only the funder opens channels, and it knows its own.
            Event::FundingGenerationReady {
                temporary_channel_id: id, counterparty_node_id: peer, ..
            } => self.refuse(&id, &peer),
            Event::PaymentClaimable { payment_hash: hash, purpose, .. } => {
                return self.claim(hash, &purpose).await;
            }
            Event::PaymentClaimed { payment_hash, amount_msat, .. } => {
                tracing::info!(payment = %payment_hash, amount_msat, "payment received");
                return self.received(payment_hash, Amount::from_sat(amount_msat / 1_000)).await;
            }
            Event::PaymentSent { .. } | Event::PaymentFailed { .. } => return self.paid(&event).await,
            Event::ChannelReady { channel_id: id, counterparty_node_id: peer, .. } => self.ready(&id, &peer),
            Event::ChannelClosed {
                reason,
                user_channel_id: id,
                counterparty_node_id: peer,
                channel_funding_txo,
                ..
            } => return self.closed(id, channel_funding_txo, peer, &reason),
            Event::SpendableOutputs { outputs, channel_id } => return self.sweep(outputs, channel_id),
            Event::BumpTransaction(event) => self.bump(&event),
            event => tracing::trace!(?event, "nothing to do"),
        }
        Ok(())
    }

    /// Nothing depends on a peer's channel before it is ready. Ours are safe.
    fn pending(&self, channel: ChannelId, user_channel_id: u128) {
        if ChannelKey::from_user_channel_id(user_channel_id).is_none() {
            self.unborn().add(channel);
        }
    }

    fn unborn(&self) -> &Unborn {
        &self.log.unborn
    }

    async fn paid(&self, event: &Event) -> Result<(), ReplayEvent> {
        self.payments.handle_event(event).map_err(unrecorded)?;
        let Some(once) = &self.once else { return Ok(()) };
        let told = match event {
            Event::PaymentSent { payment_hash, fee_paid_msat, .. } => {
                once.sent(payment_hash.0, fee_paid_msat.unwrap_or(0)).await
            }
            Event::PaymentFailed { payment_hash: Some(hash), reason, .. } => {
                let reason = reason.map_or_else(|| "unknown".to_owned(), |reason| format!("{reason:?}"));
                once.failed(hash.0, &reason).await
            }
            _ => Ok(()),
        };
        told.map_err(unrecorded)
    }

    async fn received(&self, hash: PaymentHash, amount: Amount) -> Result<(), ReplayEvent> {
        match &self.once {
            Some(once) => once.received(hash.0, amount).await.map_err(unrecorded),
            None => Ok(()),
        }
    }

    fn closed(
        &self,
        user_channel_id: u128,
        funding: Option<transaction::OutPoint>,
        peer: Option<PublicKey>,
        reason: &ClosureReason,
    ) -> Result<(), ReplayEvent> {
        let Some(funding) = funding.map(transaction::OutPoint::into_bitcoin_outpoint) else { return Ok(()) };
        let end = closed::end(reason);
        tracing::info!(%funding, reason = end.reason, "channel closed");
        self.broadcaster.set_owner(&funding, user_channel_id);
        let key = ChannelKey::from_user_channel_id(user_channel_id);
        if key.is_some() {
            self.ended.note(&funding, &end).map_err(|error| {
                tracing::error!(%error, "the end of a channel is not recorded; LDK says it again");
                ReplayEvent()
            })?;
        }
        self.funder.ldk.tell(key, Step::ChannelClosed { peer, reason: end.reason });
        Ok(())
    }

    fn bump(&self, event: &BumpTransactionEvent) {
        if let BumpTransactionEvent::ChannelClose { commitment_tx, channel_id, .. } = event {
            if self.fallen.has(channel_id) {
                return;
            }
            // LDK sends it only together with a child that coins of ours pay for. It may well be mined without.
            self.broadcaster.broadcast_transactions(&[commitment_tx]);
        }
        self.bumper.handle_event(event);
        let (outputs, missing) = closing::asked(event);
        let done = outputs.iter().all(|output| self.broadcaster.spender(output).is_some());
        let needs = Some(missing).filter(|missing| !done && *missing > Amount::ZERO);
        if self.closing.note(event, needs) {
            let deposit_sat = missing.to_sat();
            tracing::warn!(
                deposit_sat,
                "a channel closes slowly for want of a free coin: deposit about so much"
            );
        }
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
        self.unborn().add(*id);
        let theirs = self.manager.list_channels_with_counterparty(peer);
        let of_peer = theirs.iter().filter(|channel| !channel.is_outbound).count();
        let all = self.manager.list_channels();
        let mined = all.iter().filter(|channel| !channel.is_outbound && is_mined(channel)).count();
        if kind.requires_zero_conf() || !self.fallen.is_empty() {
            tracing::info!(peer = %peer, of_peer, mined, %capacity, "channel refused");
            return self.refuse(id, peer);
        }
        if let Some(refused) = self.limits.refuse(capacity, of_peer, mined) {
            self.tell_refused(peer, refused);
            return self.refuse(id, peer);
        }
        // Those of this peer that are not mined yet will want a coin as well.
        let waiting = theirs.iter().filter(|channel| !channel.is_outbound && !is_mined(channel)).count();
        let closable = self.wallet.closable();
        if !self.limits.without_coins && closable <= self.census.channels().total() + waiting {
            tracing::info!(peer = %peer, closable, "channel refused: no coin could pay for closing it");
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

    fn tell_refused(&self, peer: &PublicKey, refused: Refused) {
        if self.limits.is_news(*peer, refused) {
            let Refused { setting, limit, asked } = refused;
            tracing::warn!(%peer, setting, limit, asked, "a channel is refused by a setting in [lightning]");
            let (peer, setting) = (*peer, setting.to_owned());
            self.funder.ldk.tell(None, Step::InboundRefused { peer, setting, limit, asked });
        }
    }

    fn refuse(&self, id: &ChannelId, peer: &PublicKey) {
        // An error says that it is gone already.
        let _ = self.manager.force_close_broadcasting_latest_txn(id, peer, NO_CHANNEL.to_owned());
    }

    /// What a code asks for, too, is taken only if the code was not paid on chain.
    async fn claim(&self, hash: PaymentHash, purpose: &PaymentPurpose) -> Result<(), ReplayEvent> {
        let may = match &self.once {
            Some(once) => once.may_take(hash.0).await.map_err(|error| {
                tracing::error!(%error, "nobody knows whether a payment may be taken; LDK says it again");
                ReplayEvent()
            })?,
            None => true,
        };
        match purpose.preimage().filter(|_| may) {
            Some(preimage) => self.manager.claim_funds(preimage),
            None => self.manager.fail_htlc_backwards(&hash),
        }
        Ok(())
    }

    fn ready(&self, id: &ChannelId, peer: &PublicKey) {
        self.unborn().remove(id);
        let channels = self.manager.list_channels_with_counterparty(peer);
        let channel = channels.iter().find(|channel| channel.channel_id == *id);
        let key = channel.and_then(|channel| ChannelKey::from_user_channel_id(channel.user_channel_id));
        let capacity = channel.map(|channel| Amount::from_sat(channel.channel_value_satoshis));
        self.funder.ldk.tell(key, Step::ChannelReady { peer: *peer, capacity });
    }
}
