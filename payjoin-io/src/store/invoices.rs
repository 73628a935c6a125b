//! What payers were asked to pay.

use bitcoin::{Amount, ScriptBuf};
use payjoin_core::{EntryKind, Fact, Invoice, InvoiceId, Label, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DbError, journal};

const COLUMNS: &str = "id, script, amount, created, expires, payer_is_me, top_up, label, own_id";

pub(super) fn find(db: &Connection, id: &InvoiceId) -> Result<Option<Invoice>, DbError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM invoices WHERE id = ?1"))?;
    Ok(query.query_row([&id.0], decode).optional()?)
}

pub(super) fn latest(db: &Connection, limit: u32) -> Result<Vec<Invoice>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM invoices ORDER BY rowid DESC LIMIT ?1");
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map([limit], decode)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn insert(db: &Connection, invoice: &Invoice) -> Result<(), DbError> {
    let sql = format!("INSERT INTO invoices ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
    db.prepare_cached(&sql)?.execute(params![
        invoice.id.0,
        invoice.script.as_bytes(),
        invoice.amount.map(Amount::to_sat),
        invoice.created.0,
        invoice.expires.0,
        invoice.payer_is_me,
        invoice.top_up,
        invoice.label.as_ref().map(Label::as_str),
        invoice.own_id.as_ref().map(Label::as_str),
    ])?;
    let (id, amount) = (Some(invoice.id.clone()), invoice.amount);
    match invoice.is_code() {
        true => journal::tell(db, &Fact { invoice: id, amount, ..Fact::new(EntryKind::CodeCreated) }),
        false => Ok(()),
    }
}

pub(super) fn codes(db: &Connection, since: Timestamp) -> Result<Vec<(ScriptBuf, InvoiceId)>, DbError> {
    let mut query = db.prepare_cached("SELECT script, id FROM invoices WHERE expires >= ?1")?;
    let row = |row: &Row<'_>| Ok((ScriptBuf::from_bytes(row.get(0)?), InvoiceId(row.get(1)?)));
    Ok(query.query_map([since.0], row)?.collect::<Result<_, _>>()?)
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Invoice> {
    Ok(Invoice {
        id: InvoiceId(row.get(0)?),
        script: ScriptBuf::from_bytes(row.get(1)?),
        amount: row.get::<_, Option<u64>>(2)?.map(Amount::from_sat),
        created: Timestamp(row.get(3)?),
        expires: Timestamp(row.get(4)?),
        payer_is_me: row.get(5)?,
        top_up: row.get(6)?,
        label: journal::label(row, 7)?,
        own_id: journal::label(row, 8)?,
    })
}
