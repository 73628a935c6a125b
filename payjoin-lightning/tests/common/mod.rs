//! A Lightning node in this process: real LDK, real TCP on loopback, no chain, state in memory. Serves the tests and
//! the example.

#![allow(clippy::unwrap_used, dead_code, reason = "each target uses its part")]

pub(crate) mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    absolute, transaction,
};
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use lightning::chain::chainmonitor::{ChainMonitor, Persist};
use lightning::chain::channelmonitor::{ChannelMonitor, ChannelMonitorUpdate};
use lightning::chain::{BestBlock, ChannelMonitorUpdateStatus, Filter};
use lightning::events::{Event, EventsProvider};
use lightning::ln::channelmanager::{ChainParameters, ChannelManagerReadArgs, SimpleArcChannelManager};
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning::onion_message::messenger::DefaultMessageRouter;
use lightning::routing::gossip::NetworkGraph;
use lightning::routing::router::DefaultRouter;
use lightning::routing::scoring::{
    ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
};
use lightning::sign::{InMemorySigner, KeysManager, NodeSigner};
use lightning::util::config::UserConfig;
use lightning::util::logger::{Logger, Record};
use lightning::util::persist::MonitorName;
use lightning::util::ser::{ReadableArgs, Writeable};
use lightning_net_tokio::SocketDescriptor;
use payjoin_core::{ChannelAmount, ChannelSpec, IntentId, PeerAddress, PlannedChannel};
use payjoin_lightning::Connector;
use tokio::net::TcpListener;

pub(crate) type Manager = SimpleArcChannelManager<Monitor, Broadcaster, Fees, Quiet>;
type Monitor = ChainMonitor<
    InMemorySigner,
    Arc<dyn Filter + Send + Sync>,
    Arc<Broadcaster>,
    Arc<Fees>,
    Arc<Quiet>,
    Arc<Disk>,
    Arc<KeysManager>,
>;
type Peers = PeerManager<
    SocketDescriptor,
    Arc<Manager>,
    IgnoringMessageHandler,
    IgnoringMessageHandler,
    Arc<Quiet>,
    IgnoringMessageHandler,
    Arc<KeysManager>,
    Arc<Monitor>,
>;

type Graph = NetworkGraph<Arc<Quiet>>;
type Router = DefaultRouter<
    Arc<Graph>,
    Arc<Quiet>,
    Arc<KeysManager>,
    Arc<RwLock<ProbabilisticScorer<Arc<Graph>, Arc<Quiet>>>>,
    ProbabilisticScoringFeeParameters,
    ProbabilisticScorer<Arc<Graph>, Arc<Quiet>>,
>;

pub(crate) struct Quiet;

impl Logger for Quiet {
    fn log(&self, _: Record<'_>) {}
}

pub(crate) struct Fees;

impl FeeEstimator for Fees {
    fn get_est_sat_per_1000_weight(&self, _: ConfirmationTarget) -> u32 {
        1_000
    }
}

#[derive(Default)]
pub(crate) struct Broadcaster(pub(crate) Mutex<Vec<Txid>>);

impl BroadcasterInterface for Broadcaster {
    fn broadcast_transactions(&self, transactions: &[&Transaction]) {
        self.0.lock().unwrap().extend(transactions.iter().map(|t| t.compute_txid()));
    }
}

/// Keeps monitors, at once or only when told to.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) hangs: AtomicBool,
    monitors: Mutex<HashMap<MonitorName, Vec<u8>>>,
}

impl Disk {
    fn keep(
        &self,
        name: MonitorName,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        if self.hangs.load(Ordering::Relaxed) {
            return ChannelMonitorUpdateStatus::InProgress;
        }
        self.monitors.lock().unwrap().insert(name, monitor.encode());
        ChannelMonitorUpdateStatus::Completed
    }

    fn read(&self, keys: &KeysManager) -> Vec<ChannelMonitor<InMemorySigner>> {
        let read = |bytes: &Vec<u8>| {
            let (_, monitor) = <(BlockHash, _)>::read(&mut &bytes[..], (keys, keys)).unwrap();
            monitor
        };
        self.monitors.lock().unwrap().values().map(read).collect()
    }
}

impl Persist<InMemorySigner> for Disk {
    fn persist_new_channel(
        &self,
        name: MonitorName,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        self.keep(name, monitor)
    }

    fn update_persisted_channel(
        &self,
        name: MonitorName,
        _: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        self.keep(name, monitor)
    }

    fn archive_persisted_channel(&self, name: MonitorName) {
        self.monitors.lock().unwrap().remove(&name);
    }
}

/// What LDK's manager is made of.
struct Parts {
    quiet: Arc<Quiet>,
    fees: Arc<Fees>,
    broadcaster: Arc<Broadcaster>,
    keys: Arc<KeysManager>,
    router: Arc<Router>,
    messages: Arc<DefaultMessageRouter<Arc<Graph>, Arc<Quiet>, Arc<KeysManager>>>,
    disk: Arc<Disk>,
    monitor: Arc<Monitor>,
    config: UserConfig,
}

impl Parts {
    fn new(seed: u8, disk: Arc<Disk>) -> Self {
        let (quiet, fees, broadcaster) = (Arc::new(Quiet), Arc::new(Fees), Arc::<Broadcaster>::default());
        let keys = Arc::new(KeysManager::new(&[seed; 32], 42, u32::from(seed), true));
        let graph = Arc::new(NetworkGraph::new(Network::Regtest, Arc::clone(&quiet)));
        let decay = ProbabilisticScoringDecayParameters::default();
        let scorer = ProbabilisticScorer::new(decay, Arc::clone(&graph), Arc::clone(&quiet));
        let router = DefaultRouter::new(
            Arc::clone(&graph),
            Arc::clone(&quiet),
            Arc::clone(&keys),
            Arc::new(RwLock::new(scorer)),
            ProbabilisticScoringFeeParameters::default(),
        );
        let messages = Arc::new(DefaultMessageRouter::new(graph, Arc::clone(&keys)));
        let monitor = Arc::new(Monitor::new(
            None,
            Arc::clone(&broadcaster),
            Arc::clone(&quiet),
            Arc::clone(&fees),
            Arc::clone(&disk),
            Arc::clone(&keys),
            keys.get_peer_storage_key(),
        ));
        let mut config = UserConfig { manually_accept_inbound_channels: true, ..UserConfig::default() };
        config.channel_handshake_limits.force_announced_channel_preference = false;
        Self { quiet, fees, broadcaster, keys, router: Arc::new(router), messages, disk, monitor, config }
    }

    fn new_manager(&self) -> Manager {
        let network = Network::Regtest;
        Manager::new(
            Arc::clone(&self.fees),
            Arc::clone(&self.monitor),
            Arc::clone(&self.broadcaster),
            Arc::clone(&self.router),
            Arc::clone(&self.messages),
            Arc::clone(&self.quiet),
            Arc::clone(&self.keys),
            Arc::clone(&self.keys),
            Arc::clone(&self.keys),
            self.config.clone(),
            ChainParameters { network, best_block: BestBlock::from_network(network) },
            1,
        )
    }

    fn read_manager(&self, bytes: &[u8]) -> Manager {
        let monitors = self.disk.read(&self.keys);
        let arguments = ChannelManagerReadArgs::new(
            Arc::clone(&self.keys),
            Arc::clone(&self.keys),
            Arc::clone(&self.keys),
            Arc::clone(&self.fees),
            Arc::clone(&self.monitor),
            Arc::clone(&self.broadcaster),
            Arc::clone(&self.router),
            Arc::clone(&self.messages),
            Arc::clone(&self.quiet),
            self.config.clone(),
            monitors.iter().collect(),
        );
        let (_, manager) = <(BlockHash, Manager)>::read(&mut &bytes[..], arguments).unwrap();
        for one in monitors {
            self.monitor.load_existing_monitor(one.channel_id(), one).unwrap();
        }
        manager
    }
}

/// What a node does when a channel is proposed to it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Accept,
    Ignore,
    Refuse,
}

pub(crate) struct Node {
    pub(crate) manager: Arc<Manager>,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) broadcaster: Arc<Broadcaster>,
    pub(crate) events: Mutex<Vec<Event>>,
    manner: Manner,
    seed: u8,
    pub(crate) listens: SocketAddr,
}

impl Node {
    /// A new node that listens on loopback.
    pub(crate) async fn new(seed: u8, manner: Manner) -> Arc<Self> {
        Self::build(seed, manner, Arc::default(), None).await
    }

    /// The same node after a restart, with manager and monitors as they are kept now.
    pub(crate) async fn reborn(&self) -> Arc<Self> {
        Self::build(self.seed, self.manner, Arc::clone(&self.disk), Some(self.manager.encode())).await
    }

    async fn build(seed: u8, manner: Manner, disk: Arc<Disk>, saved: Option<Vec<u8>>) -> Arc<Self> {
        let parts = Parts::new(seed, Arc::clone(&disk));
        let manager = Arc::new(saved.map_or_else(|| parts.new_manager(), |bytes| parts.read_manager(&bytes)));
        let Parts { quiet, broadcaster, monitor, keys, .. } = parts;
        let handlers = MessageHandler {
            chan_handler: Arc::clone(&manager),
            route_handler: IgnoringMessageHandler {},
            onion_message_handler: IgnoringMessageHandler {},
            custom_message_handler: IgnoringMessageHandler {},
            send_only_message_handler: Arc::clone(&monitor),
        };
        let peers = Arc::new(Peers::new(handlers, 1, &[seed; 32], quiet, keys));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listens = listener.local_addr().unwrap();
        let inbound = Arc::clone(&peers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream = stream.into_std().unwrap();
                tokio::spawn(lightning_net_tokio::setup_inbound(Arc::clone(&inbound), stream));
            }
        });
        let events = Mutex::default();
        Arc::new(Self { manager, monitor, peers, disk, broadcaster, events, manner, seed, listens })
    }

    /// What a background processor does, as far as it is needed here. `taken` sees every event first.
    pub(crate) async fn run(self: Arc<Self>, taken: impl Fn(&Event) -> bool + Send) {
        loop {
            let handler = |event: Event| {
                if !taken(&event) {
                    self.answer(&event);
                }
                self.events.lock().unwrap().push(event);
                Ok(())
            };
            self.manager.process_pending_events(&handler);
            self.monitor.process_pending_events(&handler);
            self.peers.process_events();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn answer(&self, event: &Event) {
        if let Event::OpenChannelRequest { temporary_channel_id: id, counterparty_node_id: peer, .. } = event
        {
            match self.manner {
                // An error says that the proposal was withdrawn.
                Manner::Accept => drop(self.manager.accept_inbound_channel(id, peer, 0, None)),
                Manner::Ignore => {}
                Manner::Refuse => {
                    let reason = "no new\nchannels ".repeat(100);
                    self.manager.force_close_broadcasting_latest_txn(id, peer, reason).unwrap();
                }
            }
        }
    }

    pub(crate) fn address(&self) -> PeerAddress {
        format!("{}@{}", self.manager.get_our_node_id(), self.listens).parse().unwrap()
    }

    /// Marks every monitor that hangs as kept.
    pub(crate) fn finish_writes(&self) {
        for (channel, updates) in self.monitor.list_pending_monitor_updates() {
            for update in updates {
                self.monitor.channel_monitor_updated(channel, update).unwrap();
            }
        }
    }
}

/// Connects over TCP.
pub(crate) struct Dialer(pub(crate) Arc<Peers>);

#[async_trait]
impl Connector for Dialer {
    async fn connect(&self, peer: &PeerAddress) -> Result<(), String> {
        let connected = || self.0.peer_by_node_id(&peer.node_id()).is_some();
        if connected() {
            return Ok(());
        }
        let address = (peer.host(), peer.port());
        let address = tokio::net::lookup_host(address).await.map_err(|e| e.to_string())?.next();
        let address = address.ok_or("the host has no address")?;
        let connection =
            lightning_net_tokio::connect_outbound(Arc::clone(&self.0), peer.node_id(), address).await;
        let connection = tokio::spawn(connection.ok_or("connection refused")?);
        while !connected() {
            if connection.is_finished() {
                return Err("the peer hung up".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn connect_anew(&self, peer: &PeerAddress) -> Result<(), String> {
        self.0.process_events();
        self.0.disconnect_by_node_id(peer.node_id());
        self.connect(peer).await
    }
}

/// A channel of this many satoshis to this peer, for intent `intent`.
pub(crate) fn channel(intent: u64, peer: PeerAddress, sat: u64) -> (PlannedChannel, ChannelSpec) {
    let amount = Amount::from_sat(sat);
    let spec =
        ChannelSpec { peer, amount: ChannelAmount::Exact(amount), push: Amount::ZERO, announced: false };
    (PlannedChannel { intent: IntentId(intent), amount }, spec)
}

/// A transaction as an exchange hands it over: two inputs without witnesses, change first, then the channels.
pub(crate) fn payjoin(
    channels: &[(PlannedChannel, ChannelSpec)],
    scripts: &[ScriptBuf],
) -> (Transaction, Vec<(PlannedChannel, u32)>) {
    let input = [0xaa, 0xbb].map(|byte| TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([byte; 32]), vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    });
    let change = TxOut { value: Amount::from_sat(1_234), script_pubkey: ScriptBuf::new_op_return([1]) };
    let funding = channels
        .iter()
        .zip(scripts)
        .map(|((planned, _), script)| TxOut { value: planned.amount, script_pubkey: script.clone() });
    let transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: input.to_vec(),
        output: std::iter::once(change).chain(funding).collect(),
    };
    let positions = channels.iter().map(|(planned, _)| planned.clone()).zip(1..).collect();
    (transaction, positions)
}
