//! LND's signatures (`signrpc.ComputeInputScript`), each checked before it leaves.

use bitcoin::hashes::Hash as _;
use bitcoin::psbt::Input;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, Psbt, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness, absolute, consensus, transaction,
};
use payjoin_core::WalletError;
use serde_json::{Value, json};

use super::calls::SIGN;
use super::client::Client;
use super::error::LndError;
use super::wire::{Signed, base64};
use crate::witness;

/// Whether LND has the key of this script. It says so only by signing: for an input that nobody can spend.
pub(super) async fn owns(client: &Client, script: &Script) -> Result<bool, LndError> {
    if !(script.is_p2wpkh() || script.is_p2tr() || script.is_p2sh()) {
        return Ok(false);
    }
    let output = TxOut { value: Amount::ZERO, script_pubkey: script.to_owned() };
    let nowhere = OutPoint { txid: Txid::from_byte_array([0xff; 32]), vout: 0 };
    let input = TxIn { previous_output: nowhere, sequence: Sequence::MAX, ..TxIn::default() };
    let transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![input],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }],
    };
    match compute(client, &transaction, &[0], &[output]).await {
        Ok(_) => Ok(true),
        // btcwallet: `wallet/utxos.go`; `wallet/signer.go` for a script of ours that it does not sign for.
        Err(error) if error.says("does not belong to the wallet") => Ok(false),
        Err(error) if error.says("is not a p2wkh") => Ok(true),
        Err(error) => Err(error),
    }
}

/// Signs and finalizes exactly these inputs, with SIGHASH_ALL or SIGHASH_DEFAULT (money rule 5).
///
/// # Errors
/// When one is not signed, or its signature is not good.
pub(super) async fn sign(client: &Client, psbt: &Psbt, inputs: &[usize]) -> Result<Psbt, WalletError> {
    let spent: Result<Vec<_>, _> = (0..psbt.inputs.len()).map(|at| psbt.spend_utxo(at).cloned()).collect();
    let spent = spent.map_err(|_| refused("an input lacks the output that it spends"))?;
    let witnesses = compute(client, &psbt.unsigned_tx, inputs, &spent).await?;
    if witnesses.len() != inputs.len() {
        return Err(refused("LND did not sign every input"));
    }
    let mut signed = psbt.clone();
    for (at, witness) in inputs.iter().copied().zip(witnesses) {
        let good = witness::check(&psbt.unsigned_tx, &spent, at, &witness);
        good.map_err(|error| refused(&format!("LND has not signed as it should: {error}")))?;
        // `spend_utxo` has found both.
        let (Some(input), Some(coin)) = (signed.inputs.get_mut(at), spent.get(at)) else { continue };
        // BIP 174, finalizer: only the spent output and the final witness stay.
        *input = Input {
            witness_utxo: Some(coin.clone()),
            non_witness_utxo: input.non_witness_utxo.take(),
            final_script_witness: Some(witness),
            ..Input::default()
        };
    }
    Ok(signed)
}

fn refused(why: &str) -> WalletError {
    WalletError::Refused(why.to_owned())
}

/// The witnesses of these inputs, in order.
async fn compute(
    client: &Client,
    transaction: &Transaction,
    inputs: &[usize],
    spent: &[TxOut],
) -> Result<Vec<Witness>, LndError> {
    let output = |output: &TxOut| json!({ "value": output.value.to_sat().to_string(), "pk_script": base64(output.script_pubkey.as_bytes()) });
    let describe = |at: &usize| {
        let coin = spent.get(*at)?;
        let sighash = if coin.script_pubkey.is_p2tr() { 0 } else { EcdsaSighashType::All.to_u32() };
        Some(json!({ "output": output(coin), "sighash": sighash, "input_index": at }))
    };
    let descriptions: Vec<Value> = inputs.iter().filter_map(describe).collect();
    let request = json!({
        "raw_tx_bytes": base64(&consensus::serialize(transaction)),
        "sign_descs": descriptions,
        "prev_outputs": spent.iter().map(output).collect::<Vec<_>>(),
    });
    let signed: Signed = client.post(&SIGN, &request).await?;
    Ok(signed.input_scripts.into_iter().map(|script| Witness::from_slice(&script.witness)).collect())
}
