//! What a receiver asks of the Lightning node that funds channels from a payjoin.

use async_trait::async_trait;
use bitcoin::{Amount, ScriptBuf};

use super::{ChannelFailure, ChannelTerms, Failure, Funded};
use crate::{ChannelSpec, ExchangeId, FundedChannel, IntentId, PlannedChannel, StableProposal, StateWrite};

/// A Lightning node that funds channels from somebody else's transaction. It needs no store of ours: all that it must
/// know of a channel comes with the call.
#[async_trait]
pub trait Funder: Send + Sync {
    /// Opens all channels side by side. One result for each, in order: the funding script of a channel that its peer
    /// accepted and that waits for its transaction, or why there is none. Those that are open stay open until they are
    /// funded or abandoned. After [`Funded::Short`] it is called again for channels that were abandoned, beside those that
    /// are open still.
    ///
    /// # Errors
    /// [`FunderError`] when the node can open none: none of these is open.
    async fn open(
        &self,
        exchange: ExchangeId,
        channels: &[(PlannedChannel, ChannelSpec)],
    ) -> Result<Vec<Result<ScriptBuf, ChannelFailure>>, FunderError>;

    /// Hands over the funding transaction and waits until the peer of every channel has signed and every monitor is
    /// durable. The channels of the intents in `last` get it one after another, once all others are safe.
    ///
    /// # Errors
    /// [`FunderError`] when nothing can go on; every channel of the exchange is abandoned then.
    async fn fund(
        &self,
        exchange: ExchangeId,
        proposal: &StableProposal,
        last: &[IntentId],
    ) -> Result<Funded, FunderError>;

    /// Forgets every channel of the exchange, of which nothing was released. Does not wait for peers.
    async fn abandon(&self, exchange: ExchangeId, reason: &str);

    /// Closes the channels of a released payjoin that can never be mined any more. Called again after a crash.
    async fn forget(&self, exchange: ExchangeId, channels: &[FundedChannel]);

    /// Asks for these channels, side by side, and abandons each that its peer accepts, before anything is funded. One
    /// answer for each, in order. `None`: this node cannot do that.
    async fn probe(&self, _: &[(ChannelSpec, Amount)]) -> Option<Vec<Result<ChannelTerms, Failure>>> {
        None
    }

    /// The node's state, to be written in the same transaction as the release (money rule 1).
    ///
    /// # Errors
    /// [`FunderError`] when one of the channels that the exchange is about to release is not there any more.
    async fn state(
        &self,
        exchange: ExchangeId,
        channels: &[FundedChannel],
    ) -> Result<Vec<StateWrite>, FunderError>;
}

/// Why an exchange has no channels. The texts are for the operator; a payer never reads them (money rule 11).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunderError {
    /// These channels failed. The others of the exchange may do well without them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Channels(Vec<ChannelFailure>),
    /// The node itself.
    #[error("{0}")]
    Node(String),
}

impl FunderError {
    /// The channels that failed, as far as one can tell.
    #[must_use]
    pub fn failures(&self) -> &[ChannelFailure] {
        match self {
            Self::Channels(failures) => failures,
            Self::Node(_) => &[],
        }
    }
}

/// The [`Funder`] of a wallet without Lightning: every payment is a plain payjoin.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoChannels;

impl NoChannels {
    fn refuse<T>() -> Result<T, FunderError> {
        Err(FunderError::Node("no Lightning node".into()))
    }
}

#[async_trait]
impl Funder for NoChannels {
    async fn open(
        &self,
        _: ExchangeId,
        _: &[(PlannedChannel, ChannelSpec)],
    ) -> Result<Vec<Result<ScriptBuf, ChannelFailure>>, FunderError> {
        Self::refuse()
    }

    async fn fund(&self, _: ExchangeId, _: &StableProposal, _: &[IntentId]) -> Result<Funded, FunderError> {
        Self::refuse()
    }

    async fn abandon(&self, _: ExchangeId, _: &str) {}

    async fn forget(&self, _: ExchangeId, _: &[FundedChannel]) {}

    async fn state(&self, _: ExchangeId, _: &[FundedChannel]) -> Result<Vec<StateWrite>, FunderError> {
        Ok(Vec::new())
    }
}
