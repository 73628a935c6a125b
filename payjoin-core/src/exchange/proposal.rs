//! Builds proposals: the payment output is replaced here.

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{
    Amount, EcdsaSighashType, Psbt, ScriptBuf, TapSighashType, TxOut, WScriptHash, Witness, ecdsa, taproot,
};
use payjoin::receive::InputPair;
use payjoin::receive::v1::{ProvisionalProposal, WantsInputs, WantsOutputs};

use super::delivery::Delivery;
use super::facts::{Facts, Vetted};
use crate::plan::max_fee_rate;
use crate::{
    CheckedProposal, Coin, Conservation, ConservationError, Plan, PlannedChannel, Policy, StableProposal,
};

/// A proposal that may be signed.
#[derive(Debug)]
pub(crate) struct Draft {
    provisional: ProvisionalProposal,
    conservation: Conservation,
    pub(crate) checked: CheckedProposal,
}

/// Why there is no proposal. Stays inside: the payer reads `unavailable`, the operator the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DraftError {
    /// The `payjoin` crate refused a step.
    #[error("the proposal cannot be built")]
    Build,
    /// Money rule 2.
    #[error("the proposal breaks a money rule: {0}")]
    Conservation(#[from] ConservationError),
    /// The wallet's signatures are not those asked for.
    #[error("the wallet did not sign what it was asked to sign")]
    Signatures,
}

/// Makes proposals for one Original.
pub(crate) struct Drafter<'a> {
    facts: &'a Facts,
    policy: &'a Policy,
    wants: WantsOutputs,
}

impl<'a> Drafter<'a> {
    /// Takes the answer to "were these inputs offered before?" as no. For a dry run that is a supposition.
    pub(crate) fn new(vetted: &'a Vetted, policy: &'a Policy) -> Result<Self, DraftError> {
        let Vetted { payload, facts } = vetted;
        let unseen = payload.inputs_seen_checklist().map(|item| item.mark(false));
        let unknown = payload.clone().apply_inputs_seen_checklist(unseen).map_err(|_| DraftError::Build)?;
        let list = unknown.outputs_owned_checklist().enumerate();
        let owned: Vec<_> = list.map(|(index, item)| item.mark(index == facts.payment)).collect();
        let wants = unknown.apply_outputs_owned_checklist(owned).map_err(|_| DraftError::Build)?;
        Ok(Self { facts, policy, wants })
    }

    /// A proposal that funds the planned channels. `scripts` holds their funding scripts in order.
    pub(crate) fn channels(
        &self,
        plan: &Plan,
        scripts: &[ScriptBuf],
        change: &ScriptBuf,
    ) -> Result<Draft, DraftError> {
        if plan.channels.len() != scripts.len() {
            return Err(DraftError::Build);
        }
        let channels: Vec<_> = plan.channels.iter().cloned().zip(scripts.iter().cloned()).collect();
        let drain = plan.change.map(|_| change.clone());
        let conservation = self.conservation(channels, drain, &plan.coins, plan.payer_is_me);
        // Money rule 3: the change is the drain. Only where there is no change, a single channel has to be named, and
        // the check below proves that nothing was drained from it.
        let drain = conservation.drain.as_ref().or(scripts.first()).ok_or(DraftError::Build)?;
        let wants = self
            .wants
            .clone()
            .replace_receiver_outputs(self.replacement(&conservation)?, drain)
            .map_err(|_| DraftError::Build)?;
        self.finish(wants.commit_outputs(), conservation)
    }

    /// A plain payjoin with at most one of these coins, the one that hides best which output is whose.
    pub(crate) fn plain(&self, coins: &[Coin]) -> Result<Draft, DraftError> {
        let wants = self.wants.clone().commit_outputs();
        let pairs = coins.iter().map(input_pair).collect::<Result<Vec<_>, _>>()?;
        let chosen = wants.try_preserving_privacy(pairs).ok().map(|pair| pair.outpoint());
        let coin: Vec<Coin> = coins.iter().filter(|coin| Some(coin.outpoint) == chosen).cloned().collect();
        let script = self.facts.payment().map(|payment| payment.script_pubkey.clone());
        let conservation = self.conservation(Vec::new(), script, &coin, false);
        self.finish(wants, conservation)
    }

    fn conservation(
        &self,
        channels: Vec<(PlannedChannel, ScriptBuf)>,
        drain: Option<ScriptBuf>,
        coins: &[Coin],
        payer_is_me: bool,
    ) -> Conservation {
        Conservation {
            original: self.facts.transaction.clone(),
            prevouts: self.facts.prevouts.clone(),
            payment: self.facts.payment,
            contribution: self.facts.params.contribution,
            coins: coins.to_vec(),
            channels,
            drain,
            max_fee: self.policy.max_fee,
            payer_is_me,
        }
    }

    /// What stands in place of the payment: the channels, and as change what the payment leaves. The crate adds the
    /// coins to the change and takes the fee from it. Were the sum below the payment, it would burn the difference.
    fn replacement(&self, conservation: &Conservation) -> Result<Vec<TxOut>, DraftError> {
        let payment = self.facts.payment().ok_or(DraftError::Build)?.value;
        let mut outputs: Vec<TxOut> = conservation
            .channels
            .iter()
            .map(|(channel, script)| TxOut { value: channel.amount, script_pubkey: script.clone() })
            .collect();
        if let Some(change) = &conservation.drain {
            let channels: Amount = outputs.iter().map(|output| output.value).sum();
            let value = payment.checked_sub(channels).unwrap_or_default();
            outputs.push(TxOut { value, script_pubkey: change.clone() });
        }
        Ok(outputs)
    }

    /// Adds the coins, takes the fee at the Original's rate, and checks the result.
    fn finish(&self, wants: WantsInputs, conservation: Conservation) -> Result<Draft, DraftError> {
        let pairs = conservation.coins.iter().map(input_pair).collect::<Result<Vec<_>, _>>()?;
        let provisional = wants
            .contribute_inputs(pairs)
            .map_err(|_| DraftError::Build)?
            .commit_inputs()
            .apply_fee_range(Some(self.facts.fee_rate), Some(max_fee_rate(self.policy)))
            .map_err(|_| DraftError::Build)?;
        let checked = conservation.check(provisional.psbt_to_sign())?;
        Ok(Draft { provisional, conservation, checked })
    }
}

impl Draft {
    /// The proposal as the Lightning node may fund it.
    pub(crate) fn stable(&self) -> Result<StableProposal, DraftError> {
        Ok(self.conservation.stable(&self.checked)?)
    }

    /// Our coins that it spends.
    pub(crate) fn coins(&self) -> &[Coin] {
        &self.conservation.coins
    }

    /// Whether it can be delivered once it is signed.
    pub(crate) fn fits(&self, delivery: Delivery) -> bool {
        delivery.carries(self.checked.psbt(), self.checked.our_inputs())
    }

    /// Takes the wallet's signatures and gives the Proposal PSBT for the payer, in base64.
    pub(crate) fn sign(self, signed: &Psbt, delivery: Delivery) -> Result<String, DraftError> {
        let ours = self.checked.our_inputs().to_vec();
        let valid = signed.unsigned_tx == self.checked.psbt().unsigned_tx
            && signed.inputs.len() == self.checked.psbt().inputs.len()
            && ours.iter().all(|index| {
                signed.inputs.get(*index).is_some_and(|input| {
                    let witness = input.final_script_witness.as_ref();
                    input.final_script_sig.as_ref().is_none_or(|script| script.is_empty())
                        && witness.is_some_and(binds_everything)
                })
            });
        if !valid {
            return Err(DraftError::Signatures);
        }
        let proposal =
            self.provisional.finalize_signed_proposal(signed).map_err(|_| DraftError::Signatures)?;
        let mut psbt = proposal.psbt().clone();
        delivery.dress(&mut psbt, &ours);
        Ok(psbt.to_string())
    }
}

/// Whether the spend of a P2WPKH or P2TR coin signs the whole transaction.
fn binds_everything(witness: &Witness) -> bool {
    let Some(signature) = witness.nth(0) else { return false };
    match witness.len() {
        1 => taproot::Signature::from_slice(signature).is_ok_and(|signature| {
            matches!(signature.sighash_type, TapSighashType::Default | TapSighashType::All)
        }),
        2 => ecdsa::Signature::from_slice(signature)
            .is_ok_and(|signature| signature.sighash_type == EcdsaSighashType::All),
        _ => false,
    }
}

fn input_pair(coin: &Coin) -> Result<InputPair, DraftError> {
    let Coin { txout, outpoint } = coin.clone();
    let pair = if txout.script_pubkey.is_p2tr() {
        InputPair::new_p2tr_keyspend(txout, outpoint)
    } else {
        InputPair::new_p2wpkh(txout, outpoint)
    };
    pair.map_err(|_| DraftError::Build)
}

/// Funding scripts for a dry run: nobody's, and of the size of real ones.
pub(crate) fn dummy_scripts(count: usize) -> Vec<ScriptBuf> {
    let script = |index: usize| {
        let hash = sha256::Hash::hash(format!("dry run {index}").as_bytes());
        ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(hash.to_byte_array()))
    };
    (0..count).map(script).collect()
}
