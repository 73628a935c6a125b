//! [`ChannelFunder`] over the `ChannelManager` of any wallet built with LDK 0.2.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, Witness};
use lightning::events::{ClosureReason, Event};
use lightning::ln::channelmanager::AChannelManager;
use lightning::ln::types::ChannelId;
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
};
use lightning::util::ser::Writeable as _;
use payjoin_core::{ChannelSpec, ChannelTerms, PeerAddress, StateWrite, Step};
use tokio::sync::{broadcast, oneshot};

use crate::lock::lock;
use crate::steps::Steps;
use crate::unborn::Unborn;
use crate::{ChannelFunder, ChannelKey, FunderError};

/// Reaches Lightning peers.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Returns once the peer is connected and both `init` messages were exchanged; at once if it was connected before.
    /// It is not called for the same peer twice at a time. The error is for the operator.
    async fn connect(&self, peer: &PeerAddress) -> Result<(), String>;

    /// The same over a new connection. One that is there is closed, what waits to be sent being sent before.
    async fn connect_anew(&self, peer: &PeerAddress) -> Result<(), String>;
}

/// Opens channels through LDK, funded by a transaction that somebody else broadcasts.
///
/// The wallet's event handler gives every event to [`LdkFunder::handle_event`] first, and its background processor
/// runs as usual. `M` is what the wallet holds its `ChannelManager` by, such as an `Arc`.
///
/// LDK's background processor handles events before it persists the `ChannelManager`: what
/// [`state`](ChannelFunder::state) gives must be durable before the proposal leaves (money rule 1), where the wallet
/// finds it at its next start.
pub struct LdkFunder<M> {
    manager: M,
    connector: Arc<dyn Connector>,
    /// One turn per peer: of two connections made at once each side may close the other one.
    turns: Mutex<HashMap<PublicKey, Arc<tokio::sync::Mutex<()>>>>,
    /// Channels between `open` and safe.
    slots: Mutex<HashMap<ChannelKey, Slot>>,
    /// Peers with whom a channel was abandoned that had its transaction, and when: LDK ends the connection.
    ended: Mutex<HashMap<PublicKey, Instant>>,
    unborn: Arc<Unborn>,
    steps: Steps,
}

type Wake<T> = oneshot::Sender<Result<T, FunderError>>;

struct Slot {
    /// The id that LDK has for the channel now. A key may be used again after it was abandoned; the id tells late
    /// events of the abandoned channel apart.
    channel: ChannelId,
    peer: PublicKey,
    stage: Stage,
}

enum Stage {
    /// `open_channel` is out.
    Opening(Wake<ScriptBuf>),
    /// The peer accepted a channel that pays to this output.
    Open(TxOut),
    /// `funding_created` is out.
    Funding(Wake<()>),
    /// The channel closed.
    Closed(FunderError),
}

/// A peer can put 64 kB into an error message; the operator gets the beginning.
pub(crate) const REASON_CHARS: usize = 200;

/// After this time a connection that LDK wants ended is ended.
const ENDING: Duration = Duration::from_secs(5);

/// What the peer is told about an abandoned channel: never why (money rule 11).
const TO_PEER: &str = "the funding transaction will not be broadcast";

impl<M> LdkFunder<M>
where
    M: Deref + Send + Sync,
    M::Target: AChannelManager,
{
    /// Channels on `manager`, with peers reached through `connector`.
    pub fn new(manager: M, connector: Arc<dyn Connector>) -> Self {
        let (turns, slots, ended) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { manager, connector, turns, slots, ended, unborn: Arc::default(), steps: Steps::default() }
    }

    /// Notes there which channels nothing depends on.
    #[cfg(feature = "node")]
    pub(crate) fn with_unborn(self, unborn: Arc<Unborn>) -> Self {
        Self { unborn, ..self }
    }

    /// Tells every step of a channel here. Nobody is waited for: whoever listens too slowly misses some.
    #[must_use]
    pub fn with_events(self, events: broadcast::Sender<payjoin_core::Event>) -> Self {
        Self { steps: Steps(Some(events)), ..self }
    }

    pub(crate) fn tell(&self, key: Option<ChannelKey>, step: Step) {
        self.steps.tell(key, step);
    }

    /// Takes the events of channels that are being opened; `true` when the event is dealt with. It returns at
    /// once.
    ///
    /// `false` for everything else, among it what happens to a channel once it is safe: `ChannelPending`,
    /// `ChannelReady`, `ChannelClosed`. `DiscardFunding` names no inputs for such a channel and needs no action: the
    /// coins belong to the exchange.
    pub fn handle_event(&self, event: &Event) -> bool {
        match event {
            Event::FundingGenerationReady {
                temporary_channel_id: channel,
                counterparty_node_id: peer,
                channel_value_satoshis: sat,
                output_script: script,
                user_channel_id,
            } => ChannelKey::from_user_channel_id(*user_channel_id).is_some_and(|key| {
                let output = TxOut { value: Amount::from_sat(*sat), script_pubkey: script.clone() };
                self.accepted(key, channel, peer, output);
                true
            }),
            Event::FundingTxBroadcastSafe { user_channel_id, channel_id, counterparty_node_id, .. } => {
                ChannelKey::from_user_channel_id(*user_channel_id).is_some_and(|key| {
                    self.safe(key, channel_id, counterparty_node_id);
                    true
                })
            }
            Event::ChannelClosed { user_channel_id, channel_id, reason, .. } => {
                ChannelKey::from_user_channel_id(*user_channel_id)
                    .is_some_and(|key| self.closed(key, channel_id, reason))
            }
            _ => false,
        }
    }

    fn accepted(&self, key: ChannelKey, channel: &ChannelId, peer: &PublicKey, output: TxOut) {
        let mut slots = lock(&self.slots);
        match slots.get_mut(&key).filter(|slot| slot.channel == *channel) {
            Some(slot) => {
                self.tell(Some(key), Step::AcceptChannel { peer: *peer });
                let script = output.script_pubkey.clone();
                if let Stage::Opening(wake) = std::mem::replace(&mut slot.stage, Stage::Open(output)) {
                    // Nobody waits when the call was dropped; `abandon` follows then.
                    let _ = wake.send(Ok(script));
                }
            }
            None => {
                // It was abandoned between the peer's answer and this event.
                drop(slots);
                self.close(channel, peer);
            }
        }
    }

    fn safe(&self, key: ChannelKey, channel: &ChannelId, peer: &PublicKey) {
        let mut slots = lock(&self.slots);
        // Without a slot it is the replay of an event that was handled before a restart.
        if let Entry::Occupied(slot) = slots.entry(key)
            && slot.get().channel == *channel
            && let Stage::Funding(wake) = slot.remove().stage
        {
            self.unborn.remove(channel);
            self.tell(Some(key), Step::FundingSigned { peer: *peer });
            let _ = wake.send(Ok(()));
        }
    }

    /// `false` when the channel had come to be safe, or was abandoned by us.
    fn closed(&self, key: ChannelKey, channel: &ChannelId, reason: &ClosureReason) -> bool {
        let mut slots = lock(&self.slots);
        let Some(slot) = slots.get_mut(&key).filter(|slot| slot.channel == *channel) else { return false };
        let error = why(reason);
        match std::mem::replace(&mut slot.stage, Stage::Closed(error.clone())) {
            Stage::Opening(wake) => drop(wake.send(Err(error))),
            Stage::Funding(wake) => drop(wake.send(Err(error))),
            Stage::Open(_) | Stage::Closed(_) => {}
        }
        true
    }

    /// Calls `create_channel`; the receiver gets the funding script.
    fn create(
        &self,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Result<oneshot::Receiver<Result<ScriptBuf, FunderError>>, FunderError> {
        let manager = self.manager.get_cm();
        let peer = spec.peer.node_id();
        let id = key.user_channel_id();
        if manager.list_channels_with_counterparty(&peer).iter().any(|c| c.user_channel_id == id) {
            return Err(FunderError::Exists);
        }
        let mut config = manager.get_current_config();
        config.channel_handshake_config.announce_for_forwarding = spec.announced;
        // The payer can double-spend the funding, so it is not to be trusted as our own.
        config.channel_handshake_limits.trust_own_funding_0conf = false;
        let push_msat = spec.push.to_sat().saturating_mul(1_000);

        // The lock is held over the call, so that the peer's answer finds the slot. LDK holds no lock of its own
        // while it handles events.
        let mut slots = lock(&self.slots);
        let Entry::Vacant(slot) = slots.entry(key) else { return Err(FunderError::Exists) };
        let channel = manager
            .create_channel(peer, amount.to_sat(), push_msat, id, None, Some(config))
            .map_err(|error| FunderError::Refused(format!("{error:?}")))?;
        let (wake, woken) = oneshot::channel();
        self.unborn.add(channel);
        slot.insert(Slot { channel, peer, stage: Stage::Opening(wake) });
        self.tell(Some(key), Step::OpenChannel { peer, amount });
        Ok(woken)
    }

    /// Calls `funding_transaction_generated`; the receiver hears when the channel is safe.
    fn hand_over(
        &self,
        key: ChannelKey,
        transaction: &Transaction,
        vout: u32,
    ) -> Result<oneshot::Receiver<Result<(), FunderError>>, FunderError> {
        let mut slots = lock(&self.slots);
        let slot = slots.get_mut(&key).ok_or(FunderError::NotWaiting)?;
        let output = match &slot.stage {
            Stage::Open(output) => output,
            Stage::Closed(error) => return Err(error.clone()),
            Stage::Opening(_) | Stage::Funding(_) => return Err(FunderError::NotWaiting),
        };
        // LDK finds the output by script and value; that it is the one at `vout` is ours to check.
        let index = u16::try_from(vout).map_err(|_| FunderError::Mismatch)?;
        if transaction.output.get(usize::from(index)) != Some(output) {
            return Err(FunderError::Mismatch);
        }
        let (wake, woken) = oneshot::channel();
        let funding = lightning::chain::transaction::OutPoint { txid: transaction.compute_txid(), index };
        let temporary = std::mem::replace(&mut slot.channel, ChannelId::v1_from_funding_outpoint(funding));
        self.unborn.add(slot.channel);
        slot.stage = Stage::Funding(wake);
        self.manager
            .get_cm()
            .funding_transaction_generated_manual_broadcast(
                temporary,
                slot.peer,
                with_placeholders(transaction),
            )
            .map_err(|error| FunderError::Refused(format!("{error:?}")))?;
        self.tell(Some(key), Step::FundingCreated { peer: slot.peer });
        Ok(woken)
    }

    fn close(&self, id: &ChannelId, peer: &PublicKey) {
        self.unborn.add(*id);
        // An error says that the channel is gone, which is what was wanted.
        let _ = self.manager.get_cm().force_close_broadcasting_latest_txn(id, peer, TO_PEER.to_owned());
    }

    async fn connect(&self, peer: &PeerAddress) -> Result<(), FunderError> {
        let turn = Arc::clone(lock(&self.turns).entry(peer.node_id()).or_default());
        let _turn = turn.lock().await;
        let ended = lock(&self.ended).remove(&peer.node_id());
        let connected = match ended.is_some_and(|ended| ended.elapsed() < ENDING) {
            true => self.connector.connect_anew(peer).await,
            false => self.connector.connect(peer).await,
        };
        connected.map_err(FunderError::Connect)
    }
}

/// Why a channel closed that was not safe. What our node has against the peer's terms is read as the peer's words are.
fn why(reason: &ClosureReason) -> FunderError {
    let clip = |text: &str| text.chars().take(REASON_CHARS).collect();
    match reason {
        ClosureReason::CounterpartyForceClosed { peer_msg } => FunderError::Peer(clip(&peer_msg.to_string())),
        ClosureReason::ProcessingError { err } => FunderError::Peer(clip(err)),
        ClosureReason::DisconnectedPeer => {
            FunderError::Closed("the peer disconnected in the middle of the opening".to_owned())
        }
        other => FunderError::Closed(clip(&other.to_string())),
    }
}

/// LDK takes a funding transaction only with witnesses, looks at no more than whether they are there, and never
/// broadcasts one given for manual broadcast. The id is the same without them.
fn with_placeholders(transaction: &Transaction) -> Transaction {
    let mut transaction = transaction.clone();
    for input in &mut transaction.input {
        input.witness = Witness::from_slice(&[[0]]);
    }
    transaction
}

#[async_trait]
impl<M> ChannelFunder for LdkFunder<M>
where
    M: Deref + Send + Sync,
    M::Target: AChannelManager,
{
    async fn open(
        &self,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Result<ScriptBuf, FunderError> {
        self.connect(&spec.peer).await?;
        self.create(key, spec, amount)?.await.map_err(|_| FunderError::NotWaiting)?
    }

    async fn fund(&self, key: ChannelKey, transaction: &Psbt, vout: u32) -> Result<(), FunderError> {
        self.hand_over(key, &transaction.unsigned_tx, vout)?.await.map_err(|_| FunderError::NotWaiting)?
    }

    async fn terms(&self, key: ChannelKey) -> Option<ChannelTerms> {
        let channels = self.manager.get_cm().list_channels();
        let channel = channels.into_iter().find(|channel| channel.user_channel_id == key.user_channel_id());
        channel.map(|channel| ChannelTerms {
            reserve: channel.unspendable_punishment_reserve.map(Amount::from_sat),
            confirmations: channel.confirmations_required,
            delay: channel.force_close_spend_delay,
        })
    }

    async fn abandon(&self, key: ChannelKey) {
        lock(&self.slots).remove(&key);
        let id = key.user_channel_id();
        for channel in self.manager.get_cm().list_channels() {
            if channel.user_channel_id == id {
                if channel.funding_txo.is_some() {
                    lock(&self.ended).insert(channel.counterparty.node_id, Instant::now());
                }
                self.close(&channel.channel_id, &channel.counterparty.node_id);
            }
        }
    }

    async fn state(&self) -> Option<StateWrite> {
        Some(StateWrite {
            primary: CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE.to_owned(),
            secondary: CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE.to_owned(),
            key: CHANNEL_MANAGER_PERSISTENCE_KEY.to_owned(),
            value: self.manager.get_cm().encode(),
            generation: 0,
        })
    }

    async fn held(&self) -> Vec<(ChannelKey, Option<OutPoint>)> {
        let channels = self.manager.get_cm().list_channels();
        let mut held: BTreeMap<_, _> = lock(&self.slots).keys().map(|key| (*key, None)).collect();
        held.extend(channels.iter().filter_map(|channel| {
            let key = ChannelKey::from_user_channel_id(channel.user_channel_id)?;
            Some((key, channel.funding_txo.map(|funding| funding.into_bitcoin_outpoint())))
        }));
        held.into_iter().collect()
    }
}
