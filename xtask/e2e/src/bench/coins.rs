//! Coins for everyone, from few transactions.

use anyhow::{Context, Result};
use bitcoin::consensus::Encodable;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, absolute, transaction};
use serde_json::json;

use crate::harness::{Chain, Fields, Wallet};

/// Outputs of one transaction: as many as the node's weight limit takes with room to spare.
const PER_TRANSACTION: usize = 2_000;

/// A confirmed coin.
pub(crate) struct Coin {
    pub(crate) outpoint: OutPoint,
    pub(crate) output: TxOut,
}

/// A wallet of bitcoind that pays for all coins.
pub(crate) struct Bank<'a> {
    chain: &'a Chain,
    wallet: Wallet<'a>,
}

impl<'a> Bank<'a> {
    /// With this much to give away.
    pub(crate) fn new(chain: &'a Chain, capital: Amount) -> Result<Self> {
        let wallet = chain.wallet("bank")?;
        chain.give(&[(wallet.address("bech32")?, capital)])?;
        Ok(Self { chain, wallet })
    }

    /// Makes `count` confirmed coins of `value` on one script.
    pub(crate) fn coins(&self, script: &ScriptBuf, value: Amount, count: usize) -> Result<Vec<Coin>> {
        let mut coins = Vec::with_capacity(count);
        while coins.len() < count {
            let outputs = PER_TRANSACTION.min(count - coins.len());
            let funded = fund(self.wallet, &vec![TxOut { value, script_pubkey: script.clone() }; outputs])?;
            let txid = self.chain.broadcast(&funded)?;
            self.chain.mine(1)?;
            let made = (0..).zip(funded.output).filter(|(_, output)| output.script_pubkey == *script);
            coins.extend(made.map(|(vout, output)| Coin { outpoint: OutPoint { txid, vout }, output }));
        }
        Ok(coins)
    }
}

/// Adds the bank's inputs and change to these outputs, and signs.
fn fund(bank: Wallet<'_>, outputs: &Vec<TxOut>) -> Result<Transaction> {
    let funded = bank.call("fundrawtransaction", json!([unfunded(outputs)?, {}, false]))?;
    let signed = bank.call("signrawtransactionwithwallet", json!([funded.text("hex")?]))?;
    deserialize_hex(signed.text("hex")?).context("the wallet gave no transaction")
}

/// A transaction without inputs in the encoding without witnesses, the only one in which bitcoind reads it.
fn unfunded(outputs: &Vec<TxOut>) -> Result<String> {
    let mut bytes = Vec::new();
    transaction::Version::TWO.consensus_encode(&mut bytes)?;
    Vec::<TxIn>::new().consensus_encode(&mut bytes)?;
    outputs.consensus_encode(&mut bytes)?;
    absolute::LockTime::ZERO.consensus_encode(&mut bytes)?;
    Ok(bytes.to_lower_hex_string())
}
