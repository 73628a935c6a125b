//! LDK's generic parts, with the parts that this node has.

use std::sync::{Arc, RwLock};

use lightning::chain::channelmonitor::ChannelMonitor;
use lightning::chain::{Filter, chainmonitor};
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager;
use lightning::onion_message::messenger::DefaultMessageRouter;
use lightning::routing::gossip::{NetworkGraph, P2PGossipSync};
use lightning::routing::router::DefaultRouter;
use lightning::routing::scoring::{ProbabilisticScorer, ProbabilisticScoringFeeParameters};
use lightning::routing::utxo::UtxoLookup;
use lightning::sign::{InMemorySigner, KeysManager};

use super::broadcast::Broadcaster;
use super::fees::Fees;
use super::log::Log;
use super::store::NodeStore;
use super::wallet::Signers;

pub(super) type Graph = NetworkGraph<Arc<Log>>;
pub(super) type Scorer = RwLock<ProbabilisticScorer<Arc<Graph>, Arc<Log>>>;
pub(super) type Gossip = P2PGossipSync<Arc<Graph>, Arc<dyn UtxoLookup + Send + Sync>, Arc<Log>>;
pub(super) type Router = DefaultRouter<
    Arc<Graph>,
    Arc<Log>,
    Arc<KeysManager>,
    Arc<Scorer>,
    ProbabilisticScoringFeeParameters,
    ProbabilisticScorer<Arc<Graph>, Arc<Log>>,
>;
pub(super) type MessageRouter = DefaultMessageRouter<Arc<Graph>, Arc<Log>, Arc<KeysManager>>;
pub(super) type NoFilter = Arc<dyn Filter + Send + Sync>;
pub(super) type ChainMonitor = chainmonitor::ChainMonitor<
    InMemorySigner,
    NoFilter,
    Arc<Broadcaster>,
    Arc<Fees>,
    Arc<Log>,
    Arc<dyn NodeStore>,
    Arc<KeysManager>,
>;
/// LDK's ChannelManager with the parts of this node.
pub(super) type ChannelManager = channelmanager::ChannelManager<
    Arc<ChainMonitor>,
    Arc<Broadcaster>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Signers>,
    Arc<Fees>,
    Arc<Router>,
    Arc<MessageRouter>,
    Arc<Log>,
>;
/// A monitor that is not watched yet, with what it needs to follow the chain.
pub(super) type Monitor = (ChannelMonitor<InMemorySigner>, Arc<Broadcaster>, Arc<Fees>, Arc<Log>);

/// Whether a channel's funding is in a block.
pub(super) fn is_mined(channel: &ChannelDetails) -> bool {
    channel.confirmations.is_some_and(|depth| depth > 0)
}
