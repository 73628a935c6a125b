//! What the chain says of an exchange.

use bitcoin::consensus::encode::serialize;
use bitcoin::{Transaction, Txid};
use payjoin_core::{EntryKind, ExchangeId, Fact, LedgerError, Obligation};
use rusqlite::{Connection, OptionalExtension, params};

use super::{changed_one, owed, plain};
use crate::store::{DbError, intents, journal};

pub(in crate::store) fn record_mined(
    db: &Connection,
    id: ExchangeId,
    mined: Option<&(Transaction, u32)>,
) -> Result<(), DbError> {
    let before = owed(db, id)?;
    let (bytes, height) = mined.map(|(transaction, height)| (serialize(transaction), *height)).unzip();
    let payjoin: Option<String> = db
        .prepare_cached("UPDATE exchanges SET mined = ?2, mined_height = ?3 WHERE id = ?1 RETURNING payjoin")?
        .query_row(params![id.0, bytes, height], |row| row.get(0))
        .optional()?
        .ok_or(LedgerError::WrongState(id))?;
    let mined = mined.map(|(transaction, _)| transaction);
    plain::paid(db, id, mined)?;
    if mined.is_some() {
        intents::hurry(db, id)?;
    }
    let in_block = mined.filter(|mined| payjoin == Some(mined.compute_ntxid().to_string()));
    intents::confirming(db, id, in_block.is_some())?;
    // Of an exchange that is settled already nothing new is told.
    let Some(before) = before else { return Ok(()) };
    let saved = in_block.map(|payjoin| before.fees.saved(before.channels.len(), payjoin).to_sat());
    db.prepare_cached("UPDATE exchanges SET saved = ?2 WHERE id = ?1")?.execute(params![id.0, saved])?;
    tell(db, &before, mined)
}

/// Tells what is in the chain now, if that is news.
fn tell(db: &Connection, before: &Obligation, mined: Option<&Transaction>) -> Result<(), DbError> {
    let id = before.exchange;
    let known = before.mined.as_ref().map(|(transaction, _)| transaction.compute_txid());
    let now = mined.map(Transaction::compute_txid);
    if known == now {
        return Ok(());
    }
    if let (Some(txid), _) = (known, now) {
        let kind = EntryKind::PaymentUnconfirmed;
        journal::tell(db, &Fact { txid: Some(txid), ..journal::of_exchange(db, kind, id)? })?;
    }
    let Some(mined) = mined else { return Ok(()) };
    let detail = match before.original.compute_ntxid() == mined.compute_ntxid() {
        _ if before.payjoin == Some(Txid::from(mined.compute_ntxid())) => "payjoin",
        true if before.plain => "plain",
        true => "original",
        false => "other",
    };
    let detail = Some(detail.to_owned());
    let kind = EntryKind::PaymentConfirmed;
    journal::tell(db, &Fact { txid: now, detail, ..journal::of_exchange(db, kind, id)? })
}

/// The transaction that is buried.
pub(super) fn buried(db: &Connection, id: ExchangeId) -> Result<Option<Txid>, DbError> {
    let mined = owed(db, id)?.and_then(|owed| owed.mined);
    Ok(mined.map(|(mined, _)| mined.compute_txid()))
}

pub(in crate::store) fn record_signed(
    db: &Connection,
    id: ExchangeId,
    payjoin: &Transaction,
) -> Result<(), DbError> {
    let sql = "SELECT signed IS NOT NULL FROM exchanges WHERE id = ?1";
    let known: Option<bool> = db.prepare_cached(sql)?.query_row([id.0], |row| row.get(0)).optional()?;
    let sql = "UPDATE exchanges SET signed = ?2 WHERE id = ?1";
    changed_one(id, db.prepare_cached(sql)?.execute(params![id.0, serialize(payjoin)])?)?;
    if known == Some(true) {
        return Ok(());
    }
    let (txid, detail) = (Some(payjoin.compute_txid()), Some("payjoin".to_owned()));
    journal::tell(db, &Fact { txid, detail, ..journal::of_exchange(db, EntryKind::PaymentSeen, id)? })
}
