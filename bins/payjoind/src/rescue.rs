//! `rescue`: what is owed to payers, from a database that cannot be used any more.

use std::path::Path;

use bitcoin::consensus::encode::serialize_hex;
use serde_json::{Value, json};

pub(crate) fn rescue(database: &Path) -> Result<Value, String> {
    let rescued = payjoin_io::rescue(database).map_err(|error| format!("{}: {error}", database.display()))?;
    let original = |(id, original): &(payjoin_core::ExchangeId, bitcoin::Transaction)| json!({ "exchange": id.0, "txid": original.compute_txid().to_string(), "hex": serialize_hex(original) });
    Ok(json!({
        "originals": rescued.originals.iter().map(original).collect::<Vec<_>>(),
        "unreadable": rescued.unreadable.iter().map(|id| id.0).collect::<Vec<_>>(),
    }))
}
