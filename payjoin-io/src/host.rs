//! The roles that answer an [`Exchange`](payjoin_core::Exchange), joined: chain, wallet, Lightning funder and store.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bitcoin::secp256k1::PublicKey;

use payjoin_core::{
    Chain, ChainError, Event, ExchangeId, Funder, FunderError, IntentId, Invoice, InvoiceId, Ledger,
    LedgerError, Openable, Policy, Step, Timestamp, Wallet, WalletError, openable,
};
use tokio::sync::broadcast;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Watched;
use crate::watched::Watches;

/// A role could not do its work. The text is for the operator's log; a payer never reads it (money rule 11).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

macro_rules! from {
    ($($error:ty),*) => {$(
        impl From<$error> for HostError {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

from!(ChainError, FunderError, LedgerError, WalletError);

/// The four roles, the operator's policy and a clock. Clones share everything.
#[derive(Clone)]
pub struct Host {
    /// The Bitcoin node.
    pub chain: Arc<dyn Chain>,
    /// The wallet.
    pub wallet: Arc<dyn Wallet>,
    /// The Lightning node, or [`NoChannels`](payjoin_core::NoChannels).
    pub funder: Arc<dyn Funder>,
    /// What survives a crash.
    pub store: Arc<dyn Ledger>,
    policy: Arc<RwLock<Policy>>,
    clock: fn() -> Timestamp,
    height: Arc<AtomicU32>,
    reserved: Arc<Mutex<Reserved>>,
    /// Invoices with a running exchange, whichever way their payers came.
    serving: Arc<Mutex<HashSet<InvoiceId>>>,
    /// Exchanges in somebody's hand: of an attempt, or of who clears up after one.
    numbers: Arc<Mutex<HashSet<ExchangeId>>>,
    leftovers: Arc<Mutex<Vec<Leftovers>>>,
    watched: Watched,
    owing: UnboundedSender<(ExchangeId, Watches)>,
    events: Option<broadcast::Sender<Event>>,
}

/// Intents that running exchanges have in hand and have not taken in the store, with their peers.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    pub(crate) intents: HashMap<IntentId, PublicKey>,
    /// Peers that are asked for channels that nobody funds.
    pub(crate) asked: HashSet<PublicKey>,
    /// How many were let go of: a list of the queue from before is out of date then.
    pub(crate) given_back: u64,
}

/// The exchanges that come to owe something, for [`Settler`](crate::Settler).
#[derive(Debug)]
pub struct Owed(pub(crate) UnboundedReceiver<(ExchangeId, Watches)>);

impl Host {
    /// Joins the roles. [`Owed`] names each exchange that begins to owe something; give it to
    /// [`Settler::new`](crate::Settler::new).
    #[must_use]
    pub fn new(
        chain: Arc<dyn Chain>,
        wallet: Arc<dyn Wallet>,
        funder: Arc<dyn Funder>,
        store: Arc<dyn Ledger>,
        policy: Policy,
        clock: fn() -> Timestamp,
    ) -> (Self, Owed) {
        let (owing, receiver) = unbounded_channel();
        let host = Self {
            chain,
            wallet,
            funder,
            store,
            policy: Arc::new(RwLock::new(policy)),
            clock,
            height: Arc::default(),
            reserved: Arc::default(),
            serving: Arc::default(),
            numbers: Arc::default(),
            leftovers: Arc::default(),
            watched: Watched::default(),
            owing,
            events: None,
        };
        (host, Owed(receiver))
    }

    /// What the operator allows now.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// He allows something else from now on. What runs goes on by what it began with.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Tells every step here. Nobody is waited for: whoever listens too slowly misses some.
    #[must_use]
    pub fn with_events(self, events: broadcast::Sender<Event>) -> Self {
        Self { events: Some(events), ..self }
    }

    /// Tells a step of this exchange, or of one that has no number yet.
    pub(crate) fn tell(&self, exchange: impl Into<Option<ExchangeId>>, step: Step) {
        if let Some(events) = &self.events {
            // Nobody may be listening.
            let _ = events.send(Event { exchange: exchange.into(), ..Event::new(self.now(), step) });
        }
    }

    /// Keeps a new invoice. From now on a payment to it is news, also one without payjoin.
    ///
    /// # Errors
    /// As [`Exchanges::insert_invoice`](payjoin_core::Exchanges::insert_invoice).
    pub async fn add_invoice(&self, invoice: &Invoice) -> Result<(), LedgerError> {
        self.store.insert_invoice(invoice).await?;
        self.watched.add_codes([(invoice.script.clone(), invoice.id.clone())]);
        Ok(())
    }

    /// Lets go of codes that nobody will pay any more: without that they would fill the memory.
    pub(crate) async fn forget_codes(&self) -> Result<(), LedgerError> {
        // Codes that are made meanwhile are not among them.
        let known = self.watched.codes();
        let live = self.store.codes(Invoice::watched_since(self.now())).await?;
        let live: HashSet<_> = live.into_iter().map(|(script, _)| script).collect();
        self.watched.remove_codes(known.into_iter().filter(|script| !live.contains(script)));
        Ok(())
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Height of the best block, as far as anybody told; 0 before.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height.load(Ordering::Relaxed)
    }

    /// The same with a best chain of this height.
    #[must_use]
    pub fn at_height(self, height: u32) -> Self {
        self.set_height(height);
        self
    }

    /// The best chain has this height.
    pub(crate) fn set_height(&self, height: u32) {
        self.height.store(height, Ordering::Relaxed);
    }

    /// What the next payment may open, and why the rest of the queue waits.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn openable(&self) -> Result<Openable, LedgerError> {
        let (queue, peers) = (self.store.waiting().await?, self.store.peer_records(self.height()).await?);
        Ok(openable(&queue, &peers, &self.policy().several_at_once, self.now()))
    }

    /// The coins of the exchanges that run or owe something.
    #[must_use]
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    pub(crate) fn reserved(&self) -> MutexGuard<'_, Reserved> {
        lock(&self.reserved)
    }

    /// The right to run an exchange for this invoice, alone, until the claim is dropped. `None` while another has it,
    /// whichever way its payer came. Whoever calls [`drive`](crate::drive()) himself takes it before.
    #[must_use]
    pub fn claim(&self, invoice: &InvoiceId) -> Option<Claim> {
        let free = self.serving().insert(invoice.clone());
        free.then(|| Claim { host: self.clone(), invoice: invoice.clone() })
    }

    pub(crate) fn serving(&self) -> MutexGuard<'_, HashSet<InvoiceId>> {
        lock(&self.serving)
    }

    /// The right to change an exchange, until the answer is dropped. `None` while another has it.
    pub(crate) fn take_number(&self, exchange: ExchangeId) -> Option<Number> {
        let free = lock(&self.numbers).insert(exchange);
        free.then(|| Number { host: self.clone(), exchange })
    }

    /// Leaves the rest of an attempt to the settler's next tick.
    pub(crate) fn leave(&self, left: Leftovers) {
        lock(&self.leftovers).push(left);
    }

    pub(crate) fn take_leftovers(&self) -> Vec<Leftovers> {
        std::mem::take(&mut *lock(&self.leftovers))
    }

    /// Tells the settler that this exchange owes something, or something else than before.
    pub(crate) fn owes(&self, exchange: ExchangeId, watches: Watches) {
        // Nobody listens only where there is no settler, or while the process ends.
        let _ = self.owing.send((exchange, watches));
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("policy", &self.policy()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An attempt that ended, and what may be left of it: coins that its holder has in the wallet and not in the store, or
/// the other way round; an admitted exchange without a proposal; channels of it.
pub(crate) struct Leftovers {
    pub(crate) exchange: ExchangeId,
    pub(crate) channels: bool,
    pub(crate) reason: String,
    pub(crate) watches: Watches,
}

/// See [`Host::take_number`].
pub(crate) struct Number {
    host: Host,
    pub(crate) exchange: ExchangeId,
}

impl Drop for Number {
    fn drop(&mut self) {
        lock(&self.host.numbers).remove(&self.exchange);
    }
}

/// See [`Host::claim`].
#[derive(Debug)]
pub struct Claim {
    host: Host,
    invoice: InvoiceId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.host.serving().remove(&self.invoice);
    }
}
