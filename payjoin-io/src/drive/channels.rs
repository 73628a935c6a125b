//! The channels of an exchange, and what they cost at their peers (money rule 12).

use std::time::Duration;

use bitcoin::ScriptBuf;
use payjoin_core::{
    Answer, ChannelFailure, FailureKind, Funded, FunderError, IntentId, Left, PlannedChannel, StableProposal,
};

use super::{Attempt, Late, in_time};
use crate::HostError;

/// A funder keeps the time of its channels itself, and says which were late. It is cut when it does not.
pub(super) const GRACE: Duration = Duration::from_secs(2);

impl Attempt<'_> {
    /// Channels that cannot open are left out, and so are those whose peer has lost a slot and has no other one.
    pub(super) async fn open(
        &mut self,
        channels: Vec<PlannedChannel>,
        left: Duration,
    ) -> Result<Vec<Result<ScriptBuf, String>>, HostError> {
        let (host, id) = (self.host, self.id().await?);
        let intents = channels.iter().map(|channel| channel.intent);
        self.take_again(intents.filter(|intent| !self.slots.contains(intent)).collect()).await?;
        let mut planned = Vec::with_capacity(channels.len());
        for channel in channels.iter().filter(|channel| self.slots.contains(&channel.intent)) {
            let intent = host.store.intent(channel.intent).await?;
            let intent = intent.ok_or_else(|| HostError(format!("no intent {}", channel.intent.0)))?;
            planned.push((channel.clone(), intent.spec));
        }
        self.channels = true;
        let answers = match planned.is_empty() {
            true => Vec::new(),
            false => {
                let opened = in_time(left + GRACE, host.funder.open(id, &planned)).await;
                self.or_blame(opened).await?
            }
        };
        let failures: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err().cloned()).collect();
        let mut answers = answers.into_iter();
        let asked: Vec<_> = planned.iter().map(|(channel, _)| channel.intent).collect();
        self.blame(&failures).await?;
        let answer = |channel: PlannedChannel| match asked.contains(&channel.intent) {
            true => answers.next().map(|answer| answer.map_err(|failure| failure.to_string())),
            false => Some(Err(format!("intent {}: its peer has no other slot", channel.intent.0))),
        };
        let answers: Option<Vec<_>> = channels.into_iter().map(answer).collect();
        answers.ok_or_else(|| HostError("the node did not answer for every channel".into()))
    }

    /// On record before the peer hears of the channel again.
    async fn take_again(&mut self, lost: Vec<IntentId>) -> Result<(), HostError> {
        if !lost.is_empty() {
            let (host, id) = (self.host, self.id().await?);
            self.slots.extend(host.store.take_slots(id, &lost, host.height()).await?);
        }
        Ok(())
    }

    /// The slots of channels that are given their transaction are lost, unless the payer gets it.
    pub(super) async fn fund(
        &mut self,
        proposal: &StableProposal,
        last: &[IntentId],
        left: Duration,
    ) -> Result<Answer, HostError> {
        let (host, id) = (self.host, self.id().await?);
        if !self.payer.waits(host.now()) {
            return Err(HostError("the payer does not wait any more: no channel was risked".into()));
        }
        let given = proposal.funding().iter().map(|(channel, _)| channel.intent);
        self.slots.retain(|intent| given.clone().all(|given| given != *intent));
        let funded = in_time(left + GRACE, host.funder.fund(id, proposal, last)).await;
        let left = match self.or_blame(funded).await? {
            Funded::All => return Ok(Answer::Funded),
            Funded::Short(left) => left,
        };
        let mut failures = Vec::new();
        for (intent, left) in given.zip(&left) {
            match left {
                Left::Open => self.slots.push(intent),
                Left::Abandoned => {}
                Left::Failed(failure) => failures.push(failure.clone()),
            }
        }
        self.blame(&failures).await?;
        Ok(Answer::Short(left))
    }

    /// Where channels failed, the next payment tries the others first.
    pub(super) async fn or_blame<T>(&mut self, result: Result<T, Late<FunderError>>) -> Result<T, HostError> {
        if let Err(Late::Failed(error)) = &result {
            self.blame(error.failures()).await?;
        }
        result.map_err(HostError::from)
    }

    /// The only channel was not signed. Gives why.
    pub(super) async fn blame_short(&mut self, left: &[Left]) -> Result<String, HostError> {
        let failures = left.iter().filter_map(|left| match left {
            Left::Failed(failure) => Some(failure.clone()),
            Left::Open | Left::Abandoned => None,
        });
        let failures: Vec<_> = failures.collect();
        self.blame(&failures).await?;
        Ok(failures.first().map_or_else(|| "the peer did not sign".to_owned(), ToString::to_string))
    }

    async fn blame(&mut self, failures: &[ChannelFailure]) -> Result<(), HostError> {
        let (host, id) = (self.host, self.id().await?);
        if failures.is_empty() {
            return Ok(());
        }
        // The slot that a full peer refused ends with that record, and one that the intent had before stays.
        let full = |failure: &ChannelFailure| failure.kind == FailureKind::Full;
        let refused: Vec<_> = failures.iter().filter(|one| full(one)).map(|one| one.intent).collect();
        self.slots.retain(|intent| !refused.contains(intent));
        if let Err(error) = host.store.record_failures(id, failures, host.now(), host.height()).await {
            tracing::warn!(%error, "intents that failed keep their place in the queue");
        }
        Ok(())
    }

    /// Gives back the slots of channels that no peer was asked to fund.
    pub(super) async fn free_slots(&mut self) {
        let (slots, Some(number)) = (std::mem::take(&mut self.slots), &self.number) else { return };
        if slots.is_empty() {
            return;
        }
        if let Err(error) = self.host.store.free_slots(number.exchange, &slots).await {
            tracing::warn!(%error, exchange = number.exchange.0, "slots at peers count as taken though they are free");
        }
    }
}
