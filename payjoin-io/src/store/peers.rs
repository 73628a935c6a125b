//! Slots at peers, what was learned of peers, and why intents failed (money rule 12).

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use payjoin_core::{
    ChannelFailure, ExchangeId, FORGOTTEN_AFTER, FailureKind, FundedChannel, IntentId, InvoiceId,
    LedgerError, PeerAddress, PeerBook, PeerRecord, Timestamp, Trouble, Waiting, pause_after,
};
use rusqlite::{Connection, Row, params};

use super::{DbError, Store, intents};

/// The node id in the column `peer` of an intent, which is `node_id@host:port`.
const NODE_ID: &str = "substr(intents.peer, 1, 66)";

#[async_trait]
impl PeerBook for Store {
    async fn waiting(&self) -> Result<Vec<Waiting>, LedgerError> {
        self.read(waiting)
    }

    async fn peer_records(&self, height: u32) -> Result<Vec<PeerRecord>, LedgerError> {
        self.read(|db| records(db, height))
    }

    async fn record_failures(
        &self,
        exchange: ExchangeId,
        failures: &[ChannelFailure],
        now: Timestamp,
        height: u32,
    ) -> Result<(), LedgerError> {
        let failures = failures.to_vec();
        self.write(move |db| failures.iter().try_for_each(|failure| fail(db, exchange, failure, now, height)))
            .await
    }

    async fn take_slots(
        &self,
        exchange: ExchangeId,
        intents: &[IntentId],
        height: u32,
    ) -> Result<Vec<IntentId>, LedgerError> {
        let intents = intents.to_vec();
        self.write(move |db| {
            let mut taken = Vec::new();
            for intent in intents {
                if take_again(db, exchange, intent, height)? {
                    taken.push(intent);
                }
            }
            Ok(taken)
        })
        .await
    }

    async fn free_slots(&self, exchange: ExchangeId, intents: &[IntentId]) -> Result<(), LedgerError> {
        let intents = intents.to_vec();
        self.write(move |db| intents.iter().try_for_each(|intent| free(db, exchange, *intent))).await
    }

    async fn record_answer(
        &self,
        peer: PublicKey,
        side_by_side: u32,
        height: u32,
    ) -> Result<(), LedgerError> {
        let peer = peer.to_string();
        self.write(move |db| match side_by_side {
            0 => full(db, &peer, None, height),
            accepted => took(db, &peer, accepted, height),
        })
        .await
    }

    async fn resume(&self, peers: &[PublicKey]) -> Result<(), LedgerError> {
        let peers = peers.to_vec();
        self.write(move |db| peers.iter().try_for_each(|peer| resume(db, peer))).await
    }

    async fn channel_offers(&self, invoice: &InvoiceId) -> Result<u32, LedgerError> {
        let sql = "SELECT count(*) FROM exchanges WHERE invoice = ?1 AND channels <> '[]'";
        self.read(|db| Ok(db.prepare_cached(sql)?.query_row([&invoice.0], |row| row.get(0))?))
    }

    async fn wasted_offers(&self, since: Timestamp, now: Timestamp) -> Result<u32, LedgerError> {
        let sql = "SELECT count(*) FROM exchanges WHERE channels <> '[]' AND NOT own AND created >= ?1
                   AND (outcome IN ('original', 'conflict')
                        OR (outcome IS NULL AND signed IS NULL AND mined IS NULL AND fallback_at <= ?2))";
        self.read(|db| Ok(db.prepare_cached(sql)?.query_row([since.0, now.0], |row| row.get(0))?))
    }
}

fn waiting(db: &Connection) -> Result<Vec<Waiting>, DbError> {
    let sql = format!(
        "SELECT {}, intents.failures, troubles.reason, troubles.said, troubles.until FROM intents LEFT JOIN troubles ON troubles.intent = intents.id
         WHERE state = 'queued' ORDER BY failures, id",
        intents::WISH,
    );
    let read = |row: &Row<'_>| {
        let wish = intents::wish(row)?;
        let peer: Result<PeerAddress, _> = row.get::<_, String>(4)?.parse();
        let damaged = || LedgerError::Damaged(format!("intent {}: its peer", wish.id.0));
        let reason: Option<String> = row.get(6)?;
        let (said, until): (_, Option<u64>) = (row.get(7)?, row.get(8)?);
        Ok(Waiting {
            peer: peer.map_err(|_| damaged())?,
            wish,
            failures: row.get(5)?,
            trouble: reason.map(|reason| Trouble { reason, said, until: until.map(Timestamp) }),
        })
    };
    db.prepare_cached(&sql)?.query_and_then([], read)?.collect()
}

fn records(db: &Connection, height: u32) -> Result<Vec<PeerRecord>, DbError> {
    let sql = "SELECT known.peer, peers.room, coalesce(peers.several, 0), count(slots.id), min(slots.height),
               EXISTS (SELECT 1 FROM intents
                       WHERE state = 'negotiating' AND substr(intents.peer, 1, 66) = known.peer)
               FROM (SELECT peer FROM peers UNION SELECT peer FROM slots) AS known
               LEFT JOIN peers ON peers.peer = known.peer
               LEFT JOIN slots ON slots.peer = known.peer AND slots.height > ?1
               GROUP BY known.peer";
    let read = |row: &Row<'_>| {
        let peer = row.get::<_, String>(0)?.parse();
        Ok(PeerRecord {
            peer: peer.map_err(|_| LedgerError::Damaged("the key of a peer".into()))?,
            room: row.get(1)?,
            several: row.get(2)?,
            taken: row.get(3)?,
            busy: row.get(5)?,
            free_at: row.get::<_, Option<u32>>(4)?.map(|height| height.saturating_add(FORGOTTEN_AFTER)),
        })
    };
    db.prepare_cached(sql)?.query_and_then([forgotten(height)], read)?.collect()
}

/// Slots of this height and below are forgotten by their peers.
fn forgotten(height: u32) -> i64 {
    i64::from(height) - i64::from(FORGOTTEN_AFTER)
}

/// Takes a slot for each intent that the exchange has just taken, and drops those that peers have forgotten.
pub(super) fn take(db: &Connection, exchange: ExchangeId, height: u32) -> Result<(), DbError> {
    db.prepare_cached("DELETE FROM slots WHERE height <= ?1")?.execute([forgotten(height)])?;
    let sql = format!(
        "INSERT INTO slots (peer, height, exchange, intent)
         SELECT {NODE_ID}, ?2, exchange, id FROM intents WHERE exchange = ?1 AND state = 'negotiating'"
    );
    db.prepare_cached(&sql)?.execute(params![exchange.0, height])?;
    Ok(())
}

/// `false` when the peer is full.
fn take_again(db: &Connection, exchange: ExchangeId, intent: IntentId, height: u32) -> Result<bool, DbError> {
    let sql = format!(
        "INSERT INTO slots (peer, height, exchange, intent)
         SELECT {NODE_ID}, ?3, exchange, id FROM intents
         WHERE id = ?1 AND exchange = ?2 AND state = 'negotiating'
         AND coalesce((SELECT room FROM peers WHERE peers.peer = {NODE_ID})
                      > (SELECT count(*) FROM slots WHERE slots.peer = {NODE_ID} AND slots.height > ?4), TRUE)"
    );
    let row = params![intent.0, exchange.0, height, forgotten(height)];
    Ok(db.prepare_cached(&sql)?.execute(row)? == 1)
}

/// The peers of these channels have signed, and the payer gets the proposal.
pub(super) fn release(
    db: &Connection,
    exchange: ExchangeId,
    txid: &str,
    channels: &[FundedChannel],
) -> Result<(), DbError> {
    for FundedChannel { intent, .. } in channels {
        let sql = "UPDATE slots SET txid = ?3 WHERE id =
                   (SELECT max(id) FROM slots WHERE exchange = ?1 AND intent = ?2) RETURNING peer, height";
        let slot = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?));
        let (peer, height) = db.prepare_cached(sql)?.query_row(params![exchange.0, intent.0, txid], slot)?;
        took(db, &peer, 0, height)?;
        db.prepare_cached("UPDATE intents SET failures = 0 WHERE id = ?1")?.execute([intent.0])?;
        db.prepare_cached("DELETE FROM troubles WHERE intent = ?1")?.execute([intent.0])?;
    }
    Ok(())
}

/// The payjoin is buried: its channels wait no longer.
pub(super) fn buried(db: &Connection, exchange: ExchangeId) -> Result<(), DbError> {
    let sql = "DELETE FROM slots WHERE exchange = ?1 AND txid IS NOT NULL";
    db.prepare_cached(sql)?.execute([exchange.0])?;
    Ok(())
}

fn free(db: &Connection, exchange: ExchangeId, intent: IntentId) -> Result<(), DbError> {
    let sql = "DELETE FROM slots WHERE txid IS NULL AND id =
               (SELECT max(id) FROM slots WHERE exchange = ?1 AND intent = ?2)";
    db.prepare_cached(sql)?.execute([exchange.0, intent.0])?;
    Ok(())
}

fn fail(
    db: &Connection,
    exchange: ExchangeId,
    failure: &ChannelFailure,
    now: Timestamp,
    height: u32,
) -> Result<(), DbError> {
    let intent = failure.intent.0;
    let sql =
        format!("UPDATE intents SET failures = failures + 1 WHERE id = ?1 RETURNING failures, {NODE_ID}");
    let (failures, peer): (u32, String) =
        db.prepare_cached(&sql)?.query_row([intent], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let until = pause_after(failures).map(|pause| now.plus(pause).0);
    let sql = "INSERT OR REPLACE INTO troubles (intent, reason, said, until) VALUES (?1, ?2, ?3, ?4)";
    db.prepare_cached(sql)?.execute(params![intent, failure.text, failure.said, until])?;
    match failure.kind {
        FailureKind::Full => full(db, &peer, Some((exchange, failure.intent)), height)?,
        FailureKind::Refused | FailureKind::Closed => {
            db.prepare_cached("UPDATE peers SET several = 0 WHERE peer = ?1")?.execute([&peer])?;
        }
        FailureKind::Unreachable | FailureKind::Late | FailureKind::Local => {}
    }
    Ok(())
}

/// The peer takes no more than it has; `asked` is the slot that it refused.
fn full(
    db: &Connection,
    peer: &str,
    asked: Option<(ExchangeId, IntentId)>,
    height: u32,
) -> Result<(), DbError> {
    if let Some((exchange, intent)) = asked {
        free(db, exchange, intent)?;
    }
    if taken(db, peer, height)? == 0 {
        let sql = "INSERT INTO slots (peer, height) VALUES (?1, ?2)";
        db.prepare_cached(sql)?.execute(params![peer, height])?;
    }
    let room = taken(db, peer, height)?;
    let sql = "INSERT INTO peers (peer, room) VALUES (?1, ?2)
               ON CONFLICT (peer) DO UPDATE SET room = ?2, several = 0";
    db.prepare_cached(sql)?.execute(params![peer, room])?;
    Ok(())
}

/// The peer accepted so many beside those that it has: what it was thought to hold and we do not know of is gone, or it
/// takes more than was thought.
fn took(db: &Connection, peer: &str, more: u32, height: u32) -> Result<(), DbError> {
    let sql = "SELECT room FROM peers WHERE peer = ?1";
    let room: Option<u32> = db
        .prepare_cached(sql)?
        .query_map([peer], |row| row.get::<_, Option<u32>>(0))?
        .next()
        .transpose()?
        .flatten();
    if let Some(room) = room
        && taken(db, peer, height)? + more > room
    {
        db.prepare_cached("DELETE FROM slots WHERE peer = ?1 AND exchange IS NULL")?.execute([peer])?;
        let least = taken(db, peer, height)? + more;
        let sql = "UPDATE peers SET room = max(room, ?2) WHERE peer = ?1";
        db.prepare_cached(sql)?.execute(params![peer, least])?;
    }
    if more > 1 {
        let sql =
            "INSERT INTO peers (peer, several) VALUES (?1, 1) ON CONFLICT (peer) DO UPDATE SET several = 1";
        db.prepare_cached(sql)?.execute([peer])?;
    }
    Ok(())
}

fn taken(db: &Connection, peer: &str, height: u32) -> Result<u32, DbError> {
    let sql = "SELECT count(*) FROM slots WHERE peer = ?1 AND height > ?2";
    Ok(db.prepare_cached(sql)?.query_row(params![peer, forgotten(height)], |row| row.get(0))?)
}

fn resume(db: &Connection, peer: &PublicKey) -> Result<(), DbError> {
    let sql = format!(
        "UPDATE troubles SET until = NULL WHERE until IS NOT NULL
         AND intent IN (SELECT id FROM intents WHERE state = 'queued' AND {NODE_ID} = ?1)"
    );
    db.prepare_cached(&sql)?.execute([peer.to_string()])?;
    Ok(())
}
