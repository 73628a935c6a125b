//! A ledger in memory, for tests: it passes the [contract](crate::ledger_contract), and nothing in it is durable.

mod book;
mod claims;
mod data;
mod intents;
mod journal;
mod peers;
mod state;
mod tokens;
mod told;

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bitcoin::{FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, Txid};
use payjoin_core::{
    Admission, AdmitOutcome, EntryKind, ExchangeId, ExchangeRecord, ExchangeState, Exchanges, Fact, Holder,
    Invoice, InvoiceId, LedgerError, Obligation, OriginalId, Paid, PaymentId, PaymentRecord, Payments,
    PlainPayment, Release, SessionKey, SessionKind, Sessions, Settled, StateWrite, Timestamp,
};

use self::data::{Data, Session};
use self::told::Listed;

/// Everything that [`Ledger`](payjoin_core::Ledger) keeps.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<Data>);

impl MemoryLedger {
    fn read<T>(&self, work: impl FnOnce(&Data) -> T) -> Result<T, LedgerError> {
        Ok(work(&self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// All or, with the error, nothing.
    fn write<T>(&self, work: impl FnOnce(&mut Data) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let mut data = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = data.clone();
        let value = work(&mut changed)?;
        *data = changed;
        Ok(value)
    }

    fn change(&self, work: impl FnOnce(&mut Data)) -> Result<(), LedgerError> {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn count(&self, counter: impl FnOnce(&mut Data) -> &mut u64) -> u64 {
        let mut data = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = counter(&mut data);
        *counter += 1;
        *counter
    }
}

#[async_trait]
impl Exchanges for MemoryLedger {
    async fn insert_invoice(&self, invoice: &Invoice) -> Result<(), LedgerError> {
        self.write(|data| match data.invoices.iter().any(|known| known.id == invoice.id) {
            true => Err(LedgerError::Conflict(format!("invoice {} exists", invoice.id))),
            false => {
                data.invoices.push(invoice.clone());
                let (id, amount) = (Some(invoice.id.clone()), invoice.amount);
                if invoice.is_code() {
                    data.tell(Fact { invoice: id, amount, ..Fact::new(EntryKind::CodeCreated) });
                }
                Ok(())
            }
        })
    }

    async fn invoice(&self, id: &InvoiceId) -> Result<Option<Invoice>, LedgerError> {
        self.read(|data| data.invoices.iter().find(|invoice| invoice.id == *id).cloned())
    }

    async fn invoices(&self, limit: u32) -> Result<Vec<Invoice>, LedgerError> {
        self.read(|data| data.invoices.iter().rev().take(limit as usize).cloned().collect())
    }

    async fn recall(&self, original: &OriginalId) -> Result<Option<String>, LedgerError> {
        self.read(|data| data.of(original).and_then(|(_, exchange)| exchange.proposal.clone()))
    }

    async fn failed_exchange(&self, original: &OriginalId) -> Result<Option<ExchangeId>, LedgerError> {
        let failed = |data: &Data| {
            data.of(original)
                .filter(|(_, exchange)| exchange.state == ExchangeState::Failed)
                .map(|(id, _)| id)
        };
        self.read(failed)
    }

    fn new_exchange(&self) -> ExchangeId {
        ExchangeId(self.count(|data| &mut data.last_exchange))
    }

    async fn admit(&self, exchange: ExchangeId, admission: &Admission) -> Result<AdmitOutcome, LedgerError> {
        self.write(|data| data.admit(exchange, admission))
    }

    async fn release(
        &self,
        exchange: ExchangeId,
        release: &Release,
        node: Vec<StateWrite>,
    ) -> Result<(), LedgerError> {
        self.write(|data| {
            node.into_iter().for_each(|write| data.put(write));
            data.release(exchange, release)
        })
    }

    async fn offer(
        &self,
        exchange: ExchangeId,
        admission: &Admission,
        release: &Release,
    ) -> Result<AdmitOutcome, LedgerError> {
        self.write(|data| {
            let outcome = data.admit(exchange, admission)?;
            if outcome == AdmitOutcome::Admitted {
                data.release(exchange, release)?;
            }
            Ok(outcome)
        })
    }

    async fn fail(&self, exchange: ExchangeId, reason: &str) -> Result<(), LedgerError> {
        self.write(|data| data.fail(exchange, reason))
    }

    async fn standing(
        &self,
        exchange: ExchangeId,
    ) -> Result<Option<(ExchangeState, Vec<OutPoint>)>, LedgerError> {
        self.read(|data| data.exchanges.get(&exchange).map(|known| (known.state, known.locks.clone())))
    }

    async fn settle(
        &self,
        exchange: ExchangeId,
        outcome: Settled,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.write(|data| data.settle(exchange, outcome, now))
    }

    async fn record_plain(
        &self,
        exchange: ExchangeId,
        plain: &PlainPayment,
    ) -> Result<Option<ExchangeId>, LedgerError> {
        self.write(|data| data.record_plain(exchange, plain))
    }

    async fn codes(&self, since: Timestamp) -> Result<Vec<(ScriptBuf, InvoiceId)>, LedgerError> {
        self.read(|data| {
            let invoices = data.invoices.iter().filter(|invoice| invoice.expires >= since);
            invoices.map(|invoice| (invoice.script.clone(), invoice.id.clone())).collect()
        })
    }

    async fn record_mined(
        &self,
        exchange: ExchangeId,
        mined: Option<(Transaction, u32)>,
    ) -> Result<(), LedgerError> {
        self.write(|data| data.record_mined(exchange, mined))
    }

    async fn record_signed(&self, exchange: ExchangeId, payjoin: &Transaction) -> Result<(), LedgerError> {
        self.write(|data| data.record_signed(exchange, payjoin))
    }

    async fn recover(&self) -> Result<Vec<ExchangeId>, LedgerError> {
        self.write(|data| {
            let admitted = data.exchanges.iter().filter(|(_, known)| known.state == ExchangeState::Admitted);
            let ids: Vec<_> = admitted.map(|(id, _)| *id).collect();
            ids.iter().try_for_each(|id| data.fail(*id, "interrupted"))?;
            Ok(ids)
        })
    }

    async fn offers(&self, invoice: &InvoiceId) -> Result<u32, LedgerError> {
        let offers = |data: &Data| data.at(invoice).filter(|exchange| exchange.offered).count();
        self.read(|data| u32::try_from(offers(data)).unwrap_or(u32::MAX))
    }

    async fn offered_coins(&self, invoice: &InvoiceId) -> Result<Vec<OutPoint>, LedgerError> {
        let mut coins: Vec<_> =
            self.read(|data| data.at(invoice).flat_map(|exchange| exchange.locks.clone()).collect())?;
        coins.sort_unstable();
        coins.dedup();
        Ok(coins)
    }

    async fn holds(&self) -> Result<Vec<(Holder, Vec<OutPoint>)>, LedgerError> {
        self.read(Data::holds)
    }

    async fn obligations(&self) -> Result<Vec<Obligation>, LedgerError> {
        self.read(|data| data.exchanges.keys().filter_map(|id| data.owed(*id)).collect())
    }

    async fn obligation(&self, exchange: ExchangeId) -> Result<Option<Obligation>, LedgerError> {
        self.read(|data| data.owed(exchange))
    }

    async fn lost(&self, payjoins: &[Txid], until: u32) -> Result<Vec<Txid>, LedgerError> {
        self.read(|data| payjoins.iter().copied().filter(|payjoin| data.is_lost(*payjoin, until)).collect())
    }

    async fn prune(&self, before: Timestamp, most: u32) -> Result<u32, LedgerError> {
        self.write(|data| Ok(data.prune(before, most as usize)))
    }

    async fn exchanges(
        &self,
        before: Option<ExchangeId>,
        limit: u32,
    ) -> Result<Vec<ExchangeRecord>, LedgerError> {
        self.read(|data| {
            let ids = data.exchanges.keys().rev().filter(|id| before.is_none_or(|before| **id < before));
            ids.take(limit as usize).filter_map(|id| data.record(*id)).collect()
        })
    }

    async fn exchanges_at(&self, invoice: &InvoiceId) -> Result<Vec<ExchangeRecord>, LedgerError> {
        self.read(|data| {
            let here = data.exchanges.iter().rev().filter(|(_, exchange)| exchange.is_at(invoice));
            here.filter_map(|(id, _)| data.record(*id)).collect()
        })
    }

    async fn exchange(&self, exchange: ExchangeId) -> Result<Option<ExchangeRecord>, LedgerError> {
        self.read(|data| data.record(exchange))
    }
}

#[async_trait]
impl Payments for MemoryLedger {
    fn new_payment(&self) -> PaymentId {
        PaymentId(self.count(|data| &mut data.last_payment))
    }

    async fn insert_payment(
        &self,
        payment: PaymentId,
        uri: &str,
        original: &Psbt,
        fee_rate: FeeRate,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let (uri, original) = (uri.to_owned(), original.clone());
        self.write(|data| match data.payments.values().any(|known| known.uri == uri) {
            true => Err(LedgerError::Conflict("this code is or was paid".to_owned())),
            false => {
                let record =
                    PaymentRecord { id: payment, uri, original, fee_rate, paid: None, settled: false };
                data.payments.insert(payment, record);
                data.list(Listed::Send(payment), now);
                data.tell(Fact { payment: Some(payment), ..Fact::new(EntryKind::SendCreated) });
                Ok(())
            }
        })
    }

    async fn record_paid(&self, payment: PaymentId, paid: &Paid) -> Result<(), LedgerError> {
        self.change(|data| data.record_paid(payment, paid))
    }

    async fn settle_payment(&self, payment: PaymentId) -> Result<(), LedgerError> {
        self.change(|data| data.settle_payment(payment))
    }

    async fn payment(&self, payment: PaymentId) -> Result<Option<PaymentRecord>, LedgerError> {
        self.read(|data| data.payments.get(&payment).cloned())
    }

    async fn payment_of(&self, uri: &str) -> Result<Option<PaymentRecord>, LedgerError> {
        self.read(|data| data.payments.values().find(|payment| payment.uri == uri).cloned())
    }

    async fn unsettled_payments(&self) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.read(|data| data.payments.values().filter(|payment| !payment.settled).cloned().collect())
    }
}

#[async_trait]
impl Sessions for MemoryLedger {
    async fn append(&self, session: &SessionKey, event: String) -> Result<(), LedgerError> {
        self.change(|data| data.session(session).events.push(event))
    }

    async fn close(&self, session: &SessionKey, event: String) -> Result<(), LedgerError> {
        self.write(|data| {
            let session = data.session(session);
            session.events.push(event);
            session.closed = true;
            Ok(())
        })
    }

    async fn events(&self, session: &SessionKey) -> Result<Vec<String>, LedgerError> {
        let events =
            |data: &Data| data.sessions.iter().find(|known| known.key == *session).map(|s| s.events.clone());
        self.read(|data| events(data).unwrap_or_default())
    }

    async fn open_sessions(&self, kind: SessionKind) -> Result<Vec<String>, LedgerError> {
        let is_open = |session: &&Session| session.key.kind == kind && !session.closed;
        self.read(|data| {
            data.sessions.iter().filter(is_open).map(|session| session.key.name.clone()).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use payjoin_core::Ledger;

    use super::*;

    /// The process that dies takes its handle along, and not the memory.
    struct Kept(Arc<MemoryLedger>);

    #[async_trait]
    impl crate::ledger_contract::Home for Kept {
        async fn open(&self) -> Arc<dyn Ledger> {
            self.0.clone()
        }
    }

    crate::ledger_contract!(Kept(Arc::default()));
}
