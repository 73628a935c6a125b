//! The roles that answer an [`Exchange`](payjoin_core::Exchange): chain, wallet, Lightning funder. The fourth role,
//! the store, is [`Store`] itself.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bitcoin::{OutPoint, Psbt, ScriptBuf, Transaction};
use payjoin_core::{
    CheckedProposal, Coin, ExchangeId, FundedChannel, Inspection, IntentId, InvoiceId, PlannedChannel,
    Policy, Reserve, ResourceRequest, StableProposal, Timestamp,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::watched::Watch;
use crate::{KvWrite, Store, StoreError, Watched};

/// A role could not do its work. The text is for the operator's log; a payer never reads it (money rule 11).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

impl From<StoreError> for HostError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// The four roles, the operator's policy and a clock. Clones share everything.
#[derive(Clone)]
pub struct Host {
    /// The Bitcoin node.
    pub chain: Arc<dyn Chain>,
    /// The wallet.
    pub wallet: Arc<dyn Wallet>,
    /// The Lightning node, or [`NoChannels`].
    pub funder: Arc<dyn Funder>,
    /// The durable store.
    pub store: Store,
    /// What the operator allows.
    pub policy: Policy,
    clock: fn() -> Timestamp,
    /// Intents that running exchanges have in hand and have not taken in the store.
    reserved: Arc<Mutex<HashSet<IntentId>>>,
    /// Invoices with a running exchange, whichever way their payers came.
    serving: Arc<Mutex<HashSet<InvoiceId>>>,
    watched: Watched,
    owing: UnboundedSender<(ExchangeId, Watches)>,
}

/// The exchanges that come to owe something, for [`Settler`](crate::Settler).
#[derive(Debug)]
pub struct Owed(pub(crate) UnboundedReceiver<(ExchangeId, Watches)>);

/// What an exchange watches while it runs. The settler lets go of it once it watches by itself.
pub(crate) type Watches = Vec<Arc<Watch>>;

impl Host {
    /// Joins the roles. [`Owed`] names each exchange that begins to owe something; give it to
    /// [`Settler::new`](crate::Settler::new).
    #[must_use]
    pub fn new(
        chain: Arc<dyn Chain>,
        wallet: Arc<dyn Wallet>,
        funder: Arc<dyn Funder>,
        store: Store,
        policy: Policy,
        clock: fn() -> Timestamp,
    ) -> (Self, Owed) {
        let (owing, receiver) = unbounded_channel();
        let (reserved, serving, watched) = (Arc::default(), Arc::default(), Watched::default());
        let host = Self { chain, wallet, funder, store, policy, clock, reserved, serving, watched, owing };
        (host, Owed(receiver))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The coins of the exchanges that run or owe something.
    #[must_use]
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    pub(crate) fn reserved(&self) -> MutexGuard<'_, HashSet<IntentId>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to run an exchange for this invoice, alone, until the claim is dropped. `None` while another has it.
    pub(crate) fn claim(&self, invoice: &InvoiceId) -> Option<Claim> {
        let free = self.serving().insert(invoice.clone());
        free.then(|| Claim { host: self.clone(), invoice: invoice.clone() })
    }

    pub(crate) fn serving(&self) -> MutexGuard<'_, HashSet<InvoiceId>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a transaction to the network. The inner error is the network's reason not to take it; a node that is away
    /// refuses nothing.
    pub(crate) async fn send(&self, transaction: &Transaction) -> Result<Result<(), String>, HostError> {
        let Err(error) = self.chain.broadcast(transaction).await else { return Ok(Ok(())) };
        self.chain.inspect(transaction).await?.acceptable.err().map(Err).ok_or(error)
    }

    /// Tells the settler that this exchange owes something, or something else than before.
    pub(crate) fn owes(&self, exchange: ExchangeId, watches: Watches) {
        // Nobody listens only where there is no settler, or while the process ends.
        let _ = self.owing.send((exchange, watches));
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// See [`Host::claim`].
pub(crate) struct Claim {
    host: Host,
    invoice: InvoiceId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.host.serving().remove(&self.invoice);
    }
}

/// A Bitcoin node.
#[async_trait]
pub trait Chain: Send + Sync {
    /// `testmempoolaccept` and every real prevout, in one round trip.
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, HostError>;
    /// Sends a transaction to the network. `Ok` too when the node has it already.
    async fn broadcast(&self, transaction: &Transaction) -> Result<(), HostError>;
}

/// The wallet whose coins are offered.
#[async_trait]
pub trait Wallet: Send + Sync {
    /// Which scripts are ours, in order.
    fn owns(&self, scripts: &[ScriptBuf]) -> Vec<bool>;
    /// Confirmed, unlocked coins, best first, at most a bounded number. `prefer` names coins shown to an earlier
    /// unfinished attempt at the same invoice: they come first even though they are locked (money rule 8). Costs nothing
    /// that grows with the wallet.
    ///
    /// Locks are counted: each coin given is locked once more, until one [`Wallet::unlock`] for it.
    ///
    /// # Errors
    /// When the wallet cannot answer; then no coin is locked. A wallet without coins gives none.
    fn reserve(
        &self,
        request: &ResourceRequest,
        prefer: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), HostError>;
    /// Ends one lock on each of these coins.
    fn unlock(&self, coins: &[OutPoint]);
    /// Signs and finalizes the inputs [`CheckedProposal::our_inputs`], and no others.
    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, HostError>;
}

/// A Lightning node that funds channels from somebody else's transaction.
#[async_trait]
pub trait Funder: Send + Sync {
    /// Opens all channels side by side and returns their funding scripts in order. On error every one is abandoned.
    async fn open(
        &self,
        exchange: ExchangeId,
        channels: &[PlannedChannel],
    ) -> Result<Vec<ScriptBuf>, HostError>;
    /// Hands over the funding transaction and waits until the peer of every channel has signed and every monitor is
    /// durable. On error every channel of the exchange is abandoned.
    async fn fund(&self, exchange: ExchangeId, proposal: &StableProposal) -> Result<(), HostError>;
    /// Forgets every channel of the exchange, of which nothing was released. Does not wait for peers.
    async fn abandon(&self, exchange: ExchangeId, reason: &str);
    /// Closes the channels of a released payjoin that can never be mined any more. Called again after a crash.
    async fn forget(&self, exchange: ExchangeId, channels: &[FundedChannel]);
    /// The node's state, to be written in the same transaction as the release (money rule 1). An error when one of the
    /// channels that the exchange is about to release is not there any more.
    async fn state(
        &self,
        exchange: ExchangeId,
        channels: &[FundedChannel],
    ) -> Result<Vec<KvWrite>, HostError>;
}

/// The [`Funder`] of a wallet without Lightning: every payment is a plain payjoin.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoChannels;

#[async_trait]
impl Funder for NoChannels {
    async fn open(&self, _: ExchangeId, _: &[PlannedChannel]) -> Result<Vec<ScriptBuf>, HostError> {
        Err(HostError("no Lightning node".into()))
    }

    async fn fund(&self, _: ExchangeId, _: &StableProposal) -> Result<(), HostError> {
        Err(HostError("no Lightning node".into()))
    }

    async fn abandon(&self, _: ExchangeId, _: &str) {}

    async fn forget(&self, _: ExchangeId, _: &[FundedChannel]) {}

    async fn state(&self, _: ExchangeId, _: &[FundedChannel]) -> Result<Vec<KvWrite>, HostError> {
        Ok(Vec::new())
    }
}
