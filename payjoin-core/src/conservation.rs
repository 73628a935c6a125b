//! The check that stands before every signature (money rule 2).

mod proofs;

use std::collections::{HashMap, HashSet};

use bitcoin::policy::MAX_STANDARD_TX_WEIGHT;
use bitcoin::psbt::Input;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Psbt, Script, ScriptBuf, Sequence, Transaction, TxOut, Weight};

pub use self::proofs::{CheckedProposal, StableProposal};
use crate::fees::FeeTerms;
use crate::{Coin, MinFeeRate, PaymentOutput, PlannedChannel};

/// The mempool takes nothing heavier.
const MOST: Weight = Weight::from_wu(MAX_STANDARD_TX_WEIGHT as u64);
/// "Topologically restricted until confirmation", and the most that such a transaction weighs. BIP 431.
const TRUC: (Version, Weight) = (Version(3), Weight::from_vb_unchecked(10_000));

/// Of inputs beside no payer's: as most wallets have it.
pub(crate) const OWN_SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

/// What a proposal must satisfy. All values come from the chain and from the plan, none from the proposal.
#[derive(Clone, Debug)]
pub struct Conservation {
    /// The Original, signed.
    pub original: Transaction,
    /// What the Original's inputs really spend, in input order.
    pub prevouts: Vec<TxOut>,
    /// Index of the Original's output that pays us.
    pub payment: usize,
    /// At most this much may be taken from the Original's output of this index, for the weight of our inputs.
    pub contribution: Option<(Amount, usize)>,
    /// Our coins: the proposal spends each of them and no other output of ours.
    pub coins: Vec<Coin>,
    /// Channels with their funding scripts, exact to the satoshi.
    pub channels: Vec<(PlannedChannel, ScriptBuf)>,
    /// Outputs of ours beside the payment, exact to the satoshi.
    pub splits: Vec<TxOut>,
    /// What becomes of the payment, the only output of ours whose value may move.
    pub output: PaymentOutput,
    /// What the payjoin must pay at least: what the payer demands, or what the mempool takes.
    pub min_fee_rate: MinFeeRate,
    /// Most that we pay in fees.
    pub max_fee: Amount,
    /// The operator vouches that the payer will not replace the payjoin (lifts money rule 5).
    pub payer_is_me: bool,
}

/// Why a proposal may not be signed, or not fund channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConservationError {
    /// Version or lock time differ from the Original's.
    #[error("version or lock time changed")]
    Header,
    /// Signed, it would be heavier than what the mempool takes.
    #[error("too heavy for the mempool")]
    Weight,
    /// The inputs are not the payer's, in order and with their sequences, and exactly our coins.
    #[error("inputs are not the payer's in order and exactly our coins")]
    Inputs,
    /// An input of the payer carries a signature.
    #[error("an input of the payer is signed")]
    Signed,
    /// An input of ours does not state what it spends.
    #[error("an input of ours misstates what it spends")]
    Utxo,
    /// An output that is neither the payer's in order, nor a planned one of ours.
    #[error("outputs are not the payer's in order and exactly the planned ones")]
    Outputs,
    /// Something new stands before the payment, or the payment is not where it was.
    #[error("the payment is not at its place")]
    Place,
    /// Two outputs that must be told apart share a script.
    #[error("two outputs share a script")]
    Ambiguous,
    /// A channel output has another value than planned.
    #[error("a channel output has the wrong value")]
    Channel,
    /// The payment shrank or went where it must not: without a channel, or because the payer forbids it.
    #[error("the payment output shrank")]
    Payment,
    /// The remainder, or what is split off it, is too small to be spent.
    #[error("the change is dust")]
    Dust,
    /// Inputs and outputs plus fee differ, or a sum overflows.
    #[error("value is not conserved")]
    Value,
    /// We pay more than the cap.
    #[error("our part of the fee exceeds the cap")]
    Fee,
    /// The payer demands a greater fee rate, or the mempool does.
    #[error("the fee rate is below the payer's minimum, or the mempool's")]
    FeeRate,
    /// More was taken from the payer than was offered.
    #[error("the payer's contribution is exceeded")]
    Contribution,
    /// An input could change the transaction id.
    #[error("the transaction id is not final")]
    Malleable,
    /// No input of ours, so that the payer could replace the payjoin alone.
    #[error("no input of ours")]
    Replaceable,
}

impl Conservation {
    /// Checks a proposal whose payer inputs are not signed yet.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self, psbt: Psbt) -> Result<CheckedProposal, ConservationError> {
        let proposal = &psbt.unsigned_tx;
        if (proposal.version, proposal.lock_time) != (self.original.version, self.original.lock_time) {
            return Err(ConservationError::Header);
        }
        self.check_weight(proposal)?;
        let ours = self.check_inputs(&psbt)?;
        let Outputs { taken, payment } = self.check_outputs(proposal)?;
        self.check_payment(payment)?;
        let fee = self.check_values(proposal, taken)?;
        self.check_fee_rate(proposal, fee)?;
        self.check_contribution(taken)?;
        Ok(CheckedProposal { psbt, ours })
    }

    /// Promotes a checked proposal that funds channels.
    ///
    /// # Errors
    /// [`ConservationError::Malleable`] and [`ConservationError::Replaceable`] where money rules 4 and 5 do not hold,
    /// [`ConservationError::Outputs`] when it funds none.
    pub fn stable(&self, proposal: &CheckedProposal) -> Result<StableProposal, ConservationError> {
        let ours = self.coins.iter().all(|coin| keeps_txid(&coin.txout.script_pubkey));
        if !ours || !has_final_txid(&self.original, &self.prevouts) {
            return Err(ConservationError::Malleable);
        }
        if self.coins.is_empty() && !self.payer_is_me {
            return Err(ConservationError::Replaceable);
        }
        let psbt = self.with_spent(&proposal.psbt.unsigned_tx)?;
        let transaction = &psbt.unsigned_tx;
        let funding = self.channels.iter().map(|(channel, script)| {
            let index = transaction.output.iter().position(|output| output.script_pubkey == *script)?;
            Some((channel.clone(), u32::try_from(index).ok()?))
        });
        let funding: Vec<_> = funding.collect::<Option<_>>().ok_or(ConservationError::Outputs)?;
        if funding.is_empty() {
            return Err(ConservationError::Outputs);
        }
        Ok(StableProposal { psbt: Box::new(psbt), funding })
    }

    /// The unsigned transaction, each input with what the chain says that it spends.
    fn with_spent(&self, transaction: &Transaction) -> Result<Psbt, ConservationError> {
        let theirs = self.original.input.iter().map(|input| input.previous_output).zip(&self.prevouts);
        let ours = self.coins.iter().map(|coin| (coin.outpoint, &coin.txout));
        let spent: HashMap<_, _> = theirs.chain(ours).collect();
        let mut psbt = Psbt::from_unsigned_tx(transaction.clone()).map_err(|_| ConservationError::Signed)?;
        for (input, at) in psbt.inputs.iter_mut().zip(&transaction.input) {
            let spent = spent.get(&at.previous_output).ok_or(ConservationError::Inputs)?;
            input.witness_utxo = Some((*spent).clone());
        }
        Ok(psbt)
    }

    /// Signed as the payer signed the Original, and by us.
    fn check_weight(&self, proposal: &Transaction) -> Result<(), ConservationError> {
        let mut signed = proposal.clone();
        let mut theirs = self.original.input.iter().peekable();
        for input in &mut signed.input {
            if let Some(original) = theirs.next_if(|theirs| theirs.previous_output == input.previous_output) {
                input.clone_from(original);
            }
        }
        let ours = self.coins.iter().map(Coin::signature_weight).sum::<Option<Weight>>();
        let weight = signed.weight() + ours.ok_or(ConservationError::Inputs)?;
        let most = if proposal.version == TRUC.0 { TRUC.1 } else { MOST };
        if weight <= most { Ok(()) } else { Err(ConservationError::Weight) }
    }

    /// The payer's inputs in order with their sequences, and each of our coins once. Gives the indexes of ours.
    fn check_inputs(&self, psbt: &Psbt) -> Result<Vec<usize>, ConservationError> {
        // Nobody pays, or the payer's: see `OwnFunding`.
        let sequence = self.original.input.first().map_or(OWN_SEQUENCE, |first| first.sequence);
        let mut theirs = self.original.input.iter().peekable();
        let mut coins: Vec<&Coin> = self.coins.iter().collect();
        let mut ours = Vec::new();
        for (index, (input, data)) in psbt.unsigned_tx.input.iter().zip(&psbt.inputs).enumerate() {
            if let Some(original) =
                theirs.next_if(|original| original.previous_output == input.previous_output)
            {
                if original.sequence != input.sequence {
                    return Err(ConservationError::Inputs);
                }
                if is_signed(data) {
                    return Err(ConservationError::Signed);
                }
                continue;
            }
            let coin = coins.iter().position(|coin| coin.outpoint == input.previous_output);
            let coin = coins.swap_remove(coin.ok_or(ConservationError::Inputs)?);
            if input.sequence != sequence {
                return Err(ConservationError::Inputs);
            }
            if data.witness_utxo.as_ref() != Some(&coin.txout) {
                return Err(ConservationError::Utxo);
            }
            ours.push(index);
        }
        let complete = theirs.next().is_none() && coins.is_empty() && ours.len() == self.coins.len();
        if complete { Ok(ours) } else { Err(ConservationError::Inputs) }
    }

    /// The payer's outputs in order, each channel and each split once and exact, the payment once and at its place or a channel
    /// there.
    fn check_outputs(&self, proposal: &Transaction) -> Result<Outputs, ConservationError> {
        self.check_scripts()?;
        let payment = self.payment()?;
        let mut theirs = self.theirs().peekable();
        let (mut channels, mut splits): (Vec<_>, Vec<_>) =
            (self.channels.iter().collect(), self.splits.iter().collect());
        let mut found = Outputs { taken: Amount::ZERO, payment: None };
        // Whether we are where the payment was, and whether anything of ours stands there.
        let (mut passed, mut in_place) = (0, false);
        for output in &proposal.output {
            if let Some((index, original)) =
                theirs.next_if(|(_, theirs)| theirs.script_pubkey == output.script_pubkey)
            {
                found.taken = self.taken(index, original, output)?.max(found.taken);
                passed += 1;
                continue;
            }
            let here = passed == self.payment;
            if let Some(at) = channels.iter().position(|(_, script)| *script == output.script_pubkey) {
                if channels.swap_remove(at).0.amount != output.value {
                    return Err(ConservationError::Channel);
                }
            } else if let Some(at) = splits.iter().position(|split| *split == output) {
                splits.swap_remove(at);
            } else if output.script_pubkey == payment.script_pubkey && found.payment.is_none() {
                if !here || in_place {
                    return Err(ConservationError::Place);
                }
                found.payment = Some(output.value);
            } else {
                return Err(ConservationError::Outputs);
            }
            in_place |= here;
        }
        let complete = theirs.next().is_none() && channels.is_empty() && splits.is_empty() && in_place;
        if complete { Ok(found) } else { Err(ConservationError::Outputs) }
    }

    /// From an output of the payer: nothing, unless it is the one that he offered.
    fn taken(&self, index: usize, before: &TxOut, after: &TxOut) -> Result<Amount, ConservationError> {
        let allowed = self.contribution.is_some_and(|(_, fee_output)| fee_output == index);
        let taken = before.value.checked_sub(after.value).ok_or(ConservationError::Outputs)?;
        if taken > Amount::ZERO && !allowed { Err(ConservationError::Contribution) } else { Ok(taken) }
    }

    fn payment(&self) -> Result<&TxOut, ConservationError> {
        self.original.output.get(self.payment).ok_or(ConservationError::Outputs)
    }

    /// The payer's outputs with their indexes in the Original.
    fn theirs(&self) -> impl Iterator<Item = (usize, &TxOut)> {
        self.original.output.iter().enumerate().filter(|(index, _)| *index != self.payment)
    }

    /// Channels are P2WSH, and their scripts and those of what is split off differ from one another and from those of the
    /// Original's outputs.
    fn check_scripts(&self) -> Result<(), ConservationError> {
        let channels = self.channels.iter().map(|(_, script)| script);
        if !channels.clone().all(|script| script.is_p2wsh()) {
            return Err(ConservationError::Channel);
        }
        if self.splits.iter().any(|split| split.value < split.script_pubkey.minimal_non_dust()) {
            return Err(ConservationError::Dust);
        }
        let splits = self.splits.iter().map(|split| &split.script_pubkey);
        let mut ours = HashSet::new();
        let distinct = channels.chain(splits).all(|script| ours.insert(script.as_script()));
        let apart =
            self.original.output.iter().all(|output| !ours.contains(output.script_pubkey.as_script()));
        let payment = &self.payment()?.script_pubkey;
        let once = self.theirs().all(|(_, output)| output.script_pubkey != *payment);
        if distinct && apart && once { Ok(()) } else { Err(ConservationError::Ambiguous) }
    }

    /// The payment is there or gone as planned, can be spent, and shrinks only where channels are paid with it, or by what
    /// the Original lacks of its own least rate where nobody else pays for that.
    fn check_payment(&self, value: Option<Amount>) -> Result<(), ConservationError> {
        let payment = self.payment()?;
        match (self.output, value) {
            (PaymentOutput::Replaced, None) if self.channels.is_empty() => Err(ConservationError::Payment),
            (PaymentOutput::Change, Some(value)) if self.channels.is_empty() && !self.completes(value) => {
                Err(ConservationError::Payment)
            }
            (PaymentOutput::Kept, Some(value)) if value < payment.value => Err(ConservationError::Payment),
            (PaymentOutput::Change, Some(value)) if value < payment.script_pubkey.minimal_non_dust() => {
                Err(ConservationError::Dust)
            }
            (PaymentOutput::Kept | PaymentOutput::Change, Some(_)) | (PaymentOutput::Replaced, None) => {
                Ok(())
            }
            _ => Err(ConservationError::Outputs),
        }
    }

    /// Whether a payment of this value gives just what the Original lacks of its own least rate.
    fn completes(&self, value: Amount) -> bool {
        let terms = FeeTerms::new(&self.original, &self.prevouts, self.min_fee_rate, Amount::ZERO);
        let whole = terms.and_then(|terms| terms.lacking(Weight::ZERO)?.checked_add(value));
        self.coins.is_empty() && whole == self.payment().ok().map(|payment| payment.value)
    }

    /// Every output is accounted for, so what is missing from the inputs is fee. It does not fall, and what of it is
    /// neither the Original's nor taken from the payer is ours and stays within the cap. Gives the fee.
    fn check_values(&self, proposal: &Transaction, taken: Amount) -> Result<Amount, ConservationError> {
        let inputs = self.prevouts.iter().chain(self.coins.iter().map(|coin| &coin.txout));
        let fee = difference(inputs, &proposal.output)?;
        let before = total([difference(&self.prevouts, &self.original.output)?, taken])?;
        let ours = fee.checked_sub(before).ok_or(ConservationError::Value)?;
        if ours > self.max_fee { Err(ConservationError::Fee) } else { Ok(fee) }
    }

    /// BIP 78, `minfeerate`. The payer's inputs weigh what they weigh in the Original.
    fn check_fee_rate(&self, proposal: &Transaction, fee: Amount) -> Result<(), ConservationError> {
        let outputs = |outputs: &[TxOut]| outputs.iter().map(TxOut::weight).sum::<Weight>();
        let weight = self.original.weight() + self.coins_weight()? + outputs(&proposal.output);
        let weight = weight.checked_sub(outputs(&self.original.output)).ok_or(ConservationError::Outputs)?;
        if fee >= self.min_fee_rate.fee(weight) { Ok(()) } else { Err(ConservationError::FeeRate) }
    }

    fn coins_weight(&self) -> Result<Weight, ConservationError> {
        self.coins.iter().map(Coin::weight).sum::<Option<Weight>>().ok_or(ConservationError::Inputs)
    }

    /// BIP 78, "Fee output": bounded by the offer, and by what inputs like the payer's cost at the Original's rate.
    fn check_contribution(&self, taken: Amount) -> Result<(), ConservationError> {
        let offer = self.contribution.map_or(Amount::ZERO, |(most, _)| most);
        let terms = FeeTerms::new(&self.original, &self.prevouts, self.min_fee_rate, offer);
        let most = terms.and_then(|terms| terms.contribution(&self.coins)).ok_or(ConservationError::Value)?;
        if taken <= most { Ok(()) } else { Err(ConservationError::Contribution) }
    }
}

/// What the outputs of a proposal show.
struct Outputs {
    /// Taken from the payer's fee output.
    taken: Amount,
    /// Value of the payment, where it stays.
    payment: Option<Amount>,
}

/// Whether a transaction keeps its id when its inputs are signed again, by what they really spend. An empty witness
/// would stop the Lightning node when the transaction confirms.
pub(crate) fn has_final_txid(transaction: &Transaction, prevouts: &[TxOut]) -> bool {
    transaction.input.iter().zip(prevouts).all(|(input, prevout)| {
        keeps_txid(&prevout.script_pubkey) && input.script_sig.is_empty() && !input.witness.is_empty()
    })
}

/// A spend of such an output has its final transaction id before it is signed.
fn keeps_txid(script: &Script) -> bool {
    script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr()
}

fn is_signed(input: &Input) -> bool {
    input.final_script_sig.is_some()
        || input.final_script_witness.is_some()
        || !input.partial_sigs.is_empty()
        || input.tap_key_sig.is_some()
        || !input.tap_script_sigs.is_empty()
}

/// Inputs less outputs.
fn difference<'a>(
    inputs: impl IntoIterator<Item = &'a TxOut>,
    outputs: impl IntoIterator<Item = &'a TxOut>,
) -> Result<Amount, ConservationError> {
    let inputs = total(inputs.into_iter().map(|output| output.value))?;
    let outputs = total(outputs.into_iter().map(|output| output.value))?;
    inputs.checked_sub(outputs).ok_or(ConservationError::Value)
}

fn total(amounts: impl IntoIterator<Item = Amount>) -> Result<Amount, ConservationError> {
    let mut amounts = amounts.into_iter();
    amounts.try_fold(Amount::ZERO, Amount::checked_add).ok_or(ConservationError::Value)
}
