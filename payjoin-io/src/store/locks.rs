//! Seen inputs (money rule 8) and coin locks (money rule 7).

use bitcoin::{OutPoint, Transaction};
use payjoin_core::{ExchangeId, InvoiceId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, payments};

impl Store {
    /// Every coin that an unsettled exchange or payment may spend, once for each of them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn locked_coins(&self) -> Result<Vec<OutPoint>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT coin FROM locks")?;
            let offered = query.query_and_then([], outpoint)?.collect::<Result<Vec<_>, _>>()?;
            Ok([offered, payments::locked(db)?].concat())
        })
    }

    /// Coins of the unsettled exchanges at this invoice: offer them first (money rule 8).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn offered_coins(&self, invoice: &InvoiceId) -> Result<Vec<OutPoint>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT DISTINCT coin FROM locks WHERE invoice = ?1")?;
            query.query_and_then([&invoice.0], outpoint)?.collect()
        })
    }
}

/// Was an input of this Original offered in another one?
pub(super) fn seen(db: &Connection, original: &Transaction, by: Option<u64>) -> Result<bool, StoreError> {
    let mut query = db.prepare_cached("SELECT exchange FROM seen WHERE outpoint = ?1")?;
    for input in &original.input {
        let found: Option<u64> =
            query.query_row([input.previous_output.to_string()], |row| row.get(0)).optional()?;
        if found.is_some() && found != by {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn record_seen(db: &Connection, original: &Transaction, by: ExchangeId) -> Result<(), StoreError> {
    let mut insert = db.prepare_cached("INSERT OR REPLACE INTO seen VALUES (?1, ?2)")?;
    for input in &original.input {
        insert.execute(params![input.previous_output.to_string(), by.0])?;
    }
    Ok(())
}

/// Locks coins that no exchange at another invoice has locked.
pub(super) fn lock(
    db: &Connection,
    exchange: ExchangeId,
    invoice: &InvoiceId,
    coins: &[OutPoint],
) -> Result<(), StoreError> {
    let mut taken = db.prepare_cached("SELECT 1 FROM locks WHERE coin = ?1 AND invoice <> ?2")?;
    let mut insert = db.prepare_cached("INSERT INTO locks VALUES (?1, ?2, ?3)")?;
    for coin in coins {
        if taken.exists(params![coin.to_string(), invoice.0])? {
            return Err(StoreError::CoinLocked(*coin));
        }
        insert.execute(params![coin.to_string(), exchange.0, invoice.0])?;
    }
    Ok(())
}

/// Ends the exchange's locks but those on `keep`, which it must hold. Gives the coins whose locks ended.
pub(super) fn unlock(
    db: &Connection,
    exchange: ExchangeId,
    keep: &[OutPoint],
) -> Result<Vec<OutPoint>, StoreError> {
    let held = held(db, exchange)?;
    if let Some(coin) = keep.iter().find(|coin| !held.contains(coin)) {
        return Err(StoreError::CoinLocked(*coin));
    }
    let mut delete = db.prepare_cached("DELETE FROM locks WHERE coin = ?1 AND exchange = ?2")?;
    let ended: Vec<OutPoint> = held.into_iter().filter(|coin| !keep.contains(coin)).collect();
    for coin in &ended {
        delete.execute(params![coin.to_string(), exchange.0])?;
    }
    Ok(ended)
}

/// The coins that the exchange may spend.
pub(super) fn held(db: &Connection, exchange: ExchangeId) -> Result<Vec<OutPoint>, StoreError> {
    let mut query = db.prepare_cached("SELECT coin FROM locks WHERE exchange = ?1")?;
    query.query_and_then([exchange.0], outpoint)?.collect()
}

fn outpoint(row: &Row<'_>) -> Result<OutPoint, StoreError> {
    let text: String = row.get(0)?;
    text.parse().map_err(|_| StoreError::Corrupt(format!("{text:?} is not a coin")))
}
