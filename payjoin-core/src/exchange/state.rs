//! Where an exchange stands.

use super::facts::{Inspected, Vetted};
use super::proposal::Draft;
use super::request::Original;
use crate::{Admission, ExchangeId, FundedChannel, Plan, Release, Reply, StableProposal, Timestamp};

/// The outstanding question, with what its answer is applied to.
#[derive(Debug)]
pub(super) enum State {
    Recall(Box<Original>),
    Inspect(Box<Original>),
    Owns(Box<Inspected>),
    Resources(Box<Vetted>),
    Admit(Box<Ready>),
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
    /// The payjoin without channels.
    pub(super) plain: Draft,
    pub(super) begun: Timestamp,
    /// Why there are no channels although intents were taken.
    pub(super) reason: Option<String>,
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
