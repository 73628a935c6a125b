//! What the example asks of a bitcoind, over JSON-RPC. A wallet has its own way to the chain.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Address, Amount, Block, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut};
use payjoin_core::{Acceptance, Broadcast, Chain, ChainError, Coin, Inspection};
use payjoin_io::Settler;
use serde_json::{Value, json};

/// A node at `http://USER:PASSWORD@HOST:PORT`.
pub(crate) struct Bitcoind {
    url: String,
    http: reqwest::Client,
}

impl Bitcoind {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), http: reqwest::Client::new() }
    }

    /// One round trip for any number of calls, answered in order.
    async fn calls(&self, calls: &[(&str, Value)]) -> Result<Vec<Value>, ChainError> {
        let body = calls.iter().map(|(method, params)| json!({ "method": method, "params": params }));
        let sending = self.http.post(&self.url).json(&body.collect::<Vec<_>>()).send();
        let replies = async { sending.await?.json::<Vec<Value>>().await };
        // The URL holds the password.
        let replies: Result<Vec<Value>, reqwest::Error> = replies.await;
        replies.map_err(|error| ChainError::Away(error.without_url().to_string()))
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, ChainError> {
        result(self.calls(&[(method, params)]).await?.pop().unwrap_or_default())
    }

    /// A node that starts has other errors, and judges nothing.
    async fn send(&self, method: &str, params: Value) -> Result<Broadcast, ChainError> {
        let reply = self.calls(&[(method, params)]).await?.pop().unwrap_or_default();
        match reply["error"]["code"].as_i64() {
            Some(-25 | -26) => Ok(Broadcast::Refused(reply["error"]["message"].to_string())),
            Some(-27) => Ok(Broadcast::Taken),
            _ => match result(reply)?["package_msg"].as_str() {
                None | Some("success") => Ok(Broadcast::Taken),
                Some(reason) => Ok(Broadcast::Refused(reason.to_owned())),
            },
        }
    }

    /// Confirmed coins of an address.
    pub(crate) async fn coins(&self, address: &Address) -> Result<Vec<Coin>, ChainError> {
        let found = self.call("scantxoutset", json!(["start", [format!("addr({address})")]])).await?;
        let coin = |coin: &Value| {
            let vout = coin["vout"].as_u64()?.try_into().ok()?;
            let outpoint = OutPoint { txid: coin["txid"].as_str()?.parse().ok()?, vout };
            Some(Coin { outpoint, txout: txout(&coin["amount"], &coin["scriptPubKey"])? })
        };
        found["unspents"].as_array().into_iter().flatten().map(coin).collect::<Option<_>>().ok_or_else(odd)
    }

    async fn height(&self) -> Result<u32, ChainError> {
        let height = self.call("getblockcount", json!([])).await?;
        height.as_u64().and_then(|height| height.try_into().ok()).ok_or_else(odd)
    }

    async fn block(&self, height: u32) -> Result<Block, ChainError> {
        let hash = self.call("getblockhash", json!([height])).await?;
        let block = self.call("getblock", json!([hash, 0])).await?;
        block.as_str().and_then(|hex| deserialize_hex(hex).ok()).ok_or_else(odd)
    }

    /// Brings a settler the news, for ever.
    pub(crate) async fn watch(&self, mut settler: Settler) -> Result<(), ChainError> {
        let mut height = self.height().await?;
        loop {
            let watched = settler.watched_outpoints().await;
            settler.on_mempool(&self.spends(&watched).await?).await;
            while height < self.height().await? {
                height += 1;
                settler.on_block(height, &self.block(height).await?.txdata).await;
                settler.on_tip(height).await;
            }
            settler.tick().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// What the mempool holds that spends these coins.
    async fn spends(&self, coins: &[OutPoint]) -> Result<HashMap<OutPoint, Transaction>, ChainError> {
        let mut spends = HashMap::new();
        for coin in coins {
            let asked = json!([[{ "txid": coin.txid, "vout": coin.vout }]]);
            let found = self.call("gettxspendingprevout", asked).await?[0]["spendingtxid"].take();
            if !found.is_null() {
                let hex = self.call("getrawtransaction", json!([found])).await?;
                let spend = hex.as_str().and_then(|hex| deserialize_hex(hex).ok()).ok_or_else(odd)?;
                spends.insert(*coin, spend);
            }
        }
        Ok(spends)
    }
}

#[async_trait]
impl Chain for Bitcoind {
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, ChainError> {
        let mut calls =
            vec![("getmempoolinfo", json!([])), ("testmempoolaccept", json!([[serialize_hex(transaction)]]))];
        for OutPoint { txid, vout } in transaction.input.iter().map(|input| input.previous_output) {
            calls.push(("gettxout", json!([txid, vout])));
        }
        let found: Result<Vec<Value>, _> = self.calls(&calls).await?.into_iter().map(result).collect();
        let mut found = found?.into_iter();
        let info = found.next().ok_or_else(odd)?;
        let least = Amount::from_btc(info["mempoolminfee"].as_f64().ok_or_else(odd)?).map_err(|_| odd())?;
        // Of 1000 virtual bytes, which are 4000 weight units.
        let floor = FeeRate::from_sat_per_kwu(least.to_sat().div_ceil(4));
        let verdict = found.next().ok_or_else(odd)?[0].take();
        let acceptable = match verdict["allowed"] == true {
            true => Acceptance::Yes,
            false => Acceptance::No(verdict["reject-reason"].to_string()),
        };
        let prevouts = found.map(|found| txout(&found["value"], &found["scriptPubKey"]["hex"])).collect();
        Ok(Inspection { acceptable, prevouts, floor })
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        self.send("sendrawtransaction", json!([serialize_hex(transaction)])).await
    }

    async fn submit_package(&self, package: &[Transaction]) -> Result<Broadcast, ChainError> {
        let hex: Vec<String> = package.iter().map(serialize_hex).collect();
        self.send("submitpackage", json!([hex])).await
    }
}

fn txout(value: &Value, script: &Value) -> Option<TxOut> {
    let script_pubkey = ScriptBuf::from_hex(script.as_str()?).ok()?;
    Some(TxOut { value: Amount::from_btc(value.as_f64()?).ok()?, script_pubkey })
}

fn result(mut reply: Value) -> Result<Value, ChainError> {
    if reply["error"].is_null() {
        Ok(reply["result"].take())
    } else {
        Err(ChainError::Away(reply["error"].to_string()))
    }
}

fn odd() -> ChainError {
    ChainError::Away("bitcoind gave an answer that makes no sense".into())
}
