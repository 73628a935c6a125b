//! Where an exchange stands.

use bitcoin::{OutPoint, ScriptBuf};

use super::facts::{Inspected, Vetted};
use super::proposal::Draft;
use super::request::Original;
use crate::{
    Admission, Coin, ExchangeId, FundedChannel, IntentId, Plan, PlannedChannel, Release, Reply,
    StableProposal, Timestamp,
};

/// The outstanding question, with what its answer is applied to.
#[derive(Debug)]
pub(super) enum State {
    Recall(Box<Original>),
    Inspect(Box<Original>),
    Owns(Box<Inspected>),
    Resources(Box<Vetted>),
    Admit(Box<Ready>),
    Scripts(Box<Admitted>),
    Open(Box<Admitted>),
    Fund(Box<Admitted>, Box<Draft>, StableProposal),
    Sign(Box<Signing>),
    /// A plain payjoin: nothing is on record, and one write does for all.
    Offer(Box<Admission>, Release),
    /// There is nothing to offer, but the Original is kept.
    Keep(Box<Admission>),
    Release(ExchangeId, Release),
    /// Without an admitted exchange to go on with as a plain payjoin, the exchange ends.
    Abandon(&'static str, Option<Box<Admitted>>),
    Done(Reply),
}

/// A proposal with channels is certain to be possible; only the store's word is missing.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) vetted: Vetted,
    pub(super) plan: Plan,
    /// Intents whose peers are not known to have a slot to spare.
    pub(super) scarce: Vec<IntentId>,
    /// The payjoin without channels.
    pub(super) plain: Draft,
    pub(super) admission: Admission,
}

/// An exchange that is on record.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) exchange: ExchangeId,
    pub(super) vetted: Vetted,
    pub(super) plan: Plan,
    /// Channels that peers are asked for.
    pub(super) wanted: Vec<PlannedChannel>,
    /// Channels that peers have accepted, with their funding scripts.
    pub(super) open: Vec<(PlannedChannel, ScriptBuf)>,
    /// Intents whose peers are not known to have a slot to spare.
    pub(super) scarce: Vec<IntentId>,
    /// Peers were given a transaction that came to nothing.
    pub(super) again: bool,
    /// Scripts of ours for what the plan splits off the change.
    pub(super) own: Vec<ScriptBuf>,
    /// The payjoin without channels.
    pub(super) plain: Draft,
    pub(super) begun: Timestamp,
    /// Why there are no channels although intents were taken.
    pub(super) reason: Option<String>,
}

impl Admitted {
    pub(super) fn new(exchange: ExchangeId, ready: Ready, begun: Timestamp) -> Self {
        let Ready { vetted, plan, scarce, plain, .. } = ready;
        let (wanted, open, again, own, reason) = (plan.channels.clone(), Vec::new(), false, Vec::new(), None);
        Self { exchange, vetted, plan, wanted, open, scarce, again, own, plain, begun, reason }
    }

    /// Says why one more channel is missing.
    pub(super) fn note(&mut self, why: &str) {
        let said = self.reason.get_or_insert_default();
        if !said.is_empty() {
            said.push_str("; ");
        }
        said.push_str(why);
    }
}

/// Only the wallet's signatures are missing.
#[derive(Debug)]
pub(super) struct Signing {
    pub(super) on_record: OnRecord,
    pub(super) draft: Draft,
    pub(super) channels: Vec<FundedChannel>,
    /// Why there are no channels although intents were taken.
    pub(super) reason: Option<String>,
}

/// What the store knows of an exchange when the wallet signs.
#[derive(Debug)]
pub(super) enum OnRecord {
    /// Nothing. This is what it will learn.
    No(Box<Admission>),
    Yes(ExchangeId),
}

pub(super) fn sign_plain(on_record: OnRecord, draft: Draft, reason: Option<String>) -> State {
    State::Sign(Box::new(Signing { on_record, draft, channels: Vec::new(), reason }))
}

pub(super) fn funded_channels(stable: &StableProposal) -> Vec<FundedChannel> {
    let channel = |(channel, vout): &(PlannedChannel, u32)| FundedChannel {
        intent: channel.intent,
        vout: *vout,
        amount: channel.amount,
    };
    stable.funding().iter().map(channel).collect()
}

pub(super) fn outpoints(coins: &[Coin]) -> Vec<OutPoint> {
    coins.iter().map(|coin| coin.outpoint).collect()
}
