//! Which channels the wallet may have to close, and which are closing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bitcoin::BlockHash;
use lightning::chain::channelmonitor::Balance;
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::types::ChannelId;

use super::broadcast::Broadcaster;
use super::types::{ChainMonitor, ChannelManager, is_mined};
use crate::lock::lock;

/// Channels that may cost a coin of ours each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Channels {
    /// Those that are open.
    pub(super) open: usize,
    /// Those that are closed, and not yet at their end on chain.
    pub(super) closing: usize,
}

impl Channels {
    pub(super) fn total(self) -> usize {
        self.open + self.closing
    }
}

/// Counts them. LDK counts too many for itself: monitors of channels whose funding never was, and channels of strangers.
pub(super) struct Census {
    pub(super) manager: Arc<ChannelManager>,
    pub(super) monitors: Arc<ChainMonitor>,
    pub(super) broadcaster: Arc<Broadcaster>,
    /// Of channels that peers opened no more count than we mean to have: many may be under way before the first is mined.
    pub(super) inbound_total: usize,
    /// How many were closing at this block, while so many were open: looking at every monitor costs too much for each
    /// payment.
    pub(super) closing: Mutex<Option<((BlockHash, usize), usize)>>,
}

impl Census {
    /// One that a peer opened counts once its funding is mined: until then a peer could make us keep back any amount for
    /// nothing.
    pub(super) fn channels(&self) -> Channels {
        let channels = self.manager.list_channels();
        let outbound = channels.iter().filter(|channel| channel.is_outbound).count();
        let inbound = channels.iter().filter(|channel| !channel.is_outbound && is_mined(channel)).count();
        Channels { open: outbound + inbound.min(self.inbound_total), closing: self.closing(&channels) }
    }

    fn closing(&self, channels: &[ChannelDetails]) -> usize {
        let at = (self.manager.current_best_block().block_hash, channels.len());
        if let Some((known, count)) = *lock(&self.closing)
            && known == at
        {
            return count;
        }
        let open: HashSet<_> = channels.iter().map(|channel| channel.channel_id).collect();
        let closed = self.monitors.list_monitors().into_iter().filter(|id| !open.contains(id));
        let count = closed.filter(|id| self.may_cost(*id)).count();
        *lock(&self.closing) = Some((at, count));
        count
    }

    /// Whether a closed channel may need a coin still: until its commitment is mined, and until its last payment is
    /// settled there.
    fn may_cost(&self, id: ChannelId) -> bool {
        let Ok(monitor) = self.monitors.get_monitor(id) else { return false };
        let funding = monitor.get_funding_txo().into_bitcoin_outpoint();
        monitor.get_claimable_balances().iter().any(|balance| match balance {
            // Without a transaction of ours the funding was never mined.
            Balance::ClaimableOnChannelClose { .. } => self.broadcaster.spender(&funding).is_some(),
            Balance::ContentiousClaimable { .. }
            | Balance::MaybeTimeoutClaimableHTLC { .. }
            | Balance::MaybePreimageClaimableHTLC { .. } => true,
            Balance::ClaimableAwaitingConfirmations { .. }
            | Balance::CounterpartyRevokedOutputClaimable { .. } => false,
        })
    }
}
