//! Starting a node: read, catch up, run.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::secp256k1::Secp256k1;
use lightning::chain::BestBlock;
use lightning::io;
use lightning::sign::KeysManager;
use lightning_background_processor::{
    GossipSync, NO_LIQUIDITY_MANAGER, NO_ONION_MESSENGER, process_events_async_with_kv_store_sync,
};
use payjoin_core::ChainError;
use tokio::net::TcpListener;

use super::broadcast::Broadcaster;
use super::census::Census;
use super::chain::{BlockListener, Listeners, best_block};
use super::chain_source::ChainSource;
use super::closed::Closed;
use super::config::NodeConfig;
use super::error::NodeError;
use super::events::Events;
use super::fallen::FallenChannels;
use super::fees::Fees;
use super::funder::NodeFunder;
use super::gate::all;
use super::health::watch;
use super::limits::Limits;
use super::log::Log;
use super::parts::{Ground, Parts, now, stored_manager};
use super::payments::Payments;
use super::peers::Peers;
use super::running::Node;
use super::seed::Seed;
use super::stop::Switch;
use super::store::NodeStore;
use super::types::Monitor;
use super::wallet::NodeWallet;
use super::wallet::WalletError;
use crate::lock::lock;
use crate::{Connector, LdkFunder};

/// Who finds a poisoned lock waits so long for the reason.
const REASON: Duration = Duration::from_secs(5);
/// Purpose in the path of LDK's seed, `m / 1017' / coin' / 0'`.
const LIGHTNING: u32 = 1017;
/// A new wallet starts this many blocks below the tip, out of reach of an ordinary reorganisation.
const BIRTHDAY_DEPTH: u32 = 6;

impl Node {
    /// Starts the node: opens seed, wallet and channels, and catches up with bitcoind. It meets no peer before
    /// [`Node::meet_peers`].
    ///
    /// `outside` is told of every block after the node has dealt with it, during the catch-up too. While a block cannot
    /// be had the start waits for it, and [`NodeConfig::health`] says so.
    ///
    /// # Errors
    /// See [`NodeError`]. Nothing runs then.
    pub async fn start(
        config: NodeConfig,
        chain: Arc<dyn ChainSource>,
        store: Arc<dyn NodeStore>,
        outside: Option<Arc<dyn BlockListener>>,
    ) -> Result<Arc<Self>, NodeError> {
        let tip = best_block(&*chain, config.network, &config.health).await?;
        let birthday = birthday(&*chain, &config, tip).await?;
        let listener = listen(config.listen).await?;
        let switch = Arc::new(Switch::new());
        let ground = Ground::open(&config, store, birthday, &switch)?;
        if let Err(error) = ground.fees.refresh(&*chain).await {
            tracing::warn!(%error, "no fee rates yet");
        }
        let mut parts = ground.build(&config, tip)?;
        let listeners = Listeners::new(&parts, &ground, outside, Arc::clone(&config.health));
        let stored = std::mem::take(&mut parts.monitors);
        let synced = listeners.wait_for_chain(&chain, config.network, &stored).await?;
        ground.watch(&config, &parts, stored)?;
        // For a node that is never on when a day is over: see `Listeners`.
        parts.chain_monitor.archive_fully_resolved_channel_monitors();
        let node = Arc::new(assemble(&config, chain, &ground, &parts, (listener, switch))?);
        let (chain, stop) = (|| Arc::clone(&node.chain), || node.switch.stop());
        node.spawn("chain", listeners.follow(chain(), config.network, synced, config.poll, stop()));
        let manager = Arc::clone(&node.manager);
        let ours = move || manager.current_best_block();
        node.spawn("chain watch", watch(chain(), Arc::clone(&node.health), ours, config.patience, stop()));
        let broadcaster = Arc::clone(&ground.broadcaster);
        node.spawn("broadcasts", broadcaster.run(chain(), Arc::clone(&ground.wallet), stop()));
        let (fees, source, until) = (Arc::clone(&ground.fees), chain(), stop());
        node.spawn("fee rates", async move { fees.keep(&*source, until).await });
        let events = events(&config, &ground, &parts, &node);
        node.spawn("channels", background(parts, events, ground.log, Arc::clone(&node.switch)));
        Ok(node)
    }

    /// Accepts connections of peers, and makes those that are wanted, from now on.
    pub fn meet_peers(&self) {
        self.spawn("reconnections", Arc::clone(&self.peers).reconnect(self.switch.stop()));
        if let Some(listener) = lock(&self.listener).take() {
            self.spawn("connections", Arc::clone(&self.peers).accept(listener, self.switch.stop()));
        }
    }

    /// Runs a task to its end. A task that panics takes the whole node with it: LDK panics when it cannot write.
    fn spawn(&self, what: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (switch, task) = (Arc::clone(&self.switch), tokio::spawn(work));
        let watched = tokio::spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(%error, what, "a task failed; the node ends");
                if error.to_string().contains("PoisonError") {
                    // The panic that left a lock of LDK so has the reason.
                    let _ = tokio::time::timeout(REASON, switch.stop().wait()).await;
                }
                switch.break_down(format!("{what}: {error}"));
            }
        });
        lock(&self.tasks).push(watched);
    }
}

impl Ground {
    /// Opens seed and wallet.
    fn open(
        config: &NodeConfig,
        store: Arc<dyn NodeStore>,
        birthday: BestBlock,
        switch: &Arc<Switch>,
    ) -> Result<Self, NodeError> {
        let has_manager = stored_manager(&*store)?.is_some();
        let has_wallet = !store.wallet_changes()?.is_empty();
        if has_manager && !has_wallet {
            return Err(NodeError::Incomplete("there are channels but no wallet"));
        }
        if !has_wallet && config.birthday.is_none() && config.seed.exists() {
            tracing::warn!(
                "a seed without a wallet: if it was used before, its coins are found from a birthday on"
            );
        }
        let seed = Seed::open(&config.seed, !has_wallet)?;
        let (secp, start) = (Secp256k1::new(), now());
        let account = seed.account(config.network, LIGHTNING, &secp).map_err(WalletError::Keys)?;
        let lightning_seed = account.key.private_key.secret_bytes();
        let keys = KeysManager::new(&lightning_seed, start.as_secs(), start.subsec_nanos(), true);
        let reserve = config.reserve;
        let lookahead = config.lookahead();
        let wallet =
            NodeWallet::open(&seed, config.network, Arc::clone(&store), birthday, lookahead, reserve)?;
        config.held.iter().for_each(|(holder, coins)| wallet.hold(*holder, coins));
        let fallen = Arc::new(FallenChannels::load(Arc::clone(&store))?);
        let (kept, ends, not) = (Arc::clone(&store), Arc::clone(switch), Arc::clone(&fallen));
        let broadcaster = Broadcaster::load(kept, ends, not, wallet.tip())?;
        Ok(Self {
            keys: Arc::new(keys),
            wallet: Arc::new(wallet),
            broadcaster: Arc::new(broadcaster),
            fallen,
            switch: Arc::clone(switch),
            fees: Arc::new(Fees::new(config.fee_fallback)),
            store,
            log: Arc::default(),
        })
    }

    /// Watches the stored monitors, now that they know the tip. Nothing was sent before this.
    fn watch(&self, config: &NodeConfig, parts: &Parts, stored: Vec<Monitor>) -> Result<(), NodeError> {
        for (monitor, ..) in stored {
            let watched = parts.chain_monitor.load_existing_monitor(monitor.channel_id(), monitor);
            watched.map_err(|()| NodeError::Incomplete("two monitors of one channel"))?;
        }
        if config.older_copy {
            self.fallen.note(all(&parts.chain_monitor))?;
        }
        self.broadcaster.forget_forbidden();
        Ok(())
    }
}

/// A socket for peers, and where it is: the system chooses the port where `address` has port 0.
async fn listen(address: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, NodeError> {
    let Some(address) = address else { return Ok(None) };
    let refused = |error| NodeError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok(Some((listener, bound)))
}

fn assemble(
    config: &NodeConfig,
    chain: Arc<dyn ChainSource>,
    ground: &Ground,
    parts: &Parts,
    (listener, switch): (Option<(TcpListener, SocketAddr)>, Arc<Switch>),
) -> Result<Node, NodeError> {
    let manager = Arc::clone(&parts.manager);
    let peers = Arc::new(peers(config, ground, parts)?);
    let funder = funder(config, ground, parts, &peers);
    let (listener, listening) = listener.unzip();
    Ok(Node {
        node_id: manager.get_our_node_id(),
        listener: Mutex::new(listener),
        listening,
        census: Arc::new(census(config, ground, parts)),
        closing: Arc::default(),
        closed: Arc::new(Closed(Arc::clone(&ground.store))),
        broadcaster: Arc::clone(&ground.broadcaster),
        fallen: Arc::clone(&ground.fallen),
        chain_monitor: Arc::clone(&parts.chain_monitor),
        sweeper: Arc::clone(&parts.sweeper),
        chain,
        health: Arc::clone(&config.health),
        fees: Arc::clone(&ground.fees),
        wallet: Arc::clone(&ground.wallet),
        funder: Arc::new(funder),
        payments: Arc::new(Payments::load(Arc::clone(&manager), config.network, Arc::clone(&ground.store))?),
        manager,
        manager_store: Arc::clone(&parts.manager_store),
        peer_manager: Arc::clone(&parts.peers),
        peers,
        switch,
        tasks: Mutex::default(),
    })
}

fn peers(config: &NodeConfig, ground: &Ground, parts: &Parts) -> Result<Peers, io::Error> {
    Peers::load(
        Arc::clone(&parts.peers),
        Arc::clone(&parts.manager),
        Arc::clone(&ground.fallen),
        Arc::clone(&ground.store),
        config.dialer.clone(),
        config.wanted.clone(),
        Arc::clone(parts.gossip.network_graph()),
    )
}

fn census(config: &NodeConfig, ground: &Ground, parts: &Parts) -> Census {
    Census {
        manager: Arc::clone(&parts.manager),
        monitors: Arc::clone(&parts.chain_monitor),
        broadcaster: Arc::clone(&ground.broadcaster),
        inbound_total: config.inbound_total,
        closing: Mutex::default(),
    }
}

fn funder(config: &NodeConfig, ground: &Ground, parts: &Parts, peers: &Arc<Peers>) -> NodeFunder {
    let ldk = LdkFunder::new(Arc::clone(&parts.manager), Arc::clone(peers) as Arc<dyn Connector>);
    let ldk = ldk.with_unborn(Arc::clone(&ground.log.unborn));
    NodeFunder {
        ldk: match &config.events {
            Some(events) => ldk.with_events(events.clone()),
            None => ldk,
        },
        manager_store: Arc::clone(&parts.manager_store),
        broadcaster: Arc::clone(&ground.broadcaster),
    }
}

fn events(config: &NodeConfig, ground: &Ground, parts: &Parts, node: &Node) -> Events {
    Events {
        funder: Arc::clone(&node.funder),
        manager: Arc::clone(&parts.manager),
        payments: Arc::clone(&node.payments),
        sweeper: Arc::clone(&parts.sweeper),
        bumper: Arc::clone(&parts.bumper),
        keys: Arc::clone(&ground.keys),
        closing: Arc::clone(&node.closing),
        ended: Arc::clone(&node.closed),
        broadcaster: Arc::clone(&ground.broadcaster),
        fallen: Arc::clone(&ground.fallen),
        wallet: Arc::clone(&ground.wallet),
        census: Arc::clone(&node.census),
        log: Arc::clone(&ground.log),
        limits: Limits::new(config),
        once: config.once.clone(),
    }
}

/// LDK's background processor. When it cannot write, the whole node ends: nothing that is not durable may be acted
/// upon.
async fn background(parts: Parts, events: Events, log: Arc<Log>, switch: Arc<Switch>) {
    let (stop, events) = (switch.stop(), &events);
    let sleep = move |time| {
        let mut stop = stop.clone();
        Box::pin(async move { tokio::time::timeout(time, stop.wait()).await.is_ok() })
    };
    let processing = process_events_async_with_kv_store_sync(
        parts.manager_store,
        |event| events.handle(event),
        parts.chain_monitor,
        parts.manager,
        NO_ONION_MESSENGER,
        GossipSync::p2p(parts.gossip),
        parts.peers,
        NO_LIQUIDITY_MANAGER,
        Some(parts.sweeper),
        log,
        Some(parts.scorer),
        sleep,
        false,
        || Some(now()),
    );
    if let Err(error) = processing.await {
        tracing::error!(%error, "the node's store failed; the node ends");
        switch.throw();
    }
}

/// The block a new wallet starts from.
async fn birthday(
    chain: &dyn ChainSource,
    config: &NodeConfig,
    tip: BestBlock,
) -> Result<BestBlock, NodeError> {
    let height = config.birthday.unwrap_or(tip.height.saturating_sub(BIRTHDAY_DEPTH)).min(tip.height);
    // A chain that has just become shorter is no answer; the next start asks again.
    let gone = || ChainError::Away(format!("there is no block {height} any more"));
    let block = chain.block_at(height).await?.ok_or_else(gone)?;
    Ok(BestBlock::new(block, height))
}
