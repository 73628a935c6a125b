//! Exchanges and what they owe, with the transactions that change them together with their coins and intents.

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{OutPoint, Transaction, Txid};
use payjoin_core::{
    Admission, ExchangeId, FundedChannel, InvoiceId, Obligation, OriginalId, Release, Settled, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{KvWrite, Store, StoreError, intents, kv, locks};

/// What came of an [`Admission`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmitOutcome {
    /// The Original is kept and everything it needs is locked.
    Admitted(ExchangeId),
    /// An input was offered before in another Original; nothing was written.
    Seen,
}

/// Where an exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeState {
    /// The Original is kept; the exchange runs.
    Admitted,
    /// It ended without a proposal. The Original is still owed its broadcast.
    Failed,
    /// A proposal left.
    Released,
    /// An outcome is buried.
    Settled,
}

/// An exchange, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExchangeRecord {
    /// Its number.
    pub id: ExchangeId,
    /// The invoice that is paid.
    pub invoice: InvoiceId,
    /// Where it stands.
    pub state: ExchangeState,
    /// The Original's transaction id.
    pub original_txid: Txid,
    /// The payjoin's, once released; without scriptSigs, as [`Obligation::payjoin`].
    pub payjoin_txid: Option<Txid>,
    /// Channels that the payjoin funds.
    pub channels: Vec<FundedChannel>,
    /// Why it failed, or why channels that were wanted are not in it.
    pub reason: Option<String>,
    /// When the Original is to be broadcast if nothing was seen.
    pub fallback_at: Timestamp,
    /// When it was admitted first.
    pub created: Timestamp,
    /// How it ended.
    pub settled: Option<Settled>,
}

impl Store {
    /// The proposal released for this Original, byte for byte (money rule 8).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recall(&self, original: &OriginalId) -> Result<Option<String>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT proposal FROM exchanges WHERE original_id = ?1")?;
            Ok(query.query_row([&original.0], |row| row.get(0)).optional()?.flatten())
        })
    }

    /// The first durable write of an exchange ("write 1" in ARCHITECTURE.md), all or nothing. The same Original sent
    /// again after its exchange failed takes over that exchange and its number.
    ///
    /// # Errors
    /// [`StoreError::WrongState`] while the same Original is being served, [`StoreError::CoinLocked`],
    /// [`StoreError::NotQueued`].
    pub async fn admit(&self, admission: &Admission) -> Result<AdmitOutcome, StoreError> {
        let admission = admission.clone();
        self.write(move |db| admit(db, &admission)).await
    }

    /// The second durable write of an exchange ("write 2"): the Lightning node's state with the proposal. After it
    /// the proposal may leave (money rule 1). Gives the coins whose locks ended.
    ///
    /// # Errors
    /// [`StoreError::WrongState`] unless the exchange is admitted, [`StoreError::CoinLocked`] for a coin it never
    /// locked, [`StoreError::NotQueued`] for an intent it never took.
    pub async fn release(
        &self,
        exchange: ExchangeId,
        release: &Release,
        node: Vec<KvWrite>,
    ) -> Result<Vec<OutPoint>, StoreError> {
        let release = release.clone();
        self.write(move |db| {
            node.iter().try_for_each(|write| kv::put(db, write))?;
            write_release(db, exchange, &release)
        })
        .await
    }

    /// [`Store::admit`] and [`Store::release`] in one write, for a proposal without channels.
    ///
    /// # Errors
    /// As those two.
    pub async fn offer(&self, admission: &Admission, release: &Release) -> Result<AdmitOutcome, StoreError> {
        let (admission, release) = (admission.clone(), release.clone());
        self.write(move |db| {
            let outcome = admit(db, &admission)?;
            if let AdmitOutcome::Admitted(id) = outcome {
                write_release(db, id, &release)?;
            }
            Ok(outcome)
        })
        .await
    }

    /// Ends an admitted exchange without a proposal: its coins are unlocked, its intents queued again with the reason.
    /// The Original stays an obligation. Gives the coins whose locks ended.
    ///
    /// # Errors
    /// [`StoreError::WrongState`] unless the exchange is admitted.
    pub async fn fail(&self, exchange: ExchangeId, reason: &str) -> Result<Vec<OutPoint>, StoreError> {
        let reason = reason.to_owned();
        self.write(move |db| fail(db, exchange, &reason)).await
    }

    /// Ends an obligation. Gives the coins whose locks ended.
    ///
    /// # Errors
    /// [`StoreError::WrongState`] while the exchange runs or when it is settled.
    pub async fn settle(&self, exchange: ExchangeId, outcome: Settled) -> Result<Vec<OutPoint>, StoreError> {
        self.write(move |db| settle(db, exchange, outcome)).await
    }

    /// Records the transaction that spent the Original's inputs in a block, or that there is none any more.
    ///
    /// # Errors
    /// [`StoreError::WrongState`] for an exchange that does not exist.
    pub async fn record_mined(
        &self,
        exchange: ExchangeId,
        mined: Option<(Transaction, u32)>,
    ) -> Result<(), StoreError> {
        self.write(move |db| record_mined(db, exchange, mined.as_ref())).await
    }

    /// At start: fails every exchange that was admitted but not released when the process died,
    /// and names them, so that the Lightning node can forget their channels.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn recover(&self) -> Result<Vec<ExchangeId>, StoreError> {
        self.write(|db| {
            // The first term lets SQLite use the index of unsettled exchanges.
            let sql = "SELECT id FROM exchanges WHERE state <> 'settled' AND state = 'admitted'";
            let ids = db
                .prepare_cached(sql)?
                .query_map([], |row| row.get(0).map(ExchangeId))?
                .collect::<Result<Vec<_>, _>>()?;
            ids.iter().try_for_each(|id| fail(db, *id, "interrupted").map(drop))?;
            Ok(ids)
        })
        .await
    }

    /// Proposals with coins of ours that left for this invoice.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn offers(&self, invoice: &InvoiceId) -> Result<u32, StoreError> {
        self.read(|db| {
            let sql = "SELECT count(*) FROM exchanges WHERE invoice = ?1 AND offered = 1";
            Ok(db.prepare_cached(sql)?.query_row([&invoice.0], |row| row.get(0))?)
        })
    }

    /// What every unsettled exchange owes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn obligations(&self) -> Result<Vec<Obligation>, StoreError> {
        self.read(|db| {
            let sql = format!("SELECT {OBLIGATION} FROM exchanges WHERE state <> 'settled' ORDER BY id");
            db.prepare_cached(&sql)?.query_and_then([], |row| obligation(db, row))?.collect()
        })
    }

    /// What this exchange owes; `None` when it is settled.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn obligation(&self, exchange: ExchangeId) -> Result<Option<Obligation>, StoreError> {
        self.read(|db| {
            let sql = format!("SELECT {OBLIGATION} FROM exchanges WHERE id = ?1 AND state <> 'settled'");
            db.prepare_cached(&sql)?
                .query_and_then([exchange.0], |row| obligation(db, row))?
                .next()
                .transpose()
        })
    }

    /// The latest exchanges, newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn exchanges(&self, limit: u32) -> Result<Vec<ExchangeRecord>, StoreError> {
        self.read(|db| {
            let sql = format!("SELECT {RECORD} FROM exchanges ORDER BY id DESC LIMIT ?1");
            db.prepare_cached(&sql)?.query_and_then([limit], record)?.collect()
        })
    }

    /// One exchange.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn exchange(&self, exchange: ExchangeId) -> Result<Option<ExchangeRecord>, StoreError> {
        self.read(|db| {
            let sql = format!("SELECT {RECORD} FROM exchanges WHERE id = ?1");
            db.prepare_cached(&sql)?.query_and_then([exchange.0], record)?.next().transpose()
        })
    }
}

fn admit(db: &Connection, admission: &Admission) -> Result<AdmitOutcome, StoreError> {
    let earlier = db
        .prepare_cached("SELECT id, state FROM exchanges WHERE original_id = ?1")?
        .query_row([&admission.original_id.0], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    let failed = match earlier {
        None => None,
        Some((id, state)) if state == "failed" => Some(id),
        Some((id, state)) if state == "admitted" => return Err(StoreError::WrongState(ExchangeId(id))),
        Some(_) => return Ok(AdmitOutcome::Seen),
    };
    if locks::seen(db, &admission.original, failed)? {
        return Ok(AdmitOutcome::Seen);
    }
    let id = match failed {
        Some(id) => resume(db, id, admission)?,
        None => insert(db, admission)?,
    };
    locks::record_seen(db, &admission.original, id)?;
    locks::lock(db, id, &admission.invoice, &admission.coins)?;
    intents::take(db, id, &admission.intents)?;
    Ok(AdmitOutcome::Admitted(id))
}

fn insert(db: &Connection, admission: &Admission) -> Result<ExchangeId, StoreError> {
    let sql = "INSERT INTO exchanges (invoice, original_id, original, state, fallback_at, created)
               VALUES (?1, ?2, ?3, 'admitted', ?4, ?5) RETURNING id";
    let row = params![
        admission.invoice.0,
        admission.original_id.0,
        serialize(&admission.original),
        admission.fallback_at.0,
        admission.now.0,
    ];
    Ok(ExchangeId(db.prepare_cached(sql)?.query_row(row, |row| row.get(0))?))
}

/// The earlier deadline holds: sending an Original again does not put its broadcast off. Only a proposal does.
fn resume(db: &Connection, id: u64, admission: &Admission) -> Result<ExchangeId, StoreError> {
    let sql = "UPDATE exchanges SET state = 'admitted', reason = NULL, fallback_at = min(fallback_at, ?2) WHERE id = ?1";
    db.prepare_cached(sql)?.execute([id, admission.fallback_at.0])?;
    Ok(ExchangeId(id))
}

fn write_release(db: &Connection, id: ExchangeId, release: &Release) -> Result<Vec<OutPoint>, StoreError> {
    let channels =
        serde_json::to_string(&release.channels).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let sql =
        "UPDATE exchanges SET state = 'released', proposal = ?2, payjoin = ?3, channels = ?4, reason = ?5,
               offered = ?6, fallback_at = ?7 WHERE id = ?1 AND state = 'admitted'";
    let row = params![
        id.0,
        release.proposal,
        release.txid.to_string(),
        channels,
        release.reason,
        !release.coins.is_empty(),
        release.fallback_at.0,
    ];
    changed_one(id, db.prepare_cached(sql)?.execute(row)?)?;
    intents::release(db, id, release.txid, &release.channels)?;
    intents::requeue(db, id, release.reason.as_deref(), false)?;
    locks::unlock(db, id, &release.coins)
}

fn fail(db: &Connection, id: ExchangeId, reason: &str) -> Result<Vec<OutPoint>, StoreError> {
    let sql = "UPDATE exchanges SET state = 'failed', reason = ?2 WHERE id = ?1 AND state = 'admitted'";
    changed_one(id, db.prepare_cached(sql)?.execute(params![id.0, reason])?)?;
    intents::requeue(db, id, Some(reason), false)?;
    locks::unlock(db, id, &[])
}

fn settle(db: &Connection, id: ExchangeId, outcome: Settled) -> Result<Vec<OutPoint>, StoreError> {
    let (name, lost) = match outcome {
        Settled::Payjoin => ("payjoin", None),
        Settled::Original => ("original", Some("the Original was buried instead of the payjoin")),
        Settled::Conflict => ("conflict", Some("another spend of an input of the payjoin was buried")),
    };
    let sql = "UPDATE exchanges SET state = 'settled', outcome = ?2
               WHERE id = ?1 AND state IN ('failed', 'released')";
    changed_one(id, db.prepare_cached(sql)?.execute(params![id.0, name])?)?;
    match lost {
        None => intents::open(db, id)?,
        Some(_) => intents::requeue(db, id, lost, true)?,
    }
    locks::unlock(db, id, &[])
}

fn record_mined(
    db: &Connection,
    id: ExchangeId,
    mined: Option<&(Transaction, u32)>,
) -> Result<(), StoreError> {
    let (bytes, height) = mined.map(|(transaction, height)| (serialize(transaction), *height)).unzip();
    let payjoin: Option<String> = db
        .prepare_cached("UPDATE exchanges SET mined = ?2, mined_height = ?3 WHERE id = ?1 RETURNING payjoin")?
        .query_row(params![id.0, bytes, height], |row| row.get(0))
        .optional()?
        .ok_or(StoreError::WrongState(id))?;
    let is_payjoin = |(transaction, _): &(Transaction, u32)| {
        payjoin.is_some_and(|payjoin| payjoin == transaction.compute_ntxid().to_string())
    };
    intents::confirming(db, id, mined.is_some_and(is_payjoin))
}

fn changed_one(id: ExchangeId, rows: usize) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::WrongState(id)) }
}

const OBLIGATION: &str = "id, original, payjoin, channels, fallback_at, mined, mined_height";

fn obligation(db: &Connection, row: &Row<'_>) -> Result<Obligation, StoreError> {
    let id = ExchangeId(row.get(0)?);
    let mined = match row.get::<_, Option<Vec<u8>>>(5)? {
        Some(bytes) => Some((transaction(id, &bytes)?, row.get(6)?)),
        None => None,
    };
    Ok(Obligation {
        exchange: id,
        original: transaction(id, &row.get::<_, Vec<u8>>(1)?)?,
        payjoin: txid(id, row.get(2)?)?,
        coins: locks::held(db, id)?,
        channels: channels(id, &row.get::<_, String>(3)?)?,
        fallback_at: Timestamp(row.get(4)?),
        mined,
    })
}

const RECORD: &str = "id, invoice, state, original, payjoin, channels, reason, fallback_at, created, outcome";

fn record(row: &Row<'_>) -> Result<ExchangeRecord, StoreError> {
    let id = ExchangeId(row.get(0)?);
    Ok(ExchangeRecord {
        id,
        invoice: InvoiceId(row.get(1)?),
        state: word(id, row.get(2)?)?,
        original_txid: transaction(id, &row.get::<_, Vec<u8>>(3)?)?.compute_txid(),
        payjoin_txid: txid(id, row.get(4)?)?,
        channels: channels(id, &row.get::<_, String>(5)?)?,
        reason: row.get(6)?,
        fallback_at: Timestamp(row.get(7)?),
        created: Timestamp(row.get(8)?),
        settled: row.get::<_, Option<String>>(9)?.map(|outcome| word(id, outcome)).transpose()?,
    })
}

fn damaged(id: ExchangeId, what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("exchange {}: {what}", id.0))
}

fn transaction(id: ExchangeId, bytes: &[u8]) -> Result<Transaction, StoreError> {
    deserialize(bytes).map_err(|error| damaged(id, error))
}

fn txid(id: ExchangeId, text: Option<String>) -> Result<Option<Txid>, StoreError> {
    text.map(|text| text.parse()).transpose().map_err(|error| damaged(id, error))
}

fn channels(id: ExchangeId, json: &str) -> Result<Vec<FundedChannel>, StoreError> {
    serde_json::from_str(json).map_err(|error| damaged(id, error))
}

/// A variant by its serde name, which is how the file spells it.
fn word<T: serde::de::DeserializeOwned>(id: ExchangeId, name: String) -> Result<T, StoreError> {
    serde_json::from_value(name.into()).map_err(|error| damaged(id, error))
}
