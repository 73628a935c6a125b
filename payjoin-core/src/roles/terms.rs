//! What peers answer when they are asked for a channel, and what becomes of it.

use bitcoin::Amount;
use serde::Serialize;

use crate::IntentId;

/// The peer's terms for a channel, as far as the node tells them. BOLT 2, `accept_channel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChannelTerms {
    /// What must stay ours in the channel, in satoshis.
    #[serde(rename = "reserve_sat", with = "bitcoin::amount::serde::as_sat::opt")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"))]
    pub reserve: Option<Amount>,
    /// Confirmations after which the channel is usable.
    pub confirmations: Option<u32>,
    /// Blocks until what is ours can be spent after we close by force.
    pub delay: Option<u16>,
}

/// Whose fault it was, as far as one can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The peer cannot be reached.
    Unreachable,
    /// The peer does not want this channel.
    Refused,
    /// The peer holds as many channels without a buried funding as it takes.
    Full,
    /// It was not ready in time.
    Late,
    /// It was closed before it was safe, or after its peer had signed.
    Closed,
    /// Our own node, or what was asked of it.
    Local,
}

/// Why a channel failed, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// Whose fault it was, as far as one can tell.
    pub kind: FailureKind,
    /// Why, and what to do about it.
    pub text: String,
    /// The peer's own words.
    pub said: Option<String>,
}

impl Failure {
    /// One of which nobody said anything.
    #[must_use]
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), said: None }
    }
}

/// What became of channels that were given their transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Funded {
    /// The peer of each has signed, and its monitor is durable.
    All,
    /// One was not signed, so that the transaction is void for all: what is left of each, in the order of the proposal.
    Short(Vec<Left>),
}

/// What is left of a channel whose funding transaction is void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It was not given the transaction. It is open, and waits for another one with the same script.
    Open,
    /// It was given the transaction and is abandoned: its peer did nothing wrong, and may hold its slot for long.
    Abandoned,
    /// It failed, and is abandoned.
    Failed(ChannelFailure),
}

/// Why one channel did not come to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("intent {}: {text}", .intent.0)]
pub struct ChannelFailure {
    /// The intent it serves.
    pub intent: IntentId,
    /// What kind of failure it was.
    pub kind: FailureKind,
    /// Why, and what to do about it, for the operator.
    pub text: String,
    /// The peer's own words.
    pub said: Option<String>,
}
