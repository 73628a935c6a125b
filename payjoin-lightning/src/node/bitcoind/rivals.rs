//! What the mempool asks for a replacement.

use bitcoin::{Amount, Txid};
use payjoin_core::{Kin, Prices, Rival};
use serde_json::{Value, json};

use super::rpc::Rpc;
use super::{NOT_FOUND, RpcError, found, reply};

const INFO: &str = "getmempoolinfo";
const ENTRY: &str = "getmempoolentry";

/// What it takes to replace these transactions. Those that left the mempool are missing. One HTTP request.
pub(super) async fn prices(rpc: &Rpc, rivals: &[Txid]) -> Result<Prices, RpcError> {
    let mut calls = vec![(INFO, json!([]))];
    calls.extend(rivals.iter().map(|txid| (ENTRY, json!([txid]))));
    let mut answers = rpc.batch(&calls).await?.into_iter();
    let info = answers.next().ok_or(RpcError::Unexpected(INFO))??;
    let mut there = Vec::new();
    for (txid, answer) in rivals.iter().zip(answers) {
        if let Some(entry) = found(answer, NOT_FOUND)? {
            there.push(rival(*txid, &entry).ok_or(RpcError::Unexpected(ENTRY))?);
        }
    }
    let rate = |field| reply::fee_rate(&info[field]).ok_or(RpcError::Unexpected(INFO));
    let floor = reply::mempool_floor(&info).ok_or(RpcError::Unexpected(INFO))?;
    Ok(Prices { rivals: there, floor, step: rate("incrementalrelayfee")? })
}

fn rival(txid: Txid, entry: &Value) -> Option<Rival> {
    let kin = |count: Option<&str>, vsize: &str, fee: &str| {
        let count = count.map_or(Some(1), |count| u32::try_from(entry[count].as_u64()?).ok())?;
        let fee = Amount::from_btc(entry["fees"][fee].as_f64()?).ok()?;
        Some(Kin { count, vsize: entry[vsize].as_u64()?, fee })
    };
    let alone = kin(None, "vsize", "modified")?;
    let ancestors = kin(Some("ancestorcount"), "ancestorsize", "ancestor")?;
    let descendants = kin(Some("descendantcount"), "descendantsize", "descendant")?;
    Some(Rival { txid, alone, ancestors, descendants })
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    #[test]
    fn an_entry_is_read_with_those_it_hangs_together_with() {
        let entry = json!({
            "vsize": 110, "ancestorcount": 1, "ancestorsize": 110, "descendantcount": 2, "descendantsize": 250,
            "fees": { "base": 0.00000110, "modified": 0.00000110, "ancestor": 0.00000110, "descendant": 0.00001 },
        });
        let kin = |count, vsize, fee| Kin { count, vsize, fee: Amount::from_sat(fee) };
        let alone = kin(1, 110, 110);
        let txid = Txid::all_zeros();
        let expected = Rival { txid, alone, ancestors: alone, descendants: kin(2, 250, 1_000) };
        assert_eq!(rival(txid, &entry), Some(expected));
        assert_eq!(rival(txid, &json!({ "vsize": 110 })), None);
    }
}
