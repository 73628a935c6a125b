//! What the ledger holds, and the changes that belong together.

mod intents;
mod outcome;
mod plain;
mod prune;
mod state;

use std::collections::{BTreeMap, HashMap};

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use payjoin_core::{
    Admission, AdmitOutcome, Call, EntryKind, ExchangeId, ExchangeState, Fact, Fees, FundedChannel, Holder,
    IntentId, IntentRecord, IntentState, Invoice, InvoiceId, LedgerError, Obligation, OriginalId, Paid,
    PaymentId, PaymentRecord, Release, SessionKey, Settled, StateWrite, Timestamp, Token, paid_to,
};

use super::peers::Peers;
use super::told::{Listed, Told};

#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) invoices: Vec<Invoice>,
    pub(super) exchanges: BTreeMap<ExchangeId, Exchange>,
    pub(super) last_exchange: u64,
    last_intent: u64,
    seen: HashMap<OutPoint, ExchangeId>,
    pub(super) intents: BTreeMap<IntentId, Intent>,
    pub(super) payments: BTreeMap<PaymentId, PaymentRecord>,
    pub(super) last_payment: u64,
    pub(super) sessions: Vec<Session>,
    pub(super) node: Vec<StateWrite>,
    pub(super) peers: Peers,
    pub(super) wallet: Vec<Vec<u8>>,
    pub(super) told: Told,
    /// Codes by payment hash, and whether they were paid over Lightning.
    pub(super) lightning: HashMap<[u8; 32], (InvoiceId, bool)>,
    pub(super) tokens: BTreeMap<String, Token>,
    /// Calls by token and key, with their answers.
    pub(super) calls: HashMap<([u8; 32], String), (Call, Option<String>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Exchange {
    invoice: Invoice,
    original_id: OriginalId,
    original: Transaction,
    pub(super) state: ExchangeState,
    pub(super) proposal: Option<String>,
    payjoin: Option<Txid>,
    pub(super) channels: Vec<FundedChannel>,
    reason: Option<String>,
    partitions: Option<u32>,
    pub(super) offered: bool,
    pub(super) locks: Vec<OutPoint>,
    pub(super) fallback_at: Timestamp,
    fees: Fees,
    pub(super) signed: Option<Transaction>,
    pub(super) mined: Option<(Transaction, u32)>,
    pub(super) settled: Option<Settled>,
    settled_at: Option<Timestamp>,
    /// Its transactions were dropped. For those who ask they still are there: only ids are shown.
    is_pruned: bool,
    plain: Option<Amount>,
    /// What the Original pays the code.
    amount: Option<Amount>,
    saved: Option<Amount>,
    pub(super) created: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct Intent {
    pub(super) record: IntentRecord,
    pub(super) failures: u32,
    exchange: Option<ExchangeId>,
    closing: Option<Txid>,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) key: SessionKey,
    pub(super) events: Vec<String>,
    pub(super) closed: bool,
}

impl Exchange {
    pub(super) fn is_at(&self, invoice: &InvoiceId) -> bool {
        self.invoice.id == *invoice
    }

    /// Admitted, with nothing but its Original.
    fn new(
        invoice: Invoice,
        original_id: OriginalId,
        original: Transaction,
        created: Timestamp,
        fallback_at: Timestamp,
    ) -> Self {
        Self {
            invoice,
            original_id,
            original,
            state: ExchangeState::Admitted,
            proposal: None,
            payjoin: None,
            channels: Vec::new(),
            reason: None,
            partitions: None,
            offered: false,
            locks: Vec::new(),
            fallback_at,
            fees: Fees::default(),
            signed: None,
            mined: None,
            settled: None,
            settled_at: None,
            is_pruned: false,
            plain: None,
            amount: None,
            saved: None,
            created,
        }
    }
}

impl Exchange {
    pub(super) fn is_own(&self) -> bool {
        self.original.input.is_empty()
    }
}

impl Data {
    pub(super) fn of(&self, original: &OriginalId) -> Option<(ExchangeId, &Exchange)> {
        let mut exchanges = self.exchanges.iter();
        exchanges
            .find(|(_, exchange)| exchange.original_id == *original)
            .map(|(id, exchange)| (*id, exchange))
    }

    pub(super) fn at(&self, invoice: &InvoiceId) -> impl Iterator<Item = &Exchange> {
        self.exchanges.values().filter(move |exchange| exchange.is_at(invoice))
    }

    pub(super) fn admit(
        &mut self,
        id: ExchangeId,
        admission: &Admission,
    ) -> Result<AdmitOutcome, LedgerError> {
        let earlier = self.of(&admission.original_id).map(|(id, exchange)| (id, exchange.state));
        match earlier {
            None => {}
            Some((known, ExchangeState::Failed)) if known == id => {}
            Some((known, ExchangeState::Failed | ExchangeState::Admitted)) => {
                return Err(LedgerError::WrongState(known));
            }
            Some(_) => return Ok(AdmitOutcome::Seen),
        }
        if self.is_claimed(&admission.invoice) {
            return Ok(AdmitOutcome::Paid);
        }
        let inputs = || admission.original.input.iter().map(|input| input.previous_output);
        if inputs().any(|input| self.seen.get(&input).is_some_and(|by| *by != id)) {
            return Ok(AdmitOutcome::Seen);
        }
        let taken = |coin: &&OutPoint| {
            let mut others = self.exchanges.values().filter(|other| other.invoice.id != admission.invoice);
            others.any(|other| other.locks.contains(coin))
        };
        if let Some(coin) = admission.coins.iter().find(taken) {
            return Err(LedgerError::CoinLocked(*coin));
        }
        let exchange = self.admitted(id, admission)?;
        self.exchanges.insert(id, exchange);
        self.seen.extend(inputs().map(|input| (input, id)));
        self.take(id, &admission.intents, admission.height)?;
        match admission.is_own() {
            true => self.seen.extend(admission.coins.iter().map(|coin| (*coin, id))),
            false => self.list(Listed::Exchange(id), admission.now),
        }
        let txid = Some(admission.original.compute_txid());
        self.tell(Fact { txid, ..self.of_exchange(EntryKind::OriginalReceived, id) });
        Ok(AdmitOutcome::Admitted)
    }

    fn take(&mut self, id: ExchangeId, intents: &[IntentId], height: u32) -> Result<(), LedgerError> {
        for intent in intents {
            match self.intents.get_mut(intent) {
                Some(Intent { record, exchange, .. })
                    if matches!(record.state, IntentState::Queued { .. }) =>
                {
                    (record.state, *exchange) = (IntentState::Negotiating, Some(id));
                    self.peers.take(record.spec.peer.node_id(), (id, *intent), height);
                }
                _ => return Err(LedgerError::NotQueued(*intent)),
            }
        }
        Ok(())
    }

    /// The earlier deadline of an exchange that failed holds.
    fn admitted(&self, id: ExchangeId, admission: &Admission) -> Result<Exchange, LedgerError> {
        let (locks, state) = (admission.coins.clone(), ExchangeState::Admitted);
        if let Some(failed) = self.exchanges.get(&id) {
            let fallback_at = failed.fallback_at.min(admission.fallback_at);
            return Ok(Exchange { state, locks, fallback_at, reason: None, ..failed.clone() });
        }
        let invoice = self.invoices.iter().find(|invoice| invoice.id == admission.invoice).cloned();
        let missing = || LedgerError::Conflict(format!("no invoice {}", admission.invoice));
        let (original_id, original) = (admission.original_id.clone(), admission.original.clone());
        let (created, fallback_at) = (admission.now, admission.fallback_at);
        let mut exchange =
            Exchange::new(invoice.ok_or_else(missing)?, original_id, original, created, fallback_at);
        (exchange.locks, exchange.fees.original) = (locks, admission.fee);
        exchange.amount = Some(paid_to(&exchange.invoice.script, &exchange.original));
        Ok(exchange)
    }

    pub(super) fn exchange_of(&self, intent: IntentId) -> Option<ExchangeId> {
        self.intents.get(&intent)?.exchange
    }

    fn exchange(&mut self, id: ExchangeId, states: &[ExchangeState]) -> Result<&mut Exchange, LedgerError> {
        let exchange = self.exchanges.get_mut(&id).filter(|exchange| states.contains(&exchange.state));
        exchange.ok_or(LedgerError::WrongState(id))
    }

    pub(super) fn release(&mut self, id: ExchangeId, release: &Release) -> Result<(), LedgerError> {
        let exchange = self.exchange(id, &[ExchangeState::Admitted])?;
        if let Some(coin) = release.coins.iter().find(|coin| !exchange.locks.contains(coin)) {
            return Err(LedgerError::CoinLocked(*coin));
        }
        exchange.state = ExchangeState::Released;
        exchange.proposal = Some(release.proposal.clone());
        exchange.payjoin = Some(release.txid);
        exchange.fees.payjoin = release.fee;
        exchange.channels.clone_from(&release.channels);
        exchange.reason.clone_from(&release.reason);
        exchange.partitions = release.partitions;
        exchange.signed = release.signed.as_deref().cloned().or(exchange.signed.take());
        exchange.offered = !release.coins.is_empty();
        exchange.locks.clone_from(&release.coins);
        exchange.fallback_at = release.fallback_at;
        for channel in &release.channels {
            match self.intents.get_mut(&channel.intent) {
                Some(intent)
                    if intent.exchange == Some(id) && intent.record.state == IntentState::Negotiating =>
                {
                    intent.record.state = IntentState::Released { txid: release.txid, vout: channel.vout };
                    intent.failures = 0;
                    self.peers.release((id, channel.intent));
                }
                _ => return Err(LedgerError::NotQueued(channel.intent)),
            }
        }
        self.requeue(id, release.reason.as_deref(), false);
        let (txid, detail) = (release.is_final.then_some(release.txid), release.reason.clone());
        self.tell(Fact { txid, detail, ..self.of_exchange(EntryKind::ProposalSent, id) });
        Ok(())
    }

    pub(super) fn fail(&mut self, id: ExchangeId, reason: &str) -> Result<(), LedgerError> {
        let exchange = self.exchange(id, &[ExchangeState::Admitted])?;
        (exchange.state, exchange.reason) = (ExchangeState::Failed, Some(reason.to_owned()));
        if exchange.is_own() {
            (exchange.state, exchange.settled) = (ExchangeState::Settled, Some(Settled::Gone));
            exchange.settled_at = Some(exchange.created);
        }
        exchange.locks.clear();
        self.requeue(id, Some(reason), false);
        let detail = Some(reason.to_owned());
        self.tell(Fact { detail, ..self.of_exchange(EntryKind::ExchangeFailed, id) });
        Ok(())
    }

    fn requeue(&mut self, id: ExchangeId, reason: Option<&str>, released_too: bool) {
        for intent in self.intents.values_mut().filter(|intent| intent.exchange == Some(id)) {
            let lost = match intent.record.state {
                IntentState::Negotiating => true,
                IntentState::Released { .. } | IntentState::Confirming { .. } => released_too,
                _ => false,
            };
            if lost {
                intent.record.state = IntentState::Queued { reason: reason.map(str::to_owned) };
                (intent.exchange, intent.closing) = (None, None);
            }
        }
    }

    pub(super) fn owed(&self, id: ExchangeId) -> Option<Obligation> {
        let exchange = self.exchanges.get(&id).filter(|exchange| exchange.state != ExchangeState::Settled)?;
        let Invoice { script, amount, .. } = &exchange.invoice;
        let plain = exchange.state == ExchangeState::Plain;
        let amount = if plain { Some(Amount::ZERO) } else { *amount };
        Some(Obligation {
            exchange: id,
            original: exchange.original.clone(),
            payment: Invoice::owed(script.clone(), amount, &exchange.original),
            plain,
            payjoin: exchange.payjoin,
            fees: exchange.fees,
            coins: exchange.locks.clone(),
            channels: exchange.channels.clone(),
            fallback_at: exchange.fallback_at,
            signed: exchange.signed.clone(),
            mined: exchange.mined.clone(),
        })
    }

    pub(super) fn holds(&self) -> Vec<(Holder, Vec<OutPoint>)> {
        let exchanges =
            self.exchanges.iter().map(|(id, exchange)| (Holder::Exchange(*id), exchange.locks.clone()));
        let payments = self.payments.values().filter(|payment| !payment.settled).map(|payment| {
            let inputs = payment.original.unsigned_tx.input.iter();
            (Holder::Payment(payment.id), inputs.map(|input| input.previous_output).collect())
        });
        exchanges.chain(payments).filter(|(_, coins)| !coins.is_empty()).collect()
    }

    pub(super) fn record_paid(&mut self, payment: PaymentId, paid: &Paid) {
        let Some(record) = self.payments.get_mut(&payment) else { return };
        let before = record.paid.replace(paid.clone()).map(|paid| paid.transaction.compute_txid());
        let (txid, detail) = (Some(paid.transaction.compute_txid()), paid.fallback.clone());
        if before != txid {
            self.tell(Fact { payment: Some(payment), txid, detail, ..Fact::new(EntryKind::SendBroadcast) });
        }
    }

    pub(super) fn settle_payment(&mut self, payment: PaymentId) {
        let Some(record) = self.payments.get_mut(&payment).filter(|record| !record.settled) else { return };
        record.settled = true;
        let txid = record.paid.as_ref().map(|paid| paid.transaction.compute_txid());
        self.tell(Fact { payment: Some(payment), txid, ..Fact::new(EntryKind::SendSettled) });
    }

    pub(super) fn session(&mut self, key: &SessionKey) -> &mut Session {
        let at = self.sessions.iter().position(|session| session.key == *key).unwrap_or_else(|| {
            self.sessions.push(Session { key: key.clone(), events: Vec::new(), closed: false });
            self.sessions.len() - 1
        });
        &mut self.sessions[at]
    }
}
