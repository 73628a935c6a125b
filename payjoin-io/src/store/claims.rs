//! Codes that can be paid over Lightning, too.

use async_trait::async_trait;
use payjoin_core::{Claim, Claims, InvoiceId, LedgerError, LightningEnd, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::{DbError, Store, invoices, lightning};

#[async_trait]
impl Claims for Store {
    async fn ask_over_lightning(&self, invoice: &InvoiceId, hash: [u8; 32]) -> Result<(), LedgerError> {
        let invoice = invoice.clone();
        self.write(move |db| ask(db, &invoice, hash)).await
    }

    async fn claim(&self, hash: [u8; 32], now: Timestamp) -> Result<Claim, LedgerError> {
        self.write(move |db| claim(db, hash, now)).await
    }

    async fn paid_over_lightning(&self, invoice: &InvoiceId) -> Result<bool, LedgerError> {
        self.read(|db| is_claimed(db, invoice))
    }
}

fn ask(db: &Connection, invoice: &InvoiceId, hash: [u8; 32]) -> Result<(), DbError> {
    db.prepare_cached("INSERT INTO lightning (hash, invoice) VALUES (?1, ?2)")?
        .execute(params![hash, invoice.0])?;
    Ok(())
}

fn claim(db: &Connection, hash: [u8; 32], now: Timestamp) -> Result<Claim, DbError> {
    let sql = "SELECT invoice, claimed FROM lightning WHERE hash = ?1";
    let found = db.prepare_cached(sql)?.query_row([hash], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((invoice, claimed)) = found else { return Ok(Claim::None) };
    let invoice = InvoiceId(invoice);
    if claimed {
        return Ok(Claim::Taken(invoice));
    }
    // A plain payment that left the mempool for good has paid nothing.
    let kept = "SELECT 1 FROM exchanges WHERE invoice = ?1 AND outcome IS NOT 'gone' LIMIT 1";
    if db.prepare_cached(kept)?.exists([&invoice.0])? {
        return Ok(Claim::PaidOnChain(invoice));
    }
    db.prepare_cached("UPDATE lightning SET claimed = 1 WHERE hash = ?1")?.execute([hash])?;
    let asked = invoices::find(db, &invoice)?.and_then(|invoice| invoice.amount);
    lightning::conclude(db, hash, &LightningEnd::Received(asked.unwrap_or_default()), now)?;
    Ok(Claim::Taken(invoice))
}

pub(super) fn is_claimed(db: &Connection, invoice: &InvoiceId) -> Result<bool, DbError> {
    let sql = "SELECT 1 FROM lightning WHERE invoice = ?1 AND claimed = 1";
    Ok(db.prepare_cached(sql)?.exists([&invoice.0])?)
}
