//! Payments that came without payjoin.

use payjoin_core::{
    EntryKind, ExchangeId, ExchangeState, Fact, LedgerError, OriginalId, PlainPayment, Settled, paid_to,
};

use super::{Data, Exchange};
use crate::memory::told::Listed;

impl Exchange {
    /// What it pays: by what was mined, or was seen first.
    pub(super) fn pay_plainly(&mut self) {
        if self.state == ExchangeState::Plain {
            let pays = self.mined.as_ref().map_or(&self.original, |(transaction, _)| transaction);
            self.plain = Some(paid_to(&self.invoice.script, pays));
        }
    }
}

impl Data {
    pub(in crate::memory) fn record_plain(
        &mut self,
        id: ExchangeId,
        plain: &PlainPayment,
    ) -> Result<Option<ExchangeId>, LedgerError> {
        let PlainPayment { invoice, transaction, .. } = plain;
        let missing = || LedgerError::Conflict(format!("no invoice {invoice}"));
        let invoice = self.invoices.iter().find(|known| known.id == *invoice).cloned().ok_or_else(missing)?;
        let txid = transaction.compute_txid();
        let inputs = || transaction.input.iter().map(|input| input.previous_output);
        let known = |input| {
            let exchange = self.seen.get(&input).and_then(|id| self.exchanges.get(id));
            exchange.filter(|exchange| exchange.invoice.id == invoice.id).is_some_and(|exchange| {
                let mined = exchange.mined.as_ref().map(|(mined, _)| mined.compute_txid());
                exchange.state != ExchangeState::Settled || mined == Some(txid)
            })
        };
        if inputs().any(known) {
            return Ok(None);
        }
        let original_id = OriginalId(format!("{} {txid}", invoice.id));
        let id = match self.of(&original_id) {
            Some((earlier, exchange)) if exchange.settled == Some(Settled::Gone) => earlier,
            Some(_) => return Ok(None),
            None => id,
        };
        let created = self.exchanges.get(&id).map_or(plain.now, |earlier| earlier.created);
        let mut exchange = Exchange::new(invoice, original_id, transaction.clone(), created, plain.gone_at);
        exchange.state = ExchangeState::Plain;
        exchange.pay_plainly();
        self.exchanges.insert(id, exchange);
        self.seen.extend(inputs().map(|input| (input, id)));
        self.list(Listed::Exchange(id), plain.now);
        let (txid, detail) = (Some(txid), Some("plain".to_owned()));
        self.tell(Fact { txid, detail, ..self.of_exchange(EntryKind::PaymentSeen, id) });
        Ok(Some(id))
    }
}
