//! Payments of ours. How the conversation with a receiver stands is in the event log of the session; this is what we
//! owe to our own coins.

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{FeeRate, OutPoint, Psbt, Transaction};
use payjoin_core::Timestamp;
use rusqlite::{Connection, Params, Row, params};

use super::{Store, StoreError};

/// A payment of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRecord {
    /// Its number.
    pub id: u64,
    /// The code that is paid. A code is paid once.
    pub uri: String,
    /// The plain payment, signed. Its inputs are locked until the payment is settled (money rule 7).
    pub original: Psbt,
    /// The rate that was asked for.
    pub fee_rate: FeeRate,
    /// What was sent to the network; `None` while the receiver may still answer.
    pub paid: Option<Paid>,
    /// A spend of the coins is buried.
    pub settled: bool,
}

/// What was sent to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The transaction, ready to send again.
    pub transaction: Transaction,
    /// Why it is the Original; `None` for a payjoin.
    pub fallback: Option<String>,
}

const COLUMNS: &str = "id, uri, original, fee_rate, paid, fallback, settled";

impl Store {
    /// Keeps a new payment; from now on its coins are locked. Returns its number.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`] when this code is or was paid.
    pub async fn insert_payment(
        &self,
        uri: String,
        original: &Psbt,
        fee_rate: FeeRate,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let original = original.to_string();
        self.write(move |db| {
            let sql = "INSERT INTO payments (uri, original, fee_rate, created) VALUES (?1, ?2, ?3, ?4)
                       RETURNING id";
            let values = params![uri, original, fee_rate.to_sat_per_kwu(), now.0];
            Ok(db.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
        })
        .await
    }

    /// Records what is sent to the network, in the place of what was sent before.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn record_paid(&self, payment: u64, paid: &Paid) -> Result<(), StoreError> {
        let (transaction, fallback) = (serialize(&paid.transaction), paid.fallback.clone());
        self.write(move |db| {
            db.prepare_cached("UPDATE payments SET paid = ?2, fallback = ?3 WHERE id = ?1")?
                .execute(params![payment, transaction, fallback])?;
            Ok(())
        })
        .await
    }

    /// Ends a payment and the locks on its coins.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn settle_payment(&self, payment: u64) -> Result<(), StoreError> {
        self.write(move |db| {
            db.prepare_cached("UPDATE payments SET settled = 1 WHERE id = ?1")?.execute([payment])?;
            Ok(())
        })
        .await
    }

    /// The payment of this number.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn payment(&self, id: u64) -> Result<Option<PaymentRecord>, StoreError> {
        self.read(|db| Ok(select(db, "id = ?1", [id])?.pop()))
    }

    /// The payment of this code.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn payment_of(&self, uri: &str) -> Result<Option<PaymentRecord>, StoreError> {
        self.read(|db| Ok(select(db, "uri = ?1", [uri])?.pop()))
    }

    /// Payments of which no outcome is buried, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn unsettled_payments(&self) -> Result<Vec<PaymentRecord>, StoreError> {
        self.read(unsettled)
    }
}

/// Coins that unsettled payments spend.
pub(super) fn locked(db: &Connection) -> Result<Vec<OutPoint>, StoreError> {
    let inputs = |payment: PaymentRecord| payment.original.unsigned_tx.input;
    Ok(unsettled(db)?.into_iter().flat_map(inputs).map(|input| input.previous_output).collect())
}

fn unsettled(db: &Connection) -> Result<Vec<PaymentRecord>, StoreError> {
    select(db, "settled = 0 ORDER BY id", [])
}

fn select(db: &Connection, filter: &str, values: impl Params) -> Result<Vec<PaymentRecord>, StoreError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM payments WHERE {filter}"))?;
    query.query_and_then(values, decode)?.collect()
}

fn decode(row: &Row<'_>) -> Result<PaymentRecord, StoreError> {
    let id = row.get(0)?;
    let damaged = |what: &str| StoreError::Corrupt(format!("{what} of payment {id} cannot be read"));
    let original: String = row.get(2)?;
    let paid: Option<Vec<u8>> = row.get(4)?;
    let fallback: Option<String> = row.get(5)?;
    let paid = paid.map(|bytes| deserialize(&bytes)).transpose().map_err(|_| damaged("the transaction"))?;
    Ok(PaymentRecord {
        id,
        uri: row.get(1)?,
        original: original.parse().map_err(|_| damaged("the Original"))?,
        fee_rate: FeeRate::from_sat_per_kwu(row.get(3)?),
        paid: paid.map(|transaction| Paid { transaction, fallback }),
        settled: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::spend;

    fn original(coins: &[u32]) -> Psbt {
        Psbt::from_unsigned_tx(spend(coins)).unwrap()
    }

    #[tokio::test]
    async fn money_rule_7_the_coins_of_a_payment_are_locked_until_it_is_settled_across_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::open(&path).unwrap();
        let rate = FeeRate::from_sat_per_kwu(300);
        let insert = |uri: &str, coins: &[u32]| {
            let (store, uri, original) = (store.clone(), uri.to_owned(), original(coins));
            async move { store.insert_payment(uri, &original, rate, Timestamp(9)).await }
        };
        let first = insert("bitcoin:a", &[1, 2]).await.unwrap();
        let second = insert("bitcoin:b", &[3]).await.unwrap();
        assert!(matches!(insert("bitcoin:a", &[4]).await, Err(StoreError::Sqlite(_))));
        let (payjoin, plain) = (spend(&[1, 2, 7]), spend(&[1, 2]));
        let paid = |transaction: &Transaction, fallback: Option<&str>| Paid {
            transaction: transaction.clone(),
            fallback: fallback.map(Into::into),
        };
        store.record_paid(first, &paid(&payjoin, None)).await.unwrap();
        drop(store);

        let store = Store::open(&path).unwrap();
        assert_eq!(store.locked_coins().unwrap().len(), 3);
        let record = store.payment_of("bitcoin:a").unwrap().unwrap();
        assert_eq!((record.id, record.fee_rate, record.settled), (first, rate, false));
        assert_eq!(record.original, original(&[1, 2]));
        assert_eq!(record.paid, Some(paid(&payjoin, None)));
        assert_eq!(store.payment(second).unwrap().unwrap().paid, None);
        store.record_paid(first, &paid(&plain, Some("refused"))).await.unwrap();
        store.settle_payment(first).await.unwrap();
        let record = store.payment(first).unwrap().unwrap();
        assert_eq!((record.paid, record.settled), (Some(paid(&plain, Some("refused"))), true));
        assert_eq!(store.locked_coins().unwrap(), [spend(&[3]).input[0].previous_output]);
        let open: Vec<_> =
            store.unsettled_payments().unwrap().into_iter().map(|payment| payment.id).collect();
        assert_eq!(open, [second]);
        assert_eq!(store.payment_of("bitcoin:c").unwrap(), None);
    }
}
