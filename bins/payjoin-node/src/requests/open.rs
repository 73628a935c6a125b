//! `channel open`: opens a channel at once, with coins of the wallet alone.

use bitcoin::amount::serde::as_sat;
use bitcoin::{Amount, OutPoint, Txid};
use payjoin_core::{
    ChannelAmount, ChannelLimits, ChannelSpec, ExchangeId, Failure, FailureKind, IntentId, PeerAddress,
    Timestamp,
};
use payjoin_io::OpenedChannel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::channels::IntentStage;
use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, SPEND};
use crate::values::SatPerVb;

/// A channel to be opened now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenArgs {
    /// The other end.
    pub peer: PeerAddress,
    /// How much.
    #[serde(with = "as_sat")]
    #[schemars(with = "u64")]
    pub amount: Amount,
    /// What of it is the peer's from the start: a gift.
    #[serde(default, with = "as_sat")]
    #[schemars(with = "u64")]
    pub push: Amount,
    /// Do not announce it to the network.
    #[serde(default)]
    pub private: bool,
    /// Do not ask the peer before anything is written down.
    #[serde(default)]
    pub unchecked: bool,
    /// Fee rate. Default: what confirms within six blocks.
    #[serde(default)]
    pub fee_rate: Option<SatPerVb>,
}

/// A channel whose transaction is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Opened {
    /// The number of what was asked for.
    pub intent: IntentId,
    /// Released.
    pub state: IntentStage,
    /// The transaction that funds it.
    #[schemars(with = "String")]
    pub txid: Txid,
    /// Its output in that transaction.
    pub vout: u32,
    /// What the miners get.
    #[serde(rename = "fee_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub fee: Amount,
    /// The exchange with nobody that keeps the account of it.
    pub exchange: ExchangeId,
    /// Why the network did not take the transaction yet: it is sent again at each block.
    pub waits: Option<String>,
}

/// From 1970 on: what is due at once.
const AT_ONCE: Timestamp = Timestamp(0);

impl Guarded for OpenArgs {
    const ACCESS: Access = SPEND;
}

impl Daemon {
    pub(super) async fn open(&self, args: OpenArgs) -> Result<Opened, RequestError> {
        if let Some(trouble) = self.trouble() {
            return Err(ErrorKind::State.error(format_args!("nothing is opened now: {trouble}")));
        }
        self.other_than_us(&args.peer)?;
        let spec = ChannelSpec {
            peer: args.peer,
            amount: ChannelAmount::Exact(args.amount),
            push: args.push,
            announced: !args.private,
        };
        let limits = ChannelLimits::default();
        spec.validate(&limits).map_err(|error| ErrorKind::Request.error(error))?;
        if !args.unchecked
            && let Some(Err(failure)) = self.ask(&spec, &limits).await?
        {
            return Err(self.refused(&spec, &failure).await?);
        }
        let rate = args.fee_rate.map_or_else(|| self.chain.fee_rate(), Into::into);
        // From here on it goes on after a crash, too. Nobody else opens it meanwhile.
        let mut change = self.live.opening.lock().await;
        let intent = self.store.queue_intent(spec, limits, Some(AT_ONCE)).await?;
        match self.open_from_wallet(intent, rate, &mut change).await {
            Ok(opened) => Ok(told(intent, opened)),
            Err(error) => {
                // A payment may have been faster.
                if let Err(kept) = self.store.cancel_intent(intent, now()).await {
                    tracing::warn!(%kept, intent = intent.0, "a channel that was not opened is still wanted");
                }
                Err(error)
            }
        }
    }

    /// Why the peer takes no channel, and until when.
    async fn refused(&self, spec: &ChannelSpec, failure: &Failure) -> Result<RequestError, RequestError> {
        let peers = self.store.peer_records(self.host.height()).await?;
        let free_at = peers.iter().find(|one| one.peer == spec.peer.node_id()).and_then(|one| one.free_at);
        let until = free_at.filter(|_| failure.kind == FailureKind::Full);
        let until = until
            .map(|height| format!("; it has room again at block {height} at the latest"))
            .unwrap_or_default();
        Ok(ErrorKind::Lightning.error(format_args!("not opened: {failure}{until}")))
    }
}

fn told(intent: IntentId, opened: OpenedChannel) -> Opened {
    let OpenedChannel { exchange, funding: OutPoint { txid, vout }, fee, waits } = opened;
    Opened { intent, state: IntentStage::Released, txid, vout, fee, exchange, waits }
}
