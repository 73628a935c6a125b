//! Starting a node: read, catch up, run.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::secp256k1::Secp256k1;
use bitcoin::{BlockHash, Network};
use lightning::chain::BestBlock;
use lightning::sign::KeysManager;
use lightning::{io, ln::msgs::DecodeError};
use lightning_background_processor::{
    GossipSync, NO_LIQUIDITY_MANAGER, NO_ONION_MESSENGER, process_events_async_with_kv_store_sync,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::broadcast::{Packages, broadcaster};
use super::chain::{BlockListener, Listeners};
use super::events::{Events, Inbound};
use super::fees::Fees;
use super::log::Log;
use super::parts::{Ground, Parts, now, stored_manager};
use super::payments::Payments;
use super::peers::Peers;
use super::stop::{Stop, Switch};
use super::wallet::NodeWallet;
use super::{Node, NodeConfig, NodeStore, Rpc, RpcError, Seed, SeedError, WalletError, lock};
use crate::{Connector, LdkFunder};

/// How often fee rates are asked for.
const FEES_EVERY: Duration = Duration::from_secs(60);
/// Purpose in the path of LDK's seed, `m / 1017' / coin' / 0'`.
const LIGHTNING: u32 = 1017;
/// A new wallet starts this many blocks below the tip, out of reach of an ordinary reorganisation.
const BIRTHDAY_DEPTH: u32 = 6;

/// Why the node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// bitcoind.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// bitcoind is on another network.
    #[error("bitcoind is on {found}, not on {expected}")]
    Network {
        /// The configured network.
        expected: Network,
        /// What bitcoind says, in its own words.
        found: String,
    },
    /// The seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The on-chain wallet.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The store.
    #[error("the node's store: {0}")]
    Store(#[from] io::Error),
    /// A stored part cannot be read.
    #[error("{what} cannot be read back: {error}")]
    Damaged {
        /// Which part.
        what: &'static str,
        /// Why.
        error: DecodeError,
    },
    /// Something that must be stored is not, while other things are.
    #[error("the store is incomplete: {0}")]
    Incomplete(&'static str),
    /// The chain could not be followed from where the node left it.
    #[error("cannot catch up with bitcoind: {0}")]
    Chain(Box<dyn std::error::Error + Send + Sync>),
    /// bitcoind has fewer blocks than the node has seen: it is catching up, or it was restored from an old copy.
    #[error(
        "bitcoind has block {bitcoind} and this node has seen block {node}: wait until bitcoind has caught up"
    )]
    Behind {
        /// bitcoind's best height.
        bitcoind: u32,
        /// The node's.
        node: u32,
    },
    /// The chain of this bitcoind is not the one the node knows.
    #[error(
        "bitcoind knows none of the blocks before {height} that this node has seen: is it another chain?"
    )]
    Stranger {
        /// Where the node stands.
        height: u32,
    },
    /// Peers cannot connect.
    #[error("cannot listen for peers on {address}: {error}")]
    Listen {
        /// Where peers should connect to.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
}

impl NodeError {
    pub(super) fn damaged(what: &'static str, error: DecodeError) -> Self {
        Self::Damaged { what, error }
    }
}

impl Node {
    /// Starts the node: opens seed, wallet and channels, catches up with bitcoind, connects to peers.
    ///
    /// `outside` is told of every block after the node has dealt with it, during the catch-up too.
    ///
    /// # Errors
    /// See [`NodeError`]. Nothing runs then.
    pub async fn start(
        config: NodeConfig,
        rpc: Arc<Rpc>,
        store: Arc<dyn NodeStore>,
        outside: Option<Arc<dyn BlockListener>>,
    ) -> Result<Arc<Self>, NodeError> {
        let tip = best_block(&rpc, config.network).await?;
        let birthday = birthday(&rpc, &config, tip).await?;
        let (listener, listening) = listen(config.listen).await?.unzip();
        let (ground, packages) = Ground::open(&config, store, birthday)?;
        if let Err(error) = ground.fees.refresh(&rpc).await {
            tracing::warn!(%error, "no fee rates yet");
        }
        let mut parts = ground.build(&config, tip)?;
        let listeners = Listeners::new(&parts, Arc::clone(&ground.wallet), outside);
        let stored = std::mem::take(&mut parts.monitors);
        let synced = listeners.catch_up(&rpc, config.network, tip.height, &stored).await?;
        for (monitor, ..) in stored {
            let watched = parts.chain_monitor.load_existing_monitor(monitor.channel_id(), monitor);
            watched.map_err(|()| NodeError::Incomplete("two monitors of one channel"))?;
        }
        let node = Arc::new(assemble(&config, rpc, &ground, &parts, listening)?);
        let (rpc, stop) = (|| Arc::clone(&node.rpc), || node.switch.stop());
        node.spawn("chain", listeners.follow(rpc(), config.network, synced, config.poll, stop()));
        node.spawn("broadcasts", packages.run(rpc(), Arc::clone(&ground.wallet), stop()));
        node.spawn("fee rates", keep_fees(Arc::clone(&ground.fees), rpc(), stop()));
        node.spawn("reconnections", Arc::clone(&node.peers).reconnect(stop()));
        if let Some(listener) = listener {
            node.spawn("connections", Arc::clone(&node.peers).accept(listener, stop()));
        }
        let events = events(&config, &ground, &parts, &node);
        node.spawn("channels", background(parts, events, ground.log, Arc::clone(&node.switch)));
        Ok(node)
    }

    /// Runs a task to its end. A task that panics takes the whole node with it: LDK panics when it cannot write.
    fn spawn(&self, what: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (switch, task) = (Arc::clone(&self.switch), tokio::spawn(work));
        let watched = tokio::spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(%error, what, "a task failed; the node ends");
                switch.throw();
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
    ) -> Result<(Self, Packages), NodeError> {
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
        let reserve = config.reserve.per_channel();
        let used = config.birthday.is_some();
        let wallet = NodeWallet::open(&seed, config.network, Arc::clone(&store), birthday, used, reserve)?;
        wallet.lock(&config.locked);
        let (broadcaster, packages) = broadcaster();
        let ground = Self {
            keys: Arc::new(keys),
            wallet: Arc::new(wallet),
            broadcaster: Arc::new(broadcaster),
            fees: Arc::new(Fees::new()),
            store,
            log: Arc::new(Log),
        };
        Ok((ground, packages))
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
    rpc: Arc<Rpc>,
    ground: &Ground,
    parts: &Parts,
    listening: Option<SocketAddr>,
) -> Result<Node, NodeError> {
    let manager = Arc::clone(&parts.manager);
    let peers = Peers::load(
        Arc::clone(&parts.peers),
        Arc::clone(&manager),
        Arc::clone(&ground.store),
        config.dialer.clone(),
        config.wanted.clone(),
    )?;
    let peers = Arc::new(peers);
    Ok(Node {
        node_id: manager.get_our_node_id(),
        listening,
        reserve_per_channel: config.reserve.per_channel(),
        inbound_total: config.inbound_total,
        closing: Arc::default(),
        rpc,
        wallet: Arc::clone(&ground.wallet),
        funder: Arc::new(LdkFunder::new(Arc::clone(&manager), Arc::clone(&peers) as Arc<dyn Connector>)),
        payments: Arc::new(Payments::new(Arc::clone(&manager), config.network)),
        manager,
        manager_store: Arc::clone(&parts.manager_store),
        peer_manager: Arc::clone(&parts.peers),
        peers,
        switch: Arc::new(Switch::new()),
        tasks: Mutex::default(),
    })
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
        inbound: Inbound {
            per_peer: config.inbound_per_peer,
            total: config.inbound_total,
            min: config.inbound_min,
        },
    }
}

/// LDK's background processor. When it cannot write, the whole node ends: nothing that is not durable may be acted
/// upon.
async fn background(parts: Parts, events: Events, log: Arc<Log>, switch: Arc<Switch>) {
    let stop = switch.stop();
    let sleep = move |time| {
        let mut stop = stop.clone();
        Box::pin(async move { tokio::time::timeout(time, stop.wait()).await.is_ok() })
    };
    let processing = process_events_async_with_kv_store_sync(
        parts.manager_store,
        |event| std::future::ready(events.handle(event)),
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

async fn keep_fees(fees: Arc<Fees>, rpc: Arc<Rpc>, mut stop: Stop) {
    while tokio::time::timeout(FEES_EVERY, stop.wait()).await.is_err() {
        if let Err(error) = fees.refresh(&rpc).await {
            tracing::debug!(%error, "fee rates not refreshed");
        }
    }
}

/// bitcoind's best block, if it is on our network.
async fn best_block(rpc: &Rpc, expected: Network) -> Result<BestBlock, NodeError> {
    const METHOD: &str = "getblockchaininfo";
    let info = rpc.call(METHOD, json!([])).await?;
    let found = info["chain"].as_str().unwrap_or_default();
    if Network::from_core_arg(found) != Ok(expected) {
        return Err(NodeError::Network { expected, found: found.to_owned() });
    }
    let hash = info["bestblockhash"].as_str().and_then(|hash| hash.parse().ok());
    let height = info["blocks"].as_u64().and_then(|height| u32::try_from(height).ok());
    match (hash, height) {
        (Some(hash), Some(height)) => Ok(BestBlock::new(hash, height)),
        _ => Err(RpcError::Unexpected(METHOD).into()),
    }
}

/// The block a new wallet starts from.
async fn birthday(rpc: &Rpc, config: &NodeConfig, tip: BestBlock) -> Result<BestBlock, NodeError> {
    const METHOD: &str = "getblockhash";
    let height = config.birthday.unwrap_or(tip.height.saturating_sub(BIRTHDAY_DEPTH)).min(tip.height);
    let hash = rpc.call(METHOD, json!([height])).await?;
    let hash: Option<BlockHash> = hash.as_str().and_then(|hash| hash.parse().ok());
    Ok(BestBlock::new(hash.ok_or(RpcError::Unexpected(METHOD))?, height))
}
