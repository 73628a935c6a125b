//! Getting the Originals out of a file that [`Store::open`](super::Store::open) refuses.

mod pages;

use std::collections::BTreeMap;
use std::path::Path;

use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;
use payjoin_core::ExchangeId;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use self::pages::{Pages, Value};
use super::{OpenError, StoreError};

/// More exchanges than any store has. A number beyond it is damage.
const MOST: u64 = 10_000_000;

/// What [`rescue`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Originals whose exchange is not settled, ready to broadcast. Some may be in the chain already.
    pub originals: Vec<(ExchangeId, Transaction)>,
    /// Exchanges that cannot be read.
    pub unreadable: Vec<ExchangeId>,
}

/// Reads the Originals that are still owed their broadcast from a store's file, damaged or not, in use or not. Changes
/// nothing in it. What SQLite cannot read is looked for page by page: a file that was cut off or overwritten gives what
/// lies whole in it.
///
/// # Errors
/// When nothing at all can be read: the file is missing, or no store.
pub fn rescue(path: impl AsRef<Path>) -> Result<Rescued, StoreError> {
    let path = path.as_ref();
    let asked = ask(path).map_err(StoreError::from);
    if asked.as_ref().is_ok_and(|asked| asked.unreadable.is_empty()) {
        return asked;
    }
    let pages = Pages::read(path).map_err(|source| StoreError::Open { path: path.into(), source })?;
    let mut found = exchanges(&pages);
    match asked {
        Err(error) if found.is_empty() => Err(error),
        Err(_) => Ok(of_pages(found)),
        Ok(mut asked) => {
            for id in std::mem::take(&mut asked.unreadable) {
                match found.remove(&id.0) {
                    Some(Some(original)) => asked.originals.push((id, original)),
                    Some(None) => {}
                    None => asked.unreadable.push(id),
                }
            }
            asked.originals.sort_by_key(|(id, _)| *id);
            Ok(asked)
        }
    }
}

/// The numbers of all exchanges lie between 1 and the last.
fn of_pages(mut found: BTreeMap<u64, Option<Transaction>>) -> Rescued {
    let last = found.keys().next_back().copied().unwrap_or(0);
    let mut rescued = Rescued::default();
    for id in 1..=last {
        match found.remove(&id) {
            Some(Some(original)) => rescued.originals.push((ExchangeId(id), original)),
            Some(None) => {}
            None => rescued.unreadable.push(ExchangeId(id)),
        }
    }
    rescued
}

/// What the pages say of each exchange: its Original, or `None` when it is settled. A page that was given up may hold
/// an older state of an exchange; the end is the end.
fn exchanges(pages: &Pages) -> BTreeMap<u64, Option<Transaction>> {
    let mut found = BTreeMap::new();
    for (id, row) in pages.rows().into_iter().filter(|(id, _)| *id <= MOST) {
        // The first columns of the table, in the order of schema/1.sql.
        let [Value::Null, Value::Text(_), Value::Text(_), original, Value::Text(state), ..] = &row[..] else {
            continue;
        };
        let original: Option<Transaction> = match original {
            Value::Blob(original) => deserialize(original).ok(),
            _ => None,
        };
        match (&state[..], original) {
            // The payer broadcast a plain payment himself.
            (b"settled" | b"plain", _) => {
                found.insert(id, None);
            }
            // Nobody paid: coins of ours alone were to open a channel.
            (_, Some(original)) if original.input.is_empty() => {
                found.insert(id, None);
            }
            (b"admitted" | b"failed" | b"released", Some(original)) => {
                found.entry(id).or_insert(Some(original));
            }
            _ => {}
        }
    }
    found
}

/// Asks SQLite.
fn ask(path: &Path) -> Result<Rescued, OpenError> {
    let (db, last) = open(path, "").or_else(|error| {
        // Without the right to write beside the file there is no sharing it: then it is read as if nobody wrote to it.
        open(path, "?immutable=1").map_err(|_| error)
    })?;
    let mut rescued = Rescued::default();
    // One look-up for each, by the table alone, so that a damaged page hides only those on it.
    let mut row = db.prepare(
        "SELECT original FROM exchanges NOT INDEXED WHERE id = ?1 AND state NOT IN ('settled', 'plain')",
    )?;
    for id in 1..=last {
        let found: Result<Option<Vec<u8>>, _> = row.query_row([id], |row| row.get(0)).optional();
        match found.map(|bytes| bytes.map(|bytes| deserialize(&bytes))) {
            Ok(None) => {}
            Ok(Some(Ok(Transaction { input, .. }))) if input.is_empty() => {}
            Ok(Some(Ok(original))) => rescued.originals.push((ExchangeId(id), original)),
            Ok(Some(Err(_))) | Err(_) => rescued.unreadable.push(ExchangeId(id)),
        }
    }
    Ok(rescued)
}

/// The file, and the number of the latest exchange in it.
fn open(path: &Path, mode: &str) -> Result<(Connection, u64), OpenError> {
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
