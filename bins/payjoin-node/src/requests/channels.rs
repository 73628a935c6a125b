//! `channel list`: channels that were asked for, and channels that exist.

use std::collections::HashMap;

use bitcoin::Txid;
use payjoin_core::{ChannelAmount, IntentId, IntentRecord, IntentState, PeerAddress, Waiting};
use payjoin_lightning::{ChannelInfo, ClosingChannel};
use schemars::JsonSchema;
use serde::Serialize;

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
    /// The transaction that funds it, once a payer has it.
    #[schemars(with = "Option<String>")]
    pub txid: Option<Txid>,
    /// Its output in that transaction.
    pub vout: Option<u32>,
    /// The transaction that closed it, once it is in a block.
    #[schemars(with = "Option<String>")]
    pub closing_txid: Option<Txid>,
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
    pub(super) async fn channels(&self) -> Result<Channels, RequestError> {
        let queue: HashMap<_, _> =
            self.store.waiting().await?.into_iter().map(|waiting| (waiting.wish.id, waiting)).collect();
        let held: HashMap<_, _> = self.host.openable().await?.held.into_iter().collect();
        let intents = self.store.intents().await?.into_iter().map(|record| {
            let (queued, held) = (queue.get(&record.id), held.get(&record.id));
            intent(record, queued, held.map(ToString::to_string))
        });
        let intents = intents.collect();
        let (channels, closing) = (self.node.channels().await?, self.node.closing_channels().await?);
        Ok(Channels { intents, channels, closing })
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
    let (id, peer, amount) = (record.id, record.spec.peer, record.wish.amount);
    Intent { id, peer, amount, state, reason, said, waits, txid, vout, closing_txid }
}
