//! What happens after an Original was admitted, until one of its outcomes is buried. Serves v1 and v2 alike.

use bitcoin::{OutPoint, Transaction, Txid};
use serde::{Deserialize, Serialize};

use crate::{ExchangeId, FundedChannel, Policy, Timestamp};

/// What an admitted exchange owes: to its payer (the payment arrives), to its channels and to its coins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligation {
    /// The exchange.
    pub exchange: ExchangeId,
    /// The Original, ready to broadcast.
    pub original: Transaction,
    /// The payjoin's transaction id with empty scriptSigs ([`Transaction::compute_ntxid`]), once released.
    pub payjoin: Option<Txid>,
    /// Coins of ours that the payjoin spends.
    pub coins: Vec<OutPoint>,
    /// Channels that the payjoin funds.
    pub channels: Vec<FundedChannel>,
    /// When to broadcast the Original if nothing was seen.
    pub fallback_at: Timestamp,
    /// The transaction that spent the Original's inputs in a block, and that block's height.
    pub mined: Option<(Transaction, u32)>,
}

/// News for a [`Settlement`].
#[derive(Clone, Debug)]
pub enum SettlementInput {
    /// What the mempool holds that spends an input of the Original or a coin of ours; `None` when nothing does.
    Mempool(Option<Transaction>),
    /// This transaction, which spends an input of the Original or a coin of ours, is in the block at this height.
    Mined(Transaction, u32),
    /// The blocks at this height and above were reorganised out.
    Disconnected(u32),
    /// The best chain has this height.
    Tip(u32),
    /// Time passed.
    Tick,
}

/// How an obligation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Settled {
    /// The payjoin is buried: unlock, the channels are real.
    Payjoin,
    /// The Original is buried: unlock, forget the channels, queue their intents again.
    Original,
    /// Another spend of the payer's inputs or of our coin is buried: as for the Original.
    Conflict,
}

/// What a [`Settlement`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettlementOutput {
    /// Send this transaction to the network; a refusal is not fatal, it is asked for again.
    Broadcast(Transaction),
    /// Record this as [`Obligation::mined`] (`None` after a reorganisation).
    RecordMined(Option<(Transaction, u32)>),
    /// The end. Nothing follows.
    Done(Settled),
    /// Nothing to do before this moment or the next input.
    Wait(Option<Timestamp>),
}

/// The machine over one [`Obligation`].
#[derive(Debug)]
pub struct Settlement {
    obligation: Obligation,
    policy: Policy,
}

impl Settlement {
    /// Takes up an obligation, new or from the store.
    #[must_use]
    pub fn new(obligation: Obligation, policy: Policy) -> Self {
        Self { obligation, policy }
    }

    /// The obligation it serves.
    #[must_use]
    pub fn obligation(&self) -> &Obligation {
        &self.obligation
    }

    /// Takes news.
    pub fn handle_input(&mut self, now: Timestamp, input: SettlementInput) {
        let _ = (now, input, &self.policy);
    }

    /// The next thing to do; call until [`SettlementOutput::Wait`] or [`SettlementOutput::Done`].
    pub fn poll_output(&mut self) -> SettlementOutput {
        SettlementOutput::Wait(None)
    }
}
