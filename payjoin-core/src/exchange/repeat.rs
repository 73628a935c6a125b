//! The same payment once more, perhaps in other bytes: what was answered then is the answer, if it is one to this request
//! too (money rule 8).

use std::collections::HashSet;
use std::str::FromStr;

use bitcoin::{Amount, Psbt, TxOut};

use super::delivery::Delivery;
use super::request::Original;
use crate::{
    CheckedProposal, Coin, Conservation, InputTypes, IntentId, PaymentOutput, PlannedChannel, Reply,
};

/// The proposal that was released for this transaction, or an error that shows no coin where it breaks what this request
/// asks for: its limits, what it says of substitution, the way of the reply.
pub(super) fn answer(original: &Original, proposal: String, delivery: Delivery) -> Reply {
    match serves(original, &proposal, delivery) {
        Some(true) => Reply::Proposal(proposal),
        Some(false) | None => Reply::OTHER_TERMS,
    }
}

/// `None` for a proposal or an Original that cannot be read.
fn serves(original: &Original, proposal: &str, delivery: Delivery) -> Option<bool> {
    let psbt = Psbt::from_str(proposal).ok()?;
    let spent = original.psbt.iter_funding_utxos().map(|utxo| utxo.ok().cloned());
    let spent = spent.collect::<Option<Vec<TxOut>>>()?;
    let coins = coins(original, &psbt)?;
    let types = InputTypes { spent: &spent, any: original.takes_any_type };
    let fits = coins.is_empty() || types.groups(&coins).iter().any(|group| group.len() == coins.len());
    let conservation = conservation(original, &psbt, spent.clone(), coins);
    let allowed = rank(conservation.output) <= rank(original.output);
    let checked: Option<CheckedProposal> = conservation.check(psbt.clone()).ok();
    let delivered = |checked: CheckedProposal| delivery.has_dressed(&psbt, checked.our_inputs());
    Some(fits && allowed && checked.is_some_and(delivered))
}

/// Our coins in it, by what it says of them, which we wrote.
fn coins(original: &Original, proposal: &Psbt) -> Option<Vec<Coin>> {
    let theirs: HashSet<_> = original.transaction.input.iter().map(|input| input.previous_output).collect();
    let inputs = proposal.unsigned_tx.input.iter().zip(&proposal.inputs);
    let ours = inputs.filter(|(input, _)| !theirs.contains(&input.previous_output));
    ours.map(|(input, data)| {
        Some(Coin { outpoint: input.previous_output, txout: data.witness_utxo.clone()? })
    })
    .collect()
}

/// What the proposal must have satisfied, had this request asked for it.
fn conservation(
    original: &Original,
    proposal: &Psbt,
    prevouts: Vec<TxOut>,
    coins: Vec<Coin>,
) -> Conservation {
    let before = &original.transaction.output;
    let payment = before.get(original.payment);
    let kept = proposal
        .unsigned_tx
        .output
        .iter()
        .find(|output| payment.is_some_and(|payment| payment.script_pubkey == output.script_pubkey));
    let output = match kept {
        None => PaymentOutput::Replaced,
        Some(kept) if payment.is_some_and(|payment| kept.value < payment.value) => PaymentOutput::Change,
        Some(_) => PaymentOutput::Kept,
    };
    let known = |output: &&TxOut| before.iter().any(|one| one.script_pubkey == output.script_pubkey);
    let new = proposal.unsigned_tx.output.iter().filter(|output| !known(output));
    let (channels, splits): (Vec<_>, Vec<_>) = new.cloned().partition(|new| new.script_pubkey.is_p2wsh());
    let channel = |funding: TxOut| {
        (PlannedChannel { intent: IntentId(0), amount: funding.value }, funding.script_pubkey)
    };
    Conservation {
        original: original.transaction.clone(),
        prevouts,
        payment: original.payment,
        contribution: original.params.contribution,
        coins,
        channels: channels.into_iter().map(channel).collect(),
        splits,
        output,
        min_fee_rate: original.params.min_fee_rate,
        max_fee: Amount::MAX_MONEY,
        payer_is_me: true,
    }
}

/// How much of the payment is given up.
fn rank(output: PaymentOutput) -> u8 {
    match output {
        PaymentOutput::Kept => 0,
        PaymentOutput::Change => 1,
        PaymentOutput::Replaced => 2,
    }
}
