//! The Lightning node's key-value data and the wallet's change log.

use payjoin_core::{LedgerError, NodeState, StateWrite};
use rusqlite::{Connection, OptionalExtension, params};

use super::{DbError, Store};

impl NodeState for Store {
    fn kv_read(&self, primary: &str, secondary: &str, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let sql = "SELECT value FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3";
        self.read(|db| {
            Ok(db.prepare_cached(sql)?.query_row([primary, secondary, key], |row| row.get(0)).optional()?)
        })
    }

    fn kv_generation(&self, primary: &str, secondary: &str, key: &str) -> Result<u64, LedgerError> {
        let sql = "SELECT generation FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3";
        self.read(|db| {
            let found =
                db.prepare_cached(sql)?.query_row([primary, secondary, key], |row| row.get(0)).optional()?;
            Ok(found.unwrap_or(0))
        })
    }

    fn kv_list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, LedgerError> {
        self.read(|db| {
            let mut query =
                db.prepare_cached("SELECT key FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2")?;
            let rows = query.query_map([primary, secondary], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn kv_write(&self, write: StateWrite) -> Result<(), LedgerError> {
        self.write_blocking(move |db| put(db, &write))
    }

    fn kv_remove(&self, primary: &str, secondary: &str, key: &str) -> Result<(), LedgerError> {
        let name = [primary.to_owned(), secondary.to_owned(), key.to_owned()];
        self.write_blocking(move |db| {
            db.prepare_cached("DELETE FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3")?
                .execute(name)?;
            Ok(())
        })
    }

    fn kv_move(&self, from: &str, to: &str, keys: Vec<String>) -> Result<(), LedgerError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.write_blocking(move |db| {
            let sql = "UPDATE OR REPLACE kv SET primary_ns = ?2
                       WHERE primary_ns = ?1 AND secondary_ns = '' AND key = ?3";
            let mut update = db.prepare_cached(sql)?;
            for key in &keys {
                update.execute([&from, &to, key])?;
            }
            Ok(())
        })
    }

    fn append_wallet_change(&self, change: Vec<u8>) -> Result<(), LedgerError> {
        self.write_blocking(move |db| append(db, &change))
    }

    fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, LedgerError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT change FROM wallet_changes ORDER BY id")?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn replace_wallet_changes(&self, sum: Vec<u8>) -> Result<(), LedgerError> {
        self.write_blocking(move |db| {
            db.execute("DELETE FROM wallet_changes", [])?;
            append(db, &sum)
        })
    }
}

pub(super) fn put(db: &Connection, write: &StateWrite) -> Result<(), DbError> {
    db.prepare_cached(
        "INSERT INTO kv VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET value = excluded.value, generation = max(generation, excluded.generation)
         WHERE excluded.generation = 0 OR excluded.generation > generation",
    )?
    .execute(params![write.primary, write.secondary, write.key, write.value, write.generation])?;
    Ok(())
}

fn append(db: &Connection, change: &[u8]) -> Result<(), DbError> {
    db.prepare_cached("INSERT INTO wallet_changes (change) VALUES (?1)")?.execute([change])?;
    Ok(())
}
