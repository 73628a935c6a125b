//! The check that stands before every signature (money rule 2).

use std::collections::HashSet;

use bitcoin::psbt::Input;
use bitcoin::{Amount, Psbt, Script, ScriptBuf, Transaction, TxOut, Weight};

use crate::{Coin, PlannedChannel};

/// A proposal whose transaction id cannot change before it is broadcast (money rule 4) and that the payer cannot
/// replace by one of another id (money rule 5). Only [`Conservation`] makes one.
#[derive(Clone, Debug)]
pub struct StableProposal {
    transaction: Transaction,
    funding: Vec<(PlannedChannel, u32)>,
}

impl StableProposal {
    /// The unsigned payjoin; its id is final.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Each channel with the index of its funding output, in the order the scripts were asked for.
    #[must_use]
    pub fn funding(&self) -> &[(PlannedChannel, u32)] {
        &self.funding
    }
}

/// A proposal that passed [`Conservation`] and may be signed.
#[derive(Clone, Debug)]
pub struct CheckedProposal {
    psbt: Psbt,
    ours: Vec<usize>,
}

impl CheckedProposal {
    /// The proposal to sign, every input of ours with its `witness_utxo`.
    #[must_use]
    pub fn psbt(&self) -> &Psbt {
        &self.psbt
    }

    /// Indexes of our inputs: sign these and no others.
    #[must_use]
    pub fn our_inputs(&self) -> &[usize] {
        &self.ours
    }
}

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
    /// Script of the output of ours that carries the remainder, the only one whose value may move. `None` when the
    /// channels take everything.
    pub drain: Option<ScriptBuf>,
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
    /// Two outputs that must be told apart share a script.
    #[error("two outputs share a script")]
    Ambiguous,
    /// A channel output has another value than planned.
    #[error("a channel output has the wrong value")]
    Channel,
    /// Without a channel, the payment output may only grow.
    #[error("the payment output shrank")]
    Payment,
    /// The remainder is too small to be spent.
    #[error("the change is dust")]
    Dust,
    /// Inputs and outputs plus fee differ, or a sum overflows.
    #[error("value is not conserved")]
    Value,
    /// We pay more than the cap.
    #[error("our part of the fee exceeds the cap")]
    Fee,
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
        let ours = self.check_inputs(&psbt)?;
        let Outputs { taken, drain } = self.check_outputs(proposal)?;
        self.check_values(proposal, taken, drain)?;
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
        let transaction = proposal.psbt.unsigned_tx.clone();
        let funding = self.channels.iter().map(|(channel, script)| {
            let index = transaction.output.iter().position(|output| output.script_pubkey == *script)?;
            Some((channel.clone(), u32::try_from(index).ok()?))
        });
        let funding: Vec<_> = funding.collect::<Option<_>>().ok_or(ConservationError::Outputs)?;
        if funding.is_empty() {
            return Err(ConservationError::Outputs);
        }
        Ok(StableProposal { transaction, funding })
    }

    /// The payer's inputs in order with their sequences, and each of our coins once. Gives the indexes of ours.
    fn check_inputs(&self, psbt: &Psbt) -> Result<Vec<usize>, ConservationError> {
        let sequence = self.original.input.first().ok_or(ConservationError::Inputs)?.sequence;
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

    /// The payer's outputs in order, each channel once and exact, the drain once; one of ours where the payment was.
    fn check_outputs(&self, proposal: &Transaction) -> Result<Outputs, ConservationError> {
        self.check_scripts()?;
        let mut theirs =
            self.original.output.iter().enumerate().filter(|(index, _)| *index != self.payment).peekable();
        let mut channels: Vec<_> = self.channels.iter().collect();
        let mut found = Outputs { taken: Amount::ZERO, drain: None };
        let mut in_place = false;
        for output in &proposal.output {
            if let Some((index, original)) =
                theirs.next_if(|(_, theirs)| theirs.script_pubkey == output.script_pubkey)
            {
                let allowed = self.contribution.is_some_and(|(_, fee_output)| fee_output == index);
                let taken = original.value.checked_sub(output.value).ok_or(ConservationError::Outputs)?;
                if taken > Amount::ZERO && !allowed {
                    return Err(ConservationError::Contribution);
                }
                found.taken = taken.max(found.taken);
                continue;
            }
            in_place |= theirs.peek().is_none_or(|(index, _)| *index > self.payment);
            if let Some(at) = channels.iter().position(|(_, script)| *script == output.script_pubkey) {
                if channels.swap_remove(at).0.amount != output.value {
                    return Err(ConservationError::Channel);
                }
            } else if found.drain.is_none() && self.drain.as_ref() == Some(&output.script_pubkey) {
                found.drain = Some(output.value);
            } else {
                return Err(ConservationError::Outputs);
            }
        }
        let complete =
            theirs.next().is_none() && channels.is_empty() && found.drain.is_some() == self.drain.is_some();
        if complete && in_place { Ok(found) } else { Err(ConservationError::Outputs) }
    }

    /// Our scripts differ from one another and from those of the payer's outputs. Channels are P2WSH.
    fn check_scripts(&self) -> Result<(), ConservationError> {
        let channels = self.channels.iter().map(|(_, script)| script);
        if !channels.clone().all(|script| script.is_p2wsh()) {
            return Err(ConservationError::Channel);
        }
        let mut ours = HashSet::new();
        let distinct = channels.chain(&self.drain).all(|script| ours.insert(script.as_script()));
        let theirs = self.original.output.iter().enumerate().filter(|(index, _)| *index != self.payment);
        let apart =
            theirs.map(|(_, output)| output.script_pubkey.as_script()).all(|script| !ours.contains(script));
        if distinct && apart { Ok(()) } else { Err(ConservationError::Ambiguous) }
    }

    /// Every output is accounted for, so what is missing from the inputs is fee. It does not fall, and what of it is
    /// neither the Original's nor taken from the payer is ours and stays within the cap.
    fn check_values(
        &self,
        proposal: &Transaction,
        taken: Amount,
        drain: Option<Amount>,
    ) -> Result<(), ConservationError> {
        let inputs = self.prevouts.iter().chain(self.coins.iter().map(|coin| &coin.txout));
        let fee = difference(inputs, &proposal.output)?;
        let before = total([self.original_fee()?, taken])?;
        let ours = fee.checked_sub(before).ok_or(ConservationError::Value)?;
        if ours > self.max_fee {
            return Err(ConservationError::Fee);
        }
        if self.drain.as_ref().zip(drain).is_some_and(|(script, value)| value < script.minimal_non_dust()) {
            return Err(ConservationError::Dust);
        }
        let payment = self.original.output.get(self.payment).ok_or(ConservationError::Outputs)?;
        let raised = self.drain.as_ref() == Some(&payment.script_pubkey) && drain >= Some(payment.value);
        if self.channels.is_empty() && !raised {
            return Err(ConservationError::Payment);
        }
        Ok(())
    }

    /// BIP 78, "Fee output": bounded by the offer, and by the Original's fee rate times the weight of our inputs.
    fn check_contribution(&self, taken: Amount) -> Result<(), ConservationError> {
        let offer = self.contribution.map_or(Amount::ZERO, |(most, _)| most);
        let weight =
            self.coins.iter().map(Coin::weight).sum::<Option<Weight>>().ok_or(ConservationError::Inputs)?;
        let rate = self.original_fee()?.div_by_weight_floor(self.original.weight());
        let share =
            rate.and_then(|rate| rate.checked_mul_by_weight(weight)).ok_or(ConservationError::Value)?;
        if taken <= offer.min(share) { Ok(()) } else { Err(ConservationError::Contribution) }
    }

    fn original_fee(&self) -> Result<Amount, ConservationError> {
        difference(&self.prevouts, &self.original.output)
    }
}

/// What the outputs of a proposal show.
struct Outputs {
    /// Taken from the payer's fee output.
    taken: Amount,
    /// Value of our remainder.
    drain: Option<Amount>,
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
