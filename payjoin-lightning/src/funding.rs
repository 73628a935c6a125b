//! N channels from one transaction that its payer has yet to sign. No I/O, no clock.

use std::collections::VecDeque;

use bitcoin::{ScriptBuf, Transaction};
use payjoin_core::{ChannelFailure, Failure, FailureKind, IntentId, Left, PlannedChannel, Timestamp};

/// An input to a [`Funding`]. An index is the place of a channel in the list given to [`Funding::new`].
#[derive(Clone, Debug)]
pub enum FundingInput {
    /// The peer signed and the monitor is durable.
    Safe(usize),
    /// The channel failed.
    Failed(usize, Failure),
    /// Time passed.
    Tick,
}

/// What a [`Funding`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FundingOutput {
    /// Give this channel its funding transaction; more may follow, to be done side by side.
    Fund {
        /// The channel.
        index: usize,
        /// Index of the channel's output in it.
        vout: u32,
    },
    /// Every channel is safe: the transaction may be released. Nothing follows.
    AllSafe,
    /// Stop work on this channel and forget it.
    Abandon(usize),
    /// The transaction is void: what is left of each channel, in order. Nothing follows.
    Short(Vec<Left>),
    /// Nothing to do before the next input; at this moment at the latest a [`FundingInput::Tick`].
    Wait(Timestamp),
}

/// Why channels cannot be funded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FundingError {
    /// There is nothing to open.
    #[error("no channel to open")]
    Nothing,
    /// Money rule 9: an intent was named twice.
    #[error("intent {} is named twice", .0.0)]
    TwiceNamed(IntentId),
    /// A funding script that is not P2WSH (BOLT 3, "Funding Transaction Output"), or that another channel has too.
    #[error("intent {}: bad funding script", .0.0)]
    Script(IntentId),
    /// Money rule 3: the transaction's output is not exactly the channel's.
    #[error("intent {}: the funding output does not match", .0.0)]
    Output(IntentId),
    /// The transaction is for other channels than those that are open.
    #[error("the transaction funds other channels than those that are open")]
    Others,
}

pub(crate) const LATE: &str = "the peer is connected and does not answer in time: it may be overloaded";

pub(crate) fn of(intent: IntentId, failure: Failure) -> ChannelFailure {
    let Failure { kind, text, said } = failure;
    ChannelFailure { intent, kind, text, said }
}

/// What a funding transaction must fund, and in which time.
#[derive(Clone, Copy, Debug)]
pub struct FundingTerms<'a> {
    /// Channels that are open, with their funding scripts.
    pub open: &'a [(PlannedChannel, ScriptBuf)],
    /// Where the transaction has each channel's output, in any order. Its id is final.
    pub outputs: &'a [(PlannedChannel, u32)],
    /// Intents whose channels are funded one after another, once all others are safe.
    pub last: &'a [IntentId],
    /// For the peers to sign: for all that are asked side by side, and for each that is asked alone.
    pub sign_seconds: u64,
    /// When all ends.
    pub deadline: Timestamp,
}

/// The machine. Where one channel is not signed in time, the transaction is void for all: those that were given it are
/// abandoned, and the others stay open.
#[derive(Debug)]
pub struct Funding {
    deadline: Timestamp,
    sign_seconds: u64,
    /// When those that have the transaction must have signed.
    sign_by: Timestamp,
    channels: Vec<Channel>,
    /// Of a void transaction.
    left: Option<Vec<Left>>,
    abandoned: VecDeque<usize>,
}

#[derive(Debug)]
struct Channel {
    intent: IntentId,
    vout: u32,
    last: bool,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open,
    Funding,
    Safe,
}

/// Whether there are channels to open, and none twice.
pub(crate) fn check<'a>(
    planned: impl Iterator<Item = &'a PlannedChannel> + Clone,
) -> Result<(), FundingError> {
    if planned.clone().next().is_none() {
        return Err(FundingError::Nothing);
    }
    let intents = planned.map(|channel| channel.intent);
    for (i, intent) in intents.clone().enumerate() {
        if intents.clone().take(i).any(|earlier| earlier == intent) {
            return Err(FundingError::TwiceNamed(intent));
        }
    }
    Ok(())
}

impl Funding {
    /// Begins to fund channels that are open, in the order of `terms.open`.
    ///
    /// # Errors
    /// [`FundingError`] when the transaction does not fund exactly these channels; no peer was given it then.
    pub fn new(
        now: Timestamp,
        transaction: &Transaction,
        terms: &FundingTerms<'_>,
    ) -> Result<Self, FundingError> {
        let FundingTerms { open, outputs, last, sign_seconds, deadline } = *terms;
        check(open.iter().map(|(planned, _)| planned))?;
        if open.len() != outputs.len() {
            return Err(FundingError::Others);
        }
        let mut channels = Vec::with_capacity(open.len());
        for (index, (planned, script)) in open.iter().enumerate() {
            let intent = planned.intent;
            if !script.is_p2wsh() || open.iter().take(index).any(|(_, other)| other == script) {
                return Err(FundingError::Script(intent));
            }
            let output = outputs.iter().find(|(channel, _)| channel.intent == intent);
            let (channel, vout) = output.ok_or(FundingError::Others)?;
            let output = usize::try_from(*vout).ok().and_then(|vout| transaction.output.get(vout));
            let matches = output
                .is_some_and(|output| output.value == planned.amount && output.script_pubkey == *script);
            if !matches || channel != planned {
                return Err(FundingError::Output(intent));
            }
            channels.push(Channel { intent, vout: *vout, last: last.contains(&intent), step: Step::Open });
        }
        let (sign_by, left, abandoned) = (now.plus(sign_seconds), None, VecDeque::new());
        Ok(Self { deadline, sign_seconds, sign_by, channels, left, abandoned })
    }

    /// Handles an input. Once all are safe or the transaction is void nothing counts any more.
    pub fn handle_input(&mut self, now: Timestamp, input: FundingInput) {
        if self.left.is_some() || self.all(Step::Safe) {
            return;
        }
        if now >= self.wait() {
            let late = || Failure::new(FailureKind::Late, LATE);
            return self.void(|_, step| (step == Step::Funding).then(late));
        }
        match input {
            FundingInput::Safe(index) => match self.channels.get_mut(index) {
                Some(Channel { step: step @ Step::Funding, .. }) => {
                    *step = Step::Safe;
                    if !self.any(Step::Funding) {
                        self.sign_by = now.plus(self.sign_seconds);
                    }
                }
                _ => self.void(|at, _| {
                    let misfit = "news that does not fit the step of the channel";
                    (at == index).then(|| Failure::new(FailureKind::Local, misfit))
                }),
            },
            FundingInput::Failed(index, failure) => {
                self.void(|at, _| (at == index).then(|| failure.clone()));
            }
            FundingInput::Tick => {}
        }
    }

    /// The next thing to do; call until [`FundingOutput::Wait`] or one of the ends, which are given as often as asked.
    pub fn poll_output(&mut self) -> FundingOutput {
        if let Some(left) = &self.left {
            let next = self.abandoned.pop_front().map(FundingOutput::Abandon);
            return next.unwrap_or_else(|| FundingOutput::Short(left.clone()));
        }
        if self.all(Step::Safe) {
            return FundingOutput::AllSafe;
        }
        match self.next() {
            Some((index, channel)) => {
                channel.step = Step::Funding;
                FundingOutput::Fund { index, vout: channel.vout }
            }
            None => FundingOutput::Wait(self.wait()),
        }
    }

    fn wait(&self) -> Timestamp {
        self.sign_by.min(self.deadline)
    }

    fn all(&self, step: Step) -> bool {
        self.channels.iter().all(|channel| channel.step == step)
    }

    fn any(&self, step: Step) -> bool {
        self.channels.iter().any(|channel| channel.step == step)
    }

    /// The next channel that may be given the transaction.
    fn next(&mut self) -> Option<(usize, &mut Channel)> {
        let busy = self.any(Step::Funding);
        let waits = |channel: &Channel, last: bool| channel.step == Step::Open && channel.last == last;
        let side_by_side = self.channels.iter().any(|channel| waits(channel, false));
        let mut channels = self.channels.iter_mut().enumerate();
        match (side_by_side, busy) {
            (true, _) => channels.find(|(_, channel)| waits(channel, false)),
            (false, false) => channels.find(|(_, channel)| waits(channel, true)),
            (false, true) => None,
        }
    }

    /// The transaction will not be used. `why` says of which channels that is the fault, and how.
    fn void(&mut self, why: impl Fn(usize, Step) -> Option<Failure>) {
        let left = self.channels.iter().enumerate().map(|(index, channel)| match why(index, channel.step) {
            Some(failure) => Left::Failed(of(channel.intent, failure)),
            None if channel.step == Step::Open => Left::Open,
            None => Left::Abandoned,
        });
        let left: Vec<_> = left.collect();
        let gone = left.iter().enumerate().filter(|(_, left)| **left != Left::Open);
        self.abandoned = gone.map(|(index, _)| index).collect();
        self.left = Some(left);
    }
}

#[cfg(test)]
mod tests;
