//! What a node starts from.

use std::sync::Arc;

use payjoin_core::{Chain, Funder, Wallet};
use tokio::sync::watch;

use crate::events::{EventStream, Events};
use crate::settings::Settings;
use crate::starting::Starting;

/// A node that has not started: its settings, and the roles that are somebody else's.
pub struct Builder {
    pub(crate) settings: Settings,
    pub(crate) chain: Option<Arc<dyn Chain>>,
    pub(crate) wallet: Option<Arc<dyn Wallet>>,
    pub(crate) funder: Option<Arc<dyn Funder>>,
    pub(crate) events: Events,
    pub(crate) starting: Starting,
    pub(crate) recover: Option<Recover>,
    /// Turns `true` once the node is asked to stop.
    pub(crate) stop: watch::Sender<bool>,
}

/// What an older copy of the database is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recover {
    /// One that a start has refused.
    Refused,
    /// Any database: from now on it is an older copy, for good.
    Declared,
}

impl Builder {
    pub(crate) fn new(settings: Settings) -> Self {
        let (events, starting, stop) = (Events::new(), Starting::default(), watch::Sender::new(false));
        Self { settings, chain: None, wallet: None, funder: None, events, starting, recover: None, stop }
    }

    /// Asks this chain about payments to us, instead of bitcoind. The node itself still follows bitcoind.
    #[must_use]
    pub fn chain(self, chain: Arc<dyn Chain>) -> Self {
        Self { chain: Some(chain), ..self }
    }

    /// Offers the coins of this wallet, instead of the embedded one. Requests still speak of the embedded one.
    #[must_use]
    pub fn wallet(self, wallet: Arc<dyn Wallet>) -> Self {
        Self { wallet: Some(wallet), ..self }
    }

    /// Opens channels with this, instead of the embedded Lightning node. Requests still speak of the embedded one.
    #[must_use]
    pub fn funder(self, funder: Arc<dyn Funder>) -> Self {
        Self { funder: Some(funder), ..self }
    }

    /// What can be asked of the node while its start waits for blocks.
    #[must_use]
    pub fn starting(&self) -> Starting {
        self.starting.clone()
    }

    /// Starts with an older copy of the database, which would be refused: nothing is offered, the peers are asked to close
    /// the channels, what is ours in them is collected, and payments that are owed are broadcast.
    #[must_use]
    pub fn recover(self, copy: Recover) -> Self {
        Self { recover: Some(copy), ..self }
    }

    /// The events of the node, those of its start too.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.events.subscribe()
    }
}
