//! bitcoind as [`ChainSource`].

mod blocks;
mod error;
mod methods;
mod reply;
mod rivals;
mod rpc;

use std::collections::HashMap;

use async_trait::async_trait;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, BlockHash, OutPoint, Transaction, Txid};
use payjoin_core::{Broadcast, Chain, ChainError, Inspection, Prices};
use serde_json::json;

use super::chain_source::{ChainSource, ChainStatus, FeeRates, Readiness};

pub use error::RpcError;
pub use rpc::{Rpc, RpcAuth};

/// `RPC_INVALID_ADDRESS_OR_KEY`: no such block, no such transaction in the mempool.
const NOT_FOUND: i64 = -5;
/// `RPC_INVALID_PARAMETER`: no such height.
const OUT_OF_RANGE: i64 = -8;
/// `RPC_VERIFY_ALREADY_IN_UTXO_SET`: the transaction is in the chain.
const ALREADY_IN_CHAIN: i64 = -27;
/// `RPC_TRANSACTION_ERROR` and `RPC_TRANSACTION_REJECTED`. Every other error, for example while bitcoind starts, is no
/// judgement.
const REFUSALS: [i64; 2] = [-25, -26];

/// bitcoind's `maxfeerate`, off: a child that pays for a large parent has a high rate, and what we pay is limited by us.
const OUR_LIMITS: u32 = 0;

/// A bitcoind, by JSON-RPC.
#[derive(Debug)]
pub struct Bitcoind(Rpc);

impl Bitcoind {
    /// Asks by this connection.
    #[must_use]
    pub fn new(rpc: Rpc) -> Self {
        Self(rpc)
    }

    /// The mempool transaction that spends each outpoint, in order.
    async fn spending(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Txid>>, RpcError> {
        const METHOD: &str = "gettxspendingprevout";
        if outpoints.is_empty() {
            return Ok(Vec::new());
        }
        let params: Vec<_> = outpoints.iter().map(|o| json!({ "txid": o.txid, "vout": o.vout })).collect();
        let answer = self.0.call(METHOD, json!([params])).await?;
        let txids = reply::spending_txids(&answer).filter(|txids| txids.len() == outpoints.len());
        txids.ok_or(RpcError::Unexpected(METHOD))
    }

    /// Fetches what is still in the mempool; a transaction that left it meanwhile is missing from the answer.
    async fn fetch(&self, txids: impl Iterator<Item = Txid>) -> Result<HashMap<Txid, Transaction>, RpcError> {
        const METHOD: &str = "getrawtransaction";
        let mut wanted: Vec<Txid> = txids.collect();
        wanted.sort_unstable();
        wanted.dedup();
        let calls: Vec<_> = wanted.iter().map(|txid| (METHOD, json!([txid]))).collect();
        let mut found = HashMap::new();
        for (txid, answer) in wanted.into_iter().zip(self.0.batch(&calls).await?) {
            match answer {
                Ok(hex) => {
                    found.insert(txid, reply::transaction(&hex).ok_or(RpcError::Unexpected(METHOD))?);
                }
                Err(RpcError::Server { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

impl From<RpcError> for ChainError {
    fn from(error: RpcError) -> Self {
        Self::Away(error.to_string())
    }
}

/// The one place where bitcoind's answer to a transaction becomes a judgement or none.
fn judgement(error: RpcError) -> Result<Broadcast, ChainError> {
    match error {
        RpcError::Server { code: ALREADY_IN_CHAIN, .. } => Ok(Broadcast::Taken),
        RpcError::Server { message, .. }
            if message.contains("txn-already-known") || message.contains("txn-already-in-mempool") =>
        {
            Ok(Broadcast::Taken)
        }
        RpcError::Server { code, message } if REFUSALS.contains(&code) => Ok(Broadcast::Refused(message)),
        error => Err(error.into()),
    }
}

/// `None` for what bitcoind does not have.
fn found<T>(answer: Result<T, RpcError>, missing: i64) -> Result<Option<T>, RpcError> {
    match answer {
        Err(RpcError::Server { code, .. }) if code == missing => Ok(None),
        answer => answer.map(Some),
    }
}

#[async_trait]
impl Chain for Bitcoind {
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, ChainError> {
        const TEST: &str = "testmempoolaccept";
        const COIN: &str = "gettxout";
        const MEMPOOL: &str = "getmempoolinfo";
        let mut calls = vec![(MEMPOOL, json!([])), (TEST, json!([[serialize_hex(transaction)]]))];
        calls.extend(transaction.input.iter().map(|input| {
            let OutPoint { txid, vout } = input.previous_output;
            (COIN, json!([txid, vout, true]))
        }));
        let mut answers = self.0.batch(&calls).await?.into_iter();
        let mempool = answers.next().ok_or(RpcError::Unexpected(MEMPOOL))??;
        let floor = reply::mempool_floor(&mempool).ok_or(RpcError::Unexpected(MEMPOOL))?;
        let verdict = answers.next().ok_or(RpcError::Unexpected(TEST))??;
        let acceptable = reply::acceptance(&verdict).ok_or(RpcError::Unexpected(TEST))?;
        let prevouts = answers.map(|answer| reply::utxo(&answer?).ok_or(RpcError::Unexpected(COIN)));
        Ok(Inspection { acceptable, prevouts: prevouts.collect::<Result<_, _>>()?, floor })
    }

    async fn spent(&self, coins: &[OutPoint]) -> Result<Vec<bool>, ChainError> {
        Ok(self.spending(coins).await?.iter().map(Option::is_some).collect())
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        match self.0.call("sendrawtransaction", json!([serialize_hex(transaction), OUR_LIMITS])).await {
            Ok(_) => Ok(Broadcast::Taken),
            Err(error) => judgement(error),
        }
    }

    async fn submit_package(&self, package: &[Transaction]) -> Result<Broadcast, ChainError> {
        const METHOD: &str = "submitpackage";
        let hex: Vec<String> = package.iter().map(serialize_hex).collect();
        match self.0.call(METHOD, json!([hex, OUR_LIMITS])).await {
            Ok(answer) => Ok(reply::package(&answer).ok_or(RpcError::Unexpected(METHOD))?),
            Err(error) => judgement(error),
        }
    }

    async fn prices(&self, rivals: &[Txid]) -> Result<Prices, ChainError> {
        Ok(rivals::prices(&self.0, rivals).await?)
    }
}

#[async_trait]
impl ChainSource for Bitcoind {
    async fn status(&self) -> Result<ChainStatus, ChainError> {
        const METHOD: &str = "getblockchaininfo";
        let info = self.0.call(METHOD, json!([])).await?;
        Ok(reply::status(&info).ok_or(RpcError::Unexpected(METHOD))?)
    }

    async fn readiness(&self) -> Result<Readiness, ChainError> {
        match methods::check(&self.0).await {
            Err(error) if error.passes() => return Ok(Readiness::NotYet(error.to_string())),
            checked => checked?,
        }
        let status = self.0.call("getblockchaininfo", json!([])).await;
        match status.and_then(|info| reply::status(&info).ok_or(RpcError::Unexpected("getblockchaininfo"))) {
            Err(error) if error.passes() => Ok(Readiness::NotYet(error.to_string())),
            status => Ok(Readiness::Ready(status?)),
        }
    }

    fn hurry(&self) {
        self.0.hurry();
    }

    async fn block_at(&self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        const METHOD: &str = "getblockhash";
        let hash = found(self.0.call(METHOD, json!([height])).await, OUT_OF_RANGE)?;
        let hash = hash.map(|hash| reply::hash(&hash).ok_or(RpcError::Unexpected(METHOD)));
        Ok(hash.transpose()?)
    }

    async fn knows(&self, block: &BlockHash) -> Result<bool, ChainError> {
        Ok(found(self.0.call("getblockheader", json!([block])).await, NOT_FOUND)?.is_some())
    }

    async fn spenders(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Transaction>>, ChainError> {
        let txids = self.spending(outpoints).await?;
        let transactions = self.fetch(txids.iter().flatten().copied()).await?;
        Ok(txids.into_iter().map(|txid| transactions.get(&txid?).cloned()).collect())
    }

    async fn in_mempool(&self, txids: &[Txid]) -> Result<(Vec<bool>, BlockHash), ChainError> {
        const BEST: &str = "getbestblockhash";
        let mut calls: Vec<_> = txids.iter().map(|txid| ("getmempoolentry", json!([txid]))).collect();
        // Asked last: when a block has just taken a transaction out of the mempool, this is that block or a later one.
        calls.push((BEST, json!([])));
        let mut answers = self.0.batch(&calls).await?;
        let best = answers.pop().ok_or(RpcError::Unexpected(BEST))??;
        let best = reply::hash(&best).ok_or(RpcError::Unexpected(BEST))?;
        let there = answers.into_iter().map(|answer| Ok(found(answer, NOT_FOUND)?.is_some()));
        Ok((there.collect::<Result<_, RpcError>>()?, best))
    }

    async fn mempool(&self) -> Result<Vec<Txid>, ChainError> {
        const METHOD: &str = "getrawmempool";
        let answer = self.0.call(METHOD, json!([])).await?;
        Ok(serde_json::from_value(answer).map_err(|_| RpcError::Unexpected(METHOD))?)
    }

    async fn mempool_transactions(&self, txids: &[Txid]) -> Result<Vec<Transaction>, ChainError> {
        if txids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.fetch(txids.iter().copied()).await?.into_values().collect())
    }

    async fn mempool_fee(&self, txid: Txid) -> Result<Option<Amount>, ChainError> {
        const METHOD: &str = "getmempoolentry";
        let entry = found(self.0.call(METHOD, json!([txid])).await, NOT_FOUND)?;
        let fee = entry.map(|entry| reply::fee(&entry).ok_or(RpcError::Unexpected(METHOD)));
        Ok(fee.transpose()?)
    }

    async fn fee_rates(&self, within: &[u16]) -> Result<FeeRates, ChainError> {
        let mut calls: Vec<_> = within.iter().map(|blocks| ("estimatesmartfee", json!([blocks]))).collect();
        calls.push(("getmempoolinfo", json!([])));
        let answers = self.0.batch(&calls).await?;
        let rate = |at: usize, field| {
            let answer = answers.get(at).and_then(|answer| answer.as_ref().ok())?;
            reply::fee_rate(answer.get(field)?)
        };
        let estimates = (0..within.len()).map(|at| rate(at, "feerate")).collect();
        let least = rate(within.len(), "mempoolminfee").max(rate(within.len(), "minrelaytxfee"));
        Ok(FeeRates { within: estimates, least })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bitcoind_that_judges_a_transaction_refuses_it() {
        let judged = |code, message: &str| judgement(RpcError::Server { code, message: message.into() });
        for message in ["txn-mempool-conflict", "bad-txns-inputs-missingorspent"] {
            for code in REFUSALS {
                assert_eq!(judged(code, message), Ok(Broadcast::Refused(message.into())));
            }
        }
        assert_eq!(judged(ALREADY_IN_CHAIN, "Transaction already in block chain"), Ok(Broadcast::Taken));
        assert_eq!(judged(-26, "txn-already-in-mempool"), Ok(Broadcast::Taken));
        assert!(judged(-28, "Loading block index…").is_err());
        assert!(judgement(RpcError::Unauthorized).is_err());
    }
}
