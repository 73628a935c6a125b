//! [`ChannelFunder`] over the `ChannelManager` of any wallet built with LDK 0.2.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Witness};
use lightning::events::{ClosureReason, Event};
use lightning::ln::channelmanager::AChannelManager;
use lightning::ln::types::ChannelId;
use tokio::sync::oneshot;

use crate::{ChannelFunder, ChannelKey, ChannelSpec, FunderError, PeerAddress};

/// Reaches Lightning peers.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Returns when the connection stands and both `init` messages were exchanged, at once if it stands already. The
    /// error is for the operator.
    async fn connect(&self, peer: &PeerAddress) -> Result<(), String>;
}

/// Opens channels through LDK, funded by a transaction that somebody else broadcasts.
///
/// The wallet's event handler gives every event to [`LdkFunder::handle_event`] first, and its background processor
/// runs as usual. `M` is what the wallet holds its `ChannelManager` by, such as an `Arc`.
///
/// LDK's background processor handles events before it persists the `ChannelManager`: persist it yourself after
/// [`fund`](ChannelFunder::fund) and before the proposal leaves (money rule 1).
pub struct LdkFunder<M> {
    manager: M,
    connector: Arc<dyn Connector>,
    /// Channels between `open` and safe.
    slots: Mutex<HashMap<ChannelKey, Slot>>,
}

type Wake<T> = oneshot::Sender<Result<T, FunderError>>;

enum Slot {
    /// `open_channel` is out.
    Opening(Wake<ScriptBuf>),
    /// The peer accepted.
    Ready(Ready),
    /// `funding_created` is out.
    Funding(OutPoint, Wake<()>),
    /// The channel closed and nobody was waiting, or has been told.
    Closed(String),
}

#[derive(Clone)]
struct Ready {
    temporary_id: ChannelId,
    peer: PublicKey,
    output: TxOut,
}

/// A peer can put 64 kB into an error message; the operator gets the beginning.
const REASON_CHARS: usize = 200;

/// What the peer is told about an abandoned channel: never why (money rule 11).
const TO_PEER: &str = "the funding transaction will not be broadcast";

impl<M> LdkFunder<M>
where
    M: Deref + Send + Sync,
    M::Target: AChannelManager,
{
    /// Channels on `manager`, with peers reached through `connector`.
    pub fn new(manager: M, connector: Arc<dyn Connector>) -> Self {
        Self { manager, connector, slots: Mutex::default() }
    }

    /// Takes the events of channels that are being opened; `true` when the event is dealt with. It never blocks.
    ///
    /// `false` for everything else, among it what happens to a channel once it is safe: `ChannelPending`,
    /// `ChannelReady`, `ChannelClosed`. `DiscardFunding` names no inputs for such a channel and needs no action: the
    /// coins belong to the exchange.
    pub fn handle_event(&self, event: &Event) -> bool {
        match event {
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                user_channel_id,
            } => ChannelKey::from_user_channel_id(*user_channel_id).is_some_and(|key| {
                let output = TxOut {
                    value: Amount::from_sat(*channel_value_satoshis),
                    script_pubkey: output_script.clone(),
                };
                self.accepted(
                    key,
                    Ready { temporary_id: *temporary_channel_id, peer: *counterparty_node_id, output },
                );
                true
            }),
            Event::FundingTxBroadcastSafe { user_channel_id, funding_txo, counterparty_node_id, .. } => {
                ChannelKey::from_user_channel_id(*user_channel_id).is_some_and(|key| {
                    self.safe(key, *funding_txo, counterparty_node_id);
                    true
                })
            }
            Event::ChannelClosed { user_channel_id, reason, .. } => {
                ChannelKey::from_user_channel_id(*user_channel_id).is_some_and(|key| self.closed(key, reason))
            }
            _ => false,
        }
    }

    fn accepted(&self, key: ChannelKey, ready: Ready) {
        let mut slots = self.slots();
        match slots.remove(&key) {
            Some(Slot::Opening(wake)) => {
                tracing::info!(target: "step", step = "accept_channel", peer = %ready.peer);
                let script = ready.output.script_pubkey.clone();
                slots.insert(key, Slot::Ready(ready));
                // Nobody waits when the call was dropped; `abandon` follows then.
                let _ = wake.send(Ok(script));
            }
            // Abandoned between the peer's answer and this event. LDK gives it once per channel, so no other slot
            // is displaced.
            _ => {
                drop(slots);
                self.close(&ready.temporary_id, &ready.peer);
            }
        }
    }

    fn safe(&self, key: ChannelKey, funding: OutPoint, peer: &PublicKey) {
        // Without a slot it is the replay of an event that was handled before a restart.
        if let Some(Slot::Funding(expected, wake)) = self.slots().remove(&key) {
            let result = if funding == expected { Ok(()) } else { Err(FunderError::Mismatch) };
            tracing::info!(target: "step", step = "funding_signed", peer = %peer);
            let _ = wake.send(result);
        }
    }

    /// `false` when the channel had come to be safe or was abandoned by us.
    fn closed(&self, key: ChannelKey, reason: &ClosureReason) -> bool {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(&key) else { return false };
        let text: String = reason.to_string().chars().take(REASON_CHARS).collect();
        let error = FunderError::Closed(text.clone());
        match std::mem::replace(slot, Slot::Closed(text)) {
            Slot::Opening(wake) => drop(wake.send(Err(error))),
            Slot::Funding(_, wake) => drop(wake.send(Err(error))),
            Slot::Ready(_) | Slot::Closed(_) => {}
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
        let (wake, woken) = oneshot::channel();
        // Before the call: the peer's answer may come while it returns.
        match self.slots().entry(key) {
            Entry::Occupied(_) => return Err(FunderError::Exists),
            Entry::Vacant(vacant) => drop(vacant.insert(Slot::Opening(wake))),
        }
        let mut config = manager.get_current_config();
        config.channel_handshake_config.announce_for_forwarding = spec.announced;
        // The payer can double-spend the funding, so it is not to be trusted as our own.
        config.channel_handshake_limits.trust_own_funding_0conf = false;
        let push_msat = spec.push.to_sat().saturating_mul(1_000);
        manager.create_channel(peer, amount.to_sat(), push_msat, id, None, Some(config)).map_err(
            |error| {
                self.slots().remove(&key);
                FunderError::Refused(format!("{error:?}"))
            },
        )?;
        tracing::info!(target: "step", step = "open_channel", peer = %peer, amount_sat = amount.to_sat());
        Ok(woken)
    }

    /// Calls `funding_transaction_generated`; the receiver hears when the channel is safe.
    fn hand_over(
        &self,
        key: ChannelKey,
        transaction: &Transaction,
        vout: u32,
    ) -> Result<oneshot::Receiver<Result<(), FunderError>>, FunderError> {
        let (wake, woken) = oneshot::channel();
        let mut slots = self.slots();
        let ready = match slots.get(&key) {
            Some(Slot::Ready(ready)) => ready.clone(),
            Some(Slot::Closed(reason)) => return Err(FunderError::Closed(reason.clone())),
            Some(Slot::Opening(_) | Slot::Funding(..)) | None => return Err(FunderError::NotWaiting),
        };
        // LDK finds the output by script and value; that it is the one at `vout` is ours to check.
        if transaction.tx_out(vout as usize) != Ok(&ready.output) {
            return Err(FunderError::Mismatch);
        }
        slots.insert(key, Slot::Funding(OutPoint { txid: transaction.compute_txid(), vout }, wake));
        drop(slots);
        self.manager
            .get_cm()
            .funding_transaction_generated_manual_broadcast(
                ready.temporary_id,
                ready.peer,
                with_placeholders(transaction),
            )
            .map_err(|error| FunderError::Refused(format!("{error:?}")))?;
        tracing::info!(target: "step", step = "funding_created", peer = %ready.peer);
        Ok(woken)
    }

    fn close(&self, id: &ChannelId, peer: &PublicKey) {
        // An error says that the channel is gone, which is what was wanted.
        let _ = self.manager.get_cm().force_close_broadcasting_latest_txn(id, peer, TO_PEER.to_owned());
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<ChannelKey, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.connector.connect(&spec.peer).await.map_err(FunderError::Connect)?;
        self.create(key, spec, amount)?.await.map_err(|_| FunderError::NotWaiting)?
    }

    async fn fund(&self, key: ChannelKey, transaction: &Transaction, vout: u32) -> Result<(), FunderError> {
        self.hand_over(key, transaction, vout)?.await.map_err(|_| FunderError::NotWaiting)?
    }

    async fn abandon(&self, key: ChannelKey) {
        self.slots().remove(&key);
        let id = key.user_channel_id();
        for channel in self.manager.get_cm().list_channels() {
            if channel.user_channel_id == id {
                self.close(&channel.channel_id, &channel.counterparty.node_id);
            }
        }
    }

    async fn live(&self) -> Vec<ChannelKey> {
        let channels = self.manager.get_cm().list_channels();
        let mut keys: Vec<_> =
            channels.iter().filter_map(|c| ChannelKey::from_user_channel_id(c.user_channel_id)).collect();
        keys.extend(self.slots().keys());
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}
