//! Tokens of programs that ask over the network, and what they ask once.

use async_trait::async_trait;
use payjoin_core::{Begun, Call, LedgerError, Timestamp, Token, Tokens};
use rusqlite::{Connection, OptionalExtension, params};

use super::{DbError, Store};

#[async_trait]
impl Tokens for Store {
    async fn add_token(&self, token: &Token) -> Result<(), LedgerError> {
        let token = token.clone();
        self.write(move |db| add(db, &token)).await
    }

    async fn tokens(&self) -> Result<Vec<Token>, LedgerError> {
        self.read(all)
    }

    async fn revoke_token(&self, name: &str) -> Result<bool, LedgerError> {
        let name = name.to_owned();
        let revoke = move |db: &Connection| {
            Ok(db.prepare_cached("DELETE FROM tokens WHERE name = ?1")?.execute([name])? > 0)
        };
        self.write(revoke).await
    }

    async fn begin_call(&self, call: &Call) -> Result<Begun, LedgerError> {
        let call = call.clone();
        self.write(move |db| begin(db, &call)).await
    }

    async fn end_call(&self, token: &[u8; 32], key: &str, answer: &str) -> Result<(), LedgerError> {
        let (token, key, answer) = (*token, key.to_owned(), answer.to_owned());
        let sql = "UPDATE calls SET answer = ?3 WHERE token = ?1 AND key = ?2";
        self.write(move |db| {
            db.prepare_cached(sql)?.execute(params![token, key, answer])?;
            Ok(())
        })
        .await
    }
}

fn add(db: &Connection, token: &Token) -> Result<(), DbError> {
    db.prepare_cached("INSERT INTO tokens (name, hash, rights, created) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![token.name, token.hash, token.rights, token.created.0])?;
    Ok(())
}

fn all(db: &Connection) -> Result<Vec<Token>, DbError> {
    let mut query = db.prepare_cached("SELECT name, hash, rights, created FROM tokens ORDER BY name")?;
    let rows = query.query_map([], |row| {
        let (name, hash, rights, created) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(Token { name, hash, rights, created: Timestamp(created) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn begin(db: &Connection, call: &Call) -> Result<Begun, DbError> {
    if !db.prepare_cached("SELECT 1 FROM tokens WHERE hash = ?1")?.exists([call.token])? {
        return Ok(Begun::Revoked);
    }
    db.prepare_cached("DELETE FROM calls WHERE created < ?1")?.execute([call.forget.0])?;
    let sql = "SELECT body, answer FROM calls WHERE token = ?1 AND key = ?2";
    let found = db
        .prepare_cached(sql)?
        .query_row(params![call.token, call.key], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?)))
        .optional()?;
    let answer: Option<String> = match found {
        Some((body, _)) if body != call.body => return Ok(Begun::Other),
        Some((_, answer)) => answer,
        None => {
            db.prepare_cached("INSERT INTO calls (token, key, body, created) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![call.token, call.key, call.body, call.now.0])?;
            return Ok(Begun::New);
        }
    };
    Ok(answer.map_or(Begun::Unanswered, Begun::Answered))
}
