//! Event logs of sessions.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::{Store, StoreError};
use crate::{HostError, SessionKey, SessionKind, SessionStore};

#[async_trait]
impl SessionStore for Store {
    async fn append(&self, session: &SessionKey, event: String) -> Result<(), HostError> {
        let session = session.clone();
        Ok(self.write(move |db| append(db, &session, &event, true)).await?)
    }

    async fn close(&self, session: &SessionKey, event: String) -> Result<(), HostError> {
        let session = session.clone();
        Ok(self.write(move |db| append(db, &session, &event, false)).await?)
    }

    fn events(&self, session: &SessionKey) -> Result<Vec<String>, HostError> {
        let sql = "SELECT event FROM session_events JOIN sessions ON session = id
                   WHERE kind = ?1 AND name = ?2 ORDER BY number";
        Ok(self.read(|db| {
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map([word(session.kind), &session.name], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?)
    }

    fn open_sessions(&self, kind: SessionKind) -> Result<Vec<String>, HostError> {
        let sql = "SELECT name FROM sessions WHERE kind = ?1 AND open = 1 ORDER BY id";
        Ok(self.read(|db| {
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map([word(kind)], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?)
    }
}

fn append(db: &Connection, session: &SessionKey, event: &str, open: bool) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_keeps_its_order_and_its_end_across_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let key = |name: &str| SessionKey { kind: SessionKind::Send, name: name.into() };
        let store = Store::open(&path).unwrap();
        for event in ["created", "posted"] {
            store.append(&key("a"), event.into()).await.unwrap();
            store.append(&key("b"), event.into()).await.unwrap();
        }
        store.close(&key("a"), "ended".into()).await.unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.events(&key("a")).unwrap(), ["created", "posted", "ended"]);
        assert_eq!(store.events(&key("c")).unwrap(), [""; 0]);
        assert_eq!(store.open_sessions(SessionKind::Send).unwrap(), ["b"]);
        assert_eq!(store.open_sessions(SessionKind::Receive).unwrap(), [""; 0]);
        // A late event does not open it again.
        store.append(&key("a"), "late".into()).await.unwrap();
        assert_eq!(store.open_sessions(SessionKind::Send).unwrap(), ["b"]);
    }
}
