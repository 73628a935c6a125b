//! `channel list`: channels that were asked for, and channels that exist.

use std::collections::{HashMap, HashSet};

use bitcoin::Txid;
use bitcoin::secp256k1::PublicKey;
use payjoin_core::{
    ChannelAmount, Closure, IntentId, IntentRecord, IntentState, PeerAddress, Timestamp, Waiting,
};
use payjoin_lightning::{ChannelInfo, ClosingChannel};
use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::RequestError;
use crate::rights::{Access, READ};
use crate::values;

/// Who may ask for `channel list`.
pub(crate) const LIST: Access = READ;

/// Channels that were asked for, and channels that exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Channels {
    /// Those that were asked for.
    pub intents: Vec<Intent>,
    /// Those that exist, whoever opened them.
    pub channels: Vec<ChannelInfo>,
    /// Those that are closed, as long as not all of what is ours there is in the wallet.
    pub closing: Vec<ClosingChannel>,
    /// Peers that hold channels of ours whose funding is not buried, or that said how many they take.
    pub slots: Vec<Slots>,
}

/// The few channels that a peer holds while their funding is not buried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Slots {
    /// The peer.
    #[schemars(with = "String")]
    pub peer: PublicKey,
    /// How many it holds.
    pub taken: u32,
    /// How many it takes at most; `null`: it never refused one.
    pub room: Option<u32>,
    /// The block at which it forgets the first of them, at the latest.
    pub free_at: Option<u32>,
}

/// A channel that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Intent {
    /// Its number.
    pub id: IntentId,
    /// The other end.
    pub peer: PeerAddress,
    /// In JSON satoshis, or `"rest"`.
    #[serde(serialize_with = "values::sat_or_rest")]
    #[schemars(schema_with = "values::schema::sat_or_rest")]
    pub amount: ChannelAmount,
    /// Where it stands.
    pub state: IntentStage,
    /// Why an earlier attempt failed and what to do about it, or why the channel closed.
    pub reason: Option<String>,
    /// What the peer said then, in its own words.
    pub said: Option<String>,
    /// Why the next payment opens another channel first.
    pub waits: Option<String>,
    /// While it is queued: when the wallet alone opens it, if no payment did; 0: as soon as it can.
    pub open_by: Option<Timestamp>,
    /// The transaction that funds it, once a payer has it.
    #[schemars(with = "Option<String>")]
    pub txid: Option<Txid>,
    /// Its output in that transaction.
    pub vout: Option<u32>,
    /// The transaction that closed it, once it is in a block.
    #[schemars(with = "Option<String>")]
    pub closing_txid: Option<Txid>,
    /// How its channel was closed.
    pub how: Option<Closure>,
    /// When it was closed or cancelled.
    pub ended: Option<Timestamp>,
}

/// Where an intent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IntentStage {
    /// It waits for a payment.
    Queued,
    /// A payer waits for it.
    Negotiating,
    /// The payer has the transaction.
    Released,
    /// The transaction is in a block.
    Confirming,
    /// The channel is there.
    Open,
    /// The channel was there.
    Closed,
    /// Nobody wants it any more.
    Cancelled,
}

impl Daemon {
    /// `all`: those too that are closed or cancelled.
    pub(super) async fn channels(&self, all: bool) -> Result<Channels, RequestError> {
        let queue: HashMap<_, _> =
            self.store.waiting().await?.into_iter().map(|waiting| (waiting.wish.id, waiting)).collect();
        let held: HashMap<_, _> = self.host.openable().await?.held.into_iter().collect();
        let intents = self.store.intents().await?.into_iter().map(|record| {
            let (queued, held) = (queue.get(&record.id), held.get(&record.id));
            intent(record, queued, held.map(ToString::to_string))
        });
        let is_over = |intent: &Intent| matches!(intent.state, IntentStage::Closed | IntentStage::Cancelled);
        let intents = intents.filter(|intent| all || !is_over(intent)).collect();
        let (channels, closing) = (self.live().await?, self.node.closing_channels().await?);
        let slots = self.store.peer_records(self.host.height()).await?.into_iter();
        let slots = slots.filter(|one| one.taken > 0 || one.room.is_some()).map(|one| Slots {
            peer: one.peer,
            taken: one.taken,
            room: one.room,
            free_at: one.free_at,
        });
        Ok(Channels { intents, channels, closing, slots: slots.collect() })
    }

    /// Those that exist, each with the reason why it cannot be used.
    async fn live(&self) -> Result<Vec<ChannelInfo>, RequestError> {
        let mut channels = self.node.channels().await?;
        let connected: HashSet<_> = self.node.peers().await?.into_iter().map(|peer| peer.node_id).collect();
        let missed: HashMap<_, _> =
            self.node.missed().into_iter().map(|(peer, error)| (peer.node_id(), error)).collect();
        for channel in channels.iter_mut().filter(|channel| !channel.usable) {
            if channel.fallen {
                channel.why = Some("its peer has a later state: only he can close it".to_owned());
            } else if channel.why.is_none() && !connected.contains(&channel.peer) {
                let error = missed.get(&channel.peer).map(String::as_str);
                channel.why = Some(self.live.away.tell(&channel.peer, error, now()));
            }
        }
        Ok(channels)
    }
}

fn intent(record: IntentRecord, queued: Option<&Waiting>, waits: Option<String>) -> Intent {
    let mut closing_txid = None;
    let (state, reason, funding) = match record.state {
        IntentState::Queued { reason } => (IntentStage::Queued, reason, None),
        IntentState::Negotiating => (IntentStage::Negotiating, None, None),
        IntentState::Released { txid, vout } => (IntentStage::Released, None, Some((txid, vout))),
        IntentState::Confirming { txid, vout } => (IntentStage::Confirming, None, Some((txid, vout))),
        IntentState::Open { txid, vout } => (IntentStage::Open, None, Some((txid, vout))),
        IntentState::Closed { txid, vout, closing, reason } => {
            closing_txid = closing;
            (IntentStage::Closed, Some(reason), Some((txid, vout)))
        }
        IntentState::Cancelled => (IntentStage::Cancelled, None, None),
    };
    // Of an attempt that failed because of this channel, more is known than why the attempt failed.
    let trouble = queued.and_then(|queued| queued.trouble.clone());
    let (own, said) = trouble.map(|trouble| (trouble.reason, trouble.said)).unzip();
    let (reason, said) = (own.or(reason), said.flatten());
    let (txid, vout) = funding.unzip();
    let waits_for_one = matches!(state, IntentStage::Queued | IntentStage::Negotiating);
    let open_by = record.open_by.filter(|_| waits_for_one);
    let (id, peer, amount) = (record.id, record.spec.peer, record.wish.amount);
    let IntentRecord { how, ended, .. } = record;
    Intent { id, peer, amount, state, reason, said, waits, open_by, txid, vout, closing_txid, how, ended }
}
