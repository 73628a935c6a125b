//! Everything that moves money, in one list.

use async_trait::async_trait;
use payjoin_core::{
    ClosedChannel, ExchangeId, IntentId, IntentState, LedgerError, LightningEnd, LightningPayment, Moved,
    Movement, MovementId, Movements, PaymentId, Timestamp,
};
use rusqlite::{Connection, Row, params};

use super::{DbError, Store, exchanges, intents, lightning, payments};

#[async_trait]
impl Movements for Store {
    async fn movements(&self, before: Option<MovementId>, limit: u32) -> Result<Vec<Movement>, LedgerError> {
        self.read(|db| {
            let sql = format!("SELECT {COLUMNS} FROM movements WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
            let before = before.and_then(|before| i64::try_from(before.0).ok()).unwrap_or(i64::MAX);
            let mut query = db.prepare_cached(&sql)?;
            query.query_and_then(params![before, limit], |row| decode(db, row))?.collect()
        })
    }

    async fn movement(&self, id: MovementId) -> Result<Option<Movement>, LedgerError> {
        self.read(|db| {
            let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM movements WHERE id = ?1"))?;
            query.query_and_then([id.0], |row| decode(db, row))?.next().transpose()
        })
    }

    async fn begin_lightning(&self, payment: &LightningPayment, now: Timestamp) -> Result<(), LedgerError> {
        let payment = payment.clone();
        self.write(move |db| lightning::begin(db, &payment, now)).await
    }

    async fn end_lightning(
        &self,
        hash: [u8; 32],
        end: LightningEnd,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.write(move |db| lightning::conclude(db, hash, &end, now)).await
    }
}

const COLUMNS: &str = "id, created, exchange, payment, hash, intent";

fn decode(db: &Connection, row: &Row<'_>) -> Result<Movement, DbError> {
    let id: u64 = row.get(0)?;
    let found = match (row.get(2)?, row.get(3)?, row.get::<_, Option<[u8; 32]>>(4)?, row.get(5)?) {
        (Some(exchange), ..) => exchanges::find(db, ExchangeId(exchange))?.map(Box::new).map(Moved::Exchange),
        (_, Some(payment), ..) => payments::find(db, PaymentId(payment))?.map(Box::new).map(Moved::Send),
        (_, _, Some(hash), _) => lightning::find(db, hash)?.map(Moved::Lightning),
        (.., Some(intent)) => closed(db, IntentId(intent))?.map(Moved::Close),
        _ => None,
    };
    let damaged = || LedgerError::Damaged(format!("nothing is known of payment {id}"));
    Ok(Movement { id: MovementId(id), created: Timestamp(row.get(1)?), what: found.ok_or_else(damaged)? })
}

fn closed(db: &Connection, intent: IntentId) -> Result<Option<ClosedChannel>, DbError> {
    let state = intents::find(db, intent)?.map(|record| record.state);
    Ok(match state {
        Some(IntentState::Closed { closing, reason, .. }) => Some(ClosedChannel { intent, closing, reason }),
        _ => None,
    })
}
