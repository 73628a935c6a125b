//! The running daemon: what the commands and the background tasks share.

use std::sync::Arc;

use payjoin_core::Timestamp;
use payjoin_io::{Host, Poller, Store};
use payjoin_lightning::node::Node;
use tokio::sync::watch;

use crate::config::Config;
use crate::pay::Payer;
use crate::tor::TorState;

/// Everything that lives as long as the process.
pub(crate) struct Daemon {
    /// Settings, resolved.
    pub(crate) config: Config,
    /// The database.
    pub(crate) store: Store,
    /// The Lightning node with its wallet and its view of the chain.
    pub(crate) node: Arc<Node>,
    /// The roles that answer an exchange.
    pub(crate) host: Host,
    /// Payments of ours.
    pub(crate) payer: Arc<Payer>,
    /// Sessions at directories, where some are configured.
    pub(crate) poller: Option<Poller>,
    /// Tor and our onion service, where they are enabled.
    pub(crate) tor: Option<watch::Receiver<TorState>>,
    /// Turns `true` once the daemon is asked to stop.
    pub(crate) stop: watch::Sender<bool>,
}

/// Earliest plausible time, 2024-01-01. A clock before it would make deadlines and sessions meaningless.
const EARLIEST: u64 = 1_704_067_200;

/// The system clock; `None` when it cannot be right.
pub(crate) fn clock() -> Option<Timestamp> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    (since.as_secs() >= EARLIEST).then_some(Timestamp(since.as_secs()))
}

/// The system clock, for a process that started with a plausible one.
pub(crate) fn now() -> Timestamp {
    clock().unwrap_or(Timestamp(EARLIEST))
}
