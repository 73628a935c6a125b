//! The store as the ledger of a receiver.

use async_trait::async_trait;
use bitcoin::{FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, Txid};
use payjoin_core::{
    Admission, AdmitOutcome, ChannelEnd, ChannelLimits, ChannelSpec, ExchangeId, ExchangeRecord,
    ExchangeState, Exchanges, Holder, IntentId, IntentRecord, Intents, Invoice, InvoiceId, LedgerError,
    Obligation, OriginalId, Paid, PaymentId, PaymentRecord, Payments, PlainPayment, Release, SessionKey,
    SessionKind, Sessions, Settled, StateWrite, Timestamp,
};

use super::{Store, exchanges, intents, invoices, kv, locks, payments, sessions};

#[async_trait]
impl Exchanges for Store {
    async fn insert_invoice(&self, invoice: &Invoice) -> Result<(), LedgerError> {
        let invoice = invoice.clone();
        self.write(move |db| invoices::insert(db, &invoice)).await
    }

    async fn invoice(&self, id: &InvoiceId) -> Result<Option<Invoice>, LedgerError> {
        self.read(|db| invoices::find(db, id))
    }

    async fn invoices(&self, limit: u32) -> Result<Vec<Invoice>, LedgerError> {
        self.read(|db| invoices::latest(db, limit))
    }

    async fn recall(&self, original: &OriginalId) -> Result<Option<String>, LedgerError> {
        self.read(|db| exchanges::recall(db, original))
    }

    async fn failed_exchange(&self, original: &OriginalId) -> Result<Option<ExchangeId>, LedgerError> {
        self.read(|db| exchanges::failed(db, original))
    }

    fn new_exchange(&self) -> ExchangeId {
        ExchangeId(self.next_exchange())
    }

    async fn admit(&self, exchange: ExchangeId, admission: &Admission) -> Result<AdmitOutcome, LedgerError> {
        let admission = admission.clone();
        self.write(move |db| exchanges::admit(db, exchange, &admission)).await
    }

    async fn release(
        &self,
        exchange: ExchangeId,
        release: &Release,
        node: Vec<StateWrite>,
    ) -> Result<(), LedgerError> {
        let release = release.clone();
        self.write(move |db| {
            node.iter().try_for_each(|write| kv::put(db, write))?;
            exchanges::write_release(db, exchange, &release)
        })
        .await
    }

    async fn offer(
        &self,
        exchange: ExchangeId,
        admission: &Admission,
        release: &Release,
    ) -> Result<AdmitOutcome, LedgerError> {
        let (admission, release) = (admission.clone(), release.clone());
        self.write(move |db| {
            let outcome = exchanges::admit(db, exchange, &admission)?;
            if outcome == AdmitOutcome::Admitted {
                exchanges::write_release(db, exchange, &release)?;
            }
            Ok(outcome)
        })
        .await
    }

    async fn fail(&self, exchange: ExchangeId, reason: &str) -> Result<(), LedgerError> {
        let reason = reason.to_owned();
        self.write(move |db| exchanges::fail(db, exchange, &reason)).await
    }

    async fn standing(
        &self,
        exchange: ExchangeId,
    ) -> Result<Option<(ExchangeState, Vec<OutPoint>)>, LedgerError> {
        self.write(move |db| exchanges::standing(db, exchange)).await
    }

    async fn settle(
        &self,
        exchange: ExchangeId,
        outcome: Settled,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.write(move |db| exchanges::settle(db, exchange, outcome, now)).await
    }

    async fn record_plain(
        &self,
        exchange: ExchangeId,
        plain: &PlainPayment,
    ) -> Result<Option<ExchangeId>, LedgerError> {
        let plain = plain.clone();
        self.write(move |db| exchanges::record_plain(db, exchange, &plain)).await
    }

    async fn codes(&self, since: Timestamp) -> Result<Vec<(ScriptBuf, InvoiceId)>, LedgerError> {
        self.read(|db| invoices::codes(db, since))
    }

    async fn record_mined(
        &self,
        exchange: ExchangeId,
        mined: Option<(Transaction, u32)>,
    ) -> Result<(), LedgerError> {
        self.write(move |db| exchanges::record_mined(db, exchange, mined.as_ref())).await
    }

    async fn record_signed(&self, exchange: ExchangeId, payjoin: &Transaction) -> Result<(), LedgerError> {
        let payjoin = payjoin.clone();
        self.write(move |db| exchanges::record_signed(db, exchange, &payjoin)).await
    }

    async fn recover(&self) -> Result<Vec<ExchangeId>, LedgerError> {
        self.write(exchanges::recover).await
    }

    async fn offers(&self, invoice: &InvoiceId) -> Result<u32, LedgerError> {
        self.read(|db| exchanges::offers(db, invoice))
    }

    async fn offered_coins(&self, invoice: &InvoiceId) -> Result<Vec<OutPoint>, LedgerError> {
        self.read(|db| locks::offered(db, invoice))
    }

    async fn holds(&self) -> Result<Vec<(Holder, Vec<OutPoint>)>, LedgerError> {
        self.read(locks::holds)
    }

    async fn obligations(&self) -> Result<Vec<Obligation>, LedgerError> {
        self.read(exchanges::obligations)
    }

    async fn obligation(&self, exchange: ExchangeId) -> Result<Option<Obligation>, LedgerError> {
        self.read(|db| exchanges::owed(db, exchange))
    }

    async fn lost(&self, payjoins: &[Txid], until: u32) -> Result<Vec<Txid>, LedgerError> {
        self.read(|db| exchanges::lost(db, payjoins, until))
    }

    async fn prune(&self, before: Timestamp, most: u32) -> Result<u32, LedgerError> {
        self.write(move |db| exchanges::prune(db, before, most)).await
    }

    async fn exchanges(
        &self,
        before: Option<ExchangeId>,
        limit: u32,
    ) -> Result<Vec<ExchangeRecord>, LedgerError> {
        self.read(|db| exchanges::latest(db, before, limit))
    }

    async fn exchanges_at(&self, invoice: &InvoiceId) -> Result<Vec<ExchangeRecord>, LedgerError> {
        self.read(|db| exchanges::at(db, invoice))
    }

    async fn exchange(&self, exchange: ExchangeId) -> Result<Option<ExchangeRecord>, LedgerError> {
        self.read(|db| exchanges::find(db, exchange))
    }
}

#[async_trait]
impl Intents for Store {
    async fn queue_intent(
        &self,
        spec: ChannelSpec,
        limits: ChannelLimits,
        open_by: Option<Timestamp>,
    ) -> Result<IntentId, LedgerError> {
        self.write(move |db| intents::queue(db, &spec, &limits, open_by)).await
    }

    async fn due_intents(&self, now: Timestamp) -> Result<Vec<IntentId>, LedgerError> {
        self.read(|db| intents::due(db, now))
    }

    async fn explain_intent(&self, intent: IntentId, reason: &str) -> Result<(), LedgerError> {
        let reason = reason.to_owned();
        self.write(move |db| intents::explain(db, intent, &reason)).await
    }

    async fn cancel_intent(&self, intent: IntentId, now: Timestamp) -> Result<(), LedgerError> {
        self.write(move |db| intents::cancel(db, intent, now)).await
    }

    async fn intents(&self) -> Result<Vec<IntentRecord>, LedgerError> {
        self.read(intents::all)
    }

    async fn intent(&self, intent: IntentId) -> Result<Option<IntentRecord>, LedgerError> {
        self.read(|db| intents::find(db, intent))
    }

    async fn buried_intents(&self) -> Result<Vec<(IntentId, OutPoint)>, LedgerError> {
        self.read(intents::all_buried)
    }

    async fn open_intent(&self, intent: IntentId) -> Result<(), LedgerError> {
        self.write(move |db| intents::open(db, intent)).await
    }

    async fn close_intent(
        &self,
        funding: OutPoint,
        end: &ChannelEnd,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let end = end.clone();
        self.write(move |db| intents::close(db, funding, &end, now)).await
    }

    async fn record_closing(&self, funding: OutPoint, closing: Txid) -> Result<(), LedgerError> {
        self.write(move |db| intents::record_closing(db, funding, closing)).await
    }

    async fn fundings(&self, since: Timestamp) -> Result<Vec<OutPoint>, LedgerError> {
        self.read(|db| intents::fundings(db, since))
    }
}

#[async_trait]
impl Payments for Store {
    fn new_payment(&self) -> PaymentId {
        PaymentId(self.next_payment())
    }

    async fn insert_payment(
        &self,
        payment: PaymentId,
        uri: &str,
        original: &Psbt,
        fee_rate: FeeRate,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let (uri, original) = (uri.to_owned(), original.to_string());
        self.write(move |db| payments::insert(db, payment, (&uri, &original), fee_rate, now)).await
    }

    async fn record_paid(&self, payment: PaymentId, paid: &Paid) -> Result<(), LedgerError> {
        let paid = paid.clone();
        self.write(move |db| payments::record_paid(db, payment, &paid)).await
    }

    async fn settle_payment(&self, payment: PaymentId) -> Result<(), LedgerError> {
        self.write(move |db| payments::settle(db, payment)).await
    }

    async fn payment(&self, payment: PaymentId) -> Result<Option<PaymentRecord>, LedgerError> {
        self.read(|db| payments::find(db, payment))
    }

    async fn payment_of(&self, uri: &str) -> Result<Option<PaymentRecord>, LedgerError> {
        self.read(|db| payments::of(db, uri))
    }

    async fn unsettled_payments(&self) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.read(payments::unsettled)
    }
}

#[async_trait]
impl Sessions for Store {
    async fn append(&self, session: &SessionKey, event: String) -> Result<(), LedgerError> {
        let session = session.clone();
        self.write(move |db| sessions::append(db, &session, &event, true)).await
    }

    async fn close(&self, session: &SessionKey, event: String) -> Result<(), LedgerError> {
        let session = session.clone();
        self.write(move |db| sessions::append(db, &session, &event, false)).await
    }

    async fn events(&self, session: &SessionKey) -> Result<Vec<String>, LedgerError> {
        self.read(|db| sessions::events(db, session))
    }

    async fn open_sessions(&self, kind: SessionKind) -> Result<Vec<String>, LedgerError> {
        self.read(|db| sessions::open(db, kind))
    }
}
