//! Reading bitcoind's answers. `None` means: not the shape that the call promises.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut, Txid};
use serde_json::Value;

use super::RpcError;

/// One JSON-RPC answer.
pub(super) struct Reply {
    pub(super) id: u64,
    pub(super) result: Result<Value, RpcError>,
}

impl Reply {
    pub(super) fn parse(mut value: Value) -> Option<Self> {
        let id = value.get("id")?.as_u64()?;
        let error = value.get_mut("error").map(Value::take).unwrap_or(Value::Null);
        let result = match error {
            Value::Null => Ok(value.get_mut("result")?.take()),
            error => Err(RpcError::Server {
                code: error.get("code")?.as_i64()?,
                message: error.get("message")?.as_str()?.to_owned(),
            }),
        };
        Some(Self { id, result })
    }
}

/// `testmempoolaccept` of one transaction.
pub(super) fn acceptance(value: &Value) -> Option<Result<(), String>> {
    let verdict = value.get(0)?;
    if verdict.get("allowed").and_then(Value::as_bool) == Some(true) {
        return Some(Ok(()));
    }
    let reason = verdict.get("reject-reason").or_else(|| verdict.get("package-error"))?;
    Some(Err(reason.as_str()?.to_owned()))
}

/// `gettxout`; the inner `None` when there is no such unspent output in the chain.
pub(super) fn utxo(value: &Value) -> Option<Option<TxOut>> {
    if value.is_null() || value.get("confirmations")?.as_u64()? == 0 {
        return Some(None);
    }
    let value_btc = value.get("value")?.as_f64()?;
    let script = value.get("scriptPubKey")?.get("hex")?.as_str()?;
    Some(Some(TxOut {
        value: Amount::from_btc(value_btc).ok()?,
        script_pubkey: ScriptBuf::from_hex(script).ok()?,
    }))
}

/// `gettxspendingprevout`: one entry per outpoint asked for.
pub(super) fn spending_txids(value: &Value) -> Option<Vec<Option<Txid>>> {
    let entry = |entry: &Value| match entry.get("spendingtxid") {
        None => Some(None),
        Some(txid) => Some(Some(txid.as_str()?.parse().ok()?)),
    };
    value.as_array()?.iter().map(entry).collect()
}

/// `getrawtransaction` without verbosity.
pub(super) fn transaction(value: &Value) -> Option<Transaction> {
    deserialize_hex(value.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_read_with_its_code_and_words() {
        let reply =
            Reply::parse(json!({ "id": 7, "result": null, "error": { "code": -5, "message": "no" } }));
        let reply = reply.expect("well formed");
        assert_eq!(reply.id, 7);
        assert!(matches!(reply.result, Err(RpcError::Server { code: -5, message }) if message == "no"));
    }

    #[test]
    fn malformed_answers_are_noticed() {
        for value in [json!(null), json!({}), json!({ "id": 1 }), json!({ "id": 1, "error": {} }), json!([1])]
        {
            assert!(Reply::parse(value.clone()).is_none(), "{value}");
        }
        assert!(acceptance(&json!([])).is_none());
        assert!(acceptance(&json!([{ "allowed": false }])).is_none());
        assert!(utxo(&json!({ "confirmations": 1, "value": 1.0 })).is_none());
        assert!(utxo(&json!({ "value": 1.0, "scriptPubKey": { "hex": "51" } })).is_none());
        let negative = json!({ "confirmations": 1, "value": -1.0, "scriptPubKey": { "hex": "51" } });
        assert!(utxo(&negative).is_none());
        assert!(spending_txids(&json!([{ "spendingtxid": "zz" }])).is_none());
        assert!(transaction(&json!("00")).is_none());
    }

    #[test]
    fn amounts_are_exact_to_the_satoshi() {
        for (btc, sat) in [(0.1, 10_000_000), (20999999.9769, 2_099_999_997_690_000), (0.00000001, 1)] {
            let out = utxo(&json!({ "confirmations": 1, "value": btc, "scriptPubKey": { "hex": "51" } }));
            assert_eq!(out.flatten().map(|out| out.value), Some(Amount::from_sat(sat)));
        }
    }
}
