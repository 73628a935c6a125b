//! What a row of the table `exchanges` says.

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Amount, ScriptBuf, Transaction, Txid};
use payjoin_core::{
    ExchangeId, ExchangeRecord, Fees, FundedChannel, Invoice, InvoiceId, LedgerError, Obligation, Timestamp,
};
use rusqlite::{Connection, Row};

use crate::store::{DbError, locks};

pub(super) const OBLIGATION: &str = "id, original, payjoin, channels, fallback_at, mined, mined_height,
    (SELECT script FROM invoices WHERE id = invoice), (SELECT amount FROM invoices WHERE id = invoice),
    original_fee, payjoin_fee, signed, state";

pub(super) fn obligation(db: &Connection, row: &Row<'_>) -> Result<Obligation, DbError> {
    let id = ExchangeId(row.get(0)?);
    let original = transaction(id, &row.get::<_, Vec<u8>>(1)?)?;
    let plain = row.get::<_, String>(12)? == "plain";
    let amount = match plain {
        true => Some(Amount::ZERO),
        false => row.get::<_, Option<u64>>(8)?.map(Amount::from_sat),
    };
    Ok(Obligation {
        exchange: id,
        payment: Invoice::owed(ScriptBuf::from_bytes(row.get(7)?), amount, &original),
        original,
        payjoin: txid(id, row.get(2)?)?,
        fees: fees(row, 9)?,
        coins: locks::held(db, id)?,
        channels: channels(id, &row.get::<_, String>(3)?)?,
        plain,
        fallback_at: Timestamp(row.get(4)?),
        signed: some_transaction(id, row.get(11)?)?,
        mined: some_transaction(id, row.get(5)?)?.zip(row.get(6)?),
    })
}

pub(super) const RECORD: &str =
    "id, invoice, state, original, payjoin, channels, reason, fallback_at, created, outcome,
    mined, signed, plain, original_txid, payjoin_txid, mined_txid,
    (SELECT amount FROM invoices WHERE id = invoice), partitions, amount, original_fee, payjoin_fee, saved,
    mined_height, own";

pub(super) fn record(row: &Row<'_>) -> Result<ExchangeRecord, DbError> {
    let id = ExchangeId(row.get(0)?);
    let (original, released) = (some_transaction(id, row.get(3)?)?, txid(id, row.get(4)?)?);
    let (mined, signed) = (some_transaction(id, row.get(10)?)?, some_transaction(id, row.get(11)?)?);
    // Of an exchange that settled long ago the ids alone are left.
    let (original_txid, payjoin_txid) = match &original {
        Some(original) => {
            let shown = |id| ExchangeRecord::settled_txid(id, original, [&signed, &mined]);
            (Some(original.compute_txid()), released.and_then(shown))
        }
        None => (txid(id, row.get(13)?)?, txid(id, row.get(14)?)?),
    };
    let mined_txid = match &mined {
        Some(mined) => Some(mined.compute_txid()),
        None => txid(id, row.get(15)?)?,
    };
    let sat = |column| Ok::<_, DbError>(row.get::<_, Option<u64>>(column)?.map(Amount::from_sat));
    let (plain, asked) = (sat(12)?, sat(16)?);
    let settled = row.get::<_, Option<String>>(9)?.map(|outcome| word(id, outcome)).transpose()?;
    Ok(ExchangeRecord {
        id,
        invoice: InvoiceId(row.get(1)?),
        state: word(id, row.get(2)?)?,
        original_txid: original_txid.ok_or_else(|| damaged(id, "no Original"))?,
        payjoin_txid,
        mined_txid,
        channels: channels(id, &row.get::<_, String>(5)?)?,
        partitions: row.get(17)?,
        own: row.get(23)?,
        reason: row.get::<_, Option<String>>(6)?.or_else(|| ExchangeRecord::underpaid(plain, asked)),
        amount: plain.or(sat(18)?),
        fee: ExchangeRecord::paid_to_miners(released.is_some(), fees(row, 19)?, settled),
        saved: sat(21)?,
        mined_height: row.get(22)?,
        plain,
        fallback_at: Timestamp(row.get(7)?),
        created: Timestamp(row.get(8)?),
        settled,
    })
}

/// What the Original and the payjoin pay the miners, in this column and the next.
fn fees(row: &Row<'_>, column: usize) -> Result<Fees, DbError> {
    let sat = |column| row.get(column).map(Amount::from_sat);
    Ok(Fees { original: sat(column)?, payjoin: sat(column + 1)? })
}

pub(super) fn some_transaction(
    id: ExchangeId,
    bytes: Option<Vec<u8>>,
) -> Result<Option<Transaction>, DbError> {
    bytes.map(|bytes| transaction(id, &bytes)).transpose()
}

fn damaged(id: ExchangeId, what: impl std::fmt::Display) -> DbError {
    LedgerError::Damaged(format!("exchange {}: {what}", id.0)).into()
}

fn transaction(id: ExchangeId, bytes: &[u8]) -> Result<Transaction, DbError> {
    deserialize(bytes).map_err(|error| damaged(id, error))
}

pub(super) fn txid(id: ExchangeId, text: Option<String>) -> Result<Option<Txid>, DbError> {
    text.map(|text| text.parse()).transpose().map_err(|error| damaged(id, error))
}

fn channels(id: ExchangeId, json: &str) -> Result<Vec<FundedChannel>, DbError> {
    serde_json::from_str(json).map_err(|error| damaged(id, error))
}

/// A variant by its serde name, which is how the file spells it.
pub(super) fn word<T: serde::de::DeserializeOwned>(id: ExchangeId, name: String) -> Result<T, DbError> {
    serde_json::from_value(name.into()).map_err(|error| damaged(id, error))
}
