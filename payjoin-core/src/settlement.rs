//! What happens after an Original was admitted, until one of its outcomes is buried. Serves v1 and v2 alike.

use std::collections::VecDeque;

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

/// An input to a [`Settlement`].
#[derive(Clone, Debug)]
pub enum SettlementInput {
    /// What the mempool holds that spends an input of the Original or a coin of ours; `None` when nothing does.
    Mempool(Option<Transaction>),
    /// This transaction, which spends an input of the Original or a coin of ours, is in the block at this height.
    Mined(Transaction, u32),
    /// The blocks at this height and above were reorganised out.
    Disconnected(u32),
    /// The network did not take what was sent last.
    Refused,
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
    /// Another spend of the payer's inputs is buried: as for the Original.
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
///
/// It ends only when a spend of the payer's inputs is buried (money rule 6): never by the clock, and not by a foreign
/// spend of our coin either. That one makes the payjoin impossible, so the Original is sent at once.
#[derive(Debug)]
pub struct Settlement {
    obligation: Obligation,
    policy: Policy,
    now: Timestamp,
    tip: u32,
    /// What the mempool holds of this.
    pending: Option<Spend>,
    /// The payjoin with all signatures, once seen. It is worth more than the Original: it funds the channels.
    payjoin: Option<Transaction>,
    /// Height of a block with a spend of our coin that leaves the payer's inputs alone.
    coin_spent: Option<u32>,
    /// Something was sent since the last block.
    sent: bool,
    /// It was the payjoin, and the network did not take it.
    refused: bool,
    outputs: VecDeque<SettlementOutput>,
    settled: Option<Settled>,
}

/// What a transaction means to an obligation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spend {
    /// It spends the payer's inputs, with this outcome once buried.
    Payer(Settled),
    /// It spends a coin of ours and none of the payer's inputs.
    Coin,
}

impl Settlement {
    /// Takes up an obligation, new or from the store.
    #[must_use]
    pub fn new(obligation: Obligation, policy: Policy) -> Self {
        let mined = obligation.mined.as_ref().map(|(transaction, _)| transaction.clone());
        let mut settlement = Self {
            obligation,
            policy,
            now: Timestamp(0),
            tip: 0,
            pending: None,
            payjoin: None,
            coin_spent: None,
            sent: false,
            refused: false,
            outputs: VecDeque::new(),
            settled: None,
        };
        if let Some(transaction) = mined {
            settlement.classify(&transaction);
        }
        settlement
    }

    /// The obligation it serves.
    #[must_use]
    pub fn obligation(&self) -> &Obligation {
        &self.obligation
    }

    /// Handles an input.
    pub fn handle_input(&mut self, now: Timestamp, input: SettlementInput) {
        self.now = now;
        // The policy puts no deadline further ahead. One that lies there is from a clock that has been set back since.
        let latest = now.plus(self.policy.fallback_seconds);
        self.obligation.fallback_at = self.obligation.fallback_at.min(latest);
        if self.settled.is_some() {
            return;
        }
        match input {
            SettlementInput::Mempool(found) => {
                self.pending = found.and_then(|transaction| self.classify(&transaction));
            }
            SettlementInput::Mined(transaction, height) => self.mined(transaction, height),
            // Nothing is sent: the blocks of the other branch follow, and may hold it all.
            SettlementInput::Disconnected(height) => return self.disconnected(height),
            SettlementInput::Refused => self.refused(),
            SettlementInput::Tip(height) => {
                self.tip = height;
                self.begin_block();
            }
            SettlementInput::Tick => {}
        }
        self.settle();
        self.send();
    }

    /// The next thing to do; call until [`SettlementOutput::Wait`] or [`SettlementOutput::Done`].
    pub fn poll_output(&mut self) -> SettlementOutput {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        match self.settled {
            Some(settled) => SettlementOutput::Done(settled),
            None => {
                let waits = self.is_quiet() && self.now < self.obligation.fallback_at;
                SettlementOutput::Wait(waits.then_some(self.obligation.fallback_at))
            }
        }
    }

    /// What a transaction means; `None` when it spends nothing of this. Legacy and nested inputs change the id with
    /// their signatures, so ids are compared without scriptSigs.
    fn classify(&mut self, transaction: &Transaction) -> Option<Spend> {
        let spends =
            |outpoint: &OutPoint| transaction.input.iter().any(|input| input.previous_output == *outpoint);
        if self.obligation.original.input.iter().any(|input| spends(&input.previous_output)) {
            let ntxid = transaction.compute_ntxid();
            let payjoin = self.obligation.payjoin.map(|txid| txid.to_raw_hash());
            return Some(Spend::Payer(if payjoin == Some(ntxid) {
                self.payjoin = Some(transaction.clone());
                Settled::Payjoin
            } else if self.obligation.original.compute_ntxid() == ntxid {
                Settled::Original
            } else {
                Settled::Conflict
            }));
        }
        self.obligation.coins.iter().any(spends).then_some(Spend::Coin)
    }

    fn mined(&mut self, transaction: Transaction, height: u32) {
        self.tip = self.tip.max(height);
        match self.classify(&transaction) {
            Some(Spend::Payer(_)) => {
                // What the mempool held is in the block or impossible now.
                self.pending = None;
                // Two conflicts may spend two inputs of the payer's: the first of them decided.
                if self.obligation.mined.as_ref().is_none_or(|(_, first)| height <= *first) {
                    self.record(Some((transaction, height)));
                }
            }
            Some(Spend::Coin) => self.coin_spent = Some(height),
            None => {}
        }
    }

    fn disconnected(&mut self, height: u32) {
        self.tip = height.saturating_sub(1);
        self.begin_block();
        self.coin_spent = self.coin_spent.filter(|spent| *spent < height);
        if self.obligation.mined.as_ref().is_some_and(|(_, mined)| *mined >= height) {
            self.record(None);
        }
    }

    fn begin_block(&mut self) {
        (self.sent, self.refused) = (false, false);
    }

    /// The block with our coin may be gone, or another transaction may have taken it that we do not know of.
    fn refused(&mut self) {
        if self.payjoin.is_some() && self.is_possible() {
            (self.sent, self.refused) = (false, true);
        }
    }

    /// As far as we know the payjoin can still be mined.
    fn is_possible(&self) -> bool {
        self.coin_spent.is_none() && self.pending != Some(Spend::Coin) && !self.refused
    }

    fn record(&mut self, mined: Option<(Transaction, u32)>) {
        if self.obligation.mined != mined {
            self.obligation.mined.clone_from(&mined);
            self.outputs.push_back(SettlementOutput::RecordMined(mined));
        }
    }

    /// Ends when the spend in the chain is buried.
    fn settle(&mut self) {
        let Some((transaction, height)) = self.obligation.mined.clone() else { return };
        let depth = self.tip.saturating_add(1).saturating_sub(height);
        if depth < self.policy.burial.max(1) {
            return;
        }
        if let Some(Spend::Payer(settled)) = self.classify(&transaction) {
            self.settled = Some(settled);
        }
    }

    /// Neither the chain nor the mempool holds a spend of the payer's inputs.
    fn is_quiet(&self) -> bool {
        self.obligation.mined.is_none() && !matches!(self.pending, Some(Spend::Payer(_)))
    }

    /// Sends, once per block: a payjoin that vanished, as long as it is possible and not refused; otherwise, in its time,
    /// the Original.
    fn send(&mut self) {
        if !self.is_quiet() || self.sent {
            return;
        }
        let due = self.now >= self.obligation.fallback_at || self.coin_spent.is_some();
        let transaction = match &self.payjoin {
            Some(payjoin) if self.is_possible() => payjoin.clone(),
            _ if due => self.obligation.original.clone(),
            _ => return,
        };
        self.sent = true;
        self.outputs.push_back(SettlementOutput::Broadcast(transaction));
    }
}
