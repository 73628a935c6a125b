//! Starting a node, in the order that safety wants.

use std::fmt::Display;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Network;
use payjoin_core::Step;
use payjoin_io::{Limits, Listener, Rate, Server, Store, StoreError, Tcp, Tls, Unix};
use tokio::sync::watch::Sender;
use tokio::task::JoinSet;

use crate::api::Api;
use crate::asked::Asked;
use crate::assemble::{Assembled, assemble};
use crate::builder::{Builder, Recover};
use crate::certificate::{Certificate, Shown};
use crate::clock::clock;
use crate::daemon::Daemon;
use crate::due;
use crate::fresh::Fresh;
use crate::journal;
use crate::keep::database;
use crate::leftover::prune;
use crate::metrics::count_steps;
use crate::node::Node;
use crate::settings::{Http, PlainListen};
use crate::start_error::{StartError, io};
use crate::tor::Tor;
use crate::watch;

impl Builder {
    /// Starts everything, in a folder that holds the seed and the database.
    ///
    /// # Errors
    /// Says what the operator has to change.
    pub async fn start(mut self) -> Result<Node, StartError> {
        clock().ok_or(StartError::Clock)?;
        self.settings.resolve();
        self.settings.check()?;
        let fresh = Fresh::look(&self.settings);
        let started = self.start_checked().await;
        // What is in use is another process's, which may have begun a moment ago.
        if !matches!(started, Ok(_) | Err(StartError::InUse(_))) {
            fresh.clear();
        }
        started
    }

    async fn start_checked(self) -> Result<Node, StartError> {
        make_datadir(&self.settings.datadir)?;
        let store = Arc::new(self.open()?);
        let (mut listeners, certificate) = listeners(&self.settings.http).await?;
        // It says that we are not ready while the start waits.
        let (asked, mut tasks) = (Sender::new(Asked::Starting(self.starting.clone())), JoinSet::new());
        self.serve_programs(&asked, store.clone(), &mut tasks).await?;
        let tor = match self.settings.tor.enabled {
            true => Some(Tor::start(&self.settings, &self.events).await?),
            false => None,
        };
        listeners.extend(tor.as_ref().map(Tor::listener));
        let Assembled { daemon, settler, news, following, webhook } =
            assemble(self, store, tor.as_ref(), certificate.map(Arc::new)).await?;
        resume(&daemon).await?;
        serve(&daemon, listeners, &mut tasks);
        let every = Duration::from_millis(daemon.settings.bitcoind.mempool_poll_ms);
        let (keep_days, stopped) = (daemon.settings.store.keep_days, daemon.stop.subscribe());
        let store = daemon.store.clone();
        tasks.spawn(prune(store.clone(), keep_days, stopped.clone()));
        tasks.spawn(journal::keep(store, daemon.settings.store.event_days, stopped.clone()));
        if let Some(webhook) = webhook {
            tasks.spawn(webhook.run(stopped.clone()));
        }
        tasks.spawn(due::run(daemon.clone(), every, stopped.clone()));
        tasks.spawn(watch::run(settler, news, daemon.clone(), every, stopped));
        if let Some(certificate) = daemon.certificate.clone() {
            tasks.spawn(certificate.keep(daemon.stop.subscribe()));
        }
        if let Some(following) = following {
            let (poll, mut stop) = (daemon.settings.bitcoind.block_poll_ms, daemon.stop.subscribe());
            let stop = async move { drop(stop.wait_for(|stop| *stop).await) };
            tasks.spawn(following.run(Duration::from_millis(poll), stop));
        }
        tell_ready(&daemon);
        let node = Node::new(daemon, tasks, tor);
        asked.send_replace(Asked::Running(node.clone()));
        Ok(node)
    }
}

/// Goes on with payments of ours, and with codes at directories.
async fn resume(daemon: &Daemon) -> Result<(), StartError> {
    if let Some(payments) = &daemon.payments {
        payments.resume().await?;
    }
    if let Some(poller) = &daemon.poller {
        poller.resume().await?;
    }
    Ok(())
}

impl Builder {
    /// The API, if the settings want one.
    async fn serve_programs(
        &self,
        asked: &Sender<Asked>,
        store: Arc<Store>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), StartError> {
        if let Some(api) = Api::open(&self.settings.api).await? {
            tasks.spawn(api.serve(asked.subscribe(), store, self.stop.subscribe()));
        }
        Ok(())
    }

    fn open(&self) -> Result<Store, StoreError> {
        let path = database(&self.settings.datadir);
        match self.recover {
            None => Store::open_counted(path, self.settings.store.count_file.as_deref()),
            Some(copy) => Store::open_older(path, copy == Recover::Declared),
        }
    }
}

fn tell_ready(daemon: &Daemon) {
    let (node_id, height) = (daemon.node.node_id(), daemon.chain.best_block().height);
    daemon.events.tell(Step::Ready { node_id, height });
    if daemon.settings.network == Network::Bitcoin {
        tracing::warn!("this version is not meant for mainnet yet: use amounts that you can lose");
    }
    if let Err(missing) = daemon.ways().choose(None) {
        tracing::info!("{missing}");
    }
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
async fn listeners(http: &Http) -> Result<(Vec<Arc<dyn Listener>>, Option<Certificate>), StartError> {
    let mut listeners: Vec<Arc<dyn Listener>> = Vec::new();
    let mut shown = None;
    if let (Some(address), Some(certificate), Some(key)) = (http.listen, &http.certificate, &http.key) {
        let tls = Tls::bind(address, certificate, key).await;
        let tls = Arc::new(tls.map_err(io(listening(address)))?);
        shown = Some(Certificate::new(tls.clone(), certificate.clone(), key.clone(), Shown::ToPayers));
        listeners.push(tls);
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
    Ok((listeners, shown))
}

fn listening(address: impl Display) -> String {
    format!("cannot serve payers on {address}")
}

/// One server on all listeners: they share its limits.
fn serve(daemon: &Arc<Daemon>, listeners: Vec<Arc<dyn Listener>>, tasks: &mut JoinSet<()>) {
    let per_minute = daemon.settings.http.rate_per_minute;
    let per_peer = (per_minute > 0).then_some(Rate { per_minute, burst: per_minute.div_ceil(2) });
    let server = Server::new(daemon.host.clone(), Limits { per_peer, ..Limits::default() });
    daemon.events.counts().serving(server.replies());
    tasks.spawn(count_steps(daemon.events.clone(), daemon.stop.subscribe()));
    for listener in listeners {
        let (server, mut stop) = (server.clone(), daemon.stop.subscribe());
        tasks.spawn(async move {
            server.run(listener.as_ref(), async move { drop(stop.wait_for(|stop| *stop).await) }).await;
        });
    }
}
