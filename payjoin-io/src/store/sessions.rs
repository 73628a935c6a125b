//! Event logs of sessions.

use payjoin_core::{SessionKey, SessionKind};
use rusqlite::{Connection, params};

use super::DbError;

pub(super) fn events(db: &Connection, session: &SessionKey) -> Result<Vec<String>, DbError> {
    let sql = "SELECT event FROM session_events JOIN sessions ON session = id
               WHERE kind = ?1 AND name = ?2 ORDER BY number";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([word(session.kind), &session.name], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn open(db: &Connection, kind: SessionKind) -> Result<Vec<String>, DbError> {
    let sql = "SELECT name FROM sessions WHERE kind = ?1 AND open = 1 ORDER BY id";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([word(kind)], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The last event ends the session.
pub(super) fn append(db: &Connection, session: &SessionKey, event: &str, open: bool) -> Result<(), DbError> {
    let sql = "INSERT INTO sessions (kind, name, open) VALUES (?1, ?2, ?3)
               ON CONFLICT (kind, name) DO UPDATE SET open = open AND excluded.open RETURNING id";
    let id: u64 = db
        .prepare_cached(sql)?
        .query_row(params![word(session.kind), session.name, open], |row| row.get(0))?;
    let sql = "INSERT INTO session_events (session, number, event)
               SELECT ?1, count(*), ?2 FROM session_events WHERE session = ?1";
    db.prepare_cached(sql)?.execute(params![id, event])?;
    Ok(())
}

fn word(kind: SessionKind) -> &'static str {
    match kind {
        SessionKind::Receive => "receive",
        SessionKind::Send => "send",
    }
}
