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
    Release(Release),
    /// Without an admitted exchange to go on with as a plain payjoin, the exchange ends.
    Abandon(&'static str, Option<Box<Admitted>>),
    Done(Reply),
}

/// A proposal is certain to be possible; only the store's word is missing.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) vetted: Vetted,
    /// Channels to open.
    pub(super) plan: Option<Plan>,
    /// The payjoin without channels.
    pub(super) plain: Draft,
    pub(super) admission: Admission,
}

/// An exchange that is on record.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) exchange: ExchangeId,
    pub(super) vetted: Vetted,
    pub(super) plan: Option<Plan>,
    /// The payjoin without channels.
    pub(super) plain: Draft,
    pub(super) begun: Timestamp,
    /// Why there are no channels although intents were taken.
    pub(super) reason: Option<String>,
}

/// Only the wallet's signatures are missing.
#[derive(Debug)]
pub(super) struct Signing {
    pub(super) exchange: ExchangeId,
    pub(super) draft: Draft,
    pub(super) channels: Vec<FundedChannel>,
    /// Why there are no channels although intents were taken.
    pub(super) reason: Option<String>,
}
