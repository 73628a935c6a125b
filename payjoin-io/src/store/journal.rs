//! The journal. An entry is written by the job that makes the change which it tells.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bitcoin::Amount;
use bitcoin::hex::DisplayHex as _;
use payjoin_core::{
    Entry, EntryId, EntryKind, ExchangeId, Fact, IntentId, InvoiceId, Journal, Label, LedgerError, PaymentId,
    Timestamp, tame,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DbError, Store};

/// Among the readers: until when codes that expire were looked at.
const EXPIRED: &str = "expired codes";

#[async_trait]
impl Journal for Store {
    async fn entries(&self, since: EntryId, limit: u32) -> Result<Vec<Entry>, LedgerError> {
        self.read(|db| after(db, since, limit))
    }

    async fn last_entry(&self) -> Result<EntryId, LedgerError> {
        self.read(last)
    }

    async fn grown(&self, since: EntryId) {
        let mut grown = self.inner.writer.grown();
        // An error: the store closes.
        let _ = grown.wait_for(|last| *last > since.0).await;
    }

    async fn expire_codes(&self, now: Timestamp) -> Result<u32, LedgerError> {
        match self.read(|db| any_expired(db, now))? {
            true => self.write(move |db| expire(db, now)).await,
            false => Ok(0),
        }
    }

    async fn prune_journal(&self, before: Timestamp, most: u32) -> Result<u32, LedgerError> {
        let oldest = "SELECT 1 FROM (SELECT time FROM journal ORDER BY id LIMIT 1) WHERE time < ?1";
        match self.read(|db| Ok(db.prepare_cached(oldest)?.exists([before.0])?))? {
            true => self.write(move |db| prune(db, before, most)).await,
            false => Ok(0),
        }
    }

    async fn read_until(&self, reader: &str) -> Result<Option<EntryId>, LedgerError> {
        self.read(|db| Ok(kept(db, reader)?.map(EntryId)))
    }

    async fn keep_read(&self, reader: &str, until: EntryId) -> Result<(), LedgerError> {
        let reader = reader.to_owned();
        self.write(move |db| keep(db, &reader, until.0)).await
    }
}

/// Writes an entry. An opening of ours is nobody's payment: its channels are told, and nothing else of it.
pub(super) fn tell(db: &Connection, fact: &Fact) -> Result<(), DbError> {
    let own = "SELECT 1 FROM exchanges WHERE id = ?1 AND own";
    let is_own = fact.exchange.map_or(Ok(false), |id| db.prepare_cached(own)?.exists([id.0]))?;
    if is_own && fact.intent.is_none() {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let hash = fact.payment_hash.as_deref().map(hash_of).transpose()?;
    let sql =
        "INSERT INTO journal (time, kind, invoice, exchange, payment, intent, txid, hash, amount, detail)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    db.prepare_cached(sql)?.execute(params![
        now,
        fact.kind.name(),
        fact.invoice.as_ref().filter(|_| !is_own).map(|invoice| &invoice.0),
        fact.exchange.map(|exchange| exchange.0),
        fact.payment.map(|payment| payment.0),
        fact.intent.map(|intent| intent.0),
        fact.txid.map(|txid| txid.to_string()),
        hash,
        fact.amount.map(Amount::to_sat),
        fact.detail.as_deref().map(tame),
    ])?;
    Ok(())
}

/// What happened to an exchange, with the invoice that it pays.
pub(super) fn of_exchange(db: &Connection, kind: EntryKind, id: ExchangeId) -> Result<Fact, DbError> {
    let sql = "SELECT invoice, coalesce(plain, amount) FROM exchanges WHERE id = ?1";
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, Option<u64>>(1)?));
    let found = db.prepare_cached(sql)?.query_row([id.0], row).optional()?;
    let (invoice, amount) = found.map_or((None, None), |(invoice, amount)| (Some(invoice), amount));
    let (invoice, amount) = (invoice.map(InvoiceId), amount.map(Amount::from_sat));
    Ok(Fact { invoice, amount, exchange: Some(id), ..Fact::new(kind) })
}

/// The number of the last entry. Entries are dropped, and their numbers not given again.
pub(super) fn last(db: &Connection) -> Result<EntryId, DbError> {
    let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'journal'";
    Ok(db.prepare_cached(sql)?.query_row([], |row| row.get(0).map(EntryId))?)
}

fn hash_of(hex: &str) -> Result<Vec<u8>, DbError> {
    let bytes: Result<Vec<u8>, _> = bitcoin::hex::FromHex::from_hex(hex);
    Ok(bytes.map_err(|error| LedgerError::Failed(format!("no payment hash: {error}")))?)
}

fn after(db: &Connection, since: EntryId, limit: u32) -> Result<Vec<Entry>, DbError> {
    let sql = "SELECT journal.id, time, kind, invoice, exchange, payment, intent, txid, hash, journal.amount, detail,
                   label, own_id
               FROM journal LEFT JOIN invoices ON invoices.id = journal.invoice
               WHERE journal.id > ?1 ORDER BY journal.id LIMIT ?2";
    let since = i64::try_from(since.0).unwrap_or(i64::MAX);
    db.prepare_cached(sql)?.query_and_then(params![since, limit], decode)?.collect()
}

fn decode(row: &Row<'_>) -> Result<Entry, DbError> {
    let id: u64 = row.get(0)?;
    let damaged =
        |what: &str| DbError::from(LedgerError::Damaged(format!("entry {id} of the journal: {what}")));
    let kind = serde_json::from_value(row.get::<_, String>(2)?.into()).map_err(|_| damaged("its kind"))?;
    let txid = row.get::<_, Option<String>>(7)?.map(|txid| txid.parse()).transpose();
    let hash: Option<Vec<u8>> = row.get(8)?;
    Ok(Entry {
        id: EntryId(id),
        time: Timestamp(row.get(1)?),
        fact: Fact {
            kind,
            invoice: row.get::<_, Option<String>>(3)?.map(InvoiceId),
            exchange: row.get::<_, Option<u64>>(4)?.map(ExchangeId),
            payment: row.get::<_, Option<u64>>(5)?.map(PaymentId),
            intent: row.get::<_, Option<u64>>(6)?.map(IntentId),
            txid: txid.map_err(|_| damaged("its transaction"))?,
            payment_hash: hash.map(|hash| hash.to_lower_hex_string()),
            amount: row.get::<_, Option<u64>>(9)?.map(Amount::from_sat),
            detail: row.get(10)?,
        },
        label: label(row, 11)?,
        own_id: label(row, 12)?,
    })
}

/// A label of a row.
pub(super) fn label(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Label>> {
    // One that is none by the rules of another version is not shown.
    Ok(row.get::<_, Option<String>>(column)?.and_then(|text| text.parse().ok()))
}

/// Whether any code expired since they were looked at last.
fn any_expired(db: &Connection, now: Timestamp) -> Result<bool, DbError> {
    let sql = "SELECT 1 FROM invoices WHERE expires > ?1 AND expires <= ?2 AND created < expires";
    Ok(db.prepare_cached(sql)?.exists([kept(db, EXPIRED)?.unwrap_or(now.0), now.0])?)
}

/// Codes that expired since they were looked at last, and of which no payment is known.
fn due(db: &Connection, now: Timestamp) -> Result<Vec<(InvoiceId, Option<u64>)>, DbError> {
    let sql = "SELECT id, amount FROM invoices WHERE expires > ?1 AND expires <= ?2 AND created < expires
               AND NOT EXISTS (SELECT 1 FROM exchanges WHERE invoice = invoices.id AND outcome IS NOT 'gone')
               AND NOT EXISTS (SELECT 1 FROM lightning WHERE invoice = invoices.id AND claimed = 1)";
    let since = kept(db, EXPIRED)?.unwrap_or(now.0);
    let row = |row: &Row<'_>| Ok((InvoiceId(row.get(0)?), row.get(1)?));
    Ok(db.prepare_cached(sql)?.query_map([since, now.0], row)?.collect::<Result<_, _>>()?)
}

fn expire(db: &Connection, now: Timestamp) -> Result<u32, DbError> {
    let due = due(db, now)?;
    for (invoice, amount) in &due {
        let (invoice, amount) = (Some(invoice.clone()), amount.map(Amount::from_sat));
        tell(db, &Fact { invoice, amount, ..Fact::new(EntryKind::CodeExpired) })?;
    }
    keep(db, EXPIRED, now.0)?;
    Ok(u32::try_from(due.len()).unwrap_or(u32::MAX))
}

fn prune(db: &Connection, before: Timestamp, most: u32) -> Result<u32, DbError> {
    // The clock may go back: whatever stands behind a younger entry waits for it.
    let sql = "DELETE FROM journal WHERE id IN (SELECT id FROM journal ORDER BY id LIMIT ?2)
               AND id < coalesce((SELECT min(id) FROM (SELECT id, time FROM journal ORDER BY id LIMIT ?2)
                   WHERE time >= ?1), 9223372036854775807)";
    let dropped = db.prepare_cached(sql)?.execute(params![before.0, most])?;
    Ok(u32::try_from(dropped).unwrap_or(u32::MAX))
}

fn kept(db: &Connection, reader: &str) -> Result<Option<u64>, DbError> {
    let mut query = db.prepare_cached("SELECT entry FROM readers WHERE name = ?1")?;
    Ok(query.query_row([reader], |row| row.get(0)).optional()?)
}

fn keep(db: &Connection, reader: &str, entry: u64) -> Result<(), DbError> {
    let sql = "INSERT INTO readers VALUES (?1, ?2) ON CONFLICT DO UPDATE SET entry = excluded.entry";
    db.prepare_cached(sql)?.execute(params![reader, entry])?;
    Ok(())
}
