//! `rescue`: what is owed to payers, from a database that cannot be used any more.

use std::path::Path;

use bitcoin::Transaction;
use bitcoin::consensus::encode::serialize_hex;
use payjoin_core::ExchangeId;
use serde_json::{Value, json};

pub(crate) fn rescue(database: &Path) -> Result<Value, String> {
    if !database.exists() {
        return Err(format!("there is no {}: is --datadir right?", database.display()));
    }
    let rescued = payjoin_io::rescue(database).map_err(|error| format!("{}: {error}", database.display()))?;
    Ok(json!({
        "originals": rescued.originals.iter().map(owed).collect::<Vec<_>>(),
        "unreadable": rescued.unreadable.iter().map(|id| id.0).collect::<Vec<_>>(),
    }))
}

fn owed((id, original): &(ExchangeId, Transaction)) -> Value {
    json!({ "exchange": id.0, "txid": original.compute_txid().to_string(), "hex": serialize_hex(original) })
}
