//! What an adapter to the operator's own node starts with.

use std::fmt;
use std::sync::Arc;

use bitcoin::{Network, OutPoint};
use payjoin_core::{Event, Holder, NodeState};
use tokio::sync::broadcast;

use crate::{PaidOnce, Wanted};

/// What an adapter to the operator's own node starts with.
#[derive(Clone)]
pub struct OwnNodeConfig {
    /// The network that the node must be on.
    pub network: Network,
    /// Coins that are offered or committed: locked again before anything is offered.
    pub held: Vec<(Holder, Vec<OutPoint>)>,
    /// Where the name of each opening is kept before its first call.
    pub state: Arc<dyn NodeState>,
    /// Peers to keep connected besides those with channels.
    pub wanted: Option<Arc<dyn Wanted>>,
    /// Who may refuse payments that are here; `None` takes them all.
    pub once: Option<Arc<dyn PaidOnce>>,
    /// Where the steps of openings are told. Nobody is waited for.
    pub events: Option<broadcast::Sender<Event>>,
}

impl fmt::Debug for OwnNodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnNodeConfig").field("network", &self.network).finish_non_exhaustive()
    }
}
