//! The gate between peers and LDK.
//!
//! LDK panics on purpose where going on would lose money, and leaves its locks poisoned. One such place is a peer that
//! proves, with a secret of ours, that he has a later state of a channel than we. The gate catches that, writes the
//! channels down and ends the node. After the next start it answers for them itself, and LDK hears nothing of them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::{self, BaseMessageHandler, ChannelMessageHandler, ErrorAction, MessageSendEvent};
use lightning::ln::peer_handler::{self, IgnoringMessageHandler};
use lightning::ln::types::ChannelId;
use lightning::sign::KeysManager;
use lightning::types::features::{InitFeatures, NodeFeatures};
use lightning_net_tokio::SocketDescriptor;

use super::fallen::{Fallen, FallenChannels};
use super::hearsay::Hearsay;
use super::log::Log;
use super::stop::Switch;
use super::types::{ChainMonitor, ChannelManager};
use crate::lock::lock;

pub(super) type PeerManager = peer_handler::PeerManager<
    SocketDescriptor,
    Arc<Gate>,
    Arc<Hearsay>,
    IgnoringMessageHandler,
    Arc<Log>,
    IgnoringMessageHandler,
    Arc<KeysManager>,
    Arc<ChainMonitor>,
>;

/// How LDK's panic begins when it has checked the proof.
const PROOF: &str = "We have fallen behind";
/// What the node ends with then.
const PROVED: &str = "a peer has proved that this database is older than a channel in it, so nothing is sent that the \
                      peers could punish. Started again, the node offers nothing and asks its peers to close the channels";
/// What the peer of a fallen channel is told: never why (money rule 11).
const CLOSE: &str = "channel failed";

/// Stands between the peers and LDK's ChannelManager.
pub(super) struct Gate {
    pub(super) manager: Arc<ChannelManager>,
    pub(super) monitors: Arc<ChainMonitor>,
    pub(super) fallen: Arc<FallenChannels>,
    pub(super) switch: Arc<Switch>,
    /// What peers are told besides what LDK tells them.
    pub(super) told: Mutex<Vec<MessageSendEvent>>,
}

impl Gate {
    /// Lets LDK do something; `None` when it panics, and for ever after that.
    fn pass<T>(&self, call: impl FnOnce(&ChannelManager) -> T) -> Option<T> {
        if self.switch.broken().is_some() {
            return None;
        }
        // What the panic leaves half done is never looked at again.
        let called = catch_unwind(AssertUnwindSafe(|| call(&self.manager)));
        called.map_err(|panic| self.panicked(&*panic)).ok()
    }

    /// [`Gate::pass`] for a message about a channel, if it is none that has fallen.
    fn pass_for(&self, channel: &ChannelId, call: impl FnOnce(&ChannelManager)) {
        if !self.fallen.has(channel) {
            self.pass(call);
        }
    }

    fn panicked(&self, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(|s| &**s));
        let text = text.unwrap_or("no reason given");
        let reason = match text.starts_with(PROOF) {
            true => {
                // Whoever has one old channel has nothing but old channels.
                if let Err(error) = self.fallen.note(all(&self.monitors)) {
                    tracing::error!(%error, "not written down; the peer proves it again after the next start");
                }
                PROVED.to_owned()
            }
            false => format!("LDK panicked: {text}"),
        };
        tracing::error!(reason, "the node ends");
        self.switch.break_down(reason);
    }

    /// What peers are told instead of this.
    fn instead(&self, event: MessageSendEvent) -> Vec<MessageSendEvent> {
        match event {
            MessageSendEvent::SendChannelReestablish { node_id, msg } if self.fallen.has(&msg.channel_id) => {
                ask_to_close(node_id, msg.channel_id)
            }
            event => vec![event],
        }
    }
}

/// Makes a peer close a channel: by an error, and then, for LND, which ignores errors, by what a node says that has lost
/// everything. Core Lightning hangs up at that, so it must have read the error before.
fn ask_to_close(node_id: PublicKey, channel_id: ChannelId) -> Vec<MessageSendEvent> {
    let msg = msgs::ErrorMessage { channel_id, data: CLOSE.to_owned() };
    vec![
        MessageSendEvent::HandleError { node_id, action: ErrorAction::SendErrorMessage { msg } },
        MessageSendEvent::SendChannelReestablish { node_id, msg: lost(channel_id, node_id) },
    ]
}

/// Every channel that has a monitor.
pub(super) fn all(monitors: &ChainMonitor) -> Vec<Fallen> {
    let fallen = |id| {
        let monitor = monitors.get_monitor(id).ok()?;
        let funding = monitor.get_funding_txo().into_bitcoin_outpoint();
        Some(Fallen { id, peer: monitor.get_counterparty_node_id(), funding })
    };
    monitors.list_monitors().into_iter().filter_map(fallen).collect()
}

/// As LDK says it of a channel that it does not know. Any point will do.
fn lost(channel_id: ChannelId, point: PublicKey) -> msgs::ChannelReestablish {
    msgs::ChannelReestablish {
        channel_id,
        next_local_commitment_number: 0,
        next_remote_commitment_number: 0,
        your_last_per_commitment_secret: [1; 32],
        my_current_per_commitment_point: point,
        next_funding: None,
        my_current_funding_locked: None,
    }
}

impl BaseMessageHandler for Gate {
    fn get_and_clear_pending_msg_events(&self) -> Vec<MessageSendEvent> {
        let events = self.pass(|manager| manager.get_and_clear_pending_msg_events()).unwrap_or_default();
        let mut events: Vec<_> = events.into_iter().flat_map(|event| self.instead(event)).collect();
        events.append(&mut lock(&self.told));
        events
    }

    fn peer_disconnected(&self, their_node_id: PublicKey) {
        self.pass(|manager| manager.peer_disconnected(their_node_id));
    }

    fn provided_node_features(&self) -> NodeFeatures {
        self.pass(|manager| manager.provided_node_features()).unwrap_or_else(NodeFeatures::empty)
    }

    fn provided_init_features(&self, their_node_id: PublicKey) -> InitFeatures {
        let features = self.pass(|manager| manager.provided_init_features(their_node_id));
        features.unwrap_or_else(InitFeatures::empty)
    }

    fn peer_connected(&self, their_node_id: PublicKey, msg: &msgs::Init, inbound: bool) -> Result<(), ()> {
        self.pass(|manager| manager.peer_connected(their_node_id, msg, inbound)).unwrap_or(Err(()))
    }
}

/// Messages that are handed on, unless they are about a channel that has fallen.
macro_rules! about_channels {
    ($($name:ident: $message:ty,)*) => {
        $(fn $name(&self, their_node_id: PublicKey, msg: $message) {
            let channel = msg.channel_id;
            self.pass_for(&channel, |manager| manager.$name(their_node_id, msg));
        })*
    };
}

/// Messages that are handed on.
macro_rules! others {
    ($($name:ident: $message:ty,)*) => {
        $(fn $name(&self, their_node_id: PublicKey, msg: $message) {
            self.pass(|manager| manager.$name(their_node_id, msg));
        })*
    };
}

impl ChannelMessageHandler for Gate {
    others! {
        handle_open_channel: &msgs::OpenChannel,
        handle_open_channel_v2: &msgs::OpenChannelV2,
        handle_accept_channel: &msgs::AcceptChannel,
        handle_accept_channel_v2: &msgs::AcceptChannelV2,
        handle_funding_created: &msgs::FundingCreated,
        handle_peer_storage: msgs::PeerStorage,
        handle_peer_storage_retrieval: msgs::PeerStorageRetrieval,
        handle_channel_update: &msgs::ChannelUpdate,
        // That a peer closes it is what we want.
        handle_error: &msgs::ErrorMessage,
    }

    about_channels! {
        handle_funding_signed: &msgs::FundingSigned,
        handle_channel_ready: &msgs::ChannelReady,
        handle_shutdown: &msgs::Shutdown,
        handle_closing_signed: &msgs::ClosingSigned,
        handle_stfu: &msgs::Stfu,
        handle_splice_init: &msgs::SpliceInit,
        handle_splice_ack: &msgs::SpliceAck,
        handle_splice_locked: &msgs::SpliceLocked,
        handle_tx_add_input: &msgs::TxAddInput,
        handle_tx_add_output: &msgs::TxAddOutput,
        handle_tx_remove_input: &msgs::TxRemoveInput,
        handle_tx_remove_output: &msgs::TxRemoveOutput,
        handle_tx_complete: &msgs::TxComplete,
        handle_tx_signatures: &msgs::TxSignatures,
        handle_tx_init_rbf: &msgs::TxInitRbf,
        handle_tx_ack_rbf: &msgs::TxAckRbf,
        handle_tx_abort: &msgs::TxAbort,
        handle_update_add_htlc: &msgs::UpdateAddHTLC,
        handle_update_fulfill_htlc: msgs::UpdateFulfillHTLC,
        handle_update_fail_htlc: &msgs::UpdateFailHTLC,
        handle_update_fail_malformed_htlc: &msgs::UpdateFailMalformedHTLC,
        handle_commitment_signed: &msgs::CommitmentSigned,
        handle_revoke_and_ack: &msgs::RevokeAndACK,
        handle_update_fee: &msgs::UpdateFee,
        handle_announcement_signatures: &msgs::AnnouncementSignatures,
    }

    fn handle_commitment_signed_batch(
        &self,
        their_node_id: PublicKey,
        channel_id: ChannelId,
        batch: Vec<msgs::CommitmentSigned>,
    ) {
        self.pass_for(&channel_id, |manager| {
            manager.handle_commitment_signed_batch(their_node_id, channel_id, batch);
        });
    }

    fn handle_channel_reestablish(&self, their_node_id: PublicKey, msg: &msgs::ChannelReestablish) {
        match self.fallen.has(&msg.channel_id) {
            true => lock(&self.told).extend(ask_to_close(their_node_id, msg.channel_id)),
            false => drop(self.pass(|manager| manager.handle_channel_reestablish(their_node_id, msg))),
        }
    }

    fn get_chain_hashes(&self) -> Option<Vec<ChainHash>> {
        self.pass(|manager| manager.get_chain_hashes()).flatten()
    }

    fn message_received(&self) {
        self.pass(|manager| manager.message_received());
    }
}
