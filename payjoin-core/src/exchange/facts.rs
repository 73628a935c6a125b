//! What the chain and the wallet say about an Original, and the checks that follow from it.

use bitcoin::{Amount, Psbt, ScriptBuf, Sequence, Transaction, TxOut};

use super::params::Params;
use super::request::Original;
use crate::conservation::has_final_txid;
use crate::{Acceptance, FeeTerms, InputTypes, Inspection, PaymentOutput, Policy, Reply, Unjudged};

/// An Original together with what its inputs really spend.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The body, without white space around it.
    pub(crate) body: String,
    /// The Original, signed.
    pub(crate) transaction: Transaction,
    /// What the payer asks for.
    pub(crate) params: Params,
    /// Index of the output that pays us.
    pub(crate) payment: usize,
    /// Most that may become of it.
    pub(crate) output: PaymentOutput,
    /// The real outputs spent, in input order. The PSBT says the same.
    pub(crate) prevouts: Vec<TxOut>,
    /// On which terms weight is added.
    pub(crate) fees: FeeTerms,
    takes_any_type: bool,
    authenticated: bool,
}

/// An Original that could be mined as it is.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) facts: Facts,
}

/// An Original of which only one thing is unknown: whether its inputs were offered before.
#[derive(Debug)]
pub(crate) struct Vetted {
    pub(crate) facts: Facts,
}

impl Inspected {
    /// Checks an Original against the chain. BIP 78, "Receiver's original PSBT checklist".
    pub(crate) fn new(original: Original, inspection: Inspection, policy: &Policy) -> Result<Self, Reply> {
        let Original { body, psbt, transaction, params, payment, output, takes_any_type, authenticated } =
            original;
        let prevouts: Option<Vec<TxOut>> = inspection.prevouts.into_iter().collect();
        let prevouts = prevouts.ok_or(Reply::NO_SUCH_INPUT)?;
        check_utxos(&psbt, &prevouts)?;
        let offer = params.contribution.map_or(Amount::ZERO, |(most, _)| most);
        let fees =
            FeeTerms::new(&transaction, &prevouts, params.min_fee_rate, offer).ok_or(Reply::OVERSPENT)?;
        if fees.rate() > Psbt::DEFAULT_MAX_FEE_RATE {
            return Err(Reply::ABSURD_FEE);
        }
        if fees.rate() < policy.min_fee_rate.max(inspection.floor) {
            return Err(Reply::LOW_FEE);
        }
        if !fees.is_met() {
            return Err(Reply::LEAST_RATE);
        }
        match (inspection.acceptable, policy.unjudged) {
            (Acceptance::Yes, _) | (Acceptance::Unknown(_), Unjudged::Accept) => {}
            (Acceptance::No(_), _) => return Err(Reply::NO_BROADCAST),
            (Acceptance::Unknown(_), Unjudged::Unavailable) => return Err(Reply::TRY_LATER),
        }
        let fees = FeeTerms { minimum: fees.minimum.max(inspection.floor.into()), ..fees };
        let facts = Facts {
            body,
            transaction,
            params,
            payment,
            output,
            prevouts,
            fees,
            takes_any_type,
            authenticated,
        };
        Ok(Self { facts })
    }

    /// Refuses an Original that spends an output of ours.
    pub(crate) fn vet(self, owned: &[bool]) -> Result<Vetted, Reply> {
        if owned.contains(&true) {
            return Err(Reply::SPENDS_OURS);
        }
        Ok(Vetted { facts: self.facts })
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

    /// Of which types inputs of ours may be.
    pub(crate) fn types(&self) -> InputTypes<'_> {
        InputTypes { spent: &self.prevouts, any: self.takes_any_type }
    }

    /// Why the payment can open no channel, whatever the wallet holds (money rule 4). For the operator.
    pub(crate) fn hindrance(&self) -> Option<&'static str> {
        let final_txid = has_final_txid(&self.transaction, &self.prevouts);
        (!final_txid).then_some("no channel: an input of the payer is not native segwit")
    }

    /// Why it is hard to open one, for the operator.
    pub(crate) fn difficulty(&self) -> Option<&'static str> {
        match (self.output, self.authenticated, self.params.substitution) {
            (PaymentOutput::Kept, _, false) => Some(
                "no channel: the payer forbids output substitution, and the wallet's coins pay for none alone",
            ),
            (PaymentOutput::Kept, false, _) => Some(
                "no channel: the way to us was not authenticated, and the wallet's coins pay for none alone",
            ),
            _ => None,
        }
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
    if honest { Ok(()) } else { Err(Reply::MISSTATED) }
}
