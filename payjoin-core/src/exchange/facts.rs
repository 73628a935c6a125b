//! What the chain and the wallet say about an Original, and the checks that follow from it.

use bitcoin::{Amount, FeeRate, Psbt, ScriptBuf, Sequence, Transaction, TxOut};
use payjoin::receive::v1::{MaybeInputsOwned, MaybeInputsSeen};

use super::params::Params;
use super::request::Original;
use crate::conservation::has_final_txid;
use crate::{Inspection, Policy, Reply};

/// An Original together with what its inputs really spend.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The Original, signed.
    pub(crate) transaction: Transaction,
    /// What the payer asks for.
    pub(crate) params: Params,
    /// Index of the output that pays us.
    pub(crate) payment: usize,
    /// The real outputs spent, in input order. The PSBT says the same.
    pub(crate) prevouts: Vec<TxOut>,
    /// The Original's fee rate, rounded down: the reference sender allows its contribution up to this rate.
    pub(crate) fee_rate: FeeRate,
}

/// An Original that could be mined as it is.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) payload: MaybeInputsOwned,
    pub(crate) facts: Facts,
}

/// An Original of which only one thing is unknown: whether its inputs were offered before.
#[derive(Debug)]
pub(crate) struct Vetted {
    pub(crate) payload: MaybeInputsSeen,
    pub(crate) facts: Facts,
}

impl Inspected {
    /// Checks an Original against the chain. BIP 78, "Receiver's original PSBT checklist".
    pub(crate) fn new(original: Original, inspection: Inspection, policy: &Policy) -> Result<Self, Reply> {
        let Original { payload, psbt, transaction, params, payment } = original;
        let prevouts: Option<Vec<TxOut>> = inspection.prevouts.into_iter().collect();
        let prevouts =
            prevouts.ok_or(Reply::rejected("An input does not exist, is not confirmed or is spent."))?;
        check_utxos(&psbt, &prevouts)?;
        let fee_rate = fee_rate(&transaction, &prevouts)?;
        if fee_rate < policy.min_fee_rate {
            return Err(Reply::rejected("The fee rate is too low."));
        }
        if fee_rate < params.min_fee_rate {
            return Err(Reply::not_enough_money("minfeerate is above the fee rate of the PSBT."));
        }
        let payload = payload
            .apply_broadcast_suitability(Some(policy.min_fee_rate), inspection.acceptable.is_ok())
            .map_err(|_| Reply::rejected("The PSBT cannot be broadcast."))?;
        Ok(Self { payload, facts: Facts { transaction, params, payment, prevouts, fee_rate } })
    }

    /// Refuses an Original that spends an output of ours.
    pub(crate) fn vet(self, owned: &[bool]) -> Result<Vetted, Reply> {
        let list = self.payload.inputs_owned_checklist().zip(owned).map(|(item, owned)| item.mark(*owned));
        let payload = self
            .payload
            .clone()
            .apply_inputs_owned_checklist(list)
            .map_err(|_| Reply::rejected("The PSBT spends an output of the receiver."))?;
        Ok(Vetted { payload, facts: self.facts })
    }
}

impl Facts {
    /// Scripts of the outputs spent, in input order.
    pub(crate) fn spent_scripts(&self) -> Vec<ScriptBuf> {
        self.prevouts.iter().map(|prevout| prevout.script_pubkey.clone()).collect()
    }

    /// The output that pays us.
    pub(crate) fn payment(&self) -> Option<&TxOut> {
        self.transaction.output.get(self.payment)
    }

    /// Most that the payer adds for our inputs.
    pub(crate) fn contribution(&self) -> Amount {
        self.params.contribution.map_or(Amount::ZERO, |(most, _)| most)
    }

    /// Money rules 4 and 10, as far as the Original decides them.
    pub(crate) fn allows_channels(&self, authenticated: bool, change: &ScriptBuf) -> bool {
        self.hindrance(authenticated, change).is_none()
    }

    /// Why the payment can open no channel, for the operator.
    pub(crate) fn hindrance(&self, authenticated: bool, change: &ScriptBuf) -> Option<&'static str> {
        if !authenticated {
            return Some("no channel: the way to us was not authenticated");
        }
        if !self.params.substitution {
            return Some("no channel: the payer forbids output substitution");
        }
        if !has_final_txid(&self.transaction, &self.prevouts) {
            return Some("no channel: an input of the payer is not native segwit");
        }
        // An earlier attempt showed our change address: a payer who pays to it would blur which output is ours.
        let clear = self.transaction.output.iter().all(|output| output.script_pubkey != *change);
        (!clear).then_some("no channel: the payer pays to our change address, too")
    }

    /// Whether an input of ours can stand beside the payer's. Our input takes over the payer's sequence, which must not
    /// time-lock it; and it would make a legacy transaction heavier than the weight of the input that pays for it.
    pub(crate) fn allows_coins(&self) -> bool {
        let sequence = self.transaction.input.first().map_or(Sequence::MAX, |input| input.sequence);
        let segwit = self.transaction.input.iter().any(|input| !input.witness.is_empty());
        segwit && !sequence.is_relative_lock_time()
    }
}

/// What the PSBT says of the outputs it spends is the payer's word: compare it with the chain's.
fn check_utxos(psbt: &Psbt, prevouts: &[TxOut]) -> Result<(), Reply> {
    let honest =
        psbt.iter_funding_utxos().zip(prevouts).all(|(stated, real)| stated.is_ok_and(|utxo| utxo == real));
    if honest { Ok(()) } else { Err(Reply::rejected("The PSBT misstates an output it spends.")) }
}

fn fee_rate(transaction: &Transaction, prevouts: &[TxOut]) -> Result<FeeRate, Reply> {
    let spent = prevouts.iter().try_fold(Amount::ZERO, |sum, prevout| sum.checked_add(prevout.value));
    let paid = transaction.output.iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value));
    let fee = spent.zip(paid).and_then(|(spent, paid)| spent.checked_sub(paid));
    let rate = fee.and_then(|fee| fee.div_by_weight_floor(transaction.weight()));
    match rate {
        None => Err(Reply::rejected("The PSBT spends more than it has.")),
        Some(rate) if rate > Psbt::DEFAULT_MAX_FEE_RATE => Err(Reply::rejected("The fee is absurd.")),
        Some(rate) => Ok(rate),
    }
}
