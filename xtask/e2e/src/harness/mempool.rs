//! A mempool that is full, and one that has seen enough to say what a place in a block costs.

use anyhow::{Context, Result, bail, ensure};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid, WScriptHash};
use serde_json::json;

use super::chain::{Chain, MINER, Wallet};
use super::json::Fields;

/// The smallest mempool that bitcoind allows.
const SMALL: [&str; 1] = ["-maxmempool=5"];
/// Outputs of one transaction, of 43 vB, and how many transactions fill the mempool.
const OUTPUTS: u64 = 2_200;
const OUTPUT: Amount = Amount::from_sat(400);
const ENOUGH: usize = 60;
const COIN: Amount = Amount::from_sat(50_000_000);
/// Blocks, and payments in each, after which bitcoind has estimates.
const FEE_BLOCKS: u32 = 30;
const FEE_PAYMENTS: u32 = 4;

impl Chain {
    /// Starts bitcoind again, with these wallets and a small mempool, full of what pays this many sat/vB: it takes
    /// nothing that pays less.
    pub(crate) fn fill_mempool(&self, rate: u64, wallets: &[&str]) -> Result<()> {
        self.stop()?;
        self.restart_with(&SMALL, wallets)?;
        let miner = self.known_wallet(MINER);
        let addresses = (0..ENOUGH).map(|_| miner.address("bech32")).collect::<Result<Vec<_>>>()?;
        let coins: Vec<_> = addresses.iter().map(|address| (address.clone(), COIN)).collect();
        self.give(&coins)?;
        let coins = miner.call("listunspent", json!([1, 1, addresses]))?;
        let nobody = ScriptBuf::new_p2wsh(&WScriptHash::all_zeros());
        let many = vec![TxOut { value: OUTPUT, script_pubkey: nobody }; OUTPUTS as usize];
        for coin in coins.as_array().into_iter().flatten() {
            // All that is not these outputs is less than 200 vB.
            let rest = COIN - OUTPUT * OUTPUTS - Amount::from_sat(rate * (OUTPUTS * 43 + 200));
            let inputs = json!([{ "txid": coin["txid"], "vout": coin["vout"] }]);
            let outputs = json!([{ coin.text("address")?: rest.to_btc() }]);
            let raw = self.call("createrawtransaction", json!([inputs, outputs]))?;
            let mut raw: Transaction = deserialize_hex(raw.as_str().context("no transaction")?)?;
            raw.output.extend(many.iter().cloned());
            let signed = miner.call("signrawtransactionwithwallet", json!([serialize_hex(&raw)]))?;
            // The last one does not fit, and nothing pays less that could leave for it.
            let fits = self.call("sendrawtransaction", json!([signed["hex"], 0])).is_ok();
            if !fits && self.floor()? >= rate {
                return Ok(());
            }
        }
        bail!("{ENOUGH} transactions do not fill the mempool: it takes {} sat/vB", self.floor()?)
    }

    /// Coins of the wallet, each in a transaction of so many bytes, mined.
    pub(crate) fn large_parents(
        &self,
        wallet: &Wallet<'_>,
        count: usize,
        coin: Amount,
        bytes: u64,
    ) -> Result<Vec<OutPoint>> {
        let miner = self.known_wallet(MINER);
        let nobody = ScriptBuf::new_p2wsh(&WScriptHash::all_zeros());
        let many = vec![TxOut { value: OUTPUT, script_pubkey: nobody }; usize::try_from(bytes / 43)?];
        // Two satoshis for each virtual byte, about.
        let funds = coin + OUTPUT * many.len() as u64 + Amount::from_sat(2 * bytes + 1_000);
        let addresses = (0..count).map(|_| miner.address("bech32")).collect::<Result<Vec<_>>>()?;
        self.give(&addresses.iter().map(|address| (address.clone(), funds)).collect::<Vec<_>>())?;
        let mut coins = Vec::new();
        for funds in miner.call("listunspent", json!([1, 1, addresses]))?.as_array().into_iter().flatten() {
            let inputs = json!([{ "txid": funds["txid"], "vout": funds["vout"] }]);
            let outputs = json!([{ wallet.address("bech32")?: coin.to_btc() }]);
            let raw = self.call("createrawtransaction", json!([inputs, outputs]))?;
            let mut raw: Transaction = deserialize_hex(raw.as_str().context("no transaction")?)?;
            raw.output.extend(many.iter().cloned());
            let signed = miner.call("signrawtransactionwithwallet", json!([serialize_hex(&raw)]))?;
            let txid = self.call("sendrawtransaction", json!([signed["hex"], 0]))?;
            coins.push(OutPoint { txid: txid.as_str().context("no transaction id")?.parse()?, vout: 0 });
        }
        // A block takes a few of them.
        self.mine(u32::try_from(count)?)?;
        ensure!(coins.len() == count, "{} coins instead of {count}", coins.len());
        Ok(coins)
    }

    /// The least fee at which bitcoind relays a transaction of this size.
    pub(crate) fn relay_fee(&self, vsize: u64) -> Result<Amount> {
        let info = self.call("getnetworkinfo", json!([]))?;
        let rate = Amount::from_btc(info["relayfee"].as_f64().context("no relayfee")?)?;
        Ok(Amount::from_sat((rate.to_sat() * vsize).div_ceil(1_000)))
    }

    /// What a transaction in the mempool pays, and how large it is.
    pub(crate) fn mempool_fee(&self, txid: Txid) -> Result<(Amount, u64)> {
        let entry = self.call("getmempoolentry", json!([txid]))?;
        let fee = Amount::from_btc(entry["fees"]["base"].as_f64().context("no fee")?)?;
        Ok((fee, entry.number("vsize")?))
    }

    /// Mines payments at this many sat/vB until bitcoind estimates fees from them, as it does everywhere but on a fresh chain.
    pub(crate) fn learn_fees(&self, rate: u64) -> Result<()> {
        let miner = self.known_wallet(MINER);
        for _ in 0..FEE_BLOCKS {
            for _ in 0..FEE_PAYMENTS {
                let options =
                    json!({ "address": miner.address("bech32")?, "amount": 0.001, "fee_rate": rate });
                miner.call("sendtoaddress", options)?;
            }
            self.mine(1)?;
        }
        self.call("syncwithvalidationinterfacequeue", json!([]))?;
        for (within, mode) in [(6, "economical"), (6, "conservative"), (12, "economical")] {
            let told = self.call("estimatesmartfee", json!([within, mode]))?;
            ensure!(told["feerate"].is_number(), "no estimate for {within} blocks: {told}");
        }
        Ok(())
    }

    /// The least that the mempool takes, in whole sat/vB.
    fn floor(&self) -> Result<u64> {
        let info = self.call("getmempoolinfo", json!([]))?;
        let per_kvb = info["mempoolminfee"].as_f64().context("no mempoolminfee")?;
        Ok(Amount::from_btc(per_kvb)?.to_sat() / 1_000)
    }
}
