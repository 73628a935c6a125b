//! Channels of Core Lightning, funded by somebody else's transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, TxOut};
use payjoin_core::{ChannelEnd, ChannelSpec, PeerAddress, StateWrite, Step};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::abandon::{Way, way};
use super::error::RpcError;
use super::openings::{Opening, Openings};
use super::reply::{self, Channel};
use super::rpc::Rpc;
use crate::addresses::{Addresses, Turn};
use crate::steps::Steps;
use crate::{ChannelFunder, ChannelKey, FunderError, LightningError, Reached};

/// For a call that a caller waits for who may not wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between looks whether an opening is gone.
const AGAIN: Duration = Duration::from_millis(300);
/// The operator gets the beginning of what a peer says.
const REASON_CHARS: usize = 200;

/// lightningd's own "connect" errors, and a peer that is not connected: `common/jsonrpc_errors.h`.
const CONNECT: std::ops::RangeInclusive<i64> = 400..=402;
const NOT_CONNECTED: i64 = 306;
/// "Peer negotiated dual funding": another way of opening, which is experimental.
const DUAL_FUNDING: i64 = 312;

/// [`ChannelFunder`] over lightningd.
pub(super) struct Funder {
    pub(super) rpc: Rpc,
    pub(super) openings: Openings,
    pub(super) steps: Steps,
    pub(super) addresses: Addresses,
}

impl Funder {
    pub(super) async fn channels(&self) -> Result<Vec<Channel>, LightningError> {
        self.listed(json!({})).await
    }

    async fn with(&self, opening: &Opening) -> Result<Vec<Channel>, LightningError> {
        self.listed(json!({ "id": opening.peer.to_string() })).await
    }

    async fn listed(&self, params: Value) -> Result<Vec<Channel>, LightningError> {
        const METHOD: &str = "listpeerchannels";
        let answer = self.rpc.call(METHOD, params).await?;
        Ok(reply::channels(&answer).ok_or(RpcError::Unexpected(METHOD))?)
    }

    /// Connects a peer, by one address after the other until it answers; one that is connected stays so. lightningd tries
    /// what it knows from gossip itself.
    pub(super) async fn reach(&self, peer: &PeerAddress, turn: Turn) -> Result<Reached, RpcError> {
        self.addresses.tell(peer);
        if self.is_connected(peer).await? {
            return Ok(Reached::Before);
        }
        let (mut failures, mut last) = (Vec::new(), RpcError::Unexpected("connect"));
        for address in self.addresses.in_turn(peer, turn, []) {
            match self.connect(&address).await {
                Ok(()) => {
                    self.addresses.reached(&address);
                    return Ok(Reached::by(address, peer, &failures));
                }
                Err(away @ RpcError::Away { .. }) => return Err(away),
                Err(why) => {
                    failures.push(format!("no connection to {}:{}: {why}", address.host(), address.port()));
                    last = why;
                }
            }
        }
        self.addresses.failed(peer.node_id(), failures.join("; "));
        Err(last)
    }

    async fn is_connected(&self, peer: &PeerAddress) -> Result<bool, RpcError> {
        let answer = self.rpc.call("listpeers", json!({ "id": peer.node_id().to_string() })).await?;
        let peers = answer.get("peers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        Ok(peers.iter().any(|peer| peer.get("connected").and_then(Value::as_bool) == Some(true)))
    }

    async fn connect(&self, peer: &PeerAddress) -> Result<(), RpcError> {
        let params = json!({ "id": peer.node_id().to_string(), "host": peer.host(), "port": peer.port() });
        self.rpc.ask("connect", params).await.map(drop)
    }

    /// Names the opening, unless it could not be cancelled for sure later.
    async fn begin(&self, key: ChannelKey, opening: Opening) -> Result<(), FunderError> {
        self.finish(key).await.map_err(refused)?;
        let there = self.with(&opening).await.map_err(refused)?;
        let waits = |other: &Opening| {
            let found =
                there.iter().find(|channel| channel.funding.is_some() && channel.funding == other.funding);
            found.is_none_or(Channel::is_awaiting)
        };
        let ours: Vec<_> = self.openings.all().into_iter().filter_map(|(_, known)| known.funding).collect();
        let is_ours = |channel: &Channel| channel.funding.is_some_and(|funding| ours.contains(&funding));
        if there.iter().any(|channel| channel.is_awaiting() && !is_ours(channel)) {
            return Err(FunderError::Refused(OTHERS.to_owned()));
        }
        self.openings.begin(key, opening, waits).await
    }

    /// An earlier attempt under this name comes to its end first: the same Original is served again under its number.
    async fn finish(&self, key: ChannelKey) -> Result<(), LightningError> {
        while let Some(earlier) = self.openings.get(key).filter(|earlier| earlier.ended) {
            if self.clear_one(key, &earlier).await?.is_some() {
                break;
            }
            sleep(AGAIN).await;
        }
        Ok(())
    }

    async fn start(
        &self,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Result<ScriptBuf, RpcError> {
        const METHOD: &str = "fundchannel_start";
        let params = json!({
            "id": spec.peer.node_id().to_string(),
            "amount": amount.to_sat(),
            "push_msat": spec.push.to_sat().saturating_mul(1_000),
            "announce": spec.announced,
        });
        self.openings.asked(key);
        let answer = self.rpc.ask(METHOD, params).await;
        if !matches!(answer, Err(RpcError::Away(_))) {
            self.openings.answered(key);
        }
        let script =
            reply::text(&answer?, "scriptpubkey").and_then(|script| ScriptBuf::from_hex(script).ok());
        script.ok_or(RpcError::Unexpected(METHOD))
    }

    async fn complete(&self, key: ChannelKey, opening: &Opening, psbt: &Psbt) -> Result<(), RpcError> {
        const METHOD: &str = "fundchannel_complete";
        let params = json!({ "id": opening.peer.to_string(), "psbt": psbt.to_string() });
        self.openings.asked(key);
        let answer = self.rpc.ask(METHOD, params).await;
        if !matches!(answer, Err(RpcError::Away(_))) {
            self.openings.answered(key);
        }
        match answer?.get("commitments_secured").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            _ => Err(RpcError::Unexpected(METHOD)),
        }
    }

    /// Makes lightningd forget what nobody wants any more. What cannot be done now is tried again.
    pub(super) async fn clear(&self) {
        for (key, opening) in self.openings.all() {
            if !opening.ended {
                continue;
            }
            match self.clear_one(key, &opening).await {
                Ok(None) => {}
                Ok(Some(why)) => tracing::debug!(why, peer = %opening.peer, "an opening is left alone"),
                Err(error) => {
                    tracing::debug!(%error, peer = %opening.peer, "an opening is not forgotten yet")
                }
            }
        }
    }

    /// Why it is left alone, if it is.
    async fn clear_one(&self, key: ChannelKey, opening: &Opening) -> Result<Option<String>, LightningError> {
        let peer = json!({ "id": opening.peer.to_string() });
        match way(opening, &self.with(opening).await?) {
            Way::Gone if self.openings.looked(key) => return self.forget(key).await.map(|()| None),
            Way::Gone => return Ok(None),
            Way::Leave(why) => return Ok(Some(why)),
            Way::Cancel => self.rpc.call("fundchannel_cancel", peer).await?,
            Way::Disconnect => {
                let params = json!({ "id": opening.peer.to_string(), "force": true });
                self.rpc.call("disconnect", params).await?
            }
        };
        // Whether it is gone is seen, not believed.
        if way(opening, &self.with(opening).await?) == Way::Gone {
            self.forget(key).await?;
        }
        Ok(None)
    }

    async fn forget(&self, key: ChannelKey) -> Result<(), LightningError> {
        let forgotten = self.openings.forget(key).await;
        forgotten.map_err(|error| LightningError::Refused(error.to_string()))
    }

    /// Those of our channels that have closed, with the reason.
    pub(super) async fn closed(&self) -> Result<Vec<(OutPoint, ChannelEnd)>, LightningError> {
        const METHOD: &str = "listclosedchannels";
        let secured =
            self.openings.all().into_iter().filter(|(_, opening)| opening.secured && !opening.ended);
        let secured: Vec<OutPoint> = secured.filter_map(|(_, opening)| opening.funding).collect();
        if secured.is_empty() {
            return Ok(Vec::new());
        }
        let channels = self.channels().await?;
        let stands = |funding: &OutPoint| channels.iter().find(|channel| channel.funding == Some(*funding));
        let (there, missing): (Vec<_>, Vec<_>) =
            secured.into_iter().partition(|funding| stands(funding).is_some());
        let mut closed: Vec<_> = there
            .into_iter()
            .filter_map(|funding| Some((funding, stands(&funding).filter(|c| c.is_closed())?.end())))
            .collect();
        if !missing.is_empty() {
            let answer = self.rpc.call(METHOD, json!({})).await?;
            let known = reply::closed(&answer).ok_or(RpcError::Unexpected(METHOD))?;
            closed.extend(known.into_iter().filter(|(funding, _)| missing.contains(funding)));
        }
        Ok(closed)
    }

    /// Whoever keeps the history has it.
    pub(super) async fn forget_closed(&self, funding: &OutPoint) -> Result<(), LightningError> {
        let keys = self.openings.all().into_iter().filter(|(_, opening)| opening.funding == Some(*funding));
        for (key, _) in keys {
            self.forget(key).await?;
        }
        Ok(())
    }
}

const OTHERS: &str = "another channel with this peer, which is not ours to cancel, waits for its first confirmations: this one \
                      is opened with a later payment";

fn refused(error: impl ToString) -> FunderError {
    FunderError::Refused(error.to_string())
}

/// What lightningd says of a call that a peer has a part in.
fn blame(error: RpcError) -> FunderError {
    match error {
        RpcError::Refused { code, message } if CONNECT.contains(&code) || code == NOT_CONNECTED => {
            FunderError::Connect(short(&message))
        }
        RpcError::Refused { code: DUAL_FUNDING, .. } => FunderError::Refused(
            "the peer and our node agreed on dual funding: start lightningd without `experimental-dual-fund`"
                .to_owned(),
        ),
        RpcError::Refused { message, .. } => match message.split_once("They sent ") {
            Some((_, said)) => FunderError::Peer(short(said)),
            None => FunderError::Refused(short(&message)),
        },
        error => refused(error),
    }
}

fn short(text: &str) -> String {
    text.chars().take(REASON_CHARS).collect()
}

#[async_trait]
impl ChannelFunder for Funder {
    async fn open(
        &self,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Result<ScriptBuf, FunderError> {
        let (peer, push) = (spec.peer.node_id(), spec.push);
        let opening =
            Opening { peer, amount, push, script: None, funding: None, secured: false, ended: false };
        self.begin(key, opening).await?;
        self.openings.answered(key);
        self.reach(&spec.peer, Turn::WorkedFirst).await.map_err(blame)?;
        self.steps.tell(Some(key), Step::OpenChannel { peer, amount });
        let script = self.start(key, spec, amount).await.map_err(blame)?;
        self.steps.tell(Some(key), Step::AcceptChannel { peer });
        self.openings.change(key, |opening| opening.script = Some(script.clone())).await?;
        Ok(script)
    }

    async fn fund(&self, key: ChannelKey, transaction: &Psbt, vout: u32) -> Result<(), FunderError> {
        let opening = self.openings.get(key).filter(|opening| !opening.ended && opening.funding.is_none());
        let opening = opening.ok_or(FunderError::NotWaiting)?;
        let script_pubkey = opening.script.clone().ok_or(FunderError::NotWaiting)?;
        let output = usize::try_from(vout).ok().and_then(|vout| transaction.unsigned_tx.output.get(vout));
        if output != Some(&TxOut { value: opening.amount, script_pubkey }) {
            return Err(FunderError::Mismatch);
        }
        let funding = OutPoint { txid: transaction.unsigned_tx.compute_txid(), vout };
        // Before the call: whatever becomes of it is found by this.
        let opening = self.openings.change(key, |opening| opening.funding = Some(funding)).await?;
        self.steps.tell(Some(key), Step::FundingCreated { peer: opening.peer });
        self.complete(key, &opening, transaction).await.map_err(blame)?;
        self.openings.change(key, |opening| opening.secured = true).await?;
        self.steps.tell(Some(key), Step::FundingSigned { peer: opening.peer });
        Ok(())
    }

    async fn abandon(&self, key: ChannelKey) {
        // On record first: what lightningd is not asked now, it is asked later.
        match self.openings.change(key, |opening| opening.ended = true).await {
            Ok(opening) => {
                let why = match timeout(PATIENCE, self.clear_one(key, &opening)).await {
                    Ok(Ok(None)) => return,
                    Ok(Ok(Some(why))) => why,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "Core Lightning takes too long".to_owned(),
                };
                let (peer, funding) = (opening.peer, opening.funding);
                tracing::warn!(%peer, ?funding, why, "a channel that nobody will fund is forgotten later");
            }
            Err(FunderError::NotWaiting) => {}
            Err(error) => tracing::error!(%error, "an opening that ended is not on record as ended"),
        }
    }

    /// Core Lightning keeps its channels itself: `commitments_secured` is its word for it.
    async fn state(&self) -> Option<StateWrite> {
        None
    }

    async fn held(&self) -> Vec<(ChannelKey, Option<OutPoint>)> {
        let openings = self.openings.all().into_iter().filter(|(_, opening)| !opening.ended);
        let openings: Vec<_> = openings.collect();
        // Asked only about what it has promised to keep. While it is away its promise stands.
        let promised = openings.iter().any(|(_, opening)| opening.secured);
        let channels = if promised { self.channels().await.ok() } else { None };
        let is_gone = |opening: &Opening| {
            let there = |channel: &Channel| channel.funding == opening.funding && !channel.is_closed();
            opening.secured && channels.as_ref().is_some_and(|channels| !channels.iter().any(there))
        };
        openings
            .into_iter()
            .filter(|(_, opening)| !is_gone(opening))
            .map(|(key, o)| (key, o.funding))
            .collect()
    }
}

pub(super) type Shared = Arc<Funder>;
