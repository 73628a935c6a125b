//! Reading bitcoind's answers. `None` means: not the shape that the call promises.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, BlockHash, FeeRate, ScriptBuf, Transaction, TxOut, Txid};
use lightning::chain::BestBlock;
use payjoin_core::{Acceptance, Broadcast};
use serde_json::Value;

use super::error::RpcError;
use crate::node::chain_source::ChainStatus;

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
pub(super) fn acceptance(value: &Value) -> Option<Acceptance> {
    let verdict = value.get(0)?;
    if verdict.get("allowed").and_then(Value::as_bool) == Some(true) {
        return Some(Acceptance::Yes);
    }
    let reason = verdict.get("reject-reason").or_else(|| verdict.get("package-error"))?;
    Some(Acceptance::No(reason.as_str()?.to_owned()))
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

/// A block hash by itself.
pub(super) fn hash(value: &Value) -> Option<BlockHash> {
    value.as_str()?.parse().ok()
}

/// `getblockchaininfo`.
pub(super) fn status(value: &Value) -> Option<ChainStatus> {
    let height = u32::try_from(value.get("blocks")?.as_u64()?).ok()?;
    let tip = BestBlock::new(hash(value.get("bestblockhash")?)?, height);
    let begins =
        value.get("pruneheight").and_then(Value::as_u64).and_then(|height| u32::try_from(height).ok());
    let headers = value.get("headers").and_then(Value::as_u64).and_then(|height| u32::try_from(height).ok());
    Some(ChainStatus {
        network: value.get("chain")?.as_str()?.to_owned(),
        tip,
        begins: begins.unwrap_or(0),
        first_download: value.get("initialblockdownload").and_then(Value::as_bool).unwrap_or(false),
        headers: headers.unwrap_or(height),
        time: value.get("time").and_then(Value::as_u64),
    })
}

/// `getpeerinfo`: the ids of those that keep all blocks.
pub(super) fn full_peers(value: &Value) -> Option<Vec<u64>> {
    let is_full = |peer: &&Value| {
        let services = peer.get("servicesnames").and_then(Value::as_array);
        services.is_some_and(|services| services.iter().any(|service| service == "NETWORK"))
    };
    value.as_array()?.iter().filter(is_full).map(|peer| peer.get("id")?.as_u64()).collect()
}

/// `submitpackage`: one reason is enough, the first that names a transaction.
pub(super) fn package(value: &Value) -> Option<Broadcast> {
    let message = value.get("package_msg")?.as_str()?;
    if message == "success" {
        return Some(Broadcast::Taken);
    }
    let results = value.get("tx-results").and_then(Value::as_object);
    let mut errors = results.into_iter().flatten().filter_map(|(_, result)| result.get("error")?.as_str());
    Some(Broadcast::Refused(errors.next().unwrap_or(message).to_owned()))
}

/// `getmempoolentry`: what the transaction itself pays.
pub(super) fn fee(value: &Value) -> Option<Amount> {
    Amount::from_btc(value.get("fees")?.get("base")?.as_f64()?).ok()
}

/// From bitcoins per 1000 virtual bytes, rounded up.
pub(super) fn fee_rate(value: &Value) -> Option<FeeRate> {
    let sat = Amount::from_btc(value.as_f64()?).ok()?.to_sat();
    Some(FeeRate::from_sat_per_kwu(sat.div_ceil(4)))
}

/// `getmempoolinfo`: what is relayed, and kept while the mempool is full.
pub(super) fn mempool_floor(value: &Value) -> Option<FeeRate> {
    let rate = |field| fee_rate(value.get(field)?);
    Some(rate("mempoolminfee")?.max(rate("minrelaytxfee")?))
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
        assert!(hash(&json!("00")).is_none());
        assert!(status(&json!({ "chain": "regtest", "blocks": 1, "bestblockhash": 1 })).is_none());
        assert!(package(&json!({})).is_none());
        assert!(full_peers(&json!([{ "servicesnames": ["NETWORK"] }])).is_none());
        assert!(fee(&json!({ "fees": { "base": -1 } })).is_none());
    }

    #[test]
    fn a_refused_package_is_refused_for_the_reason_of_a_transaction() {
        let success = json!({ "package_msg": "success", "tx-results": { "a": { "txid": "b" } } });
        assert_eq!(package(&success), Some(Broadcast::Taken));
        let refused =
            json!({ "package_msg": "transaction failed", "tx-results": { "a": { "error": "min" } } });
        assert_eq!(package(&refused), Some(Broadcast::Refused("min".into())));
        let bare = json!({ "package_msg": "package-mempool-limits" });
        assert_eq!(package(&bare), Some(Broadcast::Refused("package-mempool-limits".into())));
    }

    #[test]
    fn blocks_are_asked_of_peers_that_keep_all_of_them() {
        let peers = json!([
            { "id": 3, "servicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"] },
            { "id": 4, "servicesnames": ["WITNESS", "NETWORK_LIMITED"] },
            { "id": 5 },
        ]);
        assert_eq!(full_peers(&peers), Some(vec![3]));
    }

    #[test]
    fn fee_rates_are_rounded_up() {
        for (btc_per_kvb, expected) in [
            (json!(0.00001), Some(250)),
            (json!(0.00001001), Some(251)),
            (json!(0.0001), Some(2_500)),
            (json!("x"), None),
            (json!(-1.0), None),
        ] {
            assert_eq!(fee_rate(&btc_per_kvb), expected.map(FeeRate::from_sat_per_kwu));
        }
    }

    #[test]
    fn the_mempool_takes_what_is_relayed_and_not_driven_out() {
        let floor = |kept: f64, relayed: f64| {
            mempool_floor(&json!({ "mempoolminfee": kept, "minrelaytxfee": relayed }))
        };
        assert_eq!(floor(0.000001, 0.000001), Some(FeeRate::from_sat_per_kwu(25)));
        assert_eq!(floor(0.00002, 0.000001), Some(FeeRate::from_sat_per_kwu(500)));
        assert_eq!(floor(0.0, 0.00000101), Some(FeeRate::from_sat_per_kwu(26)), "rounded up");
        assert_eq!(mempool_floor(&json!({ "mempoolminfee": 1 })), None);
    }

    #[test]
    fn amounts_are_exact_to_the_satoshi() {
        for (btc, sat) in [(0.1, 10_000_000), (20999999.9769, 2_099_999_997_690_000), (0.00000001, 1)] {
            let out = utxo(&json!({ "confirmations": 1, "value": btc, "scriptPubKey": { "hex": "51" } }));
            assert_eq!(out.flatten().map(|out| out.value), Some(Amount::from_sat(sat)));
        }
    }
}
