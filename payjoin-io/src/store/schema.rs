//! Opening the file: settings, integrity, schema version.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::StoreError;

/// Statements that a connection keeps prepared: all of ours.
const STATEMENTS: usize = 64;

/// `MIGRATIONS[n]` takes schema version `n` to `n + 1`. Never edit one that was released; append.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];

pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    open_with(path, MIGRATIONS).map_err(|error| match error {
        StoreError::Sqlite(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
            ) =>
        {
            StoreError::Corrupt(error.to_string())
        }
        error => error,
    })
}

pub(super) fn open_with(path: &Path, migrations: &[&str]) -> Result<Connection, StoreError> {
    let mut db = Connection::open(path)?;
    keep_plans(&db)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // Where `fsync` does not reach the platter; no effect elsewhere.
    db.pragma_update(None, "fullfsync", true)?;
    db.pragma_update(None, "foreign_keys", true)?;
    let health: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if health != "ok" {
        return Err(StoreError::Corrupt(health));
    }
    migrate(&mut db, migrations)?;
    Ok(db)
}

/// Prepares each statement once. Without the second setting SQLite would plan some of them anew for each value that is
/// bound, for example to `LIMIT`.
pub(super) fn keep_plans(db: &Connection) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn migrate(db: &mut Connection, migrations: &[&str]) -> Result<(), StoreError> {
    let found: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, sql) in (1..=known).zip(migrations).skip(found as usize) {
        let transaction = db.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
