//! Gossip is hearsay: it is taken only from peers who have a channel with us in a block, which cost them something, and no
//! more of it than the whole network has to tell.
//!
//! LDK takes announcements from anybody, and does not look whether the channels are in the chain: its verifier would fetch
//! a whole block for each, and bitcoind may have pruned it. What is not taken is not looked at: no signature is checked,
//! nothing is kept or sent on.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bitcoin::BlockHash;
use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::{
    BaseMessageHandler, ChannelAnnouncement, ChannelUpdate, Init, LightningError, MessageSendEvent,
    NodeAnnouncement, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange, ReplyShortChannelIdsEnd,
    RoutingMessageHandler,
};
use lightning::routing::gossip::NodeId;
use lightning::types::features::{InitFeatures, NodeFeatures};

use super::types::{ChannelManager, Gossip, is_mined};
use crate::lock::lock;

/// Channels of others that are known at most: more than the network ever had.
const MOST_CHANNELS: usize = 100_000;

/// Stands between the peers and LDK's picture of the network.
pub(super) struct Hearsay {
    gossip: Arc<Gossip>,
    channels: Arc<ChannelManager>,
    known: Mutex<Known>,
    /// What peers are told beside what LDK tells them.
    told: Mutex<Vec<MessageSendEvent>>,
}

/// Whom we listen to.
#[derive(Default)]
struct Known {
    /// As of this block.
    at: Option<BlockHash>,
    trusted: HashSet<PublicKey>,
    /// Connected peers who are not, with what they said: they are asked for gossip once they are.
    strangers: HashMap<PublicKey, (Init, bool)>,
}

impl Hearsay {
    pub(super) fn new(gossip: Arc<Gossip>, channels: Arc<ChannelManager>) -> Self {
        Self { gossip, channels, known: Mutex::default(), told: Mutex::default() }
    }

    /// Who is trusted as of the best block. Whoever has become so is asked for gossip.
    fn known(&self) -> MutexGuard<'_, Known> {
        let best = self.channels.current_best_block().block_hash;
        let mut known = lock(&self.known);
        if known.at != Some(best) {
            let channels = self.channels.list_channels();
            let mined = channels.iter().filter(|channel| is_mined(channel));
            known.trusted = mined.map(|channel| channel.counterparty.node_id).collect();
            known.at = Some(best);
            let Known { trusted, strangers, .. } = &mut *known;
            for (peer, (init, inbound)) in strangers.extract_if(|peer, _| trusted.contains(peer)) {
                // It never refuses a peer.
                let _ = self.gossip.peer_connected(peer, &init, inbound);
            }
        }
        known
    }

    /// Whether what this peer says is heard; `None` is our own word.
    fn hears(&self, peer: Option<&PublicKey>) -> bool {
        peer.is_none_or(|peer| self.known().trusted.contains(peer))
    }

    fn is_full(&self) -> bool {
        self.gossip.network_graph().read_only().channels().len() >= MOST_CHANNELS
    }
}

impl BaseMessageHandler for Hearsay {
    fn get_and_clear_pending_msg_events(&self) -> Vec<MessageSendEvent> {
        drop(self.known());
        let mut events = self.gossip.get_and_clear_pending_msg_events();
        events.append(&mut lock(&self.told));
        events
    }

    fn peer_connected(&self, their_node_id: PublicKey, msg: &Init, inbound: bool) -> Result<(), ()> {
        let mut known = self.known();
        if known.trusted.contains(&their_node_id) {
            return self.gossip.peer_connected(their_node_id, msg, inbound);
        }
        known.strangers.insert(their_node_id, (msg.clone(), inbound));
        Ok(())
    }

    fn peer_disconnected(&self, their_node_id: PublicKey) {
        self.known().strangers.remove(&their_node_id);
        self.gossip.peer_disconnected(their_node_id);
    }

    fn provided_node_features(&self) -> NodeFeatures {
        self.gossip.provided_node_features()
    }

    fn provided_init_features(&self, their_node_id: PublicKey) -> InitFeatures {
        self.gossip.provided_init_features(their_node_id)
    }
}

impl RoutingMessageHandler for Hearsay {
    fn handle_node_announcement(
        &self,
        their_node_id: Option<PublicKey>,
        msg: &NodeAnnouncement,
    ) -> Result<bool, LightningError> {
        match self.hears(their_node_id.as_ref()) {
            true => self.gossip.handle_node_announcement(their_node_id, msg),
            false => Ok(false),
        }
    }

    fn handle_channel_announcement(
        &self,
        their_node_id: Option<PublicKey>,
        msg: &ChannelAnnouncement,
    ) -> Result<bool, LightningError> {
        match self.hears(their_node_id.as_ref()) && (their_node_id.is_none() || !self.is_full()) {
            true => self.gossip.handle_channel_announcement(their_node_id, msg),
            false => Ok(false),
        }
    }

    fn handle_channel_update(
        &self,
        their_node_id: Option<PublicKey>,
        msg: &ChannelUpdate,
    ) -> Result<bool, LightningError> {
        match self.hears(their_node_id.as_ref()) {
            true => self.gossip.handle_channel_update(their_node_id, msg),
            false => Ok(false),
        }
    }

    fn get_next_channel_announcement(
        &self,
        starting_point: u64,
    ) -> Option<(ChannelAnnouncement, Option<ChannelUpdate>, Option<ChannelUpdate>)> {
        self.gossip.get_next_channel_announcement(starting_point)
    }

    fn get_next_node_announcement(&self, starting_point: Option<&NodeId>) -> Option<NodeAnnouncement> {
        self.gossip.get_next_node_announcement(starting_point)
    }

    fn handle_reply_channel_range(
        &self,
        their_node_id: PublicKey,
        msg: ReplyChannelRange,
    ) -> Result<(), LightningError> {
        self.gossip.handle_reply_channel_range(their_node_id, msg)
    }

    fn handle_reply_short_channel_ids_end(
        &self,
        their_node_id: PublicKey,
        msg: ReplyShortChannelIdsEnd,
    ) -> Result<(), LightningError> {
        self.gossip.handle_reply_short_channel_ids_end(their_node_id, msg)
    }

    /// A stranger gets an answer that costs us nothing: that there is nothing in his range.
    fn handle_query_channel_range(
        &self,
        their_node_id: PublicKey,
        msg: QueryChannelRange,
    ) -> Result<(), LightningError> {
        if self.hears(Some(&their_node_id)) {
            return self.gossip.handle_query_channel_range(their_node_id, msg);
        }
        let QueryChannelRange { chain_hash, first_blocknum, number_of_blocks } = msg;
        let (sync_complete, short_channel_ids) = (true, Vec::new());
        let msg = ReplyChannelRange {
            chain_hash,
            first_blocknum,
            number_of_blocks,
            sync_complete,
            short_channel_ids,
        };
        lock(&self.told).push(MessageSendEvent::SendReplyChannelRange { node_id: their_node_id, msg });
        Ok(())
    }

    fn handle_query_short_channel_ids(
        &self,
        their_node_id: PublicKey,
        msg: QueryShortChannelIds,
    ) -> Result<(), LightningError> {
        self.gossip.handle_query_short_channel_ids(their_node_id, msg)
    }

    fn processing_queue_high(&self) -> bool {
        self.gossip.processing_queue_high()
    }
}
