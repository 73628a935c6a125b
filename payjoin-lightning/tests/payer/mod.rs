//! Payjoins that a payer of the miner's makes with a node.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "test support: failing is reporting")]

use std::str::FromStr as _;

use bitcoin::psbt::Input;
use bitcoin::{Amount, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut};
use payjoin_core::{
    CheckedProposal, Coin, Conservation, IntentId, MinFeeRate, PaymentOutput, PlannedChannel,
};
use serde_json::{Value, json};

use crate::node_support::Bitcoind;

/// A payment of the miner's: what it spends, how much it pays, and where the rest goes.
pub(crate) struct Payer {
    pub(crate) coin: Coin,
    change: ScriptBuf,
}

/// What the payer pays, and the fee of Original and payjoin.
pub(crate) const PAYMENT: Amount = Amount::from_sat(600_000);
const FEE: Amount = Amount::from_sat(3_000);

impl Payer {
    pub(crate) async fn new(bitcoind: &Bitcoind) -> Self {
        let address =
            |told: Value| bitcoin::Address::from_str(told.as_str().unwrap()).unwrap().assume_checked();
        let from = address(bitcoind.miner("getnewaddress", json!(["", "bech32"])).await);
        let change = address(bitcoind.miner("getnewaddress", json!(["", "bech32"])).await).script_pubkey();
        let outpoint = bitcoind.fund(&from, 2_000_000).await;
        // The miner pays others out of any coin that is not locked.
        let locked = json!({ "txid": outpoint.txid, "vout": outpoint.vout });
        bitcoind.miner("lockunspent", json!([false, [locked]])).await;
        let txout = TxOut { value: Amount::from_sat(2_000_000), script_pubkey: from.script_pubkey() };
        Self { coin: Coin { outpoint, txout }, change }
    }

    /// The payjoin that opens these channels beside the payment to `ours`, with our coins; and the proof that it conserves.
    pub(crate) fn payjoin(
        &self,
        ours: &ScriptBuf,
        coins: &[Coin],
        channels: &[(Amount, ScriptBuf)],
    ) -> (Conservation, CheckedProposal) {
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            ..TxIn::default()
        };
        let output = |value: Amount, script: &ScriptBuf| TxOut { value, script_pubkey: script.clone() };
        let back = self.coin.txout.value - PAYMENT - FEE;
        let original = Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![input(&self.coin)],
            output: vec![output(back, &self.change), output(PAYMENT, ours)],
        };
        let added: Amount = coins.iter().map(|coin| coin.txout.value).sum();
        let opened: Amount = channels.iter().map(|(amount, _)| *amount).sum();
        let mut payjoin = original.clone();
        payjoin.input.extend(coins.iter().map(input));
        payjoin.output[1].value = PAYMENT + added - opened;
        payjoin.output.extend(channels.iter().map(|(amount, script)| output(*amount, script)));
        let planned = (0..).zip(channels).map(|(id, (amount, script))| {
            (PlannedChannel { intent: IntentId(id), amount: *amount }, script.clone())
        });
        // As if the payer had signed it: only that it is signed counts here.
        let mut signed = original;
        signed.input[0].witness = bitcoin::Witness::from_slice(&[[1; 71].as_slice(), [2; 33].as_slice()]);
        let conservation = Conservation {
            original: signed,
            prevouts: vec![self.coin.txout.clone()],
            payment: 1,
            contribution: None,
            coins: coins.to_vec(),
            channels: planned.collect(),
            splits: Vec::new(),
            output: if channels.is_empty() { PaymentOutput::Kept } else { PaymentOutput::Change },
            min_fee_rate: MinFeeRate::ZERO,
            max_fee: FEE,
            payer_is_me: false,
        };
        let mut psbt = Psbt::from_unsigned_tx(payjoin).unwrap();
        let spent = std::iter::once(&self.coin).chain(coins);
        psbt.inputs =
            spent.map(|coin| Input { witness_utxo: Some(coin.txout.clone()), ..Input::default() }).collect();
        let checked = conservation.check(psbt).unwrap();
        (conservation, checked)
    }

    /// Adds the payer's signature and sends it.
    pub(crate) async fn send(&self, bitcoind: &Bitcoind, signed: &Psbt) -> Transaction {
        let told = bitcoind.miner("walletprocesspsbt", json!([signed.to_string()])).await;
        assert_eq!(told["complete"], true);
        let psbt = Psbt::from_str(told["psbt"].as_str().unwrap()).unwrap();
        let final_psbt = bitcoind.call("finalizepsbt", json!([psbt.to_string()])).await;
        let hex = final_psbt["hex"].as_str().unwrap();
        let transaction: Transaction = bitcoin::consensus::encode::deserialize_hex(hex).unwrap();
        bitcoind.broadcast(&transaction).await;
        transaction
    }
}
