//! `channel queue`: asks for a channel, which the next payment that can fund it opens.

use bitcoin::Amount;
use bitcoin::amount::serde::as_sat;
use payjoin_core::{
    ChannelAmount, ChannelLimits, ChannelSpec, ChannelTerms, Failure, FailureKind, IntentId, PeerAddress,
    Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::channels::IntentStage;
use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, SPEND};
use crate::values::{AmountOrRest, Lifetime};

/// A channel to be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueArgs {
    /// The other end.
    pub peer: PeerAddress,
    /// How much, or what the payment leaves after the other channels.
    pub amount: AmountOrRest,
    /// What of it is the peer's from the start: a gift.
    #[serde(with = "as_sat")]
    #[schemars(with = "u64")]
    pub push: Amount,
    /// Do not announce it to the network.
    pub private: bool,
    /// Do not ask the peer: it is away, or it will change its mind.
    #[serde(default)]
    pub unchecked: bool,
    /// The wallet alone opens it after so many seconds, if no payment did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Lifetime>,
}

/// A channel that waits for a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Queued {
    /// The number of what was asked for.
    pub intent: IntentId,
    /// Queued.
    pub state: IntentStage,
    /// What the peer asks for, if it was asked.
    pub terms: Option<ChannelTerms>,
    /// When the wallet alone opens it, if no payment did.
    pub open_by: Option<Timestamp>,
    /// Why it will wait, as far as the peer told.
    pub note: Option<String>,
}

impl Guarded for QueueArgs {
    const ACCESS: Access = SPEND;
}

impl Daemon {
    pub(super) async fn queue(&self, args: QueueArgs) -> Result<Queued, RequestError> {
        self.other_than_us(&args.peer)?;
        let spec = ChannelSpec {
            peer: args.peer,
            amount: ChannelAmount::from(args.amount),
            push: args.push,
            announced: !args.private,
        };
        if args.within.is_some() && !matches!(spec.amount, ChannelAmount::Exact(_)) {
            return Err(ErrorKind::Request.error(
                "--within goes with an amount: of what a payment leaves, nothing is known without one",
            ));
        }
        let limits = ChannelLimits::default();
        spec.validate(&limits).map_err(|error| ErrorKind::Request.error(error))?;
        let answer = match args.unchecked {
            true => None,
            false => self.ask(&spec, &limits).await?,
        };
        let (terms, note) = match answer {
            None => (None, None),
            Some(Ok(terms)) => (Some(terms), None),
            // It comes free by itself, and until then nobody is asked to pay for it.
            Some(Err(failure)) if failure.kind == FailureKind::Full => (None, Some(failure.text)),
            Some(Err(failure)) => {
                return Err(ErrorKind::Lightning.error(format_args!(
                    "not queued: {failure}. With --unchecked it is queued all the same"
                )));
            }
        };
        let open_by = args.within.map(|within| now().plus(within.seconds()));
        let intent = self.store.queue_intent(spec, limits, open_by).await?;
        Ok(Queued { intent, state: IntentStage::Queued, terms, open_by, note })
    }

    /// Asks the peer for the channel. Where another one with the same peer is queued, it is asked for both at once, too:
    /// one payment may open them then.
    pub(super) async fn ask(
        &self,
        spec: &ChannelSpec,
        limits: &ChannelLimits,
    ) -> Result<Option<Result<ChannelTerms, Failure>>, RequestError> {
        let wanted = (spec.clone(), spec.wish(IntentId(0), limits).typical());
        let answer = self
            .host
            .probe(std::slice::from_ref(&wanted))
            .await?
            .and_then(|answers| answers.into_iter().next());
        if !matches!(answer, Some(Ok(_))) {
            return Ok(answer);
        }
        let with_peer = |peer: &PeerAddress| peer.node_id() == spec.peer.node_id();
        if let Some(other) = self.store.waiting().await?.into_iter().find(|one| with_peer(&one.peer))
            && let Some(intent) = self.store.intent(other.wish.id).await?
        {
            self.host.probe(&[(intent.spec, other.wish.typical()), wanted]).await?;
        }
        Ok(answer)
    }
}
