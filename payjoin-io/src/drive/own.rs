//! A channel from coins of ours alone: the same records, locks and slots as for one that a payment opens.

use std::time::Duration;

use bitcoin::{Amount, FeeRate, OutPoint, Transaction};
use payjoin_core::{
    Acceptance, Admission, Broadcast, Funded, Holder, IntentId, Invoice, OriginalId, OwnFunding,
    OwnFundingError, OwnFundingRequest, Release, ResourceRequest, Resources, StableProposal, Timestamp,
};

use super::channels::GRACE;
use super::wishes::LOOK;
use super::{Attempt, in_time};
use crate::{Host, HostError};

/// A queued channel to be opened now.
#[derive(Clone, Debug)]
pub struct OwnOpening {
    /// Which; its amount is exact.
    pub intent: IntentId,
    /// What the transaction pays.
    pub rate: FeeRate,
    /// Where the change goes: a fresh script of ours, under a name of its own. It is kept with the opening.
    pub change: Invoice,
}

/// A channel whose transaction is on record and on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedChannel {
    /// The number of the exchange with nobody that stands for it.
    pub exchange: payjoin_core::ExchangeId,
    /// Its funding output.
    pub funding: OutPoint,
    /// What the miners get.
    pub fee: Amount,
    /// Why the network did not take the transaction yet: it is sent again at each block.
    pub waits: Option<String>,
}

/// Why no channel was opened. Nothing is locked, and the intent is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// The intent or its peer is not to be had now.
    #[error("{0}")]
    Held(String),
    /// The wallet cannot pay for it.
    #[error(transparent)]
    Coins(#[from] OwnFundingError),
    /// The peer, the node, the wallet or the store did not do its part.
    #[error(transparent)]
    Failed(#[from] HostError),
}

/// Opens a queued channel with coins of ours alone. Intent, slot and coins are on record before the peer hears of it (money
/// rules 7, 9 and 12), the node's state and the signed transaction before that is sent (money rule 1). Whoever drops the call
/// or dies gives all back, until it is released; from then on [`Settler`](crate::Settler) goes on.
///
/// # Errors
/// Says what is missing.
pub async fn open_own(host: &Host, opening: &OwnOpening) -> Result<OpenedChannel, OpeningError> {
    let name = OriginalId(format!("{} own", opening.change.id));
    let nobody = Timestamp(u64::MAX);
    let mut attempt = Attempt::new(host, &nobody, name);
    let opened = attempt.open_own(opening).await;
    if let Err(error) = &opened {
        tracing::info!(intent = opening.intent.0, %error, "no channel is opened from the wallet");
        attempt.trouble.get_or_insert_with(|| error.to_string());
    }
    attempt.end().await;
    let (opened, transaction) = opened?;
    // Should that fail, the settler does it.
    let waits = match host.chain.broadcast(&transaction).await {
        Ok(Broadcast::Taken) => None,
        Ok(Broadcast::Refused(reason)) => Some(reason),
        Err(error) => Some(error.to_string()),
    };
    Ok(OpenedChannel { waits, ..opened })
}

impl Attempt<'_> {
    async fn open_own(&mut self, opening: &OwnOpening) -> Result<(OpenedChannel, Transaction), OpeningError> {
        let host = self.host;
        let end = host.now().plus(host.policy().exchange_seconds);
        let left = || Duration::from_secs(end.0.saturating_sub(host.now().0));
        let resources = self.resources(opening, left()).await?;
        let policy = host.policy();
        let plan = OwnFunding::plan(&OwnFundingRequest {
            resources: &resources,
            change: &opening.change.script,
            rate: opening.rate,
            policy: &policy,
        })?;
        self.record(opening, &plan).await?;
        let (stable, release) = self.sign_own(&plan, left).await?;
        let (id, txid) = (self.id().await?, stable.transaction().compute_txid());
        let vout = stable.funding().first().map_or(0, |(_, vout)| *vout);
        if let Err(error) = self.release(id, &release).await {
            self.leave_undecided();
            return Err(error.into());
        }
        let (fee, funding) = (release.fee, OutPoint { txid, vout });
        let opened = OpenedChannel { exchange: id, funding, fee, waits: None };
        Ok((opened, *release.signed.ok_or(OwnFundingError::Unsigned)?))
    }

    /// A write that failed may be on record all the same, and then the transaction is sent: before channels are given up, the
    /// settler asks the store.
    fn leave_undecided(&mut self) {
        if let Some(left) = self.leftovers() {
            self.host.leave(left);
        }
        (self.admitted, self.unsure, self.channels) = (false, false, false);
    }

    /// The intent in hand, and coins that may pay for it.
    async fn resources(&mut self, opening: &OwnOpening, left: Duration) -> Result<Resources, OpeningError> {
        let (host, holder) = (self.host, Holder::Exchange(self.id().await?));
        let wish = self.take_one(opening.intent).await?;
        let request = ResourceRequest {
            invoice: opening.change.id.clone(),
            payment: Amount::ZERO,
            payer_script: opening.change.script.clone(),
            channels: true,
        };
        self.unsure = true;
        let reserved = in_time(left, host.wallet.reserve(holder, &request, &[])).await;
        let (coins, reserve) = reserved.map_err(HostError::from)?;
        self.watch(coins.iter().map(|coin| coin.outpoint));
        let wishes = vec![wish];
        Ok(Resources { wishes, coins, reserve, height: host.height(), ..Resources::default() })
    }

    /// Takes this intent in hand, or says why it must wait.
    async fn take_one(&mut self, intent: IntentId) -> Result<payjoin_core::ChannelWish, OpeningError> {
        let held = |why: String| Err(OpeningError::Held(why));
        loop {
            let before = self.host.reserved().given_back;
            let queue = self.host.store.waiting().await.map_err(HostError::from)?;
            let peers = self.host.store.peer_records(self.host.height()).await.map_err(HostError::from)?;
            let Some(one) = queue.into_iter().find(|one| one.wish.id == intent) else {
                return held(format!(
                    "intent {} is not queued: `channel list` says where it stands",
                    intent.0
                ));
            };
            // The others of the queue are no matter: each has coins and a payment of its own.
            if let Some(openable) = self.choose(vec![one], &peers, before, true) {
                return match (openable.wishes.into_iter().next(), openable.held.first()) {
                    (Some(wish), _) => Ok(wish),
                    (None, Some((_, why))) => held(format!("intent {}: {why}", intent.0)),
                    (None, None) => held(format!(
                        "intent {}: a payment, or another channel with its peer, is in the middle of being opened",
                        intent.0
                    )),
                };
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The first durable write.
    async fn record(&mut self, opening: &OwnOpening, plan: &OwnFunding) -> Result<(), HostError> {
        let (host, now) = (self.host, self.host.now());
        // Nobody else is told: what comes back to that script is no payment.
        host.store.insert_invoice(&opening.change).await?;
        let admission = Admission {
            invoice: opening.change.id.clone(),
            original_id: self.original.clone(),
            original: plan.original().clone(),
            fee: Amount::ZERO,
            coins: plan.coins(),
            intents: vec![opening.intent],
            now,
            height: host.height(),
            fallback_at: now,
        };
        match self.admit(&admission).await? {
            payjoin_core::Answer::Admitted(_) => Ok(()),
            other => Err(HostError(format!("the opening was not admitted: {other:?}"))),
        }
    }

    /// The peer accepts, and signs for the transaction; the wallet signs it, and the network would take it.
    async fn sign_own(
        &mut self,
        plan: &OwnFunding,
        left: impl Fn() -> Duration,
    ) -> Result<(StableProposal, Release), OpeningError> {
        let (host, id) = (self.host, self.id().await?);
        let splits = match plan.splits() {
            0 => Vec::new(),
            count => in_time(left(), host.wallet.scripts(count)).await.map_err(HostError::from)?,
        };
        let opened = self.open(vec![plan.channel().clone()], left()).await?.into_iter().next();
        let script = opened.unwrap_or_else(|| Err("the node did not answer".into())).map_err(HostError)?;
        let (stable, checked) = plan.draw(&script, &splits)?;
        let given = stable.funding().iter().map(|(channel, _)| channel.intent);
        self.slots.retain(|slot| given.clone().all(|given| given != *slot));
        let funded = in_time(left() + GRACE, host.funder.fund(id, &stable, &[])).await;
        if let Funded::Short(left) = self.or_blame(funded).await? {
            return Err(HostError(self.blame_short(&left).await?).into());
        }
        let signed = in_time(left(), host.wallet.sign(&checked)).await.map_err(HostError::from)?;
        let release = plan.release(&stable, signed, host.now())?;
        if let Some(transaction) = release.signed.as_deref() {
            let seen = in_time(left(), host.chain.inspect(transaction)).await.map_err(HostError::from)?;
            if let Acceptance::No(reason) = seen.acceptable {
                return Err(HostError(format!("the network would not take the transaction: {reason}")).into());
            }
        }
        Ok((stable, release))
    }
}

#[cfg(test)]
mod tests;
