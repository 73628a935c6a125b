//! Opens channels on a [`ChannelFunder`], and drives [`Funding`] over it.

mod role;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, Psbt, ScriptBuf};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use payjoin_core::{
    ChannelFailure, ChannelSpec, ExchangeId, Failure, FailureKind, Funded, IntentId, Left, PlannedChannel,
    Timestamp,
};
use tokio::time::{Instant, timeout_at};

use crate::funder::open_by;
use crate::funding;
use crate::lock::lock;
use crate::{ChannelFunder, ChannelKey, Funding, FundingError, FundingInput, FundingOutput, FundingTerms};

/// The channels of all exchanges of a process: opened side by side and funded from one transaction, all or none.
///
/// One exchange goes `open_each` or `open_all`, `fund` or `fund_all`, and on any failure of its own `abandon_all`. After
/// `fund` has told what is left of the channels it may go so once more. A call that is dropped before it ends leaves
/// channels behind: call [`Channels::abandon_all`] then too.
pub struct Channels {
    funder: Arc<dyn ChannelFunder>,
    /// For a peer to accept.
    accept_seconds: u64,
    /// For a peer to sign.
    sign_seconds: u64,
    seconds: u64,
    /// How many openings were probes.
    probes: AtomicU32,
    /// Attempts between `open_each` and `fund`.
    open: Mutex<HashMap<ExchangeId, Attempt>>,
}

/// Why an exchange has no channels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelsError {
    /// Money rule 9: the node holds channels of this exchange already. They are left as they are.
    #[error("the exchange has channels already")]
    Live,
    /// Nothing was opened before, or it was funded already. Channels are left as they are.
    #[error("the exchange has no channels to fund")]
    NotOpen,
    /// A channel closed after it was safe; every channel is abandoned.
    #[error("a channel closed after its peer had signed")]
    Closed,
    /// These channels could not be opened or funded, and every channel is abandoned.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    None(Vec<ChannelFailure>),
    /// What was asked for cannot be done; every channel of the exchange is abandoned.
    #[error(transparent)]
    Attempt(#[from] FundingError),
}

impl From<ChannelsError> for payjoin_core::FunderError {
    fn from(error: ChannelsError) -> Self {
        match error {
            ChannelsError::None(failures) => Self::Channels(failures),
            other => Self::Node(other.to_string()),
        }
    }
}

/// Channels that wait for their transaction.
struct Attempt {
    open: Vec<Opened>,
    /// Number of the next channel: those that were abandoned leave gaps.
    next: usize,
    /// Zero of the machine's time. Monotonic, so that no clock that jumps ends an attempt.
    began: Instant,
}

struct Opened {
    planned: PlannedChannel,
    key: ChannelKey,
    peer: PublicKey,
    script: ScriptBuf,
}

type Work<'a> = Pin<Box<dyn Future<Output = FundingInput> + Send + 'a>>;

impl Channels {
    /// Channels on this node. An exchange has `seconds` for all its Lightning work, from its first opening on.
    #[must_use]
    pub fn new(funder: Arc<dyn ChannelFunder>, seconds: u64) -> Self {
        Self {
            funder,
            accept_seconds: seconds,
            sign_seconds: seconds,
            seconds,
            probes: AtomicU32::default(),
            open: Mutex::default(),
        }
    }

    /// The same with less time for each peer to accept, connecting included.
    #[must_use]
    pub fn accepting_within(self, accept_seconds: u64) -> Self {
        Self { accept_seconds: accept_seconds.min(self.seconds), ..self }
    }

    /// The same with less time for peers to sign: for all that are asked side by side, and for each that is asked alone.
    #[must_use]
    pub fn signing_within(self, sign_seconds: u64) -> Self {
        Self { sign_seconds: sign_seconds.min(self.seconds), ..self }
    }

    /// Opens all channels side by side. One result for each, in order: its funding script, or why there is none; that one
    /// is abandoned, and `fund` is for the others, and for those that were open before.
    ///
    /// # Errors
    /// [`ChannelsError::Live`] when the exchange holds channels that do not wait for their transaction, or one of these.
    pub async fn open_each(
        &self,
        exchange: ExchangeId,
        channels: &[(PlannedChannel, ChannelSpec)],
    ) -> Result<Vec<Result<ScriptBuf, ChannelFailure>>, ChannelsError> {
        // What is planned wrongly opens nothing.
        funding::check(channels.iter().map(|(planned, _)| planned))?;
        let now = Instant::now();
        let (first, began) = self.claim(exchange, channels, now).await?;
        let end = began + Duration::from_secs(self.seconds);
        let deadline = (now + Duration::from_secs(self.accept_seconds)).min(end);
        let keys = (first..).map(|index| key(exchange, index));
        let opening = channels.iter().zip(keys.clone());
        let opening = opening.map(|(channel, key)| self.open_one(key, channel, deadline));
        let answers = join_all(opening).await;
        let accepted =
            channels.iter().zip(keys).zip(&answers).filter_map(|(((planned, spec), key), answer)| {
                let (planned, script) = (planned.clone(), answer.as_ref().ok()?.clone());
                Some(Opened { planned, key, peer: spec.peer.node_id(), script })
            });
        let mut all = lock(&self.open);
        let attempt = all.entry(exchange).or_insert(Attempt { open: Vec::new(), next: 0, began });
        attempt.open.extend(accepted);
        attempt.next = first + channels.len();
        if attempt.open.is_empty() {
            all.remove(&exchange);
        }
        Ok(answers)
    }

    /// The number of the exchange's next channel, and when it began. Money rule 9: no intent gets a second channel.
    async fn claim(
        &self,
        exchange: ExchangeId,
        channels: &[(PlannedChannel, ChannelSpec)],
        now: Instant,
    ) -> Result<(usize, Instant), ChannelsError> {
        let (keys, opened, next, began) = match lock(&self.open).get(&exchange) {
            Some(attempt) => {
                let keys: Vec<_> = attempt.open.iter().map(|opened| opened.key).collect();
                let opened = attempt.open.iter().map(|opened| opened.planned.intent).collect();
                (keys, opened, attempt.next, attempt.began)
            }
            None => (Vec::new(), HashSet::new(), 0, now),
        };
        let again = channels.iter().any(|(planned, _)| opened.contains(&planned.intent));
        let live = self.funder.live().await;
        if again || live.iter().any(|key| key.exchange == exchange && !keys.contains(key)) {
            return Err(ChannelsError::Live);
        }
        Ok((next, began))
    }

    /// [`Channels::open_each`], all or nothing. Returns the funding scripts in order.
    ///
    /// # Errors
    /// As there, and [`ChannelsError::None`] when one channel is not open: all are abandoned.
    pub async fn open_all(
        &self,
        exchange: ExchangeId,
        channels: &[(PlannedChannel, ChannelSpec)],
    ) -> Result<Vec<ScriptBuf>, ChannelsError> {
        let answers = self.open_each(exchange, channels).await?;
        let failures: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err().cloned()).collect();
        if failures.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        self.abandon_all(exchange, "another channel could not be opened").await;
        Err(ChannelsError::None(failures))
    }

    /// Gives every channel of the exchange its output of `transaction` and waits until all are safe. `transaction` and
    /// `outputs` are those of a [`StableProposal`](payjoin_core::StableProposal): the id must be final, and each input
    /// states what it spends. The channels of the intents in `last` get it one after another, once all others are safe.
    /// Where one is not signed, those that had got it are abandoned.
    ///
    /// Money rule 1: after [`Funded::All`] the monitors are durable, but the node's `ChannelManager` may not be. Persist
    /// it before the proposal leaves; otherwise a crash loses the channel while its funding confirms.
    ///
    /// # Errors
    /// [`ChannelsError::NotOpen`] when nothing is open; [`ChannelsError::Attempt`] when the transaction does not fund what
    /// is open, and [`ChannelsError::Closed`] when a channel closed after it was safe, and all are abandoned.
    pub async fn fund_in_order(
        &self,
        exchange: ExchangeId,
        transaction: &Psbt,
        outputs: &[(PlannedChannel, u32)],
        last: &[IntentId],
    ) -> Result<Funded, ChannelsError> {
        let attempt = lock(&self.open).remove(&exchange).ok_or(ChannelsError::NotOpen)?;
        let open = attempt.open.iter().map(|opened| (opened.planned.clone(), opened.script.clone()));
        let open: Vec<_> = open.collect();
        let (sign_seconds, deadline) = (self.sign_seconds, Timestamp(self.seconds));
        let terms = FundingTerms { open: &open, outputs, last, sign_seconds, deadline };
        let mut machine = match Funding::new(since(attempt.began), &transaction.unsigned_tx, &terms) {
            Ok(machine) => machine,
            Err(error) => {
                self.abandon_all(exchange, "the transaction does not fund the channels").await;
                return Err(error.into());
            }
        };
        if let Some(left) = self.drive(&mut machine, &attempt, transaction).await {
            return Ok(Funded::Short(self.keep(exchange, attempt, left).await));
        }
        if !self.are_live(exchange, open.len()).await {
            self.abandon_all(exchange, "a channel closed").await;
            return Err(ChannelsError::Closed);
        }
        Ok(Funded::All)
    }

    /// [`Channels::fund_in_order`], all at once and all or none.
    ///
    /// # Errors
    /// As there, and [`ChannelsError::None`] when one was not signed: all are abandoned.
    pub async fn fund_all(
        &self,
        exchange: ExchangeId,
        transaction: &Psbt,
        outputs: &[(PlannedChannel, u32)],
    ) -> Result<(), ChannelsError> {
        let Funded::Short(left) = self.fund_in_order(exchange, transaction, outputs, &[]).await? else {
            return Ok(());
        };
        self.abandon_all(exchange, "another channel was not signed").await;
        let failed = left.into_iter().filter_map(|left| match left {
            Left::Failed(failure) => Some(failure),
            Left::Open | Left::Abandoned => None,
        });
        Err(ChannelsError::None(failed.collect()))
    }

    /// Keeps the channels that are open. Where a peer's channel was abandoned after it had the transaction, the connection
    /// ends, and with it what is open on it. Gives what is left of each.
    async fn keep(&self, exchange: ExchangeId, attempt: Attempt, left: Vec<Left>) -> Vec<Left> {
        let Attempt { open, next, began } = attempt;
        let gone = open.iter().zip(&left).filter(|(_, left)| **left != Left::Open);
        let gone: HashSet<_> = gone.map(|(opened, _)| opened.peer).collect();
        let (mut kept, mut all) = (Vec::new(), Vec::new());
        for (opened, left) in open.into_iter().zip(left) {
            if left == Left::Open && gone.contains(&opened.peer) {
                self.funder.abandon(opened.key).await;
                let failure =
                    Failure::new(FailureKind::Closed, "another channel with the peer was not signed");
                all.push(Left::Failed(funding::of(opened.planned.intent, failure)));
                continue;
            }
            if left == Left::Open {
                kept.push(opened);
            }
            all.push(left);
        }
        lock(&self.open).insert(exchange, Attempt { open: kept, next, began });
        all
    }

    /// Whether the node holds this many channels of the exchange. A peer can close a safe channel while others are not
    /// safe yet, or before the proposal leaves: look again then (money rule 1).
    pub async fn are_live(&self, exchange: ExchangeId, channels: usize) -> bool {
        self.funder.live().await.into_iter().filter(|key| key.exchange == exchange).count() == channels
    }

    /// Forgets every channel of the exchange, at any stage and after a restart too. The caller knows that nothing of
    /// it was released, or that what was released can never be mined. `reason` goes to the log.
    pub async fn abandon_all(&self, exchange: ExchangeId, reason: &str) {
        lock(&self.open).remove(&exchange);
        for key in self.funder.live().await {
            if key.exchange == exchange {
                tracing::info!(exchange = exchange.0, channel = key.index, reason, "channel abandoned");
                self.funder.abandon(key).await;
            }
        }
    }

    /// Every channel that the node holds, with its funding output once it is known. After a restart abandon those that were
    /// never released.
    pub async fn held(&self) -> Vec<(ChannelKey, Option<OutPoint>)> {
        self.funder.held().await
    }

    /// Exchanges of which the node holds channels.
    pub async fn live(&self) -> BTreeSet<ExchangeId> {
        self.funder.live().await.into_iter().map(|key| key.exchange).collect()
    }

    /// Runs the machine until all are safe, or tells what is left of each.
    async fn drive(&self, machine: &mut Funding, attempt: &Attempt, transaction: &Psbt) -> Option<Vec<Left>> {
        let mut running = FuturesUnordered::<Work<'_>>::new();
        loop {
            match machine.poll_output() {
                FundingOutput::Fund { index, vout } => {
                    running.push(self.fund_one(index, attempt.open[index].key, transaction, vout));
                }
                FundingOutput::AllSafe => return None,
                FundingOutput::Abandon(index) => {
                    // Work in progress ends first, so that none of it goes on afterwards.
                    running.clear();
                    self.funder.abandon(attempt.open[index].key).await;
                }
                FundingOutput::Short(left) => return Some(left),
                FundingOutput::Wait(deadline) => {
                    let deadline = attempt.began + Duration::from_secs(deadline.0);
                    let input = timeout_at(deadline, next(&mut running)).await.unwrap_or(FundingInput::Tick);
                    machine.handle_input(since(attempt.began), input);
                }
            }
        }
    }

    /// A channel that is not accepted in its time is abandoned.
    async fn open_one(
        &self,
        key: ChannelKey,
        (planned, spec): &(PlannedChannel, ChannelSpec),
        deadline: Instant,
    ) -> Result<ScriptBuf, ChannelFailure> {
        let opened = open_by(deadline, &*self.funder, key, spec, planned.amount).await;
        if opened.is_err() {
            self.funder.abandon(key).await;
        }
        opened.map_err(|failure| funding::of(planned.intent, failure))
    }

    fn fund_one<'a>(&'a self, index: usize, key: ChannelKey, transaction: &'a Psbt, vout: u32) -> Work<'a> {
        Box::pin(async move {
            match self.funder.fund(key, transaction, vout).await {
                Ok(()) => FundingInput::Safe(index),
                Err(error) => FundingInput::Failed(index, error.into()),
            }
        })
    }
}

/// In whole seconds.
fn since(began: Instant) -> Timestamp {
    Timestamp(began.elapsed().as_secs())
}

/// A transaction has fewer than 2^32 outputs, so no index is cut.
fn key(exchange: ExchangeId, index: usize) -> ChannelKey {
    ChannelKey { exchange, index: index as u32 }
}

/// The next work done; never when there is none, so that the deadline ends the wait.
async fn next(running: &mut FuturesUnordered<Work<'_>>) -> FundingInput {
    match running.next().await {
        Some(input) => input,
        None => pending().await,
    }
}
