//! Payments over Lightning.

use bitcoin::Amount;
use bitcoin::hex::DisplayHex as _;
use payjoin_core::{EntryKind, Fact, InvoiceId, LightningEnd, LightningPayment, LightningRecord, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DbError, journal, listed};

pub(super) fn find(db: &Connection, hash: [u8; 32]) -> Result<Option<LightningRecord>, DbError> {
    let sql = "SELECT outgoing, amount, about, state, fee, reason FROM lightning_payments WHERE hash = ?1";
    let invoice = code_of(db, hash)?;
    let decode = |row: &Row<'_>| {
        let amount = row.get::<_, Option<u64>>(1)?.map(Amount::from_sat);
        let payment = LightningPayment { hash, outgoing: row.get(0)?, amount, about: row.get(2)? };
        let end = match row.get::<_, String>(3)?.as_str() {
            "received" => Some(LightningEnd::Received(amount.unwrap_or_default())),
            "sent" => Some(LightningEnd::Sent(row.get::<_, Option<u64>>(4)?.unwrap_or_default())),
            "failed" => Some(LightningEnd::Failed(row.get::<_, Option<String>>(5)?.unwrap_or_default())),
            _ => None,
        };
        Ok(LightningRecord { payment, invoice: invoice.clone(), end })
    };
    Ok(db.prepare_cached(sql)?.query_row([hash], decode).optional()?)
}

/// Of a payment to us that may never come the list says nothing.
pub(super) fn begin(db: &Connection, payment: &LightningPayment, now: Timestamp) -> Result<(), DbError> {
    let LightningPayment { hash, outgoing, amount, about } = payment;
    let sql = "INSERT INTO lightning_payments (hash, outgoing, amount, about, state) VALUES (?1, ?2, ?3, ?4, 'begun')
               ON CONFLICT DO UPDATE SET state = 'begun', reason = NULL, amount = excluded.amount
               WHERE state = 'failed' AND outgoing";
    db.prepare_cached(sql)?.execute(params![hash, outgoing, amount.map(Amount::to_sat), about])?;
    match outgoing {
        true => listed::list(db, "hash", hash, now),
        false => Ok(()),
    }
}

/// Notes how a payment ended, and tells it once.
pub(super) fn conclude(
    db: &Connection,
    hash: [u8; 32],
    end: &LightningEnd,
    now: Timestamp,
) -> Result<(), DbError> {
    let (kind, state, detail) = match end {
        LightningEnd::Received(_) => (EntryKind::LightningReceived, "received", None),
        LightningEnd::Sent(_) => (EntryKind::LightningSent, "sent", None),
        LightningEnd::Failed(why) => (EntryKind::LightningFailed, "failed", Some(why.clone())),
    };
    let received = match end {
        LightningEnd::Received(amount) => Some(amount.to_sat()),
        _ => None,
    };
    let fee = match end {
        LightningEnd::Sent(msat) => Some(*msat),
        _ => None,
    };
    if state != "failed" {
        let sql = "INSERT OR IGNORE INTO lightning_payments (hash, outgoing, state) VALUES (?1, ?2, 'begun')";
        db.prepare_cached(sql)?.execute(params![hash, state == "sent"])?;
    }
    let sql = "UPDATE lightning_payments SET state = ?2, fee = ?3, reason = ?4, amount = coalesce(?5, amount)
               WHERE hash = ?1 AND (state = 'begun' OR state = 'failed' AND ?2 <> 'failed') RETURNING amount";
    let row = params![hash, state, fee, detail, received];
    let changed: Option<Option<u64>> = db.prepare_cached(sql)?.query_row(row, |row| row.get(0)).optional()?;
    let Some(amount) = changed else { return Ok(()) };
    listed::list(db, "hash", hash, now)?;
    let (amount, payment_hash) = (amount.map(Amount::from_sat), Some(hash.to_lower_hex_string()));
    let invoice = code_of(db, hash)?;
    journal::tell(db, &Fact { invoice, amount, payment_hash, detail, ..Fact::new(kind) })
}

/// The code that a payment with this hash pays.
fn code_of(db: &Connection, hash: [u8; 32]) -> Result<Option<InvoiceId>, DbError> {
    let mut query = db.prepare_cached("SELECT invoice FROM lightning WHERE hash = ?1")?;
    Ok(query.query_row([hash], |row| row.get(0).map(InvoiceId)).optional()?)
}
