//! Channel intents: what the operator wants, and which exchange holds it (money rule 9).

use bitcoin::{Amount, OutPoint, Txid};
use payjoin_core::{
    ChannelAmount, ChannelEnd, ChannelLimits, ChannelSpec, ChannelWish, Closure, EntryKind, ExchangeId, Fact,
    FundedChannel, IntentId, IntentRecord, IntentState, InvoiceId, LedgerError, PeerAddress, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DbError, journal, listed};

/// What [`wish`] reads, and the peer.
pub(super) const WISH: &str = "intents.id, intents.amount, intents.min, intents.max, intents.peer";
/// The value of a channel that takes payment and coins whole: no exact one is so small. The rest has none.
const ABSORB: u64 = 0;
const COLUMNS: &str = "id, amount, min, max, peer, push, announced, state, reason, txid, vout, closing,
    open_by, ended, how";

pub(super) fn queue(
    db: &Connection,
    spec: &ChannelSpec,
    limits: &ChannelLimits,
    open_by: Option<Timestamp>,
) -> Result<IntentId, DbError> {
    let amount = match spec.amount {
        ChannelAmount::Exact(amount) => Some(amount.to_sat()),
        ChannelAmount::Rest => None,
        ChannelAmount::Absorb => Some(ABSORB),
    };
    let (min, max) = (spec.least(limits).to_sat(), limits.max.to_sat());
    let (peer, push) = (spec.peer.to_string(), spec.push.to_sat());
    let row = params![amount, min, max, peer, push, spec.announced, open_by.map(|by| by.0)];
    let sql = "INSERT INTO intents (amount, min, max, peer, push, announced, state, open_by)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'queued', ?7) RETURNING id";
    Ok(IntentId(db.prepare_cached(sql)?.query_row(row, |row| row.get(0))?))
}

pub(super) fn due(db: &Connection, now: Timestamp) -> Result<Vec<IntentId>, DbError> {
    let sql =
        "SELECT id FROM intents WHERE state = 'queued' AND open_by IS NOT NULL AND open_by <= ?1 ORDER BY id";
    let ids =
        db.prepare_cached(sql)?.query_map([now.0], |row| row.get(0).map(IntentId))?.collect::<Result<_, _>>();
    Ok(ids?)
}

/// A payment was mined that opened no channel: its coins are there, and what waited for a payment waits no longer.
pub(super) fn hurry(db: &Connection, exchange: ExchangeId) -> Result<(), DbError> {
    let sql = "UPDATE intents SET open_by = 0 WHERE state = 'queued' AND open_by > 0
               AND EXISTS (SELECT 1 FROM exchanges WHERE id = ?1 AND channels = '[]' AND NOT own)";
    db.prepare_cached(sql)?.execute([exchange.0])?;
    Ok(())
}

pub(super) fn explain(db: &Connection, id: IntentId, reason: &str) -> Result<(), DbError> {
    let sql = "UPDATE intents SET reason = ?2 WHERE id = ?1 AND state = 'queued'";
    db.prepare_cached(sql)?.execute(params![id.0, reason])?;
    Ok(())
}

pub(super) fn cancel(db: &Connection, id: IntentId, now: Timestamp) -> Result<(), DbError> {
    let sql = "UPDATE intents SET state = 'cancelled', reason = NULL, ended = ?2
               WHERE id = ?1 AND state = 'queued'";
    let changed = db.prepare_cached(sql)?.execute([id.0, now.0])?;
    if changed == 1 { Ok(()) } else { Err(LedgerError::NotQueued(id).into()) }
}

pub(super) fn all(db: &Connection) -> Result<Vec<IntentRecord>, DbError> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM intents ORDER BY id"))?
        .query_and_then([], decode)?
        .collect()
}

pub(super) fn find(db: &Connection, id: IntentId) -> Result<Option<IntentRecord>, DbError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM intents WHERE id = ?1"))?;
    query.query_and_then([id.0], decode)?.next().transpose()
}

/// The funding outputs of intents that are buried and whose channels nobody has said to be usable.
pub(super) fn all_buried(db: &Connection) -> Result<Vec<(IntentId, OutPoint)>, DbError> {
    let sql = "SELECT intents.id, intents.txid, intents.vout FROM intents
               JOIN exchanges ON exchanges.id = intents.exchange
               WHERE intents.state = 'confirming' AND exchanges.state = 'settled'";
    db.prepare_cached(sql)?.query_and_then([], funding)?.collect()
}

pub(super) fn open(db: &Connection, id: IntentId) -> Result<(), DbError> {
    let sql = "UPDATE intents SET state = 'open' WHERE id = ?1 AND state = 'confirming'
               AND (SELECT state FROM exchanges WHERE id = intents.exchange) = 'settled'";
    match db.prepare_cached(sql)?.execute([id.0])? {
        0 => Ok(()),
        _ => tell(db, EntryKind::ChannelUsable, id, None),
    }
}

/// Tells what happened to a channel, with the code whose payment opened it.
fn tell(db: &Connection, kind: EntryKind, id: IntentId, detail: Option<String>) -> Result<(), DbError> {
    let sql = "SELECT intents.exchange, exchanges.invoice, intents.txid FROM intents
               LEFT JOIN exchanges ON exchanges.id = intents.exchange WHERE intents.id = ?1";
    let row = |row: &Row<'_>| {
        let invoice = row.get::<_, Option<String>>(1)?.map(InvoiceId);
        // A transaction id that cannot be read is found by those who need it.
        let txid = row.get::<_, Option<String>>(2)?.and_then(|txid| txid.parse().ok());
        let exchange = row.get::<_, Option<u64>>(0)?.map(ExchangeId);
        Ok(Fact { exchange, invoice, txid, intent: Some(id), ..Fact::new(kind) })
    };
    let fact = db.prepare_cached(sql)?.query_row([id.0], row)?;
    journal::tell(db, &Fact { detail, ..fact })
}

pub(super) fn close(
    db: &Connection,
    funding: OutPoint,
    end: &ChannelEnd,
    now: Timestamp,
) -> Result<bool, DbError> {
    let sql = "UPDATE intents SET state = 'closed', reason = ?3, ended = ?4, how = ?5
               WHERE txid = ?1 AND vout = ?2 AND (state = 'open' OR state = 'confirming'
                   AND (SELECT state FROM exchanges WHERE id = intents.exchange) = 'settled') RETURNING id";
    let at = (funding.txid.to_string(), funding.vout);
    let row = params![at.0, at.1, end.reason, now.0, name(end.how)];
    let closed: Option<u64> = db.prepare_cached(sql)?.query_row(row, |row| row.get(0)).optional()?;
    if let Some(id) = closed {
        listed::list(db, "intent", id, now)?;
        tell(db, EntryKind::ChannelClosed, IntentId(id), Some(end.reason.clone()))?;
    }
    let sql = "SELECT 1 FROM intents WHERE txid = ?1 AND vout = ?2 AND state IN ('released', 'confirming')";
    Ok(!db.prepare_cached(sql)?.exists(params![at.0, at.1])?)
}

pub(super) fn record_closing(db: &Connection, funding: OutPoint, closing: Txid) -> Result<(), DbError> {
    let sql = "UPDATE intents SET closing = ?3 WHERE txid = ?1 AND vout = ?2";
    let row = params![funding.txid.to_string(), funding.vout, closing.to_string()];
    db.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

pub(super) fn fundings(db: &Connection, since: Timestamp) -> Result<Vec<OutPoint>, DbError> {
    let sql = "SELECT id, txid, vout FROM intents
               WHERE txid IS NOT NULL AND (closing IS NULL OR ended IS NULL OR ended >= ?1)";
    db.prepare_cached(sql)?.query_and_then([since.0], |row| Ok(funding(row)?.1))?.collect()
}

/// Of the columns id, txid and vout.
fn funding(row: &Row<'_>) -> Result<(IntentId, OutPoint), DbError> {
    let id = IntentId(row.get(0)?);
    let txid = row.get::<_, String>(1)?.parse();
    let txid = txid.map_err(|_| LedgerError::Damaged(format!("intent {}: its txid", id.0)))?;
    Ok((id, OutPoint { txid, vout: row.get(2)? }))
}

/// Takes queued intents for an exchange: all or, with the error, none.
pub(super) fn take(db: &Connection, exchange: ExchangeId, intents: &[IntentId]) -> Result<(), DbError> {
    let mut update = db.prepare_cached(
        "UPDATE intents SET state = 'negotiating', reason = NULL, exchange = ?2 WHERE id = ?1 AND state = 'queued'",
    )?;
    for id in intents {
        if update.execute([id.0, exchange.0])? != 1 {
            return Err(LedgerError::NotQueued(*id).into());
        }
    }
    Ok(())
}

/// The exchange's proposal, with a funding output for these intents, is about to leave.
pub(super) fn release(
    db: &Connection,
    exchange: ExchangeId,
    txid: Txid,
    channels: &[FundedChannel],
) -> Result<(), DbError> {
    let mut update = db.prepare_cached(
        "UPDATE intents SET state = 'released', txid = ?3, vout = ?4
         WHERE id = ?1 AND exchange = ?2 AND state = 'negotiating'",
    )?;
    for channel in channels {
        let row = params![channel.intent.0, exchange.0, txid.to_string(), channel.vout];
        if update.execute(row)? != 1 {
            return Err(LedgerError::NotQueued(channel.intent).into());
        }
    }
    Ok(())
}

/// The funding transaction was seen in a block, or was reorganised out again.
pub(super) fn confirming(db: &Connection, exchange: ExchangeId, in_block: bool) -> Result<(), DbError> {
    let (from, to) = if in_block { ("released", "confirming") } else { ("confirming", "released") };
    db.prepare_cached("UPDATE intents SET state = ?3 WHERE exchange = ?1 AND state = ?2")?
        .execute(params![exchange.0, from, to])?;
    Ok(())
}

/// The exchange's channels are funded for good. They are open when the node says that they are usable.
pub(super) fn buried(db: &Connection, exchange: ExchangeId) -> Result<(), DbError> {
    confirming(db, exchange, true)
}

/// As the file spells it.
fn name(how: Closure) -> &'static str {
    match how {
        Closure::Cooperative => "cooperative",
        Closure::ForcedByUs => "forced_by_us",
        Closure::ForcedByPeer => "forced_by_peer",
        Closure::NotFunded => "not_funded",
        Closure::Unknown => "unknown",
    }
}

/// Of channels that closed before version 12 nobody knows.
fn how(text: Option<String>) -> Option<Closure> {
    use Closure::{Cooperative, ForcedByPeer, ForcedByUs, NotFunded, Unknown};
    let all = [Cooperative, ForcedByUs, ForcedByPeer, NotFunded, Unknown];
    all.into_iter().find(|how| Some(name(*how)) == text.as_deref())
}

/// Puts the intents that the exchange took back into the queue; those it released only when told so.
pub(super) fn requeue(
    db: &Connection,
    exchange: ExchangeId,
    reason: Option<&str>,
    released_too: bool,
) -> Result<(), DbError> {
    db.prepare_cached(
        "UPDATE intents SET state = 'queued', reason = ?2, exchange = NULL, txid = NULL, vout = NULL,
             closing = NULL
         WHERE exchange = ?1 AND (state = 'negotiating' OR (?3 AND state IN ('released', 'confirming')))",
    )?
    .execute(params![exchange.0, reason, released_too])?;
    Ok(())
}

pub(super) fn wish(row: &Row<'_>) -> rusqlite::Result<ChannelWish> {
    let amount = match row.get(1)? {
        None => ChannelAmount::Rest,
        Some(ABSORB) => ChannelAmount::Absorb,
        Some(sat) => ChannelAmount::Exact(Amount::from_sat(sat)),
    };
    Ok(ChannelWish {
        id: IntentId(row.get(0)?),
        amount,
        min: Amount::from_sat(row.get(2)?),
        max: Amount::from_sat(row.get(3)?),
    })
}

fn decode(row: &Row<'_>) -> Result<IntentRecord, DbError> {
    let wish = wish(row)?;
    let damaged = |what: String| DbError::from(LedgerError::Damaged(format!("intent {}: {what}", wish.id.0)));
    let peer: PeerAddress = row.get::<_, String>(4)?.parse().map_err(|_| damaged("its peer".into()))?;
    let (push, announced) = (Amount::from_sat(row.get(5)?), row.get(6)?);
    let spec = ChannelSpec { peer, amount: wish.amount, push, announced };
    let funding = || {
        let txid = row.get::<_, String>(9)?.parse().map_err(|_| damaged("its txid".into()))?;
        Ok::<_, DbError>((txid, row.get(10)?))
    };
    let state = match row.get::<_, String>(7)?.as_str() {
        "queued" => IntentState::Queued { reason: row.get(8)? },
        "negotiating" => IntentState::Negotiating,
        "released" => funding().map(|(txid, vout)| IntentState::Released { txid, vout })?,
        "confirming" => funding().map(|(txid, vout)| IntentState::Confirming { txid, vout })?,
        "open" => funding().map(|(txid, vout)| IntentState::Open { txid, vout })?,
        "closed" => {
            let closing = row.get::<_, Option<String>>(11)?.map(|closing| closing.parse()).transpose();
            let closing = closing.map_err(|_| damaged("its closing transaction".into()))?;
            let reason = row.get::<_, Option<String>>(8)?.unwrap_or_default();
            funding().map(|(txid, vout)| IntentState::Closed { txid, vout, closing, reason })?
        }
        "cancelled" => IntentState::Cancelled,
        other => return Err(damaged(format!("its state {other:?}"))),
    };
    let time = |column| Ok::<_, DbError>(row.get::<_, Option<u64>>(column)?.map(Timestamp));
    Ok(IntentRecord {
        id: wish.id,
        spec,
        wish,
        state,
        open_by: time(12)?,
        ended: time(13)?,
        how: how(row.get(14)?),
    })
}
