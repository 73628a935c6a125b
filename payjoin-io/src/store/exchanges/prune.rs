//! What is over for good.

use bitcoin::Txid;
use payjoin_core::{ExchangeRecord, Timestamp};
use rusqlite::{Connection, params};

use super::rows::{RECORD, record};
use crate::store::DbError;

pub(in crate::store) fn lost(db: &Connection, payjoins: &[Txid], until: u32) -> Result<Vec<Txid>, DbError> {
    let sql = "SELECT 1 FROM exchanges WHERE payjoin = ?1 AND state = 'settled'
               AND outcome IN ('original', 'conflict') AND mined_height <= ?2";
    let mut query = db.prepare_cached(sql)?;
    let mut lost = Vec::new();
    for payjoin in payjoins {
        if query.exists(params![payjoin.to_string(), until])? {
            lost.push(*payjoin);
        }
    }
    Ok(lost)
}

pub(in crate::store) fn prune(db: &Connection, before: Timestamp, most: u32) -> Result<u32, DbError> {
    let sql = format!(
        "SELECT {RECORD} FROM exchanges
         WHERE state = 'settled' AND original IS NOT NULL AND settled_at < ?1 ORDER BY settled_at LIMIT ?2"
    );
    let mut query = db.prepare_cached(&sql)?;
    let settled: Vec<ExchangeRecord> =
        query.query_and_then(params![before.0, most], record)?.collect::<Result<_, DbError>>()?;
    let mut drop = db.prepare_cached(
        "UPDATE exchanges SET original = NULL, proposal = NULL, signed = NULL, mined = NULL, original_txid = ?2,
             payjoin_txid = ?3, mined_txid = ?4 WHERE id = ?1",
    )?;
    for record in &settled {
        let [payjoin, mined] = [record.payjoin_txid, record.mined_txid].map(|id| id.map(|id| id.to_string()));
        drop.execute(params![record.id.0, record.original_txid.to_string(), payjoin, mined])?;
    }
    let sql = "DELETE FROM intents WHERE id IN
                   (SELECT id FROM intents WHERE state = 'cancelled' AND ended < ?1 ORDER BY ended LIMIT ?2)";
    let cancelled = db.prepare_cached(sql)?.execute(params![before.0, most])?;
    Ok(u32::try_from(settled.len() + cancelled).unwrap_or(u32::MAX))
}
