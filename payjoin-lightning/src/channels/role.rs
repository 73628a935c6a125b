//! [`Channels`] in the role of the receiver.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bitcoin::{Amount, ScriptBuf};
use payjoin_core::{
    ChannelFailure, ChannelSpec, ChannelTerms, ExchangeId, Failure, Funded, FundedChannel, Funder,
    FunderError, IntentId, PlannedChannel, StableProposal, StateWrite,
};

use super::{Channels, ChannelsError};
use crate::probe::probe;

#[async_trait]
impl Funder for Channels {
    async fn open(
        &self,
        exchange: ExchangeId,
        channels: &[(PlannedChannel, ChannelSpec)],
    ) -> Result<Vec<Result<ScriptBuf, ChannelFailure>>, FunderError> {
        Ok(self.open_each(exchange, channels).await?)
    }

    async fn fund(
        &self,
        exchange: ExchangeId,
        proposal: &StableProposal,
        last: &[IntentId],
    ) -> Result<Funded, FunderError> {
        Ok(self.fund_in_order(exchange, proposal.psbt(), proposal.funding(), last).await?)
    }

    async fn abandon(&self, exchange: ExchangeId, reason: &str) {
        self.abandon_all(exchange, reason).await;
    }

    async fn forget(&self, exchange: ExchangeId, _: &[FundedChannel]) {
        self.abandon_all(exchange, "its payjoin can never be mined").await;
        self.funder.discard(exchange).await;
    }

    async fn probe(&self, channels: &[(ChannelSpec, Amount)]) -> Option<Vec<Result<ChannelTerms, Failure>>> {
        let count = u32::try_from(channels.len()).unwrap_or(u32::MAX);
        let first = self.probes.fetch_add(count, Ordering::Relaxed);
        Some(probe(Arc::clone(&self.funder), first, channels.to_vec()).await)
    }

    async fn state(
        &self,
        exchange: ExchangeId,
        channels: &[FundedChannel],
    ) -> Result<Vec<StateWrite>, FunderError> {
        let state = self.funder.state().await;
        // Afterwards: what is there now was there then.
        match self.are_live(exchange, channels.len()).await {
            true => Ok(state.into_iter().collect()),
            false => Err(ChannelsError::Closed.into()),
        }
    }
}
