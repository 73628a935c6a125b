//! What the chain says of an exchange, and what is told of it.

use bitcoin::{Transaction, Txid};
use payjoin_core::{
    EntryKind, ExchangeId, ExchangeRecord, ExchangeState, Fact, IntentState, LedgerError, Obligation,
    Settled, Timestamp,
};

use super::Data;

impl Data {
    /// What happened to an exchange, with the invoice that it pays.
    pub(in crate::memory) fn of_exchange(&self, kind: EntryKind, id: ExchangeId) -> Fact {
        let exchange = self.exchanges.get(&id);
        let invoice = exchange.map(|exchange| exchange.invoice.id.clone());
        let amount = exchange.and_then(|exchange| exchange.plain.or(exchange.amount));
        Fact { invoice, amount, exchange: Some(id), ..Fact::new(kind) }
    }

    fn tell_mined(&mut self, before: &Obligation, mined: Option<&Transaction>) {
        let id = before.exchange;
        let known = before.mined.as_ref().map(|(transaction, _)| transaction.compute_txid());
        let now = mined.map(Transaction::compute_txid);
        if known == now {
            return;
        }
        if known.is_some() {
            self.tell(Fact { txid: known, ..self.of_exchange(EntryKind::PaymentUnconfirmed, id) });
        }
        let Some(mined) = mined else { return };
        let ntxid = mined.compute_ntxid();
        let detail = match before.original.compute_ntxid() == ntxid {
            _ if before.payjoin == Some(Txid::from(ntxid)) => "payjoin",
            true if before.plain => "plain",
            true => "original",
            false => "other",
        };
        let detail = Some(detail.to_owned());
        self.tell(Fact { txid: now, detail, ..self.of_exchange(EntryKind::PaymentConfirmed, id) });
    }

    pub(in crate::memory) fn settle(
        &mut self,
        id: ExchangeId,
        outcome: Settled,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        use ExchangeState::{Failed, Plain, Released};
        let exchange = self.exchange(id, &[Failed, Released, Plain])?;
        (exchange.state, exchange.settled) = (ExchangeState::Settled, Some(outcome));
        exchange.settled_at = Some(now);
        exchange.locks.clear();
        match outcome {
            Settled::Payjoin => {
                self.peers.buried(id);
                self.each_of(id, |state| {
                    if let IntentState::Released { txid, vout } = *state {
                        *state = IntentState::Confirming { txid, vout };
                    }
                });
            }
            Settled::Original | Settled::Conflict => self.requeue(id, Some("the payjoin lost"), true),
            Settled::Plain | Settled::Gone => {}
        }
        let mined = self.exchanges.get(&id).and_then(|exchange| exchange.mined.as_ref());
        let txid = mined.map(|(mined, _)| mined.compute_txid());
        let detail = Some(format!("{outcome:?}").to_lowercase());
        self.tell(Fact { txid, detail, ..self.of_exchange(EntryKind::of_outcome(outcome), id) });
        Ok(())
    }

    pub(in crate::memory) fn record_mined(
        &mut self,
        id: ExchangeId,
        mined: Option<(Transaction, u32)>,
    ) -> Result<(), LedgerError> {
        let before = self.owed(id);
        let exchange = self.exchanges.get_mut(&id).ok_or(LedgerError::WrongState(id))?;
        let payjoin = exchange.payjoin;
        let ntxid = mined.as_ref().map(|(transaction, _)| Txid::from(transaction.compute_ntxid()));
        let in_block = ntxid.is_some() && ntxid == payjoin;
        let saves = |(payjoin, _): &(Transaction, u32)| exchange.fees.saved(exchange.channels.len(), payjoin);
        exchange.saved = mined.as_ref().filter(|_| in_block).map(saves);
        exchange.mined.clone_from(&mined);
        exchange.pay_plainly();
        if exchange.mined.is_some() && exchange.channels.is_empty() && !exchange.is_own() {
            self.hurry();
        }
        self.each_of(id, |state| match *state {
            IntentState::Released { txid, vout } if in_block => {
                *state = IntentState::Confirming { txid, vout }
            }
            IntentState::Confirming { txid, vout } if !in_block => {
                *state = IntentState::Released { txid, vout }
            }
            _ => {}
        });
        if let Some(before) = before {
            self.tell_mined(&before, mined.as_ref().map(|(mined, _)| mined));
        }
        Ok(())
    }

    pub(in crate::memory) fn record_signed(
        &mut self,
        id: ExchangeId,
        payjoin: &Transaction,
    ) -> Result<(), LedgerError> {
        let exchange = self.exchanges.get_mut(&id).ok_or(LedgerError::WrongState(id))?;
        if exchange.signed.replace(payjoin.clone()).is_none() {
            let (txid, detail) = (Some(payjoin.compute_txid()), Some("payjoin".to_owned()));
            self.tell(Fact { txid, detail, ..self.of_exchange(EntryKind::PaymentSeen, id) });
        }
        Ok(())
    }

    fn each_of(&mut self, id: ExchangeId, change: impl Fn(&mut IntentState)) {
        let of_it = self.intents.values_mut().filter(|intent| intent.exchange == Some(id));
        of_it.for_each(|intent| change(&mut intent.record.state));
    }

    pub(in crate::memory) fn record(&self, id: ExchangeId) -> Option<ExchangeRecord> {
        let exchange = self.exchanges.get(&id)?;
        let mined = exchange.mined.as_ref().map(|(transaction, _)| transaction.clone());
        let known = [&exchange.signed, &mined];
        Some(ExchangeRecord {
            id,
            invoice: exchange.invoice.id.clone(),
            state: exchange.state,
            original_txid: exchange.original.compute_txid(),
            payjoin_txid: exchange
                .payjoin
                .and_then(|id| ExchangeRecord::settled_txid(id, &exchange.original, known)),
            mined_txid: mined.as_ref().map(Transaction::compute_txid),
            own: exchange.is_own(),
            channels: exchange.channels.clone(),
            partitions: exchange.partitions,
            reason: exchange
                .reason
                .clone()
                .or_else(|| ExchangeRecord::underpaid(exchange.plain, exchange.invoice.amount)),
            plain: exchange.plain,
            amount: exchange.plain.or(exchange.amount),
            fee: ExchangeRecord::paid_to_miners(exchange.payjoin.is_some(), exchange.fees, exchange.settled),
            saved: exchange.saved,
            mined_height: exchange.mined.as_ref().map(|(_, height)| *height),
            fallback_at: exchange.fallback_at,
            created: exchange.created,
            settled: exchange.settled,
        })
    }
}
