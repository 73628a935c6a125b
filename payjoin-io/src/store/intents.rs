//! Channel intents: what the operator wants, and which exchange holds it (money rule 9).

use bitcoin::{Amount, Txid};
use payjoin_core::{ChannelAmount, ChannelWish, ExchangeId, FundedChannel, IntentId, IntentState};
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::{Store, StoreError};

const COLUMNS: &str = "id, amount, min, max, payer_is_me, spec, state, reason, txid, vout";

/// A channel intent that is not in the queue yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIntent {
    /// What the channel should hold.
    pub amount: ChannelAmount,
    /// Least value the node can open.
    pub min: Amount,
    /// Greatest value the node can open.
    pub max: Amount,
    /// The operator's word that payer and operator are the same person.
    pub payer_is_me: bool,
    /// Peer, push, announcement: whatever the funder needs. The store does not look inside.
    pub spec: serde_json::Value,
}

/// A channel intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IntentRecord {
    /// Its number.
    pub id: IntentId,
    /// [`NewIntent::spec`], as it was given.
    pub spec: serde_json::Value,
    /// What the planner sees of it.
    pub wish: ChannelWish,
    /// Where it stands.
    pub state: IntentState,
}

impl Store {
    /// Puts an intent at the end of the queue.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn queue_intent(&self, intent: NewIntent) -> Result<IntentId, StoreError> {
        self.write(move |db| {
            let amount = match intent.amount {
                ChannelAmount::Exact(amount) => Some(amount.to_sat()),
                ChannelAmount::Rest => None,
            };
            let row = params![
                amount,
                intent.min.to_sat(),
                intent.max.to_sat(),
                intent.payer_is_me,
                intent.spec.to_string()
            ];
            let id = db
                .prepare_cached(
                    "INSERT INTO intents (amount, min, max, payer_is_me, spec, state)
                     VALUES (?1, ?2, ?3, ?4, ?5, 'queued') RETURNING id",
                )?
                .query_row(row, |row| row.get(0))?;
            Ok(IntentId(id))
        })
        .await
    }

    /// Withdraws an intent that is still queued.
    ///
    /// # Errors
    /// [`StoreError::NotQueued`] when an exchange has it, or it ended, or never was.
    pub async fn cancel_intent(&self, id: IntentId) -> Result<(), StoreError> {
        self.write(move |db| {
            let changed = db
                .prepare_cached(
                    "UPDATE intents SET state = 'cancelled', reason = NULL WHERE id = ?1 AND state = 'queued'",
                )?
                .execute([id.0])?;
            if changed == 1 { Ok(()) } else { Err(StoreError::NotQueued(id)) }
        })
        .await
    }

    /// Every intent, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn intents(&self) -> Result<Vec<IntentRecord>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM intents ORDER BY id"))?;
            query.query_and_then([], decode)?.collect()
        })
    }

    /// One intent.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn intent(&self, id: IntentId) -> Result<Option<IntentRecord>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM intents WHERE id = ?1"))?;
            query.query_and_then([id.0], decode)?.next().transpose()
        })
    }

    /// Counts a failure of these intents: they are tried again when no other is left that failed less often. So a peer
    /// that is gone holds up nobody else's channel.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn put_behind(&self, intents: &[IntentId]) -> Result<(), StoreError> {
        let intents = intents.to_vec();
        self.write(move |db| {
            let mut update = db.prepare_cached("UPDATE intents SET failures = failures + 1 WHERE id = ?1")?;
            for id in &intents {
                update.execute([id.0])?;
            }
            Ok(())
        })
        .await
    }

    /// The first queued intents in the operator's order, as the planner sees them: those that failed least often.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn queued_wishes(&self, limit: u32) -> Result<Vec<ChannelWish>, StoreError> {
        self.read(|db| {
            let sql = "SELECT id, amount, min, max, payer_is_me FROM intents WHERE state = 'queued'
                       AND failures = (SELECT min(failures) FROM intents WHERE state = 'queued')
                       ORDER BY id LIMIT ?1";
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map([limit], wish)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// Takes queued intents for an exchange: all or, with the error, none.
pub(super) fn take(db: &Connection, exchange: ExchangeId, intents: &[IntentId]) -> Result<(), StoreError> {
    let mut update = db.prepare_cached(
        "UPDATE intents SET state = 'negotiating', reason = NULL, exchange = ?2 WHERE id = ?1 AND state = 'queued'",
    )?;
    for id in intents {
        if update.execute([id.0, exchange.0])? != 1 {
            return Err(StoreError::NotQueued(*id));
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
) -> Result<(), StoreError> {
    let mut update = db.prepare_cached(
        "UPDATE intents SET state = 'released', txid = ?3, vout = ?4
         WHERE id = ?1 AND exchange = ?2 AND state = 'negotiating'",
    )?;
    for channel in channels {
        let row = params![channel.intent.0, exchange.0, txid.to_string(), channel.vout];
        if update.execute(row)? != 1 {
            return Err(StoreError::NotQueued(channel.intent));
        }
    }
    Ok(())
}

/// The funding transaction was seen in a block, or was reorganised out again.
pub(super) fn confirming(db: &Connection, exchange: ExchangeId, in_block: bool) -> Result<(), StoreError> {
    let (from, to) = if in_block { ("released", "confirming") } else { ("confirming", "released") };
    db.prepare_cached("UPDATE intents SET state = ?3 WHERE exchange = ?1 AND state = ?2")?
        .execute(params![exchange.0, from, to])?;
    Ok(())
}

/// The exchange's channels are real.
pub(super) fn open(db: &Connection, exchange: ExchangeId) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE intents SET state = 'open' WHERE exchange = ?1 AND state IN ('released', 'confirming')",
    )?
    .execute([exchange.0])?;
    Ok(())
}

/// Puts the intents that the exchange took back into the queue; those it released only when told so.
pub(super) fn requeue(
    db: &Connection,
    exchange: ExchangeId,
    reason: Option<&str>,
    released_too: bool,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE intents SET state = 'queued', reason = ?2, exchange = NULL, txid = NULL, vout = NULL
         WHERE exchange = ?1 AND (state = 'negotiating' OR (?3 AND state IN ('released', 'confirming')))",
    )?
    .execute(params![exchange.0, reason, released_too])?;
    Ok(())
}

fn wish(row: &Row<'_>) -> rusqlite::Result<ChannelWish> {
    let amount = row.get::<_, Option<u64>>(1)?.map(Amount::from_sat);
    Ok(ChannelWish {
        id: IntentId(row.get(0)?),
        amount: amount.map_or(ChannelAmount::Rest, ChannelAmount::Exact),
        min: Amount::from_sat(row.get(2)?),
        max: Amount::from_sat(row.get(3)?),
        payer_is_me: row.get(4)?,
    })
}

fn decode(row: &Row<'_>) -> Result<IntentRecord, StoreError> {
    let wish = wish(row)?;
    let damaged = |what: String| StoreError::Corrupt(format!("intent {}: {what}", wish.id.0));
    let spec = serde_json::from_str(&row.get::<_, String>(5)?).map_err(|error| damaged(error.to_string()))?;
    let funding = || {
        let txid = row.get::<_, String>(8)?.parse().map_err(|_| damaged("its txid".into()))?;
        Ok::<_, StoreError>((txid, row.get(9)?))
    };
    let state = match row.get::<_, String>(6)?.as_str() {
        "queued" => IntentState::Queued { reason: row.get(7)? },
        "negotiating" => IntentState::Negotiating,
        "released" => funding().map(|(txid, vout)| IntentState::Released { txid, vout })?,
        "confirming" => funding().map(|(txid, vout)| IntentState::Confirming { txid, vout })?,
        "open" => funding().map(|(txid, vout)| IntentState::Open { txid, vout })?,
        "cancelled" => IntentState::Cancelled,
        other => return Err(damaged(format!("its state {other:?}"))),
    };
    Ok(IntentRecord { id: wish.id, spec, wish, state })
}
