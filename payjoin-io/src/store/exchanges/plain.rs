//! Payments that came without payjoin.

use bitcoin::consensus::encode::serialize;
use bitcoin::{ScriptBuf, Transaction, Txid};
use payjoin_core::{EntryKind, ExchangeId, Fact, LedgerError, PlainPayment, paid_to};
use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{some_transaction, txid};
use crate::store::{DbError, invoices, journal, listed, locks};

/// Records a payment, unless it is on record: see [`Exchanges::record_plain`](payjoin_core::Exchanges::record_plain).
pub(in crate::store) fn record_plain(
    db: &Connection,
    id: ExchangeId,
    plain: &PlainPayment,
) -> Result<Option<ExchangeId>, DbError> {
    let PlainPayment { invoice, transaction, now, gone_at } = plain;
    let paid = invoices::find(db, invoice)?.map(|invoice| paid_to(&invoice.script, transaction));
    let paid = paid.ok_or_else(|| LedgerError::Conflict(format!("no invoice {invoice}")))?;
    let txid = transaction.compute_txid();
    if is_known(db, plain, txid)? {
        return Ok(None);
    }
    let name = format!("{invoice} {txid}");
    let sql = "SELECT id, outcome = 'gone' FROM exchanges WHERE original_id = ?1";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, Option<bool>>(1)?));
    let id = match db.prepare_cached(sql)?.query_row([&name], row).optional()? {
        Some((earlier, Some(true))) => {
            let sql =
                "UPDATE exchanges SET state = 'plain', outcome = NULL, settled_at = NULL, fallback_at = ?2,
                       original = ?3, original_txid = NULL WHERE id = ?1";
            db.prepare_cached(sql)?.execute(params![earlier, gone_at.0, serialize(transaction)])?;
            ExchangeId(earlier)
        }
        Some(_) => return Ok(None),
        None => {
            let sql = "INSERT INTO exchanges (id, invoice, original_id, original, state, fallback_at, created, plain)
                       VALUES (?1, ?2, ?3, ?4, 'plain', ?5, ?6, ?7)";
            let row = params![id.0, invoice.0, name, serialize(transaction), gone_at.0, now.0, paid.to_sat()];
            db.prepare_cached(sql)?.execute(row)?;
            id
        }
    };
    locks::record_seen(db, transaction.input.iter().map(|input| input.previous_output), id)?;
    listed::list(db, "exchange", id.0, *now)?;
    let (txid, detail) = (Some(txid), Some("plain".to_owned()));
    journal::tell(db, &Fact { txid, detail, ..journal::of_exchange(db, EntryKind::PaymentSeen, id)? })?;
    Ok(Some(id))
}

/// Whether an exchange at this invoice saw an input of it, and either is not settled or was settled by it. Blocks may be told
/// again, and payers replace what they sent.
fn is_known(db: &Connection, plain: &PlainPayment, by: Txid) -> Result<bool, DbError> {
    let sql = "SELECT id, state, mined, mined_txid FROM exchanges
               WHERE invoice = ?2 AND id = (SELECT exchange FROM seen WHERE outpoint = ?1)";
    let mut query = db.prepare_cached(sql)?;
    for input in &plain.transaction.input {
        let mut rows = query.query(params![input.previous_output.to_string(), plain.invoice.0])?;
        let Some(row) = rows.next()? else { continue };
        let id = ExchangeId(row.get(0)?);
        let mined = match some_transaction(id, row.get(2)?)? {
            Some(mined) => Some(mined.compute_txid()),
            None => txid(id, row.get(3)?)?,
        };
        if row.get::<_, String>(1)? != "settled" || mined == Some(by) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the transaction that was mined pays; without one it is what was seen first.
pub(super) fn paid(db: &Connection, id: ExchangeId, mined: Option<&Transaction>) -> Result<(), DbError> {
    let sql = "SELECT original, (SELECT script FROM invoices WHERE id = invoice) FROM exchanges
               WHERE id = ?1 AND state = 'plain'";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<Vec<u8>>>(0)?, row.get::<_, Vec<u8>>(1)?));
    let Some((original, script)) = db.prepare_cached(sql)?.query_row([id.0], row).optional()? else {
        return Ok(());
    };
    let original = some_transaction(id, original)?;
    if let Some(pays) = mined.or(original.as_ref()) {
        let paid = paid_to(&ScriptBuf::from_bytes(script), pays).to_sat();
        db.prepare_cached("UPDATE exchanges SET plain = ?2 WHERE id = ?1")?.execute([id.0, paid])?;
    }
    Ok(())
}
