//! Starting and stopping the daemon, in the order that safety wants.

use std::fmt::Display;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, Network, OutPoint};
use payjoin_core::Settled;
use payjoin_io::{
    ExchangeRecord, Host, HttpError, Limits, Listener, OhttpError, PollError, Rate, Server, Settler, Store,
    StoreError, Tcp, Tls, Unix,
};
use payjoin_lightning::node::{Node, NodeConfig, NodeError, Rpc, RpcAuth, RpcError, SeedError};
use payjoin_lightning::{ChannelKey, Channels};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::RunArgs;
use crate::config::{Config, ConfigError, PlainListen};
use crate::daemon::{Daemon, clock, now};
use crate::keep::{Keep, QueuedPeers};
use crate::outside::Outside;
use crate::pay::Payer;
use crate::roles::Roles;
use crate::tor::{Tor, TorError};
use crate::watch::{BlockNews, Blocks};
use crate::{control, watch as chain_watch};

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the system clock is wrong: set it, deadlines depend on it")]
    Clock,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("another payjoind runs in {0}: stop it first, or choose another --datadir")]
    InUse(PathBuf),
    #[error("the database: {0}")]
    Store(StoreError),
    #[error("the database is damaged: {0}\n`payjoind rescue` prints the payments in it that are still owed")]
    Damaged(String),
    #[error(
        "{error}\nbitcoind should answer at {url}: is it running, and is [bitcoind] in payjoind.toml right?"
    )]
    Bitcoind { url: String, error: RpcError },
    #[error("{path}: {error}")]
    Seed { path: PathBuf, error: SeedError },
    #[error("the Lightning node: {0}")]
    Node(NodeError),
    #[error("sessions at directories: {0}")]
    Poll(#[from] PollError),
    #[error("the Lightning node stopped: its store or one of its tasks failed, see the log")]
    NodeEnded,
    #[error("a part of the daemon stopped unexpectedly: see the log")]
    PartEnded,
    #[error(transparent)]
    Tor(#[from] TorError),
    #[error("[payjoin] {0}")]
    Http(#[from] HttpError),
    #[error("[payjoin] {0}")]
    Ohttp(#[from] OhttpError),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InUse(file) => Self::InUse(file.parent().unwrap_or(&file).to_owned()),
            StoreError::Corrupt(what) => Self::Damaged(what),
            error => Self::Store(error),
        }
    }
}

impl StartError {
    fn node(error: NodeError, url: &str, settings: &NodeConfig) -> Self {
        match error {
            // What stands before an `@` is a password.
            NodeError::Rpc(error) => {
                Self::Bitcoind { url: url.rsplit('@').next().unwrap_or_default().to_owned(), error }
            }
            NodeError::Seed(error) => Self::Seed { path: settings.seed.clone(), error },
            error => Self::Node(error),
        }
    }
}

/// Where commands reach the daemon.
pub(crate) fn socket_path(datadir: &Path) -> PathBuf {
    datadir.join("payjoind.sock")
}

/// Everything durable but the seed.
pub(crate) fn database(datadir: &Path) -> PathBuf {
    datadir.join("payjoind.sqlite")
}

/// Every open session holds a connection: raises the limit of open files as far as the system allows.
fn allow_many_files() {
    let granted = Rlimit { current: getrlimit(Resource::Nofile).maximum, ..getrlimit(Resource::Nofile) };
    if let Err(error) = setrlimit(Resource::Nofile, granted) {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}

/// Runs the daemon until a signal or `stop`.
pub(crate) async fn run(datadir: &Path, args: &RunArgs) -> Result<(), StartError> {
    allow_many_files();
    clock().ok_or(StartError::Clock)?;
    make_datadir(datadir)?;
    let config = Config::load(datadir, args)?;
    let store = Store::open(database(datadir))?;
    let mut listeners = listeners(&config).await?;
    let tor = match config.tor.enabled {
        true => Some(Tor::start(&config.tor, &datadir.join("onion-addresses")).await?),
        false => None,
    };
    listeners.extend(tor.as_ref().map(Tor::listener));
    let (daemon, settler, blocks) = assemble(datadir, config, store, tor.as_ref()).await?;
    daemon.payer.resume()?;
    if let Some(poller) = &daemon.poller {
        poller.resume()?;
    }
    let socket = control::bind(&socket_path(datadir)).map_err(io("the control socket"))?;
    let mut tasks = serve(&daemon, listeners);
    let every = Duration::from_millis(daemon.config.lightning.poll_ms);
    let stopped = daemon.stop.subscribe();
    let (node, store) = (daemon.node.clone(), daemon.store.clone());
    tasks.spawn(chain_watch::run(settler, blocks, node, store, every, stopped));
    let control = tokio::spawn(control::serve(socket, daemon.clone()));
    tell_ready(&daemon);
    let ended = wait_for_end(&daemon, &mut tasks).await;
    daemon.stop.send_replace(true);
    // Exchanges in flight come to their end here; they need the node.
    while tasks.join_next().await.is_some() {}
    if let Some(poller) = &daemon.poller {
        poller.stop().await;
    }
    if let Some(tor) = tor {
        tor.stop().await;
    }
    control.abort();
    daemon.node.stop().await;
    let _ = std::fs::remove_file(socket_path(datadir));
    ended
}

fn tell_ready(daemon: &Daemon) {
    let (node_id, height) = (daemon.node.node_id(), daemon.node.height());
    tracing::info!(target: "step", step = "ready", %node_id, height);
    if daemon.config.network == Network::Bitcoin {
        tracing::warn!("this version is not meant for mainnet yet: use amounts that you can lose");
    }
    if let Err(missing) = daemon.ways().choose(None) {
        tracing::info!("{missing}");
    }
}

pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.into();
    move |source| StartError::Io { what, source }
}

fn make_datadir(datadir: &Path) -> Result<(), StartError> {
    let what = || format!("cannot use the folder {}", datadir.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(datadir).map_err(io(what()))?;
    let mode = std::fs::metadata(datadir).map_err(io(what()))?.permissions().mode();
    if mode & 0o077 != 0 {
        let source = std::io::Error::other("others can look into it; allow only yourself: chmod 700");
        return Err(StartError::Io { what: what(), source });
    }
    Ok(())
}

/// Opens the ports before the node starts, so that a port that is taken stops us early.
async fn listeners(config: &Config) -> Result<Vec<Arc<dyn Listener>>, StartError> {
    let http = &config.http;
    let mut listeners: Vec<Arc<dyn Listener>> = Vec::new();
    if let (Some(address), Some(certificate), Some(key)) = (http.listen, &http.certificate, &http.key) {
        let tls = Tls::bind(address, certificate, key).await;
        listeners.push(Arc::new(tls.map_err(io(listening(address)))?));
    }
    match &http.plain_listen {
        Some(PlainListen::Tcp(address)) => {
            let tcp = Tcp::behind_tls_proxy(address).await;
            listeners.push(Arc::new(tcp.map_err(io(listening(address)))?));
        }
        Some(PlainListen::Unix(path)) => {
            let unix = Unix::behind_tls_proxy(path).await;
            listeners.push(Arc::new(unix.map_err(io(listening(path.display())))?));
        }
        None => {}
    }
    Ok(listeners)
}

fn listening(address: impl Display) -> String {
    format!("cannot serve payers on {address}")
}

/// Database, node and roles, with everything undone that a crash left half done.
async fn assemble(
    datadir: &Path,
    config: Config,
    store: Store,
    tor: Option<&Tor>,
) -> Result<(Arc<Daemon>, Settler, BlockNews), StartError> {
    let interrupted = store.recover().await?;
    let url = config.bitcoind_url();
    let (blocks, news) = Blocks::new(&store)?;
    let blocks = Arc::new(blocks);
    let dialer = tor.map(|tor| tor.dialer(config.tor.only));
    let (locked, wanted) = (store.locked_coins()?, Some(Arc::new(QueuedPeers(store.clone())) as Arc<_>));
    let settings = NodeConfig { locked, dialer, wanted, ..node_config(datadir, &config) };
    let node = start_node(&url, auth(&config), settings.clone(), store.clone(), blocks.clone()).await;
    let node = node.map_err(|error| StartError::node(error, &url, &settings))?;
    chain_watch::begin(&store, &node)?;
    let policy = config.policy.policy();
    let channels = Channels::new(node.funder(), policy.channel_seconds);
    let roles = Arc::new(Roles { node: node.clone(), channels, store: store.clone() });
    forget_dead(&roles, &store).await?;
    let (host, owed) = Host::new(roles.clone(), roles.clone(), roles, store.clone(), policy, now);
    if !interrupted.is_empty() {
        tracing::warn!(exchanges = interrupted.len(), "exchanges were interrupted; their Originals are kept");
    }
    let settler = Settler::new(host.clone(), owed)?;
    blocks.follow(host.watched().clone());
    let (stop, stopped) = watch::channel(false);
    let outside = Outside::new(&config, tor)?;
    let poller = outside.poller(&config, &host);
    let payer = Payer::new(&config, outside.sender(&config, &store), node.clone(), store.clone(), stopped);
    let tor = tor.map(Tor::state);
    Ok((Arc::new(Daemon { config, store, node, host, payer, poller, tor, stop }), settler, news))
}

async fn start_node(
    url: &str,
    auth: RpcAuth,
    settings: NodeConfig,
    store: Store,
    blocks: Arc<Blocks>,
) -> Result<Arc<Node>, NodeError> {
    let rpc = Arc::new(Rpc::new(url, auth)?);
    Node::start(settings, rpc, Arc::new(Keep(store)), Some(blocks)).await
}

/// Closes channels that can never exist: no proposal that funds them was released (we died between the two writes), or something
/// else than that proposal is buried, and we died before the node had saved that it knows.
async fn forget_dead(roles: &Roles, store: &Store) -> Result<(), StoreError> {
    for channel in roles.node.channels() {
        let key = channel.user_channel_id.parse().ok().and_then(ChannelKey::from_user_channel_id);
        let Some(key) = key else { continue };
        let exchange = store.exchange(key.exchange)?;
        if !exchange.is_some_and(|exchange| may_fund(&exchange, channel.funding)) {
            roles.channels.abandon_all(key.exchange, "its funding can never be mined").await;
        }
    }
    Ok(())
}

fn may_fund(exchange: &ExchangeRecord, funding: Option<OutPoint>) -> bool {
    let released = |at: OutPoint| {
        exchange.payjoin_txid == Some(at.txid) && exchange.channels.iter().any(|c| c.vout == at.vout)
    };
    matches!(exchange.settled, None | Some(Settled::Payjoin)) && funding.is_some_and(released)
}

fn auth(config: &Config) -> RpcAuth {
    match (&config.bitcoind.user, &config.bitcoind.password) {
        (Some(user), Some(password)) => {
            RpcAuth::UserPassword { user: user.clone(), password: password.clone() }
        }
        _ => RpcAuth::Cookie(config.bitcoind_cookie()),
    }
}

fn node_config(datadir: &Path, config: &Config) -> NodeConfig {
    NodeConfig {
        listen: config.lightning.listen,
        min_depth: config.lightning.min_depth,
        poll: Duration::from_millis(config.lightning.poll_ms),
        inbound_min: Amount::from_sat(config.lightning.min_inbound),
        inbound_total: config.lightning.max_inbound,
        birthday: config.lightning.birthday,
        ..NodeConfig::new(config.network, datadir.join("seed"))
    }
}

/// One server on all listeners: they share its limits.
fn serve(daemon: &Arc<Daemon>, listeners: Vec<Arc<dyn Listener>>) -> JoinSet<()> {
    let per_minute = daemon.config.http.rate_per_minute;
    let per_peer = (per_minute > 0).then_some(Rate { per_minute, burst: per_minute.div_ceil(2) });
    let server = Server::new(daemon.host.clone(), Limits { per_peer, ..Limits::default() });
    let run = |listener: Arc<dyn Listener>| {
        let (server, mut stop) = (server.clone(), daemon.stop.subscribe());
        async move {
            server.run(listener.as_ref(), async move { drop(stop.wait_for(|stop| *stop).await) }).await;
        }
    };
    listeners.into_iter().map(run).collect()
}

/// Returns when somebody asks for the end, and with an error when a part ends that nothing goes on without.
async fn wait_for_end(daemon: &Daemon, tasks: &mut JoinSet<()>) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(io("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("signals"))?;
    let mut asked = daemon.stop.subscribe();
    tokio::select! {
        // In this order: parts end because somebody asked for the end, and that is no failure.
        biased;
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = asked.wait_for(|stop| *stop) => Ok(()),
        () = daemon.node.stopped() => Err(StartError::NodeEnded),
        Some(_) = tasks.join_next() => Err(StartError::PartEnded),
    }
}
