//! Getting the Originals out of a file that [`Store::open`](super::Store::open) refuses.

use std::path::Path;

use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;
use payjoin_core::ExchangeId;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::StoreError;

/// What [`rescue`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Originals whose exchange is not settled, ready to broadcast. Some may be in the chain already.
    pub originals: Vec<(ExchangeId, Transaction)>,
    /// Exchanges that cannot be read.
    pub unreadable: Vec<ExchangeId>,
}

/// Reads the Originals that are still owed their broadcast from a store's file, damaged or not, in use or not. Changes
/// nothing in it.
///
/// # Errors
/// When nothing at all can be read: the file is missing or no store, or its first page or its schema is damaged.
pub fn rescue(path: impl AsRef<Path>) -> Result<Rescued, StoreError> {
    let path = path.as_ref();
    let (db, last) = open(path, "").or_else(|error| {
        // Without the right to write beside the file there is no sharing it: then it is read as if nobody wrote to it.
        open(path, "?immutable=1").map_err(|_| error)
    })?;
    let mut rescued = Rescued::default();
    // One look-up for each, by the table alone, so that a damaged page hides only those on it.
    let mut row =
        db.prepare("SELECT original FROM exchanges NOT INDEXED WHERE id = ?1 AND state <> 'settled'")?;
    for id in 1..=last {
        let found: Result<Option<Vec<u8>>, _> = row.query_row([id], |row| row.get(0)).optional();
        match found.map(|bytes| bytes.map(|bytes| deserialize(&bytes))) {
            Ok(None) => {}
            Ok(Some(Ok(original))) => rescued.originals.push((ExchangeId(id), original)),
            Ok(Some(Err(_))) | Err(_) => rescued.unreadable.push(ExchangeId(id)),
        }
    }
    Ok(rescued)
}

/// The file, and the number of the latest exchange in it.
fn open(path: &Path, mode: &str) -> Result<(Connection, u64), StoreError> {
    let escape = |c: char| match c {
        '%' | '?' | '#' => format!("%{:02x}", u32::from(c)),
        c => c.to_string(),
    };
    let uri: String = path.to_string_lossy().chars().map(escape).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(format!("file:{uri}{mode}"), flags)?;
    let count = |sql| db.query_row(sql, [], |row| row.get::<_, Option<u64>>(0));
    // Two places know it, on different pages.
    let counted = count("SELECT seq FROM sqlite_sequence WHERE name = 'exchanges'");
    let last = match (counted, count("SELECT max(id) FROM exchanges")) {
        (Err(rusqlite::Error::QueryReturnedNoRows), Ok(last)) => last,
        (Ok(counted), last) => counted.max(last.ok().flatten()),
        (Err(_), last) => last?,
    };
    Ok((db, last.unwrap_or(0)))
}
