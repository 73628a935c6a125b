//! A payment of ours: offered as a payjoin, paid one way or the other, sent until a spend of its coins is buried.

use bitcoin::{Psbt, Transaction};

use crate::{Broadcast, Timestamp};

/// Seconds before what failed, or was refused, is tried again.
const REST: u64 = 5;

/// What a payment of ours sends to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The transaction, ready to send again.
    pub transaction: Transaction,
    /// Why it is the Original; `None` for a payjoin.
    pub fallback: Option<String>,
}

/// An input to an [`Outgoing`].
#[derive(Clone, Debug)]
pub enum OutgoingInput {
    /// What the chain holds. Bring it at the start, and whenever it may have changed.
    Chain {
        /// Height of the best block.
        tip: u32,
        /// The transaction that spends a coin of the payment, and the height of its block.
        spend: Option<(Transaction, u32)>,
    },
    /// How the conversation ended: with the receiver's proposal, checked against BIP 78, or without one, and why.
    Answer(Result<Box<Psbt>, String>),
    /// The proposal with our signatures, or what our wallet has against it.
    Signed(Result<Transaction, String>),
    /// What the network made of the transaction.
    Sent(Broadcast),
    /// What was asked for is done, and durable where it has to be.
    Done,
    /// What was asked for could not be done now. It is asked for again.
    Failed,
    /// Time passed.
    Tick,
}

/// What an [`Outgoing`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutgoingOutput {
    /// Talk to the receiver, for as long as this is the output, and bring the [`OutgoingInput::Answer`].
    Offer,
    /// The conversation is over: see that nobody takes it up again, then bring [`OutgoingInput::Done`].
    Withdraw,
    /// Sign the inputs of the Original in this proposal, and bring it [`OutgoingInput::Signed`].
    Sign(Box<Psbt>),
    /// Make it durable that this is sent from now on, then bring [`OutgoingInput::Done`].
    Record(Paid),
    /// Send this to the network, and bring [`OutgoingInput::Sent`].
    Broadcast(Transaction),
    /// A spend of the coins is buried: end the payment durably and unlock its coins, then bring [`OutgoingInput::Done`].
    Settle,
    /// Nothing to do before this moment, or the next input.
    Wait(Option<Timestamp>),
    /// The end.
    Done,
}

/// The input does not fit what was asked for. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payment did not ask for this")]
pub struct OutgoingError;

/// The machine over one payment of ours, new or from the ledger.
///
/// Nothing is sent before it is recorded that it is (money rule 6), and the coins stay locked until one of their spends
/// is buried (money rule 7). The Original stands behind everything: it is paid when there is no proposal, when the
/// proposal cannot be signed, and when the network refuses the payjoin.
#[derive(Debug)]
pub struct Outgoing {
    original: Transaction,
    paid: Option<Paid>,
    burial: u32,
    tip: u32,
    spend: Option<(Transaction, u32)>,
    phase: Phase,
    /// Nothing is done before.
    rests: Option<Timestamp>,
}

#[derive(Debug)]
enum Phase {
    /// The chain was not looked at.
    Start,
    Offering,
    /// Then this is recorded.
    Withdrawing(Paid),
    Signing(Box<Psbt>),
    Recording(Paid),
    /// What is paid has to be sent, once for each block.
    Sending,
    /// The network has it.
    Watching,
    Settling,
    Ended,
}

impl Outgoing {
    /// Takes up a payment. `original` is signed, `paid` what was recorded last, `burial` the number of blocks that makes
    /// a spend final.
    #[must_use]
    pub fn new(original: Transaction, paid: Option<Paid>, burial: u32) -> Self {
        Self { original, paid, burial, tip: 0, spend: None, phase: Phase::Start, rests: None }
    }

    /// The height of the chain that it knows of.
    #[must_use]
    pub fn tip(&self) -> Option<u32> {
        (!matches!(self.phase, Phase::Start)).then_some(self.tip)
    }

    /// The next thing to do; the same until an input changes it.
    #[must_use]
    pub fn poll_output(&self) -> OutgoingOutput {
        if self.rests.is_some() {
            return OutgoingOutput::Wait(self.rests);
        }
        match (&self.phase, &self.paid) {
            (Phase::Offering, _) => OutgoingOutput::Offer,
            (Phase::Withdrawing(_), _) => OutgoingOutput::Withdraw,
            (Phase::Signing(proposal), _) => OutgoingOutput::Sign(proposal.clone()),
            (Phase::Recording(paid), _) => OutgoingOutput::Record(paid.clone()),
            (Phase::Sending, Some(paid)) => OutgoingOutput::Broadcast(paid.transaction.clone()),
            (Phase::Settling, _) => OutgoingOutput::Settle,
            (Phase::Ended, _) => OutgoingOutput::Done,
            (Phase::Start | Phase::Sending | Phase::Watching, _) => OutgoingOutput::Wait(None),
        }
    }

    /// Handles an input.
    ///
    /// # Errors
    /// [`OutgoingError`] when it answers nothing that was asked for.
    pub fn handle_input(&mut self, now: Timestamp, input: OutgoingInput) -> Result<(), OutgoingError> {
        // A clock that was set back makes no rest longer.
        self.rests = self.rests.filter(|until| now < *until).map(|until| until.min(now.plus(REST)));
        let phase = match (input, &self.phase) {
            (OutgoingInput::Tick, _) => return Ok(()),
            (OutgoingInput::Chain { tip, spend }, _) => {
                self.look(tip, spend);
                return Ok(());
            }
            (OutgoingInput::Failed, Phase::Start | Phase::Watching | Phase::Ended) => {
                return Err(OutgoingError);
            }
            (OutgoingInput::Failed, _) => {
                self.rests = Some(now.plus(REST));
                return Ok(());
            }
            (OutgoingInput::Answer(Ok(proposal)), Phase::Offering) => Phase::Signing(proposal),
            (OutgoingInput::Answer(Err(reason)), Phase::Offering) => Phase::Recording(self.plain(reason)),
            (OutgoingInput::Signed(Ok(transaction)), Phase::Signing(_)) => {
                Phase::Recording(Paid { transaction, fallback: None })
            }
            (OutgoingInput::Signed(Err(why)), Phase::Signing(_)) => {
                Phase::Recording(self.plain(format!("the proposal is not acceptable: {why}")))
            }
            (OutgoingInput::Done, Phase::Withdrawing(paid)) => Phase::Recording(paid.clone()),
            (OutgoingInput::Done, Phase::Recording(paid)) => {
                self.paid = Some(paid.clone());
                Phase::Sending
            }
            (OutgoingInput::Done, Phase::Settling) => Phase::Ended,
            (OutgoingInput::Sent(sent), Phase::Sending) => self.sent(now, sent),
            _ => return Err(OutgoingError),
        };
        self.phase = phase;
        if matches!(self.phase, Phase::Sending) && self.spend.is_some() {
            self.follow();
        }
        Ok(())
    }

    /// A payjoin that the network refuses, for example because the receiver spent his coin elsewhere, gives way to the
    /// Original. That one is tried until it is taken.
    fn sent(&mut self, now: Timestamp, sent: Broadcast) -> Phase {
        match (sent, &self.paid) {
            (Broadcast::Taken, _) => Phase::Watching,
            (Broadcast::Refused(why), Some(Paid { fallback: None, .. })) => {
                Phase::Recording(self.plain(format!("the network refuses the payjoin: {why}")))
            }
            (Broadcast::Refused(_), _) => {
                self.rests = Some(now.plus(REST));
                Phase::Sending
            }
        }
    }

    fn look(&mut self, tip: u32, spend: Option<(Transaction, u32)>) {
        let starts = matches!(self.phase, Phase::Start);
        if starts {
            self.phase = if self.paid.is_some() { Phase::Sending } else { Phase::Offering };
        } else if (tip, &spend) == (self.tip, &self.spend) {
            return;
        }
        (self.tip, self.spend) = (tip, spend);
        self.follow();
    }

    /// Goes by what the chain holds, unless something has to be finished first.
    fn follow(&mut self) {
        let phase = match (&self.phase, &self.spend) {
            // The receiver broadcast it himself: nothing is left to talk about.
            (Phase::Offering, Some((spend, _))) => Phase::Withdrawing(self.seen(spend)),
            (Phase::Sending | Phase::Watching | Phase::Settling, None) => Phase::Sending,
            (Phase::Sending | Phase::Watching | Phase::Settling, Some((spend, height))) => {
                if self
                    .paid
                    .as_ref()
                    .is_none_or(|paid| paid.transaction.compute_txid() != spend.compute_txid())
                {
                    Phase::Recording(self.seen(spend))
                } else if self.tip.saturating_add(1) >= height.saturating_add(self.burial) {
                    Phase::Settling
                } else {
                    Phase::Watching
                }
            }
            _ => return,
        };
        (self.phase, self.rests) = (phase, None);
    }

    /// The Original is to be paid.
    fn plain(&self, reason: String) -> Paid {
        Paid { transaction: self.original.clone(), fallback: Some(reason) }
    }

    /// What a spend in the chain means. The coins are locked, so only the Original and a payjoin were ever signed for
    /// them.
    fn seen(&self, spend: &Transaction) -> Paid {
        if spend.compute_ntxid() == self.original.compute_ntxid() {
            return self.plain("the receiver broadcast the Original".to_owned());
        }
        Paid { transaction: spend.clone(), fallback: None }
    }
}
