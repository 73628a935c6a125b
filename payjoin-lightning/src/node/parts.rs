//! The parts of an LDK node and how they are read back from the store.

use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use lightning::chain::BestBlock;
use lightning::chain::channelmonitor::ChannelMonitor;
use lightning::events::bump_transaction::sync::{BumpTransactionEventHandlerSync, WalletSync};
use lightning::io;
use lightning::ln::channelmanager::{ChainParameters, ChannelManagerReadArgs};
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler};
use lightning::routing::scoring::{
    ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
};
use lightning::sign::{EntropySource, InMemorySigner, KeysManager, NodeSigner};
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE, OUTPUT_SWEEPER_PERSISTENCE_KEY,
    OUTPUT_SWEEPER_PERSISTENCE_PRIMARY_NAMESPACE, OUTPUT_SWEEPER_PERSISTENCE_SECONDARY_NAMESPACE,
    SCORER_PERSISTENCE_KEY, SCORER_PERSISTENCE_PRIMARY_NAMESPACE, SCORER_PERSISTENCE_SECONDARY_NAMESPACE,
    read_channel_monitors,
};
use lightning::util::ser::ReadableArgs;
use lightning::util::sweep::OutputSweeperSync;

use super::broadcast::Broadcaster;
use super::config::NodeConfig;
use super::error::NodeError;
use super::fallen::FallenChannels;
use super::fees::Fees;
use super::gate::{Gate, PeerManager};
use super::hearsay::Hearsay;
use super::log::Log;
use super::manager_store::ManagerStore;
use super::stop::Switch;
use super::store::NodeStore;
use super::types::{
    ChainMonitor, ChannelManager, Gossip, Graph, MessageRouter, Monitor, NoFilter, Router, Scorer,
};
use super::wallet::{NodeWallet, Signers};

pub(super) type Sweeper = OutputSweeperSync<
    Arc<Broadcaster>,
    Arc<NodeWallet>,
    Arc<Fees>,
    NoFilter,
    Arc<ManagerStore>,
    Arc<Log>,
    Arc<KeysManager>,
>;
pub(super) type Bumper = BumpTransactionEventHandlerSync<
    Arc<Broadcaster>,
    Arc<WalletSync<Arc<NodeWallet>, Arc<Log>>>,
    Arc<Signers>,
    Arc<Log>,
>;
/// What everything else is built on.
pub(super) struct Ground {
    pub(super) keys: Arc<KeysManager>,
    pub(super) wallet: Arc<NodeWallet>,
    pub(super) broadcaster: Arc<Broadcaster>,
    pub(super) fallen: Arc<FallenChannels>,
    pub(super) switch: Arc<Switch>,
    pub(super) fees: Arc<Fees>,
    pub(super) store: Arc<dyn NodeStore>,
    pub(super) log: Arc<Log>,
}

/// The parts of a running node.
pub(super) struct Parts {
    pub(super) manager: Arc<ChannelManager>,
    pub(super) chain_monitor: Arc<ChainMonitor>,
    pub(super) manager_store: Arc<ManagerStore>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) bumper: Arc<Bumper>,
    pub(super) gossip: Arc<Gossip>,
    pub(super) scorer: Arc<Scorer>,
    pub(super) peers: Arc<PeerManager>,
    /// Monitors as they were stored; to be watched once they know the tip.
    pub(super) monitors: Vec<Monitor>,
}

/// What the ChannelManager is wired to.
struct Wiring {
    chain_monitor: Arc<ChainMonitor>,
    signers: Arc<Signers>,
    graph: Arc<Graph>,
    scorer: Arc<Scorer>,
    router: Arc<Router>,
    message_router: Arc<MessageRouter>,
}

impl Ground {
    /// Reads the parts from the store, or makes them when there are none. `tip` is the block new ones start from.
    pub(super) fn build(&self, config: &NodeConfig, tip: BestBlock) -> Result<Parts, NodeError> {
        let wiring = self.wire(config)?;
        let (keys, signers) = (Arc::clone(&self.keys), Arc::clone(&wiring.signers));
        let monitors = read_channel_monitors(Arc::clone(&self.store), keys, signers)?;
        let stored = stored_manager(&*self.store)?;
        let is_new = stored.is_none();
        let manager = match stored {
            Some(bytes) => self.read_manager(config, &wiring, &bytes, &monitors)?,
            None if monitors.is_empty() => self.new_manager(config, &wiring, tip),
            None => return Err(NodeError::Incomplete("there are monitors but no channel manager")),
        };
        let manager = Arc::new(manager);
        let manager_store = Arc::new(ManagerStore::new(Arc::clone(&self.store), Arc::clone(&manager))?);
        if is_new {
            // Before the first monitor is written: nothing can be made of monitors without a manager.
            self.store.write_manager(manager_store.state())?;
        }
        let sweeper = self.sweeper(tip, &manager_store)?;
        let Wiring { chain_monitor, signers, graph, scorer, .. } = wiring;
        let gossip = Arc::new(Gossip::new(graph, None, Arc::clone(&self.log)));
        let coins = Arc::new(WalletSync::new(Arc::clone(&self.wallet), Arc::clone(&self.log)));
        let bumper = Bumper::new(Arc::clone(&self.broadcaster), coins, signers, Arc::clone(&self.log));
        let with_ground = |(_, monitor)| {
            let (broadcaster, fees) = (Arc::clone(&self.broadcaster), Arc::clone(&self.fees));
            (monitor, broadcaster, fees, Arc::clone(&self.log))
        };
        Ok(Parts {
            peers: Arc::new(self.peers(&manager, &gossip, &chain_monitor)),
            bumper: Arc::new(bumper),
            sweeper: Arc::new(sweeper),
            monitors: monitors.into_iter().map(with_ground).collect(),
            manager,
            chain_monitor,
            manager_store,
            gossip,
            scorer,
        })
    }

    fn wire(&self, config: &NodeConfig) -> Result<Wiring, NodeError> {
        let (keys, log) = (|| Arc::clone(&self.keys), || Arc::clone(&self.log));
        let graph = Arc::new(Graph::new(config.network, log()));
        let scorer = self.scorer(&graph)?;
        let scoring = ProbabilisticScoringFeeParameters::default();
        let router = Router::new(Arc::clone(&graph), log(), keys(), Arc::clone(&scorer), scoring);
        let chain_monitor = ChainMonitor::new(
            None,
            Arc::clone(&self.broadcaster),
            log(),
            Arc::clone(&self.fees),
            Arc::clone(&self.store),
            keys(),
            self.keys.get_peer_storage_key(),
        );
        Ok(Wiring {
            chain_monitor: Arc::new(chain_monitor),
            signers: Arc::new(Signers::new(keys(), Arc::clone(&self.wallet))),
            router: Arc::new(router),
            message_router: Arc::new(MessageRouter::new(Arc::clone(&graph), keys())),
            graph,
            scorer,
        })
    }

    fn scorer(&self, graph: &Arc<Graph>) -> Result<Arc<Scorer>, NodeError> {
        let stored = self.read(
            SCORER_PERSISTENCE_PRIMARY_NAMESPACE,
            SCORER_PERSISTENCE_SECONDARY_NAMESPACE,
            SCORER_PERSISTENCE_KEY,
        )?;
        let decay = ProbabilisticScoringDecayParameters::default();
        let log = Arc::clone(&self.log);
        let scorer = match stored {
            Some(bytes) => ReadableArgs::read(&mut &bytes[..], (decay, Arc::clone(graph), log))
                .map_err(|error| NodeError::damaged("the scorer", error))?,
            None => ProbabilisticScorer::new(decay, Arc::clone(graph), log),
        };
        Ok(Arc::new(RwLock::new(scorer)))
    }

    fn new_manager(&self, config: &NodeConfig, wiring: &Wiring, tip: BestBlock) -> ChannelManager {
        ChannelManager::new(
            Arc::clone(&self.fees),
            Arc::clone(&wiring.chain_monitor),
            Arc::clone(&self.broadcaster),
            Arc::clone(&wiring.router),
            Arc::clone(&wiring.message_router),
            Arc::clone(&self.log),
            Arc::clone(&self.keys),
            Arc::clone(&self.keys),
            Arc::clone(&wiring.signers),
            config.ldk(),
            ChainParameters { network: config.network, best_block: tip },
            unix_time(),
        )
    }

    fn read_manager(
        &self,
        config: &NodeConfig,
        wiring: &Wiring,
        bytes: &[u8],
        monitors: &[(BlockHash, ChannelMonitor<InMemorySigner>)],
    ) -> Result<ChannelManager, NodeError> {
        let args = ChannelManagerReadArgs::new(
            Arc::clone(&self.keys),
            Arc::clone(&self.keys),
            Arc::clone(&wiring.signers),
            Arc::clone(&self.fees),
            Arc::clone(&wiring.chain_monitor),
            Arc::clone(&self.broadcaster),
            Arc::clone(&wiring.router),
            Arc::clone(&wiring.message_router),
            Arc::clone(&self.log),
            config.ldk(),
            monitors.iter().map(|(_, monitor)| monitor).collect(),
        );
        let (_, manager): (BlockHash, _) = ReadableArgs::read(&mut &bytes[..], args)
            .map_err(|error| NodeError::damaged("the channel manager", error))?;
        Ok(manager)
    }

    fn sweeper(&self, tip: BestBlock, store: &Arc<ManagerStore>) -> Result<Sweeper, NodeError> {
        let stored = self.read(
            OUTPUT_SWEEPER_PERSISTENCE_PRIMARY_NAMESPACE,
            OUTPUT_SWEEPER_PERSISTENCE_SECONDARY_NAMESPACE,
            OUTPUT_SWEEPER_PERSISTENCE_KEY,
        )?;
        let (broadcaster, fees) = (Arc::clone(&self.broadcaster), Arc::clone(&self.fees));
        let (keys, wallet) = (Arc::clone(&self.keys), Arc::clone(&self.wallet));
        let (store, log) = (Arc::clone(store), Arc::clone(&self.log));
        let Some(bytes) = stored else {
            return Ok(Sweeper::new(tip, broadcaster, fees, None, keys, wallet, store, log));
        };
        let args = (broadcaster, fees, None, keys, wallet, store, log);
        let (_, sweeper): (BestBlock, Sweeper) = ReadableArgs::read(&mut &bytes[..], args)
            .map_err(|error| NodeError::damaged("the output sweeper", error))?;
        Ok(sweeper)
    }

    fn peers(
        &self,
        manager: &Arc<ChannelManager>,
        gossip: &Arc<Gossip>,
        chain_monitor: &Arc<ChainMonitor>,
    ) -> PeerManager {
        let gate = Gate {
            manager: Arc::clone(manager),
            monitors: Arc::clone(chain_monitor),
            fallen: Arc::clone(&self.fallen),
            switch: Arc::clone(&self.switch),
            told: Mutex::default(),
        };
        let handlers = MessageHandler {
            chan_handler: Arc::new(gate),
            route_handler: Arc::new(Hearsay::new(Arc::clone(gossip), Arc::clone(manager))),
            onion_message_handler: IgnoringMessageHandler {},
            custom_message_handler: IgnoringMessageHandler {},
            send_only_message_handler: Arc::clone(chain_monitor),
        };
        let entropy = self.keys.get_secure_random_bytes();
        let (log, keys) = (Arc::clone(&self.log), Arc::clone(&self.keys));
        PeerManager::new(handlers, unix_time(), &entropy, log, keys)
    }

    fn read(&self, primary: &str, secondary: &str, key: &str) -> Result<Option<Vec<u8>>, io::Error> {
        read(&*self.store, primary, secondary, key)
    }
}

/// The stored ChannelManager, if there is one.
pub(super) fn stored_manager(store: &dyn NodeStore) -> Result<Option<Vec<u8>>, io::Error> {
    read(
        store,
        CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
        CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
        CHANNEL_MANAGER_PERSISTENCE_KEY,
    )
}

fn read(
    store: &dyn NodeStore,
    primary: &str,
    secondary: &str,
    key: &str,
) -> Result<Option<Vec<u8>>, io::Error> {
    match store.read(primary, secondary, key) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Time since the epoch.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// [`now`] as LDK wants it: 32 bits of seconds, enough until 2106.
fn unix_time() -> u32 {
    u32::try_from(now().as_secs()).unwrap_or(u32::MAX)
}
