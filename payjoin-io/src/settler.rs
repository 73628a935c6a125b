//! Sees to what admitted exchanges owe until an outcome is buried.

use std::collections::{BTreeMap, HashMap};

use bitcoin::{Block, OutPoint, Transaction};
use payjoin_core::{
    ExchangeId, Obligation, Settled, Settlement, SettlementInput, SettlementOutput, Timestamp,
};

use crate::host::{Owed, Watches};
use crate::{Host, StoreError};

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
}

impl Settler {
    /// Takes up every obligation of the store, and later those of the exchanges that `incoming` names; both arguments
    /// come from [`Host::new`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(host: Host, incoming: Owed) -> Result<Self, StoreError> {
        let obligations = host.store.obligations()?;
        let (unread, running, early) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut settler = Self { host, incoming, unread, running, early };
        obligations.into_iter().for_each(|obligation| settler.add(obligation));
        Ok(settler)
    }

    /// The payers' inputs and coins of ours: whatever spends one of them is news.
    #[must_use]
    pub fn watched_outpoints(&mut self) -> Vec<OutPoint> {
        self.take_incoming();
        self.host.watched().owed()
    }

    /// The mempool's spends of [`Settler::watched_outpoints`]; a watched coin that is not in `spends` is unspent there.
    pub async fn on_mempool(&mut self, spends: &HashMap<OutPoint, Transaction>) {
        // What came in since the list was asked for is not in it: of that, `spends` says nothing.
        let asked: Vec<_> = self.running.keys().copied().collect();
        for id in asked {
            let Some(running) = self.running.get_mut(&id) else { continue };
            let spend = running.coins.iter().find_map(|coin| spends.get(coin));
            running.note(spend);
            self.give(id, SettlementInput::Mempool(spend.cloned())).await;
        }
    }

    /// A block of the best chain, of which only transactions count that [`Watched`](crate::Watched) is concerned with.
    /// Costs a look-up for each input in it. Call [`Settler::on_tip`] after the last of a run of blocks.
    pub async fn on_block(&mut self, height: u32, block: &Block) {
        self.take_incoming();
        self.void_from(height).await;
        for transaction in &block.txdata {
            for id in self.host.watched().waiting(transaction) {
                self.give(id, SettlementInput::Mined(transaction.clone(), height)).await;
            }
            if self.host.watched().is_early(transaction) {
                self.early.push((height, transaction.clone()));
            }
        }
    }

    /// After a crash the blocks since the last recorded one are told again, and a reorganisation of them is not: what
    /// the store knows of this height and above counts no more.
    async fn void_from(&mut self, height: u32) {
        self.early.retain(|(at, _)| *at < height);
        let stale = |running: &Running| running.mined().is_some_and(|(_, at)| *at >= height);
        let ids: Vec<_> = self.running.iter().filter(|(_, r)| stale(r)).map(|(id, _)| *id).collect();
        for id in ids {
            self.give(id, SettlementInput::Disconnected(height)).await;
        }
    }

    /// Whether the store has every confirmation and reorganisation: only then is it safe to forget the blocks they
    /// came in.
    #[must_use]
    pub fn is_recorded(&mut self) -> bool {
        self.take_incoming();
        let waits = |running: &Running| running.unrecorded;
        self.unread.is_empty() && self.early.is_empty() && !self.running.values().any(waits)
    }

    /// The block at this height and those above it are reorganised out.
    pub async fn on_disconnect(&mut self, height: u32) {
        self.early.retain(|(at, _)| *at < height);
        self.give_all(&SettlementInput::Disconnected(height)).await;
    }

    /// The best chain has this height.
    pub async fn on_tip(&mut self, height: u32) {
        self.give_all(&SettlementInput::Tip(height)).await;
    }

    /// Time passed. Returns when the next call is due at the latest, if nothing else happens.
    pub async fn tick(&mut self) -> Option<Timestamp> {
        self.give_all(&SettlementInput::Tick).await;
        self.running.values().filter_map(|running| running.wake).min()
    }

    async fn give_all(&mut self, input: &SettlementInput) {
        for id in self.ids() {
            self.give(id, input.clone()).await;
        }
    }

    fn ids(&mut self) -> Vec<ExchangeId> {
        self.take_incoming();
        self.running.keys().copied().collect()
    }

    fn take_incoming(&mut self) {
        while let Ok((exchange, watches)) = self.incoming.0.try_recv() {
            self.unread.entry(exchange).or_default().extend(watches);
        }
        for (id, watches) in std::mem::take(&mut self.unread) {
            match self.host.store.obligation(id) {
                Ok(Some(obligation)) => self.add(obligation),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, exchange = id.0, "cannot read what an exchange owes");
                    self.unread.insert(id, watches);
                }
            }
        }
        let watched = self.host.watched();
        self.early.retain(|(_, transaction)| watched.is_early(transaction));
    }

    /// Only we write confirmations, so what we had of an obligation is newer than what `obligation` was read with. A
    /// block that came after the exchange had looked at the chain, and before it was admitted, is looked at again.
    fn add(&mut self, mut obligation: Obligation) {
        let id = obligation.exchange;
        let mut unrecorded = false;
        if let Some(running) = self.remove(id) {
            obligation.mined = running.mined().cloned();
            unrecorded = running.unrecorded;
        }
        let inputs = obligation.original.input.iter().map(|input| input.previous_output);
        let coins: Vec<_> = inputs.chain(obligation.coins.iter().copied()).collect();
        self.host.watched().add(id, &coins);
        let mut machine = Settlement::new(obligation, self.host.policy.clone());
        for (height, transaction) in &self.early {
            if transaction.input.iter().any(|input| coins.contains(&input.previous_output)) {
                machine.handle_input(self.host.now(), SettlementInput::Mined(transaction.clone(), *height));
                unrecorded = true;
            }
        }
        self.running.insert(id, Running { machine, coins, wake: None, seen: false, unrecorded, ended: None });
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
        let settled = match self.host.store.obligation(id) {
            // It was released since it was read, and what is buried may be just that.
            Ok(Some(current)) if current.payjoin != obligation.payjoin => return self.add(current),
            Ok(_) => settle(&self.host, obligation, outcome).await,
            Err(error) => Err(error),
        };
        match settled {
            Ok(()) => drop(self.remove(id)),
            Err(error) => tracing::error!(%error, exchange = id.0, "an exchange is not settled yet"),
        }
    }
}

impl Running {
    /// Shows the operator that the payer broadcast.
    fn note(&mut self, spend: Option<&Transaction>) {
        let Some(transaction) = spend.filter(|_| !self.seen) else { return };
        if self.machine.obligation().payjoin == Some(transaction.compute_ntxid().into()) {
            self.seen = true;
            tracing::info!(target: "step", step = "broadcast", txid = %transaction.compute_txid());
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
                    let txid = transaction.compute_txid();
                    match host.send(&transaction).await {
                        Ok(Ok(())) => tracing::info!(%txid, exchange = id.0, "broadcast"),
                        Ok(Err(reason)) => {
                            tracing::warn!(%txid, exchange = id.0, reason, "the network refuses a transaction");
                            self.machine.handle_input(host.now(), SettlementInput::Refused);
                        }
                        Err(error) => tracing::warn!(%txid, exchange = id.0, %error, "not broadcast"),
                    }
                }
                SettlementOutput::RecordMined(mined) => {
                    if let Some((transaction, height)) = &mined {
                        let txid = transaction.compute_txid();
                        tracing::info!(target: "step", step = "confirmed", %txid, height);
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
}

/// Channels that can never be are closed before their intents may be taken again (money rule 9).
async fn settle(host: &Host, obligation: &Obligation, outcome: Settled) -> Result<(), StoreError> {
    let id = obligation.exchange;
    if outcome != Settled::Payjoin && !obligation.channels.is_empty() {
        host.funder.forget(id, &obligation.channels).await;
    }
    let freed = host.store.settle(id, outcome).await?;
    host.wallet.unlock(&freed);
    tracing::info!(exchange = id.0, ?outcome, "settled");
    Ok(())
}

impl std::fmt::Debug for Settler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settler").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
