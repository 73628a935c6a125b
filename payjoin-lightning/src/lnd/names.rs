//! The name of each opening, durable before LND hears of it, so that a restart finds what it left.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::OutPoint;
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use bitcoin::key::rand::{RngCore as _, thread_rng};
use payjoin_core::{ExchangeId, LedgerError, NodeState, StateWrite};
use serde::{Deserialize, Serialize};

use crate::ChannelKey;
use crate::lock::lock;

/// Records by name.
const NAMESPACE: &str = "lnd_openings";

/// After so long LND has heard of an opening, or never will: it gives up what waits for a peer after ten minutes.
const SETTLED: Duration = Duration::from_secs(15 * 60);

/// LND's `pending_chan_id`: 32 random bytes, never used twice. LND takes the same one twice for two channels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Name(pub(super) [u8; 32]);

impl Name {
    fn new() -> Self {
        let mut name = [0; 32];
        thread_rng().fill_bytes(&mut name);
        Self(name)
    }

    pub(super) fn hex(&self) -> String {
        self.0.to_lower_hex_string()
    }

    /// LND's note of the channel, which nobody but its operator sees.
    pub(super) fn memo(&self, key: ChannelKey) -> String {
        format!("payjoind: exchange {}, channel {}, {}", key.exchange.0, key.index, self.hex())
    }

    /// The note ends with this name.
    pub(super) fn is_in(&self, memo: &str) -> bool {
        memo.rsplit(' ').next() == Some(self.hex().as_str())
    }
}

impl FromStr for Name {
    type Err = LedgerError;

    fn from_str(hex: &str) -> Result<Self, LedgerError> {
        let damaged = |_| LedgerError::Damaged("the name of an opening".to_owned());
        <[u8; 32]>::from_hex(hex).map(Self).map_err(damaged)
    }
}

/// What is known of an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    exchange: ExchangeId,
    index: u32,
    /// From before LND has its transaction.
    funding: Option<OutPoint>,
    /// To be cleared away at LND.
    abandoned: bool,
}

/// An opening.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    record: Record,
    /// Since this process knows of it, or it was abandoned.
    since: Instant,
    /// An earlier process left it.
    pub(super) is_left: bool,
    /// LND has answered the call that opens it.
    answered: bool,
}

impl Opening {
    pub(super) fn key(&self) -> ChannelKey {
        ChannelKey { exchange: self.record.exchange, index: self.record.index }
    }

    pub(super) fn funding(&self) -> Option<OutPoint> {
        self.record.funding
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.record.abandoned
    }

    /// What LND does not know of it by now it never will.
    pub(super) fn is_settled(&self) -> bool {
        self.since.elapsed() >= SETTLED
    }

    /// The call that opens it has reached LND or has not.
    pub(super) fn is_heard(&self) -> bool {
        self.answered || self.since.elapsed() >= Duration::from_secs(60)
    }
}

/// The openings of which LND may know something.
pub(super) struct Names {
    store: Arc<dyn NodeState>,
    openings: Mutex<BTreeMap<Name, Opening>>,
}

impl Names {
    /// Reads what an earlier process left. What it gave no transaction nobody can have released: it is abandoned.
    pub(super) fn load(store: Arc<dyn NodeState>) -> Result<Self, LedgerError> {
        let mut openings = BTreeMap::new();
        for hex in store.kv_list(NAMESPACE, "")? {
            let Some(bytes) = store.kv_read(NAMESPACE, "", &hex)? else { continue };
            let damaged = |_| LedgerError::Damaged("an opening".to_owned());
            let mut record: Record = serde_json::from_slice(&bytes).map_err(damaged)?;
            record.abandoned |= record.funding.is_none();
            openings.insert(
                hex.parse()?,
                Opening { record, since: Instant::now(), is_left: true, answered: false },
            );
        }
        Ok(Self { store, openings: Mutex::new(openings) })
    }

    /// Names a channel. Durable when it returns.
    pub(super) async fn create(&self, key: ChannelKey) -> Result<Name, LedgerError> {
        let name = Name::new();
        let record = Record { exchange: key.exchange, index: key.index, funding: None, abandoned: false };
        self.write(name, Opening { record, since: Instant::now(), is_left: false, answered: false }).await?;
        Ok(name)
    }

    /// The transaction that LND gets next. Durable when it returns.
    pub(super) async fn fund(&self, name: Name, funding: OutPoint) -> Result<(), LedgerError> {
        let Some(mut opening) = self.get(name) else { return Ok(()) };
        opening.record.funding = Some(funding);
        self.write(name, opening).await
    }

    /// LND is to forget it. It counts as forgotten at once, and durably when it returns. `answered`: LND knows of it, or has
    /// refused it.
    pub(super) async fn abandon(&self, name: Name, answered: bool) -> Result<(), LedgerError> {
        let Some(mut opening) = self.get(name) else { return Ok(()) };
        opening.answered = answered;
        opening.record.abandoned = true;
        opening.since = Instant::now();
        lock(&self.openings).insert(name, opening);
        self.write(name, opening).await
    }

    /// LND knows nothing of it, or its end is on record elsewhere.
    pub(super) async fn forget(&self, name: Name) -> Result<(), LedgerError> {
        let store = Arc::clone(&self.store);
        blocking(move || store.kv_remove(NAMESPACE, "", &name.hex())).await?;
        lock(&self.openings).remove(&name);
        Ok(())
    }

    pub(super) fn get(&self, name: Name) -> Option<Opening> {
        lock(&self.openings).get(&name).copied()
    }

    pub(super) fn all(&self) -> Vec<(Name, Opening)> {
        lock(&self.openings).iter().map(|(name, opening)| (*name, *opening)).collect()
    }

    /// The opening with this funding output.
    pub(super) fn funded(&self, funding: &OutPoint) -> Option<Name> {
        self.all().into_iter().find(|(_, opening)| opening.funding() == Some(*funding)).map(|(name, _)| name)
    }

    /// Those of this channel that are not abandoned.
    pub(super) fn of(&self, key: ChannelKey) -> Vec<Name> {
        let ours = |(_, opening): &(Name, Opening)| opening.key() == key && !opening.is_abandoned();
        self.all().into_iter().filter(ours).map(|(name, _)| name).collect()
    }

    async fn write(&self, name: Name, opening: Opening) -> Result<(), LedgerError> {
        let store = Arc::clone(&self.store);
        // A record is two numbers and an outpoint: that is always JSON.
        let value =
            serde_json::to_vec(&opening.record).map_err(|error| LedgerError::Failed(error.to_string()))?;
        let (primary, secondary, key) = (NAMESPACE.to_owned(), String::new(), name.hex());
        let write = StateWrite { primary, secondary, key, value, generation: 0 };
        blocking(move || store.kv_write(write)).await?;
        lock(&self.openings).insert(name, opening);
        Ok(())
    }
}

/// Work of the store, which waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(LedgerError::Failed(error.to_string())))
}
