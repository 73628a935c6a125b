//! The journal, and the list of everything that moves money.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bitcoin::hex::DisplayHex as _;
use payjoin_core::{
    ClosedChannel, Entry, EntryId, EntryKind, Fact, IntentId, IntentState, Invoice, InvoiceId, Journal,
    LedgerError, LightningEnd, LightningPayment, LightningRecord, Moved, Movement, MovementId, Movements,
    Settled, Timestamp, tame,
};

use super::MemoryLedger;
use super::data::{Data, Exchange};
use super::told::Listed;

/// Nobody tells who waits: it looks so often.
const LOOK: Duration = Duration::from_millis(10);

#[async_trait]
impl Journal for MemoryLedger {
    async fn entries(&self, since: EntryId, limit: u32) -> Result<Vec<Entry>, LedgerError> {
        self.read(|data| {
            let after = data.told.entries.iter().filter(|(id, ..)| *id > since).take(limit as usize);
            after.cloned().map(|(id, time, fact)| data.entry(id, time, fact)).collect()
        })
    }

    async fn last_entry(&self) -> Result<EntryId, LedgerError> {
        self.read(|data| EntryId(data.told.last))
    }

    async fn grown(&self, since: EntryId) {
        while self.read(|data| data.told.last) == Ok(since.0) {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn expire_codes(&self, now: Timestamp) -> Result<u32, LedgerError> {
        self.write(|data| Ok(data.expire_codes(now)))
    }

    async fn prune_journal(&self, before: Timestamp, most: u32) -> Result<u32, LedgerError> {
        self.write(|data| {
            let old = data.told.entries.iter().take(most as usize).take_while(|(_, time, _)| *time < before);
            let old = old.count();
            data.told.entries.drain(..old);
            Ok(u32::try_from(old).unwrap_or(u32::MAX))
        })
    }

    async fn read_until(&self, reader: &str) -> Result<Option<EntryId>, LedgerError> {
        self.read(|data| data.told.readers.iter().find(|(name, _)| name == reader).map(|(_, until)| *until))
    }

    async fn keep_read(&self, reader: &str, until: EntryId) -> Result<(), LedgerError> {
        self.change(|data| {
            data.told.readers.retain(|(name, _)| name != reader);
            data.told.readers.push((reader.to_owned(), until));
        })
    }
}

#[async_trait]
impl Movements for MemoryLedger {
    async fn movements(&self, before: Option<MovementId>, limit: u32) -> Result<Vec<Movement>, LedgerError> {
        self.read(|data| {
            let older = data.told.listed.iter().rev().filter(|(id, ..)| before.is_none_or(|b| *id < b));
            older.take(limit as usize).filter_map(|listed| data.moved(listed)).collect()
        })
    }

    async fn movement(&self, id: MovementId) -> Result<Option<Movement>, LedgerError> {
        self.read(|data| data.told.listed.iter().find(|listed| listed.0 == id).and_then(|at| data.moved(at)))
    }

    async fn begin_lightning(&self, payment: &LightningPayment, now: Timestamp) -> Result<(), LedgerError> {
        self.change(|data| data.begin_lightning(payment, now))
    }

    async fn end_lightning(
        &self,
        hash: [u8; 32],
        end: LightningEnd,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.change(|data| data.end_lightning(hash, end, now))
    }
}

impl Data {
    pub(super) fn tell(&mut self, mut fact: Fact) {
        // An opening of ours is nobody's payment: its channels are told, and nothing else of it.
        if fact.exchange.and_then(|id| self.exchanges.get(&id)).is_some_and(Exchange::is_own) {
            if fact.intent.is_none() {
                return;
            }
            fact.invoice = None;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let fact = Fact { detail: fact.detail.as_deref().map(tame), ..fact };
        self.told.last += 1;
        self.told.entries.push((EntryId(self.told.last), Timestamp(now), fact));
    }

    /// What happened to a channel, with the code whose payment opened it.
    pub(super) fn tell_channel(&mut self, kind: EntryKind, id: IntentId, detail: Option<String>) {
        let at = self.exchange_of(id);
        let fact = at.map_or_else(|| Fact::new(kind), |exchange| self.of_exchange(kind, exchange));
        let txid = match self.intents.get(&id).map(|intent| &intent.record.state) {
            Some(IntentState::Open { txid, .. } | IntentState::Closed { txid, .. }) => Some(*txid),
            _ => None,
        };
        self.tell(Fact { intent: Some(id), amount: None, txid, detail, ..fact });
    }

    pub(super) fn list(&mut self, what: Listed, now: Timestamp) {
        if !self.told.listed.iter().any(|(.., known)| *known == what) {
            let id = self.told.listed.last().map_or(0, |(id, ..)| id.0) + 1;
            self.told.listed.push((MovementId(id), now, what));
        }
    }

    fn entry(&self, id: EntryId, time: Timestamp, fact: Fact) -> Entry {
        let code =
            fact.invoice.as_ref().and_then(|invoice| self.invoices.iter().find(|one| one.id == *invoice));
        let (label, own_id) = code.map(|code| (code.label.clone(), code.own_id.clone())).unwrap_or_default();
        Entry { id, time, fact, label, own_id }
    }

    fn moved(&self, (id, created, what): &(MovementId, Timestamp, Listed)) -> Option<Movement> {
        let what = match what {
            Listed::Exchange(exchange) => Moved::Exchange(Box::new(self.record(*exchange)?)),
            Listed::Send(payment) => Moved::Send(Box::new(self.payments.get(payment)?.clone())),
            Listed::Lightning(hash) => Moved::Lightning(self.lightning_payment(hash)?.clone()),
            Listed::Close(intent) => match self.intents.get(intent)?.record.state.clone() {
                IntentState::Closed { closing, reason, .. } => {
                    Moved::Close(ClosedChannel { intent: *intent, closing, reason })
                }
                _ => return None,
            },
        };
        Some(Movement { id: *id, created: *created, what })
    }

    fn expire_codes(&mut self, now: Timestamp) -> u32 {
        let since = self.told.expired.replace(now).unwrap_or(Timestamp(0));
        let is_paid = |data: &Self, id: &InvoiceId| {
            data.at(id).any(|exchange| exchange.settled != Some(Settled::Gone)) || data.is_claimed(id)
        };
        let expired = |code: &&Invoice| code.expires > since && code.expires <= now;
        let due: Vec<Invoice> = self
            .invoices
            .iter()
            .filter(|code| code.is_code())
            .filter(expired)
            .filter(|code| !is_paid(self, &code.id))
            .cloned()
            .collect();
        for Invoice { id, amount, .. } in &due {
            self.tell(Fact {
                invoice: Some(id.clone()),
                amount: *amount,
                ..Fact::new(EntryKind::CodeExpired)
            });
        }
        u32::try_from(due.len()).unwrap_or(u32::MAX)
    }

    fn lightning_payment(&self, hash: &[u8; 32]) -> Option<&LightningRecord> {
        self.told.lightning.iter().find(|known| known.payment.hash == *hash)
    }

    fn begin_lightning(&mut self, payment: &LightningPayment, now: Timestamp) {
        let known = self.told.lightning.iter_mut().find(|known| known.payment.hash == payment.hash);
        match known {
            Some(known) if known.payment.outgoing && matches!(known.end, Some(LightningEnd::Failed(_))) => {
                (known.end, known.payment.amount) = (None, payment.amount);
            }
            Some(_) => {}
            None => {
                let invoice = self.lightning.get(&payment.hash).map(|(invoice, _)| invoice.clone());
                let record = LightningRecord { payment: payment.clone(), invoice, end: None };
                self.told.lightning.push(record);
            }
        }
        if payment.outgoing {
            self.list(Listed::Lightning(payment.hash), now);
        }
    }

    pub(super) fn end_lightning(&mut self, hash: [u8; 32], end: LightningEnd, now: Timestamp) {
        let (kind, detail, received) = match &end {
            LightningEnd::Received(amount) => (EntryKind::LightningReceived, None, Some(*amount)),
            LightningEnd::Sent(_) => (EntryKind::LightningSent, None, None),
            LightningEnd::Failed(why) => (EntryKind::LightningFailed, Some(why.clone()), None),
        };
        if self.lightning_payment(&hash).is_none() && kind != EntryKind::LightningFailed {
            let outgoing = kind == EntryKind::LightningSent;
            let payment = LightningPayment { hash, outgoing, amount: None, about: None };
            let invoice = self.lightning.get(&hash).map(|(invoice, _)| invoice.clone());
            self.told.lightning.push(LightningRecord { payment, invoice, end: None });
        }
        let Some(known) = self.told.lightning.iter_mut().find(|known| known.payment.hash == hash) else {
            return;
        };
        match (&known.end, &end) {
            (Some(LightningEnd::Received(_) | LightningEnd::Sent(_)), _)
            | (Some(LightningEnd::Failed(_)), LightningEnd::Failed(_)) => return,
            _ => known.end = Some(end),
        }
        known.payment.amount = received.or(known.payment.amount);
        let (amount, invoice) = (known.payment.amount, known.invoice.clone());
        let payment_hash = Some(hash.to_lower_hex_string());
        self.list(Listed::Lightning(hash), now);
        self.tell(Fact { invoice, amount, payment_hash, detail, ..Fact::new(kind) });
    }
}
