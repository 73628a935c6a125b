//! Seen inputs (money rule 8) and coin locks (money rule 7).

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Transaction};
use payjoin_core::{ExchangeId, Holder, InvoiceId, LedgerError};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DbError, payments};

/// Who holds what.
pub(super) fn holds(db: &Connection) -> Result<Vec<(Holder, Vec<OutPoint>)>, DbError> {
    let mut query = db.prepare_cached("SELECT coin, exchange FROM locks")?;
    let mut holds = BTreeMap::<Holder, Vec<OutPoint>>::new();
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        holds.entry(Holder::Exchange(ExchangeId(row.get(1)?))).or_default().push(outpoint(row)?);
    }
    Ok(holds.into_iter().chain(payments::held(db)?).collect())
}

/// Coins of the unsettled exchanges at this invoice.
pub(super) fn offered(db: &Connection, invoice: &InvoiceId) -> Result<Vec<OutPoint>, DbError> {
    let mut query = db.prepare_cached("SELECT DISTINCT coin FROM locks WHERE invoice = ?1")?;
    query.query_and_then([&invoice.0], outpoint)?.collect()
}

/// Was an input of this Original offered in another one?
pub(super) fn seen(db: &Connection, original: &Transaction, by: ExchangeId) -> Result<bool, DbError> {
    let mut query = db.prepare_cached("SELECT exchange FROM seen WHERE outpoint = ?1")?;
    for input in &original.input {
        let found: Option<u64> =
            query.query_row([input.previous_output.to_string()], |row| row.get(0)).optional()?;
        if found.is_some_and(|found| found != by.0) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn record_seen(
    db: &Connection,
    spent: impl Iterator<Item = OutPoint>,
    by: ExchangeId,
) -> Result<(), DbError> {
    let mut insert = db.prepare_cached("INSERT OR REPLACE INTO seen VALUES (?1, ?2)")?;
    for coin in spent {
        insert.execute(params![coin.to_string(), by.0])?;
    }
    Ok(())
}

/// Locks coins that no exchange at another invoice has locked.
pub(super) fn lock(
    db: &Connection,
    exchange: ExchangeId,
    invoice: &InvoiceId,
    coins: &[OutPoint],
) -> Result<(), DbError> {
    let mut taken = db.prepare_cached("SELECT 1 FROM locks WHERE coin = ?1 AND invoice <> ?2")?;
    let mut insert = db.prepare_cached("INSERT INTO locks VALUES (?1, ?2, ?3)")?;
    for coin in coins {
        if taken.exists(params![coin.to_string(), invoice.0])? {
            return Err(LedgerError::CoinLocked(*coin).into());
        }
        insert.execute(params![coin.to_string(), exchange.0, invoice.0])?;
    }
    Ok(())
}

/// Ends the exchange's locks but those on `keep`, which it must hold.
pub(super) fn unlock(db: &Connection, exchange: ExchangeId, keep: &[OutPoint]) -> Result<(), DbError> {
    let held = held(db, exchange)?;
    if let Some(coin) = keep.iter().find(|coin| !held.contains(coin)) {
        return Err(LedgerError::CoinLocked(*coin).into());
    }
    let mut delete = db.prepare_cached("DELETE FROM locks WHERE coin = ?1 AND exchange = ?2")?;
    for coin in held.iter().filter(|coin| !keep.contains(coin)) {
        delete.execute(params![coin.to_string(), exchange.0])?;
    }
    Ok(())
}

/// The coins that the exchange may spend.
pub(super) fn held(db: &Connection, exchange: ExchangeId) -> Result<Vec<OutPoint>, DbError> {
    let mut query = db.prepare_cached("SELECT coin FROM locks WHERE exchange = ?1")?;
    query.query_and_then([exchange.0], outpoint)?.collect()
}

fn outpoint(row: &Row<'_>) -> Result<OutPoint, DbError> {
    let text: String = row.get(0)?;
    text.parse().map_err(|_| LedgerError::Damaged(format!("{text:?} is not a coin")).into())
}
