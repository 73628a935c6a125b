//! What payers were asked to pay.

use bitcoin::{Amount, ScriptBuf};
use payjoin_core::{Invoice, InvoiceId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError};

const COLUMNS: &str = "id, script, change, amount, created, expires";

impl Store {
    /// Keeps a new invoice.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`] when its id exists.
    pub async fn insert_invoice(&self, invoice: &Invoice) -> Result<(), StoreError> {
        let invoice = invoice.clone();
        self.write(move |db| insert(db, &invoice)).await
    }

    /// The invoice of this name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn invoice(&self, id: &InvoiceId) -> Result<Option<Invoice>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM invoices WHERE id = ?1"))?;
            Ok(query.query_row([&id.0], decode).optional()?)
        })
    }

    /// The latest invoices, newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn invoices(&self, limit: u32) -> Result<Vec<Invoice>, StoreError> {
        self.read(|db| {
            let sql = format!("SELECT {COLUMNS} FROM invoices ORDER BY rowid DESC LIMIT ?1");
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map([limit], decode)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

fn insert(db: &Connection, invoice: &Invoice) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO invoices VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        invoice.id.0,
        invoice.script.as_bytes(),
        invoice.change.as_bytes(),
        invoice.amount.map(Amount::to_sat),
        invoice.created.0,
        invoice.expires.0,
    ])?;
    Ok(())
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Invoice> {
    Ok(Invoice {
        id: InvoiceId(row.get(0)?),
        script: ScriptBuf::from_bytes(row.get(1)?),
        change: ScriptBuf::from_bytes(row.get(2)?),
        amount: row.get::<_, Option<u64>>(3)?.map(Amount::from_sat),
        created: Timestamp(row.get(4)?),
        expires: Timestamp(row.get(5)?),
    })
}
