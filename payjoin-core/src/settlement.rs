//! What happens after an Original was admitted, until one of its outcomes is buried. Serves v1 and v2 alike.

mod defence;
mod obligation;

use std::collections::VecDeque;

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};

use self::defence::child_fee;
pub use self::defence::{Kin, Prices, Rival, Undefended};
pub use self::obligation::{Fees, Obligation, Settled, SettlementInput, SettlementOutput};
use crate::invoice::paid_to;
use crate::{Policy, Timestamp};

/// The machine over one [`Obligation`].
///
/// It ends only when a spend of the payer's inputs is buried (money rule 6): never by the clock, and not by a foreign
/// spend of our coin either. That one makes the payjoin impossible, so the Original is sent at once. Only a spend that
/// pays us holds a broadcast back: a payer who spends his coins elsewhere, too, is answered at each block, if need be with
/// a child that pays for both, up to [`Policy::defend`].
#[derive(Debug)]
pub struct Settlement {
    obligation: Obligation,
    policy: Policy,
    now: Timestamp,
    tip: u32,
    /// What the mempool holds of this.
    pending: Vec<Spend>,
    /// Those of them that take the payment back.
    rivals: Vec<Txid>,
    /// What was asked for last, if its answer may lead to more.
    attempt: Option<(Which, Step)>,
    /// Height of a block with a spend of our coin that leaves the payer's inputs alone.
    coin_spent: Option<u32>,
    /// Something was sent since the last block or the last new rival.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Payjoin,
    Original,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It was sent alone.
    Alone,
    /// Its rivals are being weighed.
    Weighing,
    /// It was sent with a child.
    Package,
}

impl Settlement {
    /// Takes up an obligation, new or from the store.
    #[must_use]
    pub fn new(obligation: Obligation, policy: Policy) -> Self {
        let mut settlement = Self {
            obligation,
            policy,
            now: Timestamp(0),
            tip: 0,
            pending: Vec::new(),
            rivals: Vec::new(),
            attempt: None,
            coin_spent: None,
            sent: false,
            refused: false,
            outputs: VecDeque::new(),
            settled: None,
        };
        if let Some((transaction, _)) = settlement.obligation.mined.clone() {
            settlement.keep_payjoin(&transaction);
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
        if !self.obligation.plain {
            self.obligation.fallback_at = self.obligation.fallback_at.min(latest);
        }
        if self.settled.is_some() {
            return;
        }
        match input {
            SettlementInput::Mempool(found) => {
                self.found(&found);
                let is_nowhere = self.is_quiet() && self.rivals.is_empty();
                if self.obligation.plain && is_nowhere && now >= self.obligation.fallback_at {
                    self.settled = Some(Settled::Gone);
                }
            }
            SettlementInput::Mined(transaction, height) => self.mined(transaction, height),
            // Nothing is sent: the blocks of the other branch follow, and may hold it all.
            SettlementInput::Disconnected(height) => return self.disconnected(height),
            SettlementInput::Refused => self.refused(),
            SettlementInput::Weighed(prices) => self.weighed(prices.as_ref()),
            SettlementInput::Tip(height) => {
                self.tip = height;
                self.begin_round();
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
                let may_be_sent = self.is_quiet() && !self.obligation.plain;
                let may_be_sent = may_be_sent && !self.obligation.is_own();
                let waits = may_be_sent && self.now < self.obligation.fallback_at;
                SettlementOutput::Wait(waits.then_some(self.obligation.fallback_at))
            }
        }
    }

    /// What a transaction means; `None` when it spends nothing of this.
    fn classify(&self, transaction: &Transaction) -> Option<Spend> {
        let spends =
            |outpoint: &OutPoint| transaction.input.iter().any(|input| input.previous_output == *outpoint);
        let ours = self.obligation.coins.iter().any(spends);
        if self.obligation.is_own() {
            // Where nobody pays, our coins stand in the payer's place.
            let outcome = if self.is_payjoin(transaction) { Settled::Payjoin } else { Settled::Conflict };
            return ours.then_some(Spend::Payer(outcome));
        }
        if !self.obligation.original.input.iter().any(|input| spends(&input.previous_output)) {
            return ours.then_some(Spend::Coin);
        }
        Some(Spend::Payer(if self.is_payjoin(transaction) {
            Settled::Payjoin
        } else if self.pays(transaction) {
            if self.obligation.plain { Settled::Plain } else { Settled::Original }
        } else {
            Settled::Conflict
        }))
    }

    /// Whether it was news.
    fn keep_payjoin(&mut self, transaction: &Transaction) -> bool {
        let news = self.obligation.signed.is_none() && self.is_payjoin(transaction);
        if news {
            self.obligation.signed = Some(transaction.clone());
        }
        news
    }

    /// Legacy and nested inputs change the id with their signatures, so ids are compared without scriptSigs.
    fn is_payjoin(&self, transaction: &Transaction) -> bool {
        self.obligation.signed.as_ref() == Some(transaction)
            || self.obligation.payjoin.is_some_and(|id| id.to_raw_hash() == transaction.compute_ntxid())
    }

    /// Whether this spend of the payer's inputs pays the invoice in full.
    fn pays(&self, transaction: &Transaction) -> bool {
        let TxOut { value, script_pubkey } = &self.obligation.payment;
        let paid = paid_to(script_pubkey, transaction);
        paid >= *value && paid > Amount::ZERO
    }

    /// A rival that was not there before is answered at once, and not only at the next block.
    fn found(&mut self, transactions: &[Transaction]) {
        let known = std::mem::take(&mut self.rivals);
        self.pending.clear();
        for transaction in transactions {
            let spend = self.classify(transaction);
            self.pending.extend(spend);
            if spend == Some(Spend::Payer(Settled::Payjoin)) && self.keep_payjoin(transaction) {
                self.outputs.push_back(SettlementOutput::RecordSigned(transaction.clone()));
            }
            if spend == Some(Spend::Payer(Settled::Conflict)) {
                self.rivals.push(transaction.compute_txid());
            }
        }
        if self.rivals.iter().any(|rival| !known.contains(rival)) {
            self.begin_round();
        }
    }

    fn mined(&mut self, transaction: Transaction, height: u32) {
        self.tip = self.tip.max(height);
        match self.classify(&transaction) {
            Some(Spend::Payer(_)) => {
                self.keep_payjoin(&transaction);
                // What the mempool held is in the block or impossible now.
                (self.pending, self.rivals) = (Vec::new(), Vec::new());
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
        self.begin_round();
        self.coin_spent = self.coin_spent.filter(|spent| *spent < height);
        if self.obligation.mined.as_ref().is_some_and(|(_, mined)| *mined >= height) {
            self.record(None);
        }
    }

    fn begin_round(&mut self) {
        (self.sent, self.refused, self.attempt) = (false, false, None);
    }

    /// Whoever stands in the way is weighed. Without one, the fee is not what is wrong.
    fn refused(&mut self) {
        match self.attempt {
            Some((which, Step::Alone)) if !self.rivals.is_empty() => {
                self.attempt = Some((which, Step::Weighing));
                self.outputs.push_back(SettlementOutput::Weigh(self.rivals.clone()));
            }
            Some((which, Step::Alone | Step::Package)) => self.leave(which),
            Some((_, Step::Weighing)) | None => {}
        }
    }

    fn weighed(&mut self, prices: Option<&Prices>) {
        let Some((which, Step::Weighing)) = self.attempt else { return };
        let Some((prices, parent)) = prices.zip(self.transaction(which).cloned()) else {
            return self.leave(which);
        };
        match self.defence(which, &parent, prices) {
            Ok((vout, fee)) => {
                self.attempt = Some((which, Step::Package));
                self.outputs.push_back(SettlementOutput::Defend { parent, vout, fee });
            }
            Err(why) => {
                self.outputs.push_back(SettlementOutput::GiveUp(parent.compute_txid(), why));
                self.leave(which);
            }
        }
    }

    /// The output that the child spends, and its fee.
    fn defence(
        &self,
        which: Which,
        parent: &Transaction,
        prices: &Prices,
    ) -> Result<(u32, Amount), Undefended> {
        let Obligation { payment, fees, .. } = &self.obligation;
        let ours = |output: &TxOut| output.script_pubkey == payment.script_pubkey;
        let ours = (0..).zip(&parent.output).filter(|(_, output)| ours(output));
        let (vout, output) = ours.max_by_key(|(_, output)| output.value).ok_or(Undefended::NoOutput)?;
        let paid = if which == Which::Payjoin { fees.payjoin } else { fees.original };
        let limit = payment.value.to_sat() / 100 * u64::from(self.policy.defend);
        let fee = child_fee(parent, paid, output.value, prices, Amount::from_sat(limit))?;
        Ok((vout, fee))
    }

    fn transaction(&self, which: Which) -> Option<&Transaction> {
        match which {
            Which::Payjoin => self.obligation.signed.as_ref(),
            Which::Original => Some(&self.obligation.original),
        }
    }

    /// A payjoin that cannot be had in this block gives way to the Original. The block with our coin may be gone, too, or
    /// another transaction may have taken it that we do not know of.
    fn leave(&mut self, which: Which) {
        self.attempt = None;
        if which == Which::Payjoin {
            (self.sent, self.refused) = (false, true);
        }
    }

    /// As far as we know the payjoin can still be mined.
    fn is_possible(&self) -> bool {
        self.coin_spent.is_none() && !self.pending.contains(&Spend::Coin) && !self.refused
    }

    fn record(&mut self, mined: Option<(Transaction, u32)>) {
        if self.obligation.mined != mined {
            self.obligation.mined.clone_from(&mined);
            self.outputs.push_back(SettlementOutput::RecordMined(mined));
        }
    }

    /// Ends when the spend in the chain is buried.
    fn settle(&mut self) {
        let mined = self.obligation.mined.as_ref().filter(|(_, height)| self.is_buried(*height));
        let Some((transaction, _)) = mined.cloned() else { return };
        if let Some(Spend::Payer(settled)) = self.classify(&transaction) {
            self.settled = Some(settled);
        }
    }

    fn is_buried(&self, height: u32) -> bool {
        self.tip.saturating_add(1).saturating_sub(height) >= self.policy.burial.max(1)
    }

    /// Neither the chain has a spend of the payer's inputs, nor the mempool one that pays us.
    fn is_quiet(&self) -> bool {
        let takes_back = |spend: &Spend| matches!(spend, Spend::Payer(Settled::Conflict) | Spend::Coin);
        self.obligation.mined.is_none() && self.pending.iter().all(takes_back)
    }

    /// Sends, once per block: a payjoin that vanished, as long as it is possible and not refused; otherwise, in its time,
    /// the Original.
    fn send(&mut self) {
        if !self.is_quiet() || self.sent || self.obligation.plain {
            return;
        }
        let due = self.now >= self.obligation.fallback_at || self.coin_spent.is_some();
        let (which, transaction) = match &self.obligation.signed {
            Some(payjoin) if self.is_possible() => (Which::Payjoin, payjoin.clone()),
            _ if due && !self.obligation.is_own() => (Which::Original, self.obligation.original.clone()),
            _ => return,
        };
        (self.sent, self.attempt) = (true, Some((which, Step::Alone)));
        self.outputs.push_back(SettlementOutput::Broadcast(transaction));
    }
}
