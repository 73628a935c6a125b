//! N channels from one transaction, all or nothing. No I/O, no clock.

use std::slice;
use std::sync::Arc;

use bitcoin::{Amount, ScriptBuf, Transaction};
use payjoin_core::{IntentId, PlannedChannel, Timestamp};

/// An input to a [`Funding`]. An index is the place of a channel in the list given to [`Funding::new`].
#[derive(Clone, Debug)]
pub enum FundingInput<'a> {
    /// The peer accepted; this is the script of the funding output.
    Opened(usize, ScriptBuf),
    /// The transaction that funds every channel, with each channel's output in the order of [`Funding::new`]. Its id
    /// is final. It comes after [`FundingOutput::AllOpen`].
    Fund(Arc<Transaction>, &'a [(PlannedChannel, u32)]),
    /// The peer signed and the monitor is durable.
    Safe(usize),
    /// The channel failed; the text goes to the operator.
    Failed(usize, String),
    /// Time passed.
    Tick,
}

/// What a [`Funding`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FundingOutput {
    /// Open this channel; more may follow, to be done side by side.
    Open {
        /// The channel.
        index: usize,
        /// Its value, to the satoshi.
        amount: Amount,
    },
    /// Every channel is accepted: [`Funding::scripts`] are complete and [`FundingInput::Fund`] is awaited.
    AllOpen,
    /// Give this channel its funding transaction; more may follow, to be done side by side.
    Fund {
        /// The channel.
        index: usize,
        /// The funding transaction.
        transaction: Arc<Transaction>,
        /// Index of the channel's output in it.
        vout: u32,
    },
    /// Every channel is safe: the transaction may be released. Nothing follows.
    AllSafe,
    /// Stop work on this channel and forget it.
    Abandon(usize),
    /// Every channel is abandoned. Nothing follows.
    Failed(FundingError),
    /// Nothing to do before the next input; at this moment at the latest a [`FundingInput::Tick`].
    Wait(Timestamp),
}

/// Why no channel of an attempt came to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FundingError {
    /// There is nothing to open.
    #[error("no channel to open")]
    Nothing,
    /// Money rule 9: an intent was named twice.
    #[error("intent {} is named twice", .0.0)]
    TwiceNamed(IntentId),
    /// The time for all Lightning work is over, and the channels for these intents were not ready.
    #[error("not ready in time: intents {}", .0.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(", "))]
    Deadline(Vec<IntentId>),
    /// One channel failed.
    #[error("intent {}: {reason}", .intent.0)]
    Channel {
        /// The intent it serves.
        intent: IntentId,
        /// Why, for the operator.
        reason: String,
    },
    /// A funding script that is not P2WSH (BOLT 3, "Funding Transaction Output"), or that another channel has too.
    #[error("intent {}: bad funding script", .0.0)]
    Script(IntentId),
    /// Money rule 3: the transaction's output is not exactly the channel's.
    #[error("intent {}: the funding output does not match", .0.0)]
    Output(IntentId),
    /// An input that does not fit the step.
    #[error("news that does not fit the step of the channel")]
    OutOfStep,
}

impl FundingError {
    /// The intents whose channels failed, as far as one can tell. The others of the attempt may do well without them.
    #[must_use]
    pub fn culprits(&self) -> &[IntentId] {
        match self {
            Self::Deadline(late) => late,
            Self::Channel { intent, .. } | Self::Script(intent) | Self::Output(intent) => {
                slice::from_ref(intent)
            }
            Self::Nothing | Self::TwiceNamed(_) | Self::OutOfStep => &[],
        }
    }
}

/// The machine. Every failure of one channel, every news that does not fit and the deadline abandon all channels.
#[derive(Debug)]
pub struct Funding {
    deadline: Timestamp,
    channels: Vec<Channel>,
    failure: Option<FundingError>,
}

#[derive(Debug)]
struct Channel {
    planned: PlannedChannel,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Planned,
    Opening,
    Open(ScriptBuf),
    Placed(Arc<Transaction>, u32),
    Funding,
    Safe,
    Abandoned,
}

impl Funding {
    /// Begins an attempt that ends, one way or the other, `seconds` from now.
    ///
    /// # Errors
    /// [`FundingError::Nothing`] or [`FundingError::TwiceNamed`]; nothing was opened then.
    pub fn new(now: Timestamp, seconds: u64, planned: Vec<PlannedChannel>) -> Result<Self, FundingError> {
        if planned.is_empty() {
            return Err(FundingError::Nothing);
        }
        for (i, channel) in planned.iter().enumerate() {
            if planned.iter().take(i).any(|earlier| earlier.intent == channel.intent) {
                return Err(FundingError::TwiceNamed(channel.intent));
            }
        }
        let channels = planned.into_iter().map(|planned| Channel { planned, step: Step::Planned }).collect();
        Ok(Self { deadline: now.plus(seconds), channels, failure: None })
    }

    /// The funding scripts, in order; complete at [`FundingOutput::AllOpen`].
    pub fn scripts(&self) -> impl Iterator<Item = &ScriptBuf> {
        self.channels.iter().filter_map(|channel| match &channel.step {
            Step::Open(script) => Some(script),
            _ => None,
        })
    }

    /// Handles an input. After a failure nothing counts any more: everything is abandoned already.
    pub fn handle_input(&mut self, now: Timestamp, input: FundingInput<'_>) {
        if self.failure.is_none() {
            self.failure = self.step(now, input).err();
        }
    }

    /// The next thing to do; call until [`FundingOutput::Wait`] or one of the ends. [`FundingOutput::AllOpen`],
    /// [`FundingOutput::AllSafe`] and [`FundingOutput::Failed`] are given as often as asked.
    pub fn poll_output(&mut self) -> FundingOutput {
        if let Some(reason) = &self.failure {
            let begun = |c: &Channel| !matches!(c.step, Step::Planned | Step::Abandoned);
            return match self.channels.iter_mut().enumerate().find(|(_, channel)| begun(channel)) {
                Some((index, channel)) => {
                    channel.step = Step::Abandoned;
                    FundingOutput::Abandon(index)
                }
                None => FundingOutput::Failed(reason.clone()),
            };
        }
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if let Some(output) = channel.start(index) {
                return output;
            }
        }
        if self.channels.iter().all(|channel| matches!(channel.step, Step::Open(_))) {
            FundingOutput::AllOpen
        } else if self.is_safe() {
            FundingOutput::AllSafe
        } else {
            FundingOutput::Wait(self.deadline)
        }
    }

    fn is_safe(&self) -> bool {
        self.channels.iter().all(|channel| matches!(channel.step, Step::Safe))
    }

    /// Whose channel is neither safe nor waits for the funding transaction.
    fn late(&self) -> Vec<IntentId> {
        let late = self.channels.iter().filter(|channel| !matches!(channel.step, Step::Open(_) | Step::Safe));
        late.map(|channel| channel.planned.intent).collect()
    }

    fn step(&mut self, now: Timestamp, input: FundingInput<'_>) -> Result<(), FundingError> {
        if now >= self.deadline && !self.is_safe() {
            return Err(FundingError::Deadline(self.late()));
        }
        match input {
            FundingInput::Opened(index, script) => self.opened(index, script),
            FundingInput::Fund(transaction, positions) => self.place(&transaction, positions),
            FundingInput::Safe(index) => match self.channels.get_mut(index) {
                Some(Channel { step: step @ Step::Funding, .. }) => {
                    *step = Step::Safe;
                    Ok(())
                }
                _ => Err(FundingError::OutOfStep),
            },
            FundingInput::Failed(index, reason) => {
                let channel = self.channels.get(index).ok_or(FundingError::OutOfStep)?;
                Err(FundingError::Channel { intent: channel.planned.intent, reason })
            }
            FundingInput::Tick => Ok(()),
        }
    }

    fn opened(&mut self, index: usize, script: ScriptBuf) -> Result<(), FundingError> {
        let known = self.scripts().any(|other| *other == script);
        match self.channels.get_mut(index) {
            Some(Channel { planned, step: step @ Step::Opening }) => {
                if known || !script.is_p2wsh() {
                    return Err(FundingError::Script(planned.intent));
                }
                *step = Step::Open(script);
                Ok(())
            }
            _ => Err(FundingError::OutOfStep),
        }
    }

    fn place(
        &mut self,
        transaction: &Arc<Transaction>,
        positions: &[(PlannedChannel, u32)],
    ) -> Result<(), FundingError> {
        if positions.len() != self.channels.len() {
            return Err(FundingError::OutOfStep);
        }
        for (channel, (planned, vout)) in self.channels.iter_mut().zip(positions) {
            let Step::Open(script) = &channel.step else { return Err(FundingError::OutOfStep) };
            let matches =
                usize::try_from(*vout).ok().and_then(|vout| transaction.output.get(vout)).is_some_and(
                    |output| output.value == channel.planned.amount && output.script_pubkey == *script,
                );
            if !matches || *planned != channel.planned {
                return Err(FundingError::Output(channel.planned.intent));
            }
            channel.step = Step::Placed(Arc::clone(transaction), *vout);
        }
        Ok(())
    }
}

impl Channel {
    /// Starts what can be started, once.
    fn start(&mut self, index: usize) -> Option<FundingOutput> {
        match std::mem::replace(&mut self.step, Step::Opening) {
            Step::Planned => Some(FundingOutput::Open { index, amount: self.planned.amount }),
            Step::Placed(transaction, vout) => {
                self.step = Step::Funding;
                Some(FundingOutput::Fund { index, transaction, vout })
            }
            other => {
                self.step = other;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
