//! The Lightning node's key-value data and the wallet's change log.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, StoreError};

/// One value of the Lightning node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvWrite {
    /// Primary namespace.
    pub primary: String,
    /// Secondary namespace.
    pub secondary: String,
    /// Key in the namespaces.
    pub key: String,
    /// The bytes.
    pub value: Vec<u8>,
    /// Counts the states of values that several writers race for, as a channel manager's: a write with a generation
    /// above 0 is ignored when the stored generation is the same or later. 0 always writes.
    pub generation: u64,
}

impl Store {
    /// The value of a key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kv_read(&self, primary: &str, secondary: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT value FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3";
        self.read(|db| {
            Ok(db.prepare_cached(sql)?.query_row([primary, secondary, key], |row| row.get(0)).optional()?)
        })
    }

    /// The generation of a key's value; 0 when there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kv_generation(&self, primary: &str, secondary: &str, key: &str) -> Result<u64, StoreError> {
        let sql = "SELECT generation FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3";
        self.read(|db| {
            let found =
                db.prepare_cached(sql)?.query_row([primary, secondary, key], |row| row.get(0)).optional()?;
            Ok(found.unwrap_or(0))
        })
    }

    /// The keys in these namespaces.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kv_list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, StoreError> {
        self.read(|db| {
            let mut query =
                db.prepare_cached("SELECT key FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2")?;
            let rows = query.query_map([primary, secondary], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Writes a value and blocks until it is durable.
    ///
    /// # Errors
    /// When nothing was written.
    pub fn kv_write(&self, write: KvWrite) -> Result<(), StoreError> {
        self.write_blocking(move |db| put(db, &write))
    }

    /// Removes a key, if it is there, and blocks until that is durable.
    ///
    /// # Errors
    /// When nothing was removed.
    pub fn kv_remove(&self, primary: &str, secondary: &str, key: &str) -> Result<(), StoreError> {
        let name = [primary.to_owned(), secondary.to_owned(), key.to_owned()];
        self.write_blocking(move |db| {
            db.prepare_cached("DELETE FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3")?
                .execute(name)?;
            Ok(())
        })
    }

    /// Appends a change of the wallet and blocks until it is durable.
    ///
    /// # Errors
    /// When nothing was written.
    pub fn append_wallet_change(&self, change: Vec<u8>) -> Result<(), StoreError> {
        self.write_blocking(move |db| append(db, &change))
    }

    /// Every change of the wallet, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT change FROM wallet_changes ORDER BY id")?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Puts one change, the sum of all, in the place of the log, and blocks until that is durable.
    ///
    /// # Errors
    /// When the log is as before.
    pub fn replace_wallet_changes(&self, sum: Vec<u8>) -> Result<(), StoreError> {
        self.write_blocking(move |db| {
            db.execute("DELETE FROM wallet_changes", [])?;
            append(db, &sum)
        })
    }
}

pub(super) fn put(db: &Connection, write: &KvWrite) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO kv VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET value = excluded.value, generation = max(generation, excluded.generation)
         WHERE excluded.generation = 0 OR excluded.generation > generation",
    )?
    .execute(params![write.primary, write.secondary, write.key, write.value, write.generation])?;
    Ok(())
}

fn append(db: &Connection, change: &[u8]) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO wallet_changes (change) VALUES (?1)")?.execute([change])?;
    Ok(())
}
