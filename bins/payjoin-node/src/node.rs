//! A running node: asked, listened to, stopped.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::builder::Builder;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::events::EventStream;
use crate::requests::{Request, Response};
use crate::settings::{Settings, SettingsError};
use crate::start_error::StartError;
use crate::tor::Tor;

/// A part that ended by itself waits so long for the reason.
const REASON: Duration = Duration::from_secs(5);

/// A running node. Clones are the same node; it runs until [`Node::stop`], also when nobody holds one.
#[derive(Clone)]
pub struct Node {
    daemon: Arc<Daemon>,
    parts: Arc<Mutex<Parts>>,
    ended: watch::Sender<bool>,
}

/// What ends before the Lightning node does.
struct Parts {
    /// The servers and the settler.
    tasks: JoinSet<()>,
    tor: Option<Tor>,
}

impl Node {
    /// A node with these settings, for [`Builder::start`].
    #[must_use]
    pub fn builder(settings: Settings) -> Builder {
        Builder::new(settings)
    }

    pub(crate) fn new(daemon: Arc<Daemon>, tasks: JoinSet<()>, tor: Option<Tor>) -> Self {
        let ended = watch::channel(false).0;
        Self { daemon, parts: Arc::new(Mutex::new(Parts { tasks, tor })), ended }
    }

    /// Answers a request. Dropping the call undoes nothing that was begun.
    ///
    /// # Errors
    /// Says why, in words for the operator; [`RequestError::kind`] says where.
    pub async fn request(&self, request: Request) -> Result<Response, RequestError> {
        if *self.ended.borrow() {
            return Err(ErrorKind::Stopped.error("the node has stopped"));
        }
        self.daemon.answer(request).await
    }

    /// Whether it would give a code now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let ready = || self.daemon.trouble().is_none() && self.daemon.ways().choose(None).is_ok();
        !*self.daemon.stop.borrow() && ready()
    }

    /// What it holds and does, in numbers, as Prometheus reads them. It costs the same whatever lies in the past.
    pub async fn metrics(&self) -> String {
        let ended = *self.ended.borrow();
        match ended {
            true => crate::metrics::not_ready(),
            false => self.daemon.metrics(self.is_ready()).await,
        }
    }

    /// The events from now on. [`Builder::events`] has those of the start too.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.daemon.events.subscribe()
    }

    /// Returns when the node is asked to stop.
    ///
    /// # Errors
    /// When a part ends that nothing goes on without. Call [`Node::stop`] then, too.
    pub async fn ended(&self) -> Result<(), StartError> {
        let mut asked = self.daemon.stop.subscribe();
        tokio::select! {
            // In this order: parts end because somebody asked for the end, and that is no failure.
            biased;
            _ = asked.wait_for(|stop| *stop) => Ok(()),
            broken = self.daemon.node.stopped() => Err(broken.map_or(StartError::NodeEnded, StartError::Broken)),
            () = self.part_ended() => Err(self.why_ended().await),
        }
    }

    /// A part that asks LDK something after it has panicked ends before the reason is told.
    async fn why_ended(&self) -> StartError {
        let told = timeout(REASON, self.daemon.node.stopped()).await;
        told.ok().flatten().map_or(StartError::PartEnded, StartError::Broken)
    }

    async fn part_ended(&self) {
        if self.parts.lock().await.tasks.join_next().await.is_none() {
            pending::<()>().await;
        }
    }

    /// Takes over what of these settings needs no restart, and reads the TLS certificate again. What else is different is
    /// logged.
    ///
    /// # Errors
    /// When they cannot be used. Nothing has changed then.
    pub fn reload(&self, mut settings: Settings) -> Result<(), SettingsError> {
        settings.resolve();
        settings.check()?;
        let Daemon { host, certificate, settings: running, .. } = &*self.daemon;
        if let Some(certificate) = certificate {
            certificate.look();
        }
        let (taken, restart) = running.changes(&settings);
        host.set_policy(settings.policy_over(host.policy()));
        tracing::info!(taken = taken.join(", "), "settings were read again");
        if !restart.is_empty() {
            tracing::warn!(
                "{} changed and need a restart: until then the values from the start hold",
                restart.join(", ")
            );
        }
        Ok(())
    }

    /// Ends everything, after the exchanges in flight. A second call waits for the first.
    pub async fn stop(&self) {
        self.daemon.stop.send_replace(true);
        self.daemon.chain.source().hurry();
        let mut parts = self.parts.lock().await;
        if *self.ended.borrow() {
            return;
        }
        if self.daemon.node.broken().is_some() {
            // Whatever asks LDK something now fails.
            self.ended.send_replace(true);
            return;
        }
        // Exchanges in flight come to their end here; they need the node.
        while parts.tasks.join_next().await.is_some() {}
        if let Some(poller) = &self.daemon.poller {
            poller.stop().await;
        }
        if let Some(tor) = parts.tor.take() {
            tor.stop().await;
        }
        self.ended.send_replace(true);
        self.daemon.node.stop().await;
    }
}
