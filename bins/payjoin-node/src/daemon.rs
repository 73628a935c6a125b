//! What the requests and the background tasks share.

use std::sync::Arc;

use payjoin_io::{Host, Poller};
use payjoin_lightning::LightningNode;
use payjoin_lightning::node::ChainView;
use tokio::sync::watch;

use crate::certificate::Certificate;
use crate::events::Events;
use crate::keep::Store;
use crate::pay::Payments;
use crate::settings::Settings;
use crate::tor::TorState;

/// Everything that lives as long as the node.
pub(crate) struct Daemon {
    /// Settings, resolved.
    pub(crate) settings: Settings,
    /// The database.
    pub(crate) store: Store,
    /// The Lightning node with its wallet: the embedded one, or the operator's own.
    pub(crate) node: Arc<dyn LightningNode>,
    /// The chain, as far as it was followed.
    pub(crate) chain: Arc<dyn ChainView>,
    /// The roles that answer an exchange.
    pub(crate) host: Host,
    /// Payments of ours, where the wallet makes some.
    pub(crate) payments: Option<Arc<Payments>>,
    /// Sessions at directories, where some are configured.
    pub(crate) poller: Option<Poller>,
    /// Tor and our onion service, where they are enabled.
    pub(crate) tor: Option<watch::Receiver<TorState>>,
    /// What payers see of our TLS server, where there is one.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// Where everything is told.
    pub(crate) events: Events,
    /// Turns `true` once the node is asked to stop.
    pub(crate) stop: watch::Sender<bool>,
}
