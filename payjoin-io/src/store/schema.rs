//! Opening the file: settings, integrity, schema version.

use std::path::Path;
use std::time::Duration;

use bitcoin::consensus::encode::deserialize;
use payjoin_core::{InvoiceId, OriginalId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{OpenError, StoreError};

/// Statements that a connection keeps prepared: all of ours.
const STATEMENTS: usize = 64;

/// Between looks at a file that another program holds.
const PAUSE: Duration = Duration::from_millis(50);
/// It is told after a tenth as many looks as this, which is three seconds, and again after so many more.
const TOLD: i32 = 600;

/// `MIGRATIONS[n]` takes schema version `n` to `n + 1`. Never edit one that was released; append.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
    include_str!("schema/9.sql"),
    include_str!("schema/10.sql"),
    include_str!("schema/11.sql"),
    include_str!("schema/12.sql"),
];

/// The version of a store's file, in use or not, and the one that this code makes of it. Changes nothing.
///
/// # Errors
/// When the file cannot be read, or is no store.
pub fn schema_version(path: &Path) -> Result<(u32, u32), StoreError> {
    let read = || {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.query_row("PRAGMA user_version", [], |row| row.get(0))
    };
    let found = read().map_err(|error| StoreError::from(OpenError::from(error)))?;
    Ok((found, u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)))
}

pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    Ok(open_with(path, MIGRATIONS)?)
}

pub(super) fn open_with(path: &Path, migrations: &[&str]) -> Result<Connection, OpenError> {
    let mut db = Connection::open(path)?;
    wait_for_others(&db)?;
    keep_plans(&db)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // Where `fsync` does not reach the platter; no effect elsewhere.
    db.pragma_update(None, "fullfsync", true)?;
    let health: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if health != "ok" {
        return Err(StoreError::Corrupt(health).into());
    }
    // A migration that makes a table anew drops the one that others refer to.
    db.pragma_update(None, "foreign_keys", false)?;
    migrate(&mut db, migrations)?;
    db.pragma_update(None, "foreign_keys", true)?;
    Ok(db)
}

/// Another program may hold the file: a backup, an operator who looks into it. We wait as long as it does, and say so: a
/// write that gives up would end the node.
fn wait_for_others(db: &Connection) -> rusqlite::Result<()> {
    db.busy_handler(Some(|waits| {
        if waits % TOLD == TOLD / 10 {
            tracing::warn!("another program holds the database; waiting for it to let go");
        }
        std::thread::sleep(PAUSE);
        true
    }))
}

/// Prepares each statement once. Without the second setting SQLite would plan some of them anew for each value that is
/// bound, for example to `LIMIT`.
fn keep_plans(db: &Connection) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// A second connection, and the greatest numbers of an exchange and of a payment.
pub(super) fn open_to_read(path: &Path) -> Result<(Connection, u64, u64), OpenError> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    wait_for_others(&db)?;
    keep_plans(&db)?;
    let (exchange, payment) = (last(&db, "exchanges")?, last(&db, "payments")?);
    Ok((db, exchange, payment))
}

/// The greatest number that the table ever gave to a row.
fn last(db: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1";
    db.query_row(sql, [table], |row| row.get(0))
}

fn migrate(db: &mut Connection, migrations: &[&str]) -> Result<(), OpenError> {
    let found: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::TooNew { found, known }.into());
    }
    for (version, sql) in (1..=known).zip(migrations).skip(found as usize) {
        let transaction = db.transaction()?;
        announce(version, &transaction)?;
        transaction.execute_batch(sql)?;
        if version == NAMED_BY_TRANSACTION {
            rename_originals(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// The version from which on an Original is named by its transaction, and not by the bytes of the request.
const NAMED_BY_TRANSACTION: u32 = 11;

/// Gives Originals that wait for something their new names, so that they are known again. What cannot be read keeps its own.
fn rename_originals(db: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT id, invoice, original FROM exchanges WHERE plain IS NULL AND original IS NOT NULL";
    let mut query = db.prepare(sql)?;
    let mut rename = db.prepare("UPDATE OR IGNORE exchanges SET original_id = ?2 WHERE id = ?1")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (id, invoice, original) = (row.get::<_, u64>(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?);
        if let Ok(original) = deserialize(&original) {
            rename.execute((id, OriginalId::of(&InvoiceId(invoice), &original).0))?;
        }
    }
    Ok(())
}

/// The version from which on payer and operator are one person for a code, and for no channel.
const WORD_FOR_A_CODE: u32 = 8;

/// Tells the operator what a migration takes away, before it does.
fn announce(version: u32, db: &Connection) -> rusqlite::Result<()> {
    if version != WORD_FOR_A_CODE {
        return Ok(());
    }
    let sql = "SELECT id FROM intents
               WHERE payer_is_me AND state IN ('queued', 'negotiating', 'released', 'confirming')";
    let intents = db.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<Vec<u64>, _>>()?;
    if !intents.is_empty() {
        tracing::warn!(
            ?intents,
            "these intents were queued with payer-is-me, which counts no more: it would have served whoever pays \
             first. To open them without a coin of the wallet, pay a code made by `receive --payer-is-me`"
        );
    }
    Ok(())
}
