//! [`ChannelFunder`] over LND: the opening waits for a PSBT that somebody else publishes (`psbt_shim`, `no_publish`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf};
use payjoin_core::{ChannelEnd, ChannelSpec, ChannelTerms, LedgerError, PeerAddress, StateWrite, Step};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::calls::{ABANDON, CONNECT, DISCONNECT, FUNDING_STEP, PENDING};
use super::channels::Changes;
use super::client::Client;
use super::error::LndError;
use super::names::{Name, Names, Opening};
use super::opening::{Slot, Stage, failure};
use super::wire::{Done, Pending, PendingOpen, base64};
use crate::addresses::{Addresses, Turn};
use crate::lock::lock;
use crate::steps::Steps;
use crate::{ChannelFunder, ChannelKey, FunderError, Reached};

/// LND says so long that it dials a peer already.
const DIALLED: Duration = Duration::from_secs(5);
/// Between two attempts at an LND that has not dealt with the last block yet.
const BEHIND: Duration = Duration::from_millis(300);
/// For clearing away at once. What LND does not do in this time is done later.
const CLEAR: Duration = Duration::from_secs(5);

/// Opens channels through LND.
pub(super) struct LndFunder {
    client: Arc<Client>,
    names: Names,
    /// Channels between `open` and safe.
    slots: Mutex<HashMap<ChannelKey, Slot>>,
    /// One turn per peer: LND refuses a second dial.
    turns: Mutex<HashMap<PublicKey, Arc<tokio::sync::Mutex<()>>>>,
    steps: Steps,
    pub(super) addresses: Addresses,
}

impl LndFunder {
    pub(super) fn new(client: Arc<Client>, names: Names, steps: Steps) -> Self {
        let (slots, turns, addresses) = (Mutex::default(), Mutex::default(), Addresses::default());
        Self { client, names, slots, turns, steps, addresses }
    }

    fn tell(&self, key: ChannelKey, step: Step) {
        self.steps.tell(Some(key), step);
    }

    /// Connects a peer, by one address after the other until it answers; one that is connected stays so.
    pub(super) async fn reach(&self, peer: &PeerAddress, turn: Turn) -> Result<Reached, LndError> {
        let lock_of_peer = Arc::clone(lock(&self.turns).entry(peer.node_id()).or_default());
        let _turn = lock_of_peer.lock().await;
        self.addresses.tell(peer);
        let (mut failures, mut last) = (Vec::new(), LndError::Refused("no address is known".to_owned()));
        for address in self.addresses.in_turn(peer, turn, []) {
            match self.connect(&address).await {
                Ok(false) => return Ok(Reached::Before),
                Ok(true) => {
                    self.addresses.reached(&address);
                    return Ok(Reached::by(address, peer, &failures));
                }
                Err(LndError::Refused(why)) => {
                    failures.push(format!("no connection to {}:{}: {why}", address.host(), address.port()));
                    last = LndError::Refused(why);
                }
                Err(other) => return Err(other),
            }
        }
        self.addresses.failed(peer.node_id(), failures.join("; "));
        Err(last)
    }

    /// `false`: it was connected already.
    async fn connect(&self, peer: &PeerAddress) -> Result<bool, LndError> {
        let host = match peer.host().contains(':') {
            true => format!("[{}]:{}", peer.host(), peer.port()),
            false => format!("{}:{}", peer.host(), peer.port()),
        };
        let address = json!({ "pubkey": peer.node_id().to_string(), "host": host });
        let request = json!({ "addr": address, "perm": false, "timeout": "10" });
        let begun = Instant::now();
        loop {
            match self.client.post::<IgnoredAny>(&CONNECT, &request).await {
                Ok(_) => return Ok(true),
                Err(error) if error.says("already connected") => return Ok(false),
                // It dials by itself, after its start for example.
                Err(error) if error.says("is pending") && begun.elapsed() < DIALLED => {
                    sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the connection to a peer. LND does not dial it again by itself.
    pub(super) async fn disconnect(&self, peer: &PublicKey) -> Result<(), LndError> {
        self.client.ask::<IgnoredAny>(&DISCONNECT, &format!("/{peer}")).await.map(drop)
    }

    /// What LND knows of channels that wait for their funding.
    async fn pending(&self) -> Result<Vec<PendingOpen>, LndError> {
        Ok(self.client.ask::<Pending>(&PENDING, "").await?.pending_open_channels)
    }

    async fn open_now(
        &self,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Result<ScriptBuf, FunderError> {
        let stage = self.create(key, spec, amount).await?;
        match beyond(stage, |stage| matches!(stage, Stage::Opening)).await? {
            Stage::Open(output) if output.value == amount => {
                self.tell(key, Step::AcceptChannel { peer: spec.peer.node_id() });
                Ok(output.script_pubkey)
            }
            Stage::Closed(error) => Err(error),
            Stage::Open(_) | Stage::Opening | Stage::Pending(_) => Err(FunderError::Mismatch),
        }
    }

    async fn create(
        &self,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Result<watch::Receiver<Stage>, FunderError> {
        if lock(&self.slots).contains_key(&key) || !self.names.of(key).is_empty() {
            return Err(FunderError::Exists);
        }
        let name = self.names.create(key).await.map_err(not_kept)?;
        let slot = Slot::open(Arc::clone(&self.client), name, key, spec, amount);
        self.tell(key, Step::OpenChannel { peer: slot.peer, amount });
        let stage = slot.stage.clone();
        lock(&self.slots).insert(key, slot);
        Ok(stage)
    }

    /// Checks that the channel waits for this output, and names its transaction durably.
    async fn place(
        &self,
        key: ChannelKey,
        transaction: &Psbt,
        vout: u32,
    ) -> Result<(Name, PublicKey, OutPoint, watch::Receiver<Stage>), FunderError> {
        let (name, peer, stage) = {
            let slots = lock(&self.slots);
            let slot = slots.get(&key).ok_or(FunderError::NotWaiting)?;
            (slot.name, slot.peer, slot.stage.clone())
        };
        let output = match &*stage.borrow() {
            Stage::Open(output) => output.clone(),
            Stage::Closed(error) => return Err(error.clone()),
            Stage::Opening | Stage::Pending(_) => return Err(FunderError::NotWaiting),
        };
        let transaction = &transaction.unsigned_tx;
        let at = usize::try_from(vout).map_err(|_| FunderError::Mismatch)?;
        if transaction.output.get(at) != Some(&output) {
            return Err(FunderError::Mismatch);
        }
        let funding = OutPoint { txid: transaction.compute_txid(), vout };
        self.names.fund(name, funding).await.map_err(not_kept)?;
        Ok((name, peer, funding, stage))
    }

    /// Clears away at LND what was abandoned. Done again and again.
    pub(super) async fn clear(&self) -> Result<(), LndError> {
        for (name, opening) in self.names.all() {
            if opening.is_abandoned() {
                self.clear_away(name, opening).await?;
            }
        }
        Ok(())
    }

    /// Tells what has become of channels.
    pub(super) fn tell_of(&self, changes: Changes) {
        for channel in changes.ready {
            let capacity = Some(Amount::from_sat(channel.capacity_sat));
            let key = channel.funding.as_ref().and_then(|funding| self.key(funding));
            self.steps.tell(key, Step::ChannelReady { peer: channel.peer, capacity });
        }
        for (funding, end) in changes.closed {
            self.steps.tell(self.key(&funding), Step::ChannelClosed { peer: None, reason: end.reason });
        }
    }

    /// Of these closed channels, those that an exchange of ours opened.
    pub(super) fn ours(&self, closed: &[(OutPoint, ChannelEnd)]) -> Vec<(OutPoint, ChannelEnd)> {
        closed.iter().filter(|(funding, _)| self.names.funded(funding).is_some()).cloned().collect()
    }

    /// The key of the channel with this funding output.
    pub(super) fn key(&self, funding: &OutPoint) -> Option<ChannelKey> {
        let name = self.names.funded(funding)?;
        self.names.get(name).map(|opening| opening.key())
    }

    /// The end of a channel is on record elsewhere.
    pub(super) async fn forget_closed(&self, funding: &OutPoint) -> Result<(), LedgerError> {
        match self.names.funded(funding) {
            Some(name) => self.names.forget(name).await,
            None => Ok(()),
        }
    }

    /// Cancels an opening; a channel that came of it is abandoned. The caller knows that its funding can never be mined.
    async fn clear_away(&self, name: Name, opening: Opening) -> Result<(), LndError> {
        let cancel = json!({ "shim_cancel": { "pending_chan_id": base64(&name.0) } });
        let cancelled = match self.client.post::<Done>(&FUNDING_STEP, &cancel).await {
            Ok(Done {}) => true,
            Err(error) if error.says("no funding intent found") => false,
            Err(error) => return Err(error),
        };
        let Some(funding) = opening.funding() else {
            // Without a transaction no channel can have come of it. The call that opens it may be on its way still.
            if cancelled || opening.is_heard() {
                self.forget(name).await;
            }
            return Ok(());
        };
        let pending = self.pending().await?;
        match pending.iter().find(|channel| name.is_in(&channel.channel.memo)) {
            Some(PendingOpen { channel, confirmation_height: 0 }) if channel.channel_point == funding => {
                let rest = format!("/{}/{}?i_know_what_i_am_doing=true", funding.txid, funding.vout);
                self.client.ask::<IgnoredAny>(&ABANDON, &rest).await?;
                tracing::info!(%funding, "LND has forgotten a channel that is never funded");
                self.forget(name).await;
            }
            Some(PendingOpen { channel, .. }) => {
                let channel = channel.channel_point;
                tracing::error!(%channel, %funding, "a channel is not what we left: it is not abandoned");
                self.forget(name).await;
            }
            // LND may be about to hear from the peer.
            None if opening.is_settled() => self.forget(name).await,
            None => {}
        }
        Ok(())
    }

    async fn forget(&self, name: Name) {
        if let Err(error) = self.names.forget(name).await {
            tracing::warn!(%error, "the name of an opening is kept for now");
        }
    }
}

/// Whether LND itself has said this: a call that broke off may be on its way still.
fn is_answer(stage: &Stage) -> bool {
    match stage {
        Stage::Opening => false,
        Stage::Open(_) | Stage::Pending(_) | Stage::Closed(FunderError::Peer(_)) => true,
        Stage::Closed(error) => *error == failure(LndError::NotSynchronised),
    }
}

fn not_kept(error: LedgerError) -> FunderError {
    FunderError::Refused(format!("the name of the opening cannot be kept: {error}"))
}

/// The next stage that is not this one.
async fn beyond(
    mut stage: watch::Receiver<Stage>,
    is_before: impl Fn(&Stage) -> bool,
) -> Result<Stage, FunderError> {
    let reached = stage.wait_for(|stage| !is_before(stage)).await;
    // Whoever told of it was stopped: the channel was abandoned.
    reached.map(|stage| stage.clone()).map_err(|_| FunderError::NotWaiting)
}

#[async_trait]
impl ChannelFunder for LndFunder {
    async fn open(
        &self,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Result<ScriptBuf, FunderError> {
        self.reach(&spec.peer, Turn::WorkedFirst).await.map_err(|error| match error {
            LndError::Refused(why) => FunderError::Connect(why),
            other => failure(other),
        })?;
        // LND refuses for a moment after each block. Whoever asks gives up in his time.
        let behind = failure(LndError::NotSynchronised);
        loop {
            match self.open_now(key, spec, amount).await {
                Err(error) if error == behind => {
                    self.abandon(key).await;
                    sleep(BEHIND).await;
                }
                done => return done,
            }
        }
    }

    /// A refusal here need not be the end: LND goes on before it has looked at its reserve. The channel is abandoned then.
    async fn fund(&self, key: ChannelKey, transaction: &Psbt, vout: u32) -> Result<(), FunderError> {
        let (name, peer, funding, stage) = self.place(key, transaction, vout).await?;
        self.tell(key, Step::FundingCreated { peer });
        let verify = json!({
            "pending_chan_id": base64(&name.0),
            "funded_psbt": base64(&transaction.serialize()),
            "skip_finalize": true,
        });
        let verified = self.client.post::<Done>(&FUNDING_STEP, &json!({ "psbt_verify": verify })).await;
        verified.map_err(failure)?;
        match beyond(stage, |stage| matches!(stage, Stage::Open(_))).await? {
            Stage::Pending(at) if at == funding => {
                lock(&self.slots).remove(&key);
                self.tell(key, Step::FundingSigned { peer });
                Ok(())
            }
            Stage::Closed(error) => Err(error),
            Stage::Pending(_) | Stage::Open(_) | Stage::Opening => Err(FunderError::Mismatch),
        }
    }

    /// LND tells no terms before there is a transaction.
    async fn terms(&self, key: ChannelKey) -> Option<ChannelTerms> {
        let slots = lock(&self.slots);
        let is_open = slots.get(&key).is_some_and(|slot| matches!(&*slot.stage.borrow(), Stage::Open(_)));
        is_open.then(ChannelTerms::default)
    }

    async fn abandon(&self, key: ChannelKey) {
        let slot = lock(&self.slots).remove(&key);
        let answered = slot.is_some_and(|slot| is_answer(&slot.stage.borrow()));
        for name in self.names.of(key) {
            if let Err(error) = self.names.abandon(name, answered).await {
                tracing::error!(%error, "that a channel is abandoned is not kept: the next start abandons it again");
            }
            let Some(opening) = self.names.get(name) else { continue };
            match timeout(CLEAR, self.clear_away(name, opening)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "LND forgets an abandoned channel later"),
                Err(_) => tracing::warn!("LND forgets an abandoned channel later: it does not answer now"),
            }
        }
    }

    /// LND keeps its channels itself.
    async fn state(&self) -> Option<StateWrite> {
        None
    }

    /// What LND does not know any more has ended. Where it does not answer, all that it may know counts.
    async fn held(&self) -> Vec<(ChannelKey, Option<OutPoint>)> {
        let openings: Vec<_> =
            self.names.all().into_iter().filter(|(_, opening)| !opening.is_abandoned()).collect();
        if openings.is_empty() {
            return Vec::new();
        }
        // From before LND is asked: what runs now may be pending a moment later.
        let running: HashSet<_> = lock(&self.slots).keys().copied().collect();
        let pending = self.pending().await.ok();
        let is_held = |(name, opening): &(Name, Opening)| {
            let known = |pending: &Vec<PendingOpen>| pending.iter().any(|one| name.is_in(&one.channel.memo));
            running.contains(&opening.key())
                || (opening.is_left && !opening.is_settled())
                || pending.as_ref().is_none_or(known)
        };
        let held = openings.into_iter().filter(is_held);
        held.map(|(_, opening)| (opening.key(), opening.funding())).collect()
    }
}
