//! Payments of ours.

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{FeeRate, OutPoint};
use payjoin_core::{EntryKind, Fact, Holder, LedgerError, Paid, PaymentId, PaymentRecord, Timestamp};
use rusqlite::{Connection, Params, Row, params};

use super::{DbError, journal, listed};

const COLUMNS: &str = "id, uri, original, fee_rate, paid, fallback, settled";

/// `original` is a PSBT in base64.
pub(super) fn insert(
    db: &Connection,
    id: PaymentId,
    (uri, original): (&str, &str),
    fee_rate: FeeRate,
    now: Timestamp,
) -> Result<(), DbError> {
    let sql = "INSERT INTO payments (id, uri, original, fee_rate, created) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![id.0, uri, original, fee_rate.to_sat_per_kwu(), now.0];
    db.prepare_cached(sql)?.execute(values)?;
    listed::list(db, "payment", id.0, now)?;
    journal::tell(db, &Fact { payment: Some(id), ..Fact::new(EntryKind::SendCreated) })
}

pub(super) fn record_paid(db: &Connection, id: PaymentId, paid: &Paid) -> Result<(), DbError> {
    let before = find(db, id)?.and_then(|record| record.paid);
    db.prepare_cached("UPDATE payments SET paid = ?2, fallback = ?3 WHERE id = ?1")?.execute(params![
        id.0,
        serialize(&paid.transaction),
        paid.fallback
    ])?;
    let txid = Some(paid.transaction.compute_txid());
    if before.map(|paid| paid.transaction.compute_txid()) == txid {
        return Ok(());
    }
    let detail = paid.fallback.clone();
    journal::tell(db, &Fact { payment: Some(id), txid, detail, ..Fact::new(EntryKind::SendBroadcast) })
}

pub(super) fn settle(db: &Connection, id: PaymentId) -> Result<(), DbError> {
    let sql = "UPDATE payments SET settled = 1 WHERE id = ?1 AND settled = 0";
    if db.prepare_cached(sql)?.execute([id.0])? == 0 {
        return Ok(());
    }
    let paid = find(db, id)?.and_then(|record| record.paid);
    let txid = paid.map(|paid| paid.transaction.compute_txid());
    journal::tell(db, &Fact { payment: Some(id), txid, ..Fact::new(EntryKind::SendSettled) })
}

pub(super) fn find(db: &Connection, id: PaymentId) -> Result<Option<PaymentRecord>, DbError> {
    Ok(select(db, "id = ?1", [id.0])?.pop())
}

pub(super) fn of(db: &Connection, uri: &str) -> Result<Option<PaymentRecord>, DbError> {
    Ok(select(db, "uri = ?1", [uri])?.pop())
}

/// Coins that unsettled payments spend.
pub(super) fn held(db: &Connection) -> Result<Vec<(Holder, Vec<OutPoint>)>, DbError> {
    let held = |payment: PaymentRecord| {
        let inputs = payment.original.unsigned_tx.input.into_iter();
        (Holder::Payment(payment.id), inputs.map(|input| input.previous_output).collect())
    };
    Ok(unsettled(db)?.into_iter().map(held).collect())
}

pub(super) fn unsettled(db: &Connection) -> Result<Vec<PaymentRecord>, DbError> {
    select(db, "settled = 0 ORDER BY id", [])
}

fn select(db: &Connection, filter: &str, values: impl Params) -> Result<Vec<PaymentRecord>, DbError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM payments WHERE {filter}"))?;
    query.query_and_then(values, decode)?.collect()
}

fn decode(row: &Row<'_>) -> Result<PaymentRecord, DbError> {
    let id: u64 = row.get(0)?;
    let damaged = |what: &str| LedgerError::Damaged(format!("{what} of payment {id} cannot be read"));
    let original: String = row.get(2)?;
    let paid: Option<Vec<u8>> = row.get(4)?;
    let fallback: Option<String> = row.get(5)?;
    let paid = paid.map(|bytes| deserialize(&bytes)).transpose().map_err(|_| damaged("the transaction"))?;
    Ok(PaymentRecord {
        id: PaymentId(id),
        uri: row.get(1)?,
        original: original.parse().map_err(|_| damaged("the Original"))?,
        fee_rate: FeeRate::from_sat_per_kwu(row.get(3)?),
        paid: paid.map(|transaction| Paid { transaction, fallback }),
        settled: row.get(6)?,
    })
}
