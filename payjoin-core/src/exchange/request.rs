//! What can be said about a request before anything is asked: headers, query, the PSBT itself.

use std::collections::HashSet;
use std::str::FromStr;

use bitcoin::psbt::PsbtSighashType;
use bitcoin::{Amount, Psbt, TapSighashType, Transaction};
use payjoin::receive::v1::{Headers, UncheckedOriginalPayload};

use super::params::Params;
use super::{Delivery, Request};
use crate::plan::least_spendable;
use crate::{Invoice, PaymentOutput, Reply};

/// A request that is well formed and claims to pay the invoice.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    /// The body, without white space around it.
    pub(crate) body: String,
    pub(crate) psbt: Psbt,
    pub(crate) transaction: Transaction,
    pub(crate) params: Params,
    /// Index of the output that pays us.
    pub(crate) payment: usize,
    /// Most that may become of it.
    pub(crate) output: PaymentOutput,
    /// The payer's wallet takes inputs of any type beside its own.
    pub(crate) takes_any_type: bool,
    /// Nobody on the way can have changed what the payer allows.
    pub(crate) authenticated: bool,
}

impl Original {
    /// Reads a request. BIP 78, "Protocol".
    pub(crate) fn parse(request: &Request, invoice: &Invoice) -> Result<Self, Reply> {
        check_headers(request)?;
        let mut params = Params::parse(&request.query)?;
        let body = std::str::from_utf8(&request.body).map_err(|_| Reply::NOT_UTF8)?;
        let body = body.trim().to_owned();
        let psbt = Psbt::from_str(&body).map_err(|_| Reply::NO_PSBT)?;
        check_leaks(&psbt)?;
        check_inputs(&psbt)?;
        let payment = find_payment(&psbt, invoice)?;
        params.contribution = usable_contribution(&psbt, params.contribution, payment);
        let payload = payload(&body, &params, Amount::ZERO).ok_or(Reply::NO_UTXOS)?;
        let transaction = payload.extract_tx_to_check_broadcast_suitability();
        // Wallets of the first days know our outputs by their script alone; those that speak v2 do not.
        let v2 = request.delivery == Delivery::Mailbox;
        let last = payment + 1 == transaction.output.len();
        let output = match (params.substitution && request.authenticated, v2 || last) {
            (false, _) => PaymentOutput::Kept,
            (true, false) => PaymentOutput::Change,
            (true, true) => PaymentOutput::Replaced,
        };
        let authenticated = request.authenticated;
        Ok(Self { body, psbt, transaction, params, payment, output, takes_any_type: v2, authenticated })
    }
}

/// The Original for the `payjoin` crate, which reads once how much may be taken of the payer's offer.
pub(crate) fn payload(body: &str, params: &Params, taken: Amount) -> Option<UncheckedOriginalPayload> {
    let headers = Checked(body.len().to_string());
    UncheckedOriginalPayload::from_request(body.as_bytes(), &params.to_query(taken), headers).ok()
}

/// Headers for the `payjoin` crate, after our own, stricter check.
struct Checked(String);

impl Headers for Checked {
    fn get_header(&self, key: &str) -> Option<&str> {
        match key {
            "content-type" => Some("text/plain"),
            "content-length" => Some(&self.0),
            _ => None,
        }
    }
}

fn check_headers(request: &Request) -> Result<(), Reply> {
    let media = request.content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default();
    if !media.trim().eq_ignore_ascii_case("text/plain") {
        return Err(Reply::WRONG_TYPE);
    }
    let length = request.content_length.as_deref().ok_or(Reply::NO_LENGTH)?;
    // `parse` alone would take a sign.
    if !length.bytes().all(|byte| byte.is_ascii_digit()) || length.parse() != Ok(request.body.len()) {
        return Err(Reply::WRONG_LENGTH);
    }
    Ok(())
}

/// The Original must not include "global xpubs or keypath information".
fn check_leaks(psbt: &Psbt) -> Result<(), Reply> {
    let inputs = psbt.inputs.iter().any(|i| !i.bip32_derivation.is_empty() || !i.tap_key_origins.is_empty());
    let outputs =
        psbt.outputs.iter().any(|o| !o.bip32_derivation.is_empty() || !o.tap_key_origins.is_empty());
    if inputs || outputs || !psbt.xpub.is_empty() {
        return Err(Reply::LEAKS_KEYS);
    }
    Ok(())
}

/// The Original must be finalized, and its signatures must bind the whole transaction.
fn check_inputs(psbt: &Psbt) -> Result<(), Reply> {
    if psbt.inputs.is_empty() {
        return Err(Reply::NO_INPUTS);
    }
    let mut spent = HashSet::new();
    if !psbt.unsigned_tx.input.iter().all(|input| spent.insert(input.previous_output)) {
        return Err(Reply::SPENT_TWICE);
    }
    if psbt.inputs.iter().any(|i| i.final_script_sig.is_none() && i.final_script_witness.is_none()) {
        return Err(Reply::NOT_FINAL);
    }
    if !psbt.inputs.iter().filter_map(|input| input.sighash_type).all(binds_everything) {
        return Err(Reply::SIGHASH);
    }
    Ok(())
}

fn binds_everything(sighash: PsbtSighashType) -> bool {
    matches!(sighash.taproot_hash_ty(), Ok(TapSighashType::Default | TapSighashType::All))
}

/// Finds the one output that pays the invoice. A second one is refused: an in-place replacement would be ambiguous.
fn find_payment(psbt: &Psbt, invoice: &Invoice) -> Result<usize, Reply> {
    let outputs = &psbt.unsigned_tx.output;
    let sum = outputs.iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value));
    if sum.is_none_or(|sum| sum > Amount::MAX_MONEY) {
        return Err(Reply::TOO_MUCH_MONEY);
    }
    // `testmempoolaccept` takes it and `sendrawtransaction` does not: we could not keep our word to broadcast it.
    if outputs.iter().any(|output| output.script_pubkey.is_op_return() && output.value > Amount::ZERO) {
        return Err(Reply::BURNS_MONEY);
    }
    let mut ours = outputs.iter().enumerate().filter(|(_, output)| output.script_pubkey == invoice.script);
    match (ours.next(), ours.next()) {
        (None, _) => Err(Reply::NOT_PAID),
        (Some(_), Some(_)) => Err(Reply::PAID_TWICE),
        // An invoice of any amount is `None`, which is less than every amount.
        (Some((_, output)), None) if Some(output.value) < invoice.amount => Err(Reply::TOO_LITTLE),
        (Some((_, output)), None) if output.value < least_spendable(&output.script_pubkey) => {
            Err(Reply::DUST)
        }
        (Some((index, _)), None) => Ok(index),
    }
}

/// Narrows the payer's offer to what can be taken. Ignored is an offer that points out of range or at our output
/// (BIP 78), and one that points at the second of two equal outputs, since the `payjoin` crate would reduce the first.
/// What is taken never leaves dust.
fn usable_contribution(
    psbt: &Psbt,
    offer: Option<(Amount, usize)>,
    payment: usize,
) -> Option<(Amount, usize)> {
    let (most, index) = offer?;
    let outputs = &psbt.unsigned_tx.output;
    let output = outputs.get(index)?;
    let first = outputs.iter().position(|other| other == output)?;
    let spare = output.value.checked_sub(least_spendable(&output.script_pubkey))?;
    let most = most.min(spare);
    (index != payment && index == first && most > Amount::ZERO).then_some((most, index))
}
