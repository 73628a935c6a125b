//! Drives [`Funding`] over a [`ChannelFunder`].

use std::collections::{BTreeSet, HashMap};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::{Amount, ScriptBuf, Transaction};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use payjoin_core::{ExchangeId, IntentId, PlannedChannel, Timestamp};
use tokio::time::{Instant, timeout_at};

use crate::{ChannelFunder, ChannelKey, ChannelSpec, Funding, FundingError, FundingInput, FundingOutput};

/// The channels of all exchanges of a process: opened side by side, funded from one transaction, all or nothing.
///
/// One exchange goes `open_all`, `fund_all`, and on any failure of its own `abandon_all`. A call that is dropped
/// before it ends leaves channels behind: call [`Channels::abandon_all`] then too.
pub struct Channels {
    funder: Arc<dyn ChannelFunder>,
    seconds: u64,
    /// Attempts between `open_all` and `fund_all`.
    open: Mutex<HashMap<ExchangeId, Attempt>>,
}

/// Why an exchange has no channels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelsError {
    /// Money rule 9: the node holds channels of this exchange already. They are left as they are.
    #[error("the exchange has channels already")]
    Live,
    /// `fund_all` without `open_all`, or a second time. Channels are left as they are.
    #[error("the exchange has no channels to fund")]
    NotOpen,
    /// A channel closed after it was safe; every channel is abandoned.
    #[error("a channel closed after its peer had signed")]
    Closed,
    /// The attempt failed; every channel of it is abandoned.
    #[error(transparent)]
    Attempt(#[from] FundingError),
}

impl ChannelsError {
    /// The intents whose channels failed, as far as one can tell. The others of the attempt may do well without them.
    #[must_use]
    pub fn culprits(&self) -> &[IntentId] {
        match self {
            Self::Attempt(error) => error.culprits(),
            Self::Live | Self::NotOpen | Self::Closed => &[],
        }
    }
}

struct Attempt {
    funding: Funding,
    specs: Vec<ChannelSpec>,
    /// Zero of the machine's time. Monotonic, so that no clock that jumps ends an attempt.
    began: Instant,
}

impl Attempt {
    fn now(&self) -> Timestamp {
        Timestamp(self.began.elapsed().as_secs())
    }
}

type Work<'a> = Pin<Box<dyn Future<Output = FundingInput<'static>> + Send + 'a>>;

impl Channels {
    /// Channels on this node. An exchange has `seconds` for all its Lightning work, from `open_all` on.
    #[must_use]
    pub fn new(funder: Arc<dyn ChannelFunder>, seconds: u64) -> Self {
        Self { funder, seconds, open: Mutex::default() }
    }

    /// Opens all channels side by side and returns their funding scripts in order.
    ///
    /// # Errors
    /// [`ChannelsError::Live`] when the exchange was here before; [`ChannelsError::Attempt`] when one channel failed or
    /// time is up, and all are abandoned.
    pub async fn open_all(
        &self,
        exchange: ExchangeId,
        channels: &[(PlannedChannel, ChannelSpec)],
    ) -> Result<Vec<ScriptBuf>, ChannelsError> {
        if self.funder.live().await.iter().any(|key| key.exchange == exchange) {
            return Err(ChannelsError::Live);
        }
        let (planned, specs) = channels.iter().cloned().unzip();
        let funding = Funding::new(Timestamp(0), self.seconds, planned)?;
        let mut attempt = Attempt { funding, specs, began: Instant::now() };
        self.drive(exchange, &mut attempt).await?;
        let scripts = attempt.funding.scripts().cloned().collect();
        self.open().insert(exchange, attempt);
        Ok(scripts)
    }

    /// Gives every channel of the exchange its output of `transaction` and waits until all are safe. `transaction` and
    /// `funding` are those of a [`StableProposal`](payjoin_core::StableProposal): the id must be final.
    ///
    /// Money rule 1: after `Ok` the monitors are durable, but the node's `ChannelManager` may not be. Persist it
    /// before the proposal leaves; otherwise a crash loses the channel while its funding confirms.
    ///
    /// # Errors
    /// [`ChannelsError::NotOpen`] without a preceding `open_all`; [`ChannelsError::Attempt`] when one channel failed or
    /// time is up, and [`ChannelsError::Closed`] when one closed after it was safe, and all are abandoned.
    pub async fn fund_all(
        &self,
        exchange: ExchangeId,
        transaction: &Transaction,
        funding: &[(PlannedChannel, u32)],
    ) -> Result<(), ChannelsError> {
        let mut attempt = self.open().remove(&exchange).ok_or(ChannelsError::NotOpen)?;
        let now = attempt.now();
        attempt.funding.handle_input(now, FundingInput::Fund(Arc::new(transaction.clone()), funding));
        self.drive(exchange, &mut attempt).await?;
        if !self.are_live(exchange, funding.len()).await {
            self.abandon_all(exchange, "a channel closed").await;
            return Err(ChannelsError::Closed);
        }
        Ok(())
    }

    /// Whether the node holds this many channels of the exchange. A peer can close a safe channel while others are not
    /// safe yet, or before the proposal leaves: look again then (money rule 1).
    pub async fn are_live(&self, exchange: ExchangeId, channels: usize) -> bool {
        self.funder.live().await.into_iter().filter(|key| key.exchange == exchange).count() == channels
    }

    /// Forgets every channel of the exchange, at any stage and after a restart too. The caller knows that nothing of
    /// it was released, or that what was released can never be mined. `reason` goes to the log.
    pub async fn abandon_all(&self, exchange: ExchangeId, reason: &str) {
        self.open().remove(&exchange);
        for key in self.funder.live().await {
            if key.exchange == exchange {
                tracing::info!(exchange = exchange.0, channel = key.index, reason, "channel abandoned");
                self.funder.abandon(key).await;
            }
        }
    }

    /// Exchanges of which the node holds channels. After a restart abandon those that were never released.
    pub async fn live(&self) -> BTreeSet<ExchangeId> {
        self.funder.live().await.into_iter().map(|key| key.exchange).collect()
    }

    /// Runs the machine until all channels are open, all are safe, or all are abandoned.
    async fn drive(&self, exchange: ExchangeId, attempt: &mut Attempt) -> Result<(), FundingError> {
        let Attempt { funding, specs, began } = attempt;
        let mut running = FuturesUnordered::<Work<'_>>::new();
        loop {
            match funding.poll_output() {
                FundingOutput::Open { index, amount } => {
                    running.push(self.open_one(exchange, index, &specs[index], amount));
                }
                FundingOutput::Fund { index, transaction, vout } => {
                    running.push(self.fund_one(exchange, index, transaction, vout));
                }
                FundingOutput::AllOpen | FundingOutput::AllSafe => return Ok(()),
                FundingOutput::Abandon(index) => {
                    // Work in progress ends first, so that none of it opens anything afterwards.
                    running.clear();
                    self.funder.abandon(key(exchange, index)).await;
                }
                FundingOutput::Failed(reason) => return Err(reason),
                FundingOutput::Wait(deadline) => {
                    let deadline = *began + Duration::from_secs(deadline.0);
                    let input = timeout_at(deadline, next(&mut running)).await.unwrap_or(FundingInput::Tick);
                    funding.handle_input(Timestamp(began.elapsed().as_secs()), input);
                }
            }
        }
    }

    fn open_one<'a>(
        &'a self,
        exchange: ExchangeId,
        index: usize,
        spec: &'a ChannelSpec,
        amount: Amount,
    ) -> Work<'a> {
        Box::pin(async move {
            match self.funder.open(key(exchange, index), spec, amount).await {
                Ok(script) => FundingInput::Opened(index, script),
                Err(error) => FundingInput::Failed(index, error.to_string()),
            }
        })
    }

    fn fund_one(
        &self,
        exchange: ExchangeId,
        index: usize,
        transaction: Arc<Transaction>,
        vout: u32,
    ) -> Work<'_> {
        Box::pin(async move {
            match self.funder.fund(key(exchange, index), &transaction, vout).await {
                Ok(()) => FundingInput::Safe(index),
                Err(error) => FundingInput::Failed(index, error.to_string()),
            }
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<ExchangeId, Attempt>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction has fewer than 2^32 outputs, so no index is cut.
fn key(exchange: ExchangeId, index: usize) -> ChannelKey {
    ChannelKey { exchange, index: index as u32 }
}

/// The next work done; never when there is none, so that the deadline ends the wait.
async fn next(running: &mut FuturesUnordered<Work<'_>>) -> FundingInput<'static> {
    match running.next().await {
        Some(input) => input,
        None => pending().await,
    }
}
