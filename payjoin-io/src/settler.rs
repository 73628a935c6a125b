//! Sees to what admitted exchanges owe until an outcome is buried.

mod closings;
mod plain;

use std::collections::{BTreeMap, HashMap};

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use payjoin_core::{
    Broadcast, ChainError, ExchangeId, IntentRecord, Invoice, LedgerError, Obligation, Settled, Settlement,
    SettlementInput, SettlementOutput, Step, Timestamp, Undefended,
};

use self::closings::fundings;
use crate::host::{Leftovers, Owed};
use crate::watched::Watches;
use crate::{Host, Watched};

/// Blocks of a day.
const DAY: u32 = 144;

/// Every unfinished [`Settlement`]. One task owns it and brings it the news of the chain.
///
/// What the store refuses is logged and tried again at the next [`Settler::tick`].
pub struct Settler {
    host: Host,
    incoming: Owed,
    /// Came in, and not read from the store yet.
    unread: BTreeMap<ExchangeId, Watches>,
    running: BTreeMap<ExchangeId, Running>,
    /// Spends of coins of exchanges that were not on record yet, with their heights. Each is kept as long as such an
    /// exchange runs: see [`Settler::add`].
    early: Vec<(u32, Transaction)>,
    /// Ends of channels that the store does not have yet.
    closings: Vec<(OutPoint, Txid)>,
    /// Transactions that pay codes, with their heights, of which it is not known yet whether they are an exchange's.
    doubtful: Vec<(u32, Transaction)>,
}

struct Running {
    machine: Settlement,
    coins: Vec<OutPoint>,
    wake: Option<Timestamp>,
    /// The payjoin was in the mempool.
    seen: bool,
    /// The store does not have the latest confirmation.
    unrecorded: bool,
    ended: Option<Settled>,
    /// What was given up last of each transaction, and why.
    given_up: Vec<(Txid, Undefended)>,
}

impl Settler {
    /// Takes up every obligation of the store, and later those of the exchanges that `incoming` names; both arguments
    /// come from [`Host::new`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn new(host: Host, incoming: Owed) -> Result<Self, LedgerError> {
        let obligations = host.store.obligations().await?;
        host.watched().add_channels(host.store.fundings(IntentRecord::watched_since(host.now())).await?);
        host.watched().add_codes(host.store.codes(Invoice::watched_since(host.now())).await?);
        let (unread, running, early) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let (closings, doubtful) = (Vec::new(), Vec::new());
        let mut settler = Self { host, incoming, unread, running, early, closings, doubtful };
        obligations.into_iter().for_each(|obligation| settler.add(obligation));
        Ok(settler)
    }

    /// What is news.
    #[must_use]
    pub fn watched(&self) -> &Watched {
        self.host.watched()
    }

    /// The payers' inputs and coins of ours: whatever spends one of them is news.
    pub async fn watched_outpoints(&mut self) -> Vec<OutPoint> {
        self.take_incoming().await;
        self.host.watched().owed()
    }

    /// The mempool's spends of [`Settler::watched_outpoints`]; a watched coin that is not in `spends` is unspent there.
    pub async fn on_mempool(&mut self, spends: &HashMap<OutPoint, Transaction>) {
        // What came in since the list was asked for is not in it: of that, `spends` says nothing.
        let asked: Vec<_> = self.running.keys().copied().collect();
        for id in asked {
            let (host, Some(running)) = (&self.host, self.running.get_mut(&id)) else { continue };
            let mut found: Vec<&Transaction> =
                running.coins.iter().filter_map(|coin| spends.get(coin)).collect();
            // One that spends several of them is found several times.
            found.sort_unstable();
            found.dedup();
            found.iter().for_each(|spend| running.note(host, spend));
            let found = found.into_iter().cloned().collect();
            self.give(id, SettlementInput::Mempool(found)).await;
        }
    }

    /// The transactions of a block of the best chain; those that [`Watched`](crate::Watched) is not concerned with may be
    /// left out.
    /// Costs a look-up for each input in it. Call [`Settler::on_tip`] after the last of a run of blocks.
    pub async fn on_block(&mut self, height: u32, transactions: &[Transaction]) {
        self.take_incoming().await;
        self.void_from(height).await;
        for transaction in transactions {
            for id in self.host.watched().waiting(transaction) {
                self.give(id, SettlementInput::Mined(transaction.clone(), height)).await;
            }
            if self.host.watched().is_early(transaction) {
                self.early.push((height, transaction.clone()));
            }
            self.note_closing(transaction).await;
            self.consider(transaction, Some(height)).await;
        }
    }

    /// After a crash the blocks since the last recorded one are told again, and a reorganisation of them is not: what
    /// the store knows of this height and above counts no more.
    async fn void_from(&mut self, height: u32) {
        self.forget_from(height);
        let stale = |running: &Running| running.mined().is_some_and(|(_, at)| *at >= height);
        let ids: Vec<_> = self.running.iter().filter(|(_, r)| stale(r)).map(|(id, _)| *id).collect();
        for id in ids {
            self.give(id, SettlementInput::Disconnected(height)).await;
        }
    }

    fn forget_from(&mut self, height: u32) {
        self.early.retain(|(at, _)| *at < height);
        self.doubtful.retain(|(at, _)| *at < height);
    }

    /// Whether the store has every confirmation and reorganisation: only then is it safe to forget the blocks they
    /// came in.
    pub async fn is_recorded(&mut self) -> bool {
        self.take_incoming().await;
        self.reconsider().await;
        let waits = |running: &Running| running.unrecorded;
        let known = self.unread.is_empty() && self.early.is_empty();
        known && self.closings.is_empty() && self.doubtful.is_empty() && !self.running.values().any(waits)
    }

    /// The block at this height and those above it are reorganised out.
    pub async fn on_disconnect(&mut self, height: u32) {
        self.forget_from(height);
        self.give_all(&SettlementInput::Disconnected(height)).await;
    }

    /// The best chain has this height.
    pub async fn on_tip(&mut self, height: u32) {
        self.host.set_height(height);
        if height.is_multiple_of(DAY)
            && let Err(error) = self.host.forget_codes().await
        {
            tracing::debug!(%error, "codes that are over are watched for another day");
        }
        self.give_all(&SettlementInput::Tip(height)).await;
    }

    /// Time passed. Returns when the next call is due at the latest, if nothing else happens.
    pub async fn tick(&mut self) -> Option<Timestamp> {
        self.host.clear_leftovers().await;
        self.record_closings().await;
        self.take_incoming().await;
        self.reconsider().await;
        self.give_all(&SettlementInput::Tick).await;
        self.running.values().filter_map(|running| running.wake).min()
    }

    async fn give_all(&mut self, input: &SettlementInput) {
        for id in self.ids().await {
            self.give(id, input.clone()).await;
        }
    }

    async fn ids(&mut self) -> Vec<ExchangeId> {
        self.take_incoming().await;
        self.running.keys().copied().collect()
    }

    async fn take_incoming(&mut self) {
        while let Ok((exchange, watches)) = self.incoming.0.try_recv() {
            self.unread.entry(exchange).or_default().extend(watches);
        }
        for (id, watches) in std::mem::take(&mut self.unread) {
            match self.host.store.obligation(id).await {
                Ok(Some(obligation)) => self.add(obligation),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, exchange = id.0, "cannot read what an exchange owes");
                    self.unread.insert(id, watches);
                }
            }
        }
        let watched = self.host.watched();
        let known = self.early.extract_if(.., |(_, transaction)| !watched.is_early(transaction));
        self.doubtful.extend(known.filter(|(_, transaction)| !watched.paid_codes(transaction).is_empty()));
    }

    /// Only we write confirmations, so what we had of an obligation is newer than what `obligation` was read with. A
    /// block that came after the exchange had looked at the chain, and before it was admitted, is looked at again.
    fn add(&mut self, mut obligation: Obligation) {
        let id = obligation.exchange;
        let mut unrecorded = false;
        if let Some(running) = self.remove(id) {
            obligation.mined = running.mined().cloned();
            obligation.signed = obligation.signed.or_else(|| running.machine.obligation().signed.clone());
            unrecorded = running.unrecorded;
        }
        let inputs = obligation.original.input.iter().map(|input| input.previous_output);
        let coins: Vec<_> = inputs.chain(obligation.coins.iter().copied()).collect();
        self.host.watched().add(id, &coins);
        self.host.watched().add_channels(fundings(&obligation));
        let mut machine = Settlement::new(obligation, self.host.policy());
        for (height, transaction) in &self.early {
            if transaction.input.iter().any(|input| coins.contains(&input.previous_output)) {
                machine.handle_input(self.host.now(), SettlementInput::Mined(transaction.clone(), *height));
                unrecorded = true;
            }
        }
        self.running.insert(
            id,
            Running {
                machine,
                coins,
                wake: None,
                seen: false,
                unrecorded,
                ended: None,
                given_up: Vec::new(),
            },
        );
    }

    fn remove(&mut self, id: ExchangeId) -> Option<Running> {
        let running = self.running.remove(&id)?;
        self.host.watched().remove(id, &running.coins);
        Some(running)
    }

    async fn give(&mut self, id: ExchangeId, input: SettlementInput) {
        let now = self.host.now();
        let Some(running) = self.running.get_mut(&id) else { return };
        if running.unrecorded {
            running.record(&self.host).await;
        }
        if running.ended.is_none() {
            running.machine.handle_input(now, input);
            running.drain(&self.host).await;
        }
        let Some(outcome) = running.ended else { return };
        let obligation = running.machine.obligation();
        let settled = match self.host.store.obligation(id).await {
            // It was released since it was read, and what is buried may be just that.
            Ok(Some(current)) if current.payjoin != obligation.payjoin => return self.add(current),
            Ok(_) => settle(&self.host, obligation, outcome).await,
            Err(error) => Err(error),
        };
        match settled {
            Ok(()) => {
                if outcome != Settled::Payjoin {
                    self.host.watched().remove_channels(fundings(obligation));
                }
                drop(self.remove(id));
            }
            Err(error) => tracing::error!(%error, exchange = id.0, "an exchange is not settled yet"),
        }
    }
}

impl Running {
    /// Shows the operator that the payer broadcast.
    fn note(&mut self, host: &Host, transaction: &Transaction) {
        if !self.seen && self.machine.obligation().payjoin == Some(transaction.compute_ntxid().into()) {
            self.seen = true;
            let txid = transaction.compute_txid();
            host.tell(self.machine.obligation().exchange, Step::Broadcast { txid });
        }
    }

    fn mined(&self) -> Option<&(Transaction, u32)> {
        self.machine.obligation().mined.as_ref()
    }

    async fn record(&mut self, host: &Host) {
        let id = self.machine.obligation().exchange;
        let recorded = host.store.record_mined(id, self.mined().cloned()).await;
        if let Err(error) = &recorded {
            tracing::error!(%error, exchange = id.0, "a confirmation is not recorded yet");
        }
        self.unrecorded = recorded.is_err();
    }

    async fn drain(&mut self, host: &Host) {
        let id = self.machine.obligation().exchange;
        loop {
            match self.machine.poll_output() {
                SettlementOutput::Broadcast(transaction) => {
                    let sent = host.chain.broadcast(&transaction).await;
                    self.sent(host, transaction.compute_txid(), sent);
                }
                SettlementOutput::Weigh(rivals) => {
                    let prices = host.chain.prices(&rivals).await;
                    let prices =
                        prices.inspect_err(|error| tracing::warn!(exchange = id.0, %error, "not defended"));
                    self.machine.handle_input(host.now(), SettlementInput::Weighed(prices.ok()));
                }
                SettlementOutput::Defend { parent, vout, fee } => self.defend(host, parent, vout, fee).await,
                SettlementOutput::GiveUp(txid, why) => self.give_up(txid, why),
                SettlementOutput::RecordSigned(payjoin) => {
                    if let Err(error) = host.store.record_signed(id, &payjoin).await {
                        tracing::error!(%error, exchange = id.0, "the payer's payjoin is not recorded");
                    }
                }
                SettlementOutput::RecordMined(mined) => {
                    if let Some((transaction, height)) = mined {
                        host.tell(id, Step::Confirmed { txid: transaction.compute_txid(), height });
                    }
                    self.record(host).await;
                }
                SettlementOutput::Done(outcome) => {
                    self.ended = Some(outcome);
                    return;
                }
                SettlementOutput::Wait(wake) => {
                    self.wake = wake;
                    return;
                }
            }
        }
    }

    /// A node that is away refuses nothing.
    fn sent(&mut self, host: &Host, txid: Txid, sent: Result<Broadcast, ChainError>) {
        let exchange = self.machine.obligation().exchange.0;
        match sent {
            Ok(Broadcast::Taken) => tracing::info!(%txid, exchange, "broadcast"),
            Ok(Broadcast::Refused(reason)) => {
                tracing::warn!(%txid, exchange, reason, "the network refuses a transaction");
                self.machine.handle_input(host.now(), SettlementInput::Refused);
            }
            Err(error) => tracing::warn!(%txid, exchange, %error, "not broadcast"),
        }
    }

    async fn defend(&mut self, host: &Host, parent: Transaction, vout: u32, fee: Amount) {
        let (exchange, txid) = (self.machine.obligation().exchange.0, parent.compute_txid());
        match host.wallet.child(&parent, vout, fee).await {
            Ok(child) => {
                let (child_txid, fee_sat) = (child.compute_txid(), fee.to_sat());
                tracing::info!(%txid, %child_txid, fee_sat, exchange, "a child outbids what spends the payer's coins");
                let sent = host.chain.submit_package(&[parent, child]).await;
                self.sent(host, txid, sent);
            }
            Err(error) => {
                tracing::warn!(%txid, exchange, %error, "a payment is not defended");
                self.machine.handle_input(host.now(), SettlementInput::Refused);
            }
        }
    }

    /// Says each reason once, not at every block.
    fn give_up(&mut self, txid: Txid, why: Undefended) {
        let exchange = self.machine.obligation().exchange.0;
        if !self.given_up.contains(&(txid, why.clone())) {
            tracing::warn!(%txid, exchange, %why, "a payment is not defended against what spends the payer's coins");
            self.given_up.retain(|(other, _)| *other != txid);
            self.given_up.push((txid, why));
        }
    }
}

/// Channels that can never be are closed before their intents may be taken again (money rule 9).
async fn settle(host: &Host, obligation: &Obligation, outcome: Settled) -> Result<(), LedgerError> {
    let id = obligation.exchange;
    if outcome != Settled::Payjoin && !obligation.channels.is_empty() {
        host.funder.forget(id, &obligation.channels).await;
    }
    host.store.settle(id, outcome, host.now()).await?;
    if let Err(error) = host.hold(id, &[]).await {
        tracing::warn!(%error, exchange = id.0, "the coins of a settled exchange are not free yet");
        let (reason, watches) = (String::new(), Vec::new());
        host.leave(Leftovers { exchange: id, channels: false, reason, watches });
    }
    let mined = obligation.mined.as_ref();
    let txid = mined.map(|(transaction, _)| tracing::field::display(transaction.compute_txid()));
    tracing::info!(exchange = id.0, ?outcome, txid, "settled");
    Ok(())
}

impl std::fmt::Debug for Settler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settler").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
