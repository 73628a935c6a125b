//! The list of everything that moves money: who belongs into it is put there with the write that makes it known.

use payjoin_core::Timestamp;
use rusqlite::{Connection, ToSql, params};

use super::DbError;

/// Lists what the row of another table says, unless it is listed.
pub(super) fn list(
    db: &Connection,
    column: &'static str,
    id: impl ToSql,
    now: Timestamp,
) -> Result<(), DbError> {
    let sql = format!("INSERT OR IGNORE INTO movements (created, {column}) VALUES (?1, ?2)");
    db.prepare_cached(&sql)?.execute(params![now.0, id])?;
    Ok(())
}
