//! Codes that can be paid over Lightning, too.

use async_trait::async_trait;
use payjoin_core::{Claim, Claims, InvoiceId, LedgerError, LightningEnd, Settled, Timestamp};

use super::MemoryLedger;
use super::data::Data;

#[async_trait]
impl Claims for MemoryLedger {
    async fn ask_over_lightning(&self, invoice: &InvoiceId, hash: [u8; 32]) -> Result<(), LedgerError> {
        self.write(|data| {
            let known = data.invoices.iter().any(|known| known.id == *invoice);
            if !known || data.lightning.contains_key(&hash) {
                return Err(LedgerError::Conflict(format!("no such invoice, or a known hash: {invoice}")));
            }
            data.lightning.insert(hash, (invoice.clone(), false));
            Ok(())
        })
    }

    async fn claim(&self, hash: [u8; 32], now: Timestamp) -> Result<Claim, LedgerError> {
        self.write(|data| Ok(data.claim(hash, now)))
    }

    async fn paid_over_lightning(&self, invoice: &InvoiceId) -> Result<bool, LedgerError> {
        self.read(|data| data.is_claimed(invoice))
    }
}

impl Data {
    fn claim(&mut self, hash: [u8; 32], now: Timestamp) -> Claim {
        let Some((invoice, claimed)) = self.lightning.get(&hash).cloned() else { return Claim::None };
        let kept = self.at(&invoice).any(|exchange| exchange.settled != Some(Settled::Gone));
        if kept && !claimed {
            return Claim::PaidOnChain(invoice);
        }
        self.lightning.insert(hash, (invoice.clone(), true));
        let asked = self.invoices.iter().find(|known| known.id == invoice).and_then(|known| known.amount);
        self.end_lightning(hash, LightningEnd::Received(asked.unwrap_or_default()), now);
        Claim::Taken(invoice)
    }

    pub(super) fn is_claimed(&self, invoice: &InvoiceId) -> bool {
        self.lightning.values().any(|(known, claimed)| *claimed && known == invoice)
    }
}
