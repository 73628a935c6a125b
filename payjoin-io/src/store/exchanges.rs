//! Exchanges and what they owe, with the transactions that change them together with their coins and intents.

mod outcome;
mod plain;
mod prune;
mod rows;

pub(super) use outcome::{record_mined, record_signed};
pub(super) use plain::record_plain;
pub(super) use prune::{lost, prune};

use bitcoin::OutPoint;
use bitcoin::consensus::encode::serialize;
use payjoin_core::{
    Admission, AdmitOutcome, EntryKind, ExchangeId, ExchangeRecord, ExchangeState, Fact, InvoiceId,
    LedgerError, Obligation, OriginalId, Release, Settled, Timestamp, paid_to,
};
use rusqlite::{Connection, OptionalExtension, params};

use self::rows::{OBLIGATION, RECORD, obligation, record, word};
use super::{DbError, claims, intents, invoices, journal, listed, locks, peers};

pub(super) fn recall(db: &Connection, original: &OriginalId) -> Result<Option<String>, DbError> {
    let mut query = db.prepare_cached("SELECT proposal FROM exchanges WHERE original_id = ?1")?;
    Ok(query.query_row([&original.0], |row| row.get(0)).optional()?.flatten())
}

pub(super) fn failed(db: &Connection, original: &OriginalId) -> Result<Option<ExchangeId>, DbError> {
    let sql = "SELECT id FROM exchanges WHERE original_id = ?1 AND state = 'failed'";
    Ok(db.prepare_cached(sql)?.query_row([&original.0], |row| row.get(0)).optional()?.map(ExchangeId))
}

pub(super) fn standing(
    db: &Connection,
    id: ExchangeId,
) -> Result<Option<(ExchangeState, Vec<OutPoint>)>, DbError> {
    let sql = "SELECT state FROM exchanges WHERE id = ?1";
    let state: Option<String> = db.prepare_cached(sql)?.query_row([id.0], |row| row.get(0)).optional()?;
    let state = state.map(|state| word(id, state)).transpose()?;
    state.map(|state| Ok((state, locks::held(db, id)?))).transpose()
}

pub(super) fn recover(db: &Connection) -> Result<Vec<ExchangeId>, DbError> {
    // The first term lets SQLite use the index of unsettled exchanges.
    let sql = "SELECT id FROM exchanges WHERE state <> 'settled' AND state = 'admitted'";
    let ids = db
        .prepare_cached(sql)?
        .query_map([], |row| row.get(0).map(ExchangeId))?
        .collect::<Result<Vec<_>, _>>()?;
    ids.iter().try_for_each(|id| fail(db, *id, "interrupted"))?;
    Ok(ids)
}

pub(super) fn offers(db: &Connection, invoice: &InvoiceId) -> Result<u32, DbError> {
    let sql = "SELECT count(*) FROM exchanges WHERE invoice = ?1 AND offered = 1";
    Ok(db.prepare_cached(sql)?.query_row([&invoice.0], |row| row.get(0))?)
}

pub(super) fn obligations(db: &Connection) -> Result<Vec<Obligation>, DbError> {
    let sql = format!("SELECT {OBLIGATION} FROM exchanges WHERE state <> 'settled' ORDER BY id");
    db.prepare_cached(&sql)?.query_and_then([], |row| obligation(db, row))?.collect()
}

pub(super) fn owed(db: &Connection, id: ExchangeId) -> Result<Option<Obligation>, DbError> {
    let sql = format!("SELECT {OBLIGATION} FROM exchanges WHERE id = ?1 AND state <> 'settled'");
    db.prepare_cached(&sql)?.query_and_then([id.0], |row| obligation(db, row))?.next().transpose()
}

pub(super) fn latest(
    db: &Connection,
    before: Option<ExchangeId>,
    limit: u32,
) -> Result<Vec<ExchangeRecord>, DbError> {
    let sql = format!("SELECT {RECORD} FROM exchanges WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
    let before = before.and_then(|before| i64::try_from(before.0).ok()).unwrap_or(i64::MAX);
    db.prepare_cached(&sql)?.query_and_then(params![before, limit], record)?.collect()
}

pub(super) fn find(db: &Connection, id: ExchangeId) -> Result<Option<ExchangeRecord>, DbError> {
    let sql = format!("SELECT {RECORD} FROM exchanges WHERE id = ?1");
    db.prepare_cached(&sql)?.query_and_then([id.0], record)?.next().transpose()
}

pub(super) fn at(db: &Connection, invoice: &InvoiceId) -> Result<Vec<ExchangeRecord>, DbError> {
    let sql = format!("SELECT {RECORD} FROM exchanges WHERE invoice = ?1 ORDER BY id DESC");
    db.prepare_cached(&sql)?.query_and_then([&invoice.0], record)?.collect()
}

pub(super) fn admit(db: &Connection, id: ExchangeId, admission: &Admission) -> Result<AdmitOutcome, DbError> {
    let earlier = db
        .prepare_cached("SELECT id, state FROM exchanges WHERE original_id = ?1")?
        .query_row([&admission.original_id.0], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    let resumed = match earlier {
        None => false,
        Some((known, state)) if state == "failed" && known == id.0 => true,
        Some((known, state)) if matches!(state.as_str(), "admitted" | "failed") => {
            return Err(LedgerError::WrongState(ExchangeId(known)).into());
        }
        Some(_) => return Ok(AdmitOutcome::Seen),
    };
    if claims::is_claimed(db, &admission.invoice)? {
        return Ok(AdmitOutcome::Paid);
    }
    if locks::seen(db, &admission.original, id)? {
        return Ok(AdmitOutcome::Seen);
    }
    match resumed {
        true => resume(db, id, admission)?,
        false => insert(db, id, admission)?,
    }
    locks::record_seen(db, admission.original.input.iter().map(|input| input.previous_output), id)?;
    if admission.is_own() {
        // What it pays back to us is no payment.
        locks::record_seen(db, admission.coins.iter().copied(), id)?;
    }
    locks::lock(db, id, &admission.invoice, &admission.coins)?;
    intents::take(db, id, &admission.intents)?;
    peers::take(db, id, admission.height)?;
    if !admission.is_own() {
        listed::list(db, "exchange", id.0, admission.now)?;
    }
    let txid = Some(admission.original.compute_txid());
    journal::tell(db, &Fact { txid, ..journal::of_exchange(db, EntryKind::OriginalReceived, id)? })?;
    Ok(AdmitOutcome::Admitted)
}

fn insert(db: &Connection, id: ExchangeId, admission: &Admission) -> Result<(), DbError> {
    let sql = "INSERT INTO exchanges
                   (id, invoice, original_id, original, state, fallback_at, created, original_fee, amount, own)
               VALUES (?1, ?2, ?3, ?4, 'admitted', ?5, ?6, ?7, ?8, ?9)";
    let invoice = invoices::find(db, &admission.invoice)?;
    let paid = invoice.map(|invoice| paid_to(&invoice.script, &admission.original).to_sat());
    let row = params![
        id.0,
        admission.invoice.0,
        admission.original_id.0,
        serialize(&admission.original),
        admission.fallback_at.0,
        admission.now.0,
        admission.fee.to_sat(),
        paid,
        admission.is_own(),
    ];
    db.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// The earlier deadline holds: sending an Original again does not put its broadcast off. Only a proposal does.
fn resume(db: &Connection, id: ExchangeId, admission: &Admission) -> Result<(), DbError> {
    let sql = "UPDATE exchanges SET state = 'admitted', reason = NULL, fallback_at = min(fallback_at, ?2) WHERE id = ?1";
    db.prepare_cached(sql)?.execute([id.0, admission.fallback_at.0])?;
    Ok(())
}

pub(super) fn write_release(db: &Connection, id: ExchangeId, release: &Release) -> Result<(), DbError> {
    let channels =
        serde_json::to_string(&release.channels).map_err(|error| LedgerError::Damaged(error.to_string()))?;
    let sql =
        "UPDATE exchanges SET state = 'released', proposal = ?2, payjoin = ?3, channels = ?4, reason = ?5,
               offered = ?6, fallback_at = ?7, payjoin_fee = ?8, partitions = ?9,
               signed = coalesce(?10, signed) WHERE id = ?1 AND state = 'admitted'";
    let row = params![
        id.0,
        release.proposal,
        release.txid.to_string(),
        channels,
        release.reason,
        !release.coins.is_empty(),
        release.fallback_at.0,
        release.fee.to_sat(),
        release.partitions,
        release.signed.as_deref().map(serialize),
    ];
    changed_one(id, db.prepare_cached(sql)?.execute(row)?)?;
    intents::release(db, id, release.txid, &release.channels)?;
    peers::release(db, id, &release.txid.to_string(), &release.channels)?;
    intents::requeue(db, id, release.reason.as_deref(), false)?;
    let txid = release.is_final.then_some(release.txid);
    let detail = release.reason.clone();
    journal::tell(db, &Fact { txid, detail, ..journal::of_exchange(db, EntryKind::ProposalSent, id)? })?;
    locks::unlock(db, id, &release.coins)
}

pub(super) fn fail(db: &Connection, id: ExchangeId, reason: &str) -> Result<(), DbError> {
    // Of an opening of our own nothing is owed.
    let sql = "UPDATE exchanges SET state = iif(own, 'settled', 'failed'), outcome = iif(own, 'gone', NULL),
                   settled_at = iif(own, created, NULL), reason = ?2 WHERE id = ?1 AND state = 'admitted'";
    changed_one(id, db.prepare_cached(sql)?.execute(params![id.0, reason])?)?;
    intents::requeue(db, id, Some(reason), false)?;
    let detail = Some(reason.to_owned());
    journal::tell(db, &Fact { detail, ..journal::of_exchange(db, EntryKind::ExchangeFailed, id)? })?;
    locks::unlock(db, id, &[])
}

pub(super) fn settle(
    db: &Connection,
    id: ExchangeId,
    outcome: Settled,
    now: Timestamp,
) -> Result<(), DbError> {
    let (name, lost) = match outcome {
        Settled::Payjoin => ("payjoin", None),
        Settled::Original => ("original", Some("the Original was buried instead of the payjoin")),
        Settled::Conflict => ("conflict", Some("another spend of an input of the payjoin was buried")),
        Settled::Plain => ("plain", None),
        Settled::Gone => ("gone", None),
    };
    let txid = outcome::buried(db, id)?;
    let sql = "UPDATE exchanges SET state = 'settled', outcome = ?2, settled_at = ?3
               WHERE id = ?1 AND state IN ('failed', 'released', 'plain')";
    changed_one(id, db.prepare_cached(sql)?.execute(params![id.0, name, now.0])?)?;
    match lost {
        None => {
            intents::buried(db, id)?;
            peers::buried(db, id)?;
        }
        Some(_) => intents::requeue(db, id, lost, true)?,
    }
    let detail = Some(name.to_owned());
    journal::tell(
        db,
        &Fact { txid, detail, ..journal::of_exchange(db, EntryKind::of_outcome(outcome), id)? },
    )?;
    locks::unlock(db, id, &[])
}

fn changed_one(id: ExchangeId, rows: usize) -> Result<(), DbError> {
    if rows == 1 { Ok(()) } else { Err(LedgerError::WrongState(id).into()) }
}
