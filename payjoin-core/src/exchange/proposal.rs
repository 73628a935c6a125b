//! Builds proposals: the payment output is replaced here.

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{
    Amount, EcdsaSighashType, Psbt, ScriptBuf, TapSighashType, TxOut, WScriptHash, Weight, Witness, ecdsa,
    taproot,
};
use payjoin::receive::InputPair;
use payjoin::receive::v1::{ProvisionalProposal, WantsInputs, WantsOutputs};

use super::delivery::Delivery;
use super::facts::{Facts, Vetted};
use super::request::payload;
use crate::fees::paid;
use crate::plan::max_fee_rate;
use crate::{
    CheckedProposal, Coin, Conservation, ConservationError, PaymentOutput, Plan, PlannedChannel, Policy,
    StableProposal, partitions,
};

/// How often outputs are placed anew until nothing stands before the payment: half of the draws are good.
const DRAWS: usize = 64;

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
    payer_is_me: bool,
}

impl<'a> Drafter<'a> {
    pub(crate) fn new(vetted: &'a Vetted, policy: &'a Policy, payer_is_me: bool) -> Self {
        Self { facts: &vetted.facts, policy, payer_is_me }
    }

    /// A proposal that funds the planned channels. `scripts` holds their funding scripts in order, `own` those of what is
    /// split off the change.
    pub(crate) fn channels(
        &self,
        plan: &Plan,
        scripts: &[ScriptBuf],
        own: &[ScriptBuf],
    ) -> Result<Draft, DraftError> {
        if plan.channels.len() != scripts.len() || plan.splits.len() != own.len() {
            return Err(DraftError::Build);
        }
        let channels: Vec<_> = plan.channels.iter().cloned().zip(scripts.iter().cloned()).collect();
        let splits = plan.splits.iter().zip(own);
        let splits = splits.map(|(value, script)| TxOut { value: *value, script_pubkey: script.clone() });
        let conservation = self.conservation(channels, plan.output, &plan.coins);
        let conservation = Conservation { splits: splits.collect(), ..conservation };
        // Money rule 3: the payment is the drain. Only where it is replaced, a channel has to be named, and the check
        // proves that nothing was drained from it.
        let drain = match plan.output {
            PaymentOutput::Kept | PaymentOutput::Change => &self.payment()?.script_pubkey,
            PaymentOutput::Replaced => scripts.first().ok_or(DraftError::Build)?,
        };
        let (wants, outputs) = (self.wants(&plan.coins)?, self.replacement(&conservation)?);
        let draw = || {
            let wants = wants.clone().replace_receiver_outputs(outputs.clone(), drain);
            self.finish(wants.map_err(|_| DraftError::Build)?.commit_outputs(), conservation.clone())
        };
        let misplaced = |draft: &Result<Draft, DraftError>| {
            matches!(draft, Err(DraftError::Conservation(ConservationError::Place)))
        };
        let mut draws = std::iter::repeat_with(draw).take(DRAWS);
        draws.find(|draft| !misplaced(draft)).unwrap_or(Err(ConservationError::Place.into()))
    }

    /// A plain payjoin with at most one of these coins, the one that hides best which output is whose. What an Original
    /// without one lacks of its own least rate comes from the payment, where that may shrink.
    pub(crate) fn plain(&self, coins: &[Coin]) -> Result<Draft, DraftError> {
        let wants = self.wants(&[])?.commit_outputs();
        let pairs = coins.iter().map(input_pair).collect::<Result<Vec<_>, _>>()?;
        let chosen = wants.try_preserving_privacy(pairs).ok().map(|pair| pair.outpoint());
        let coin: Vec<Coin> = coins.iter().filter(|coin| Some(coin.outpoint) == chosen).cloned().collect();
        let lacking = self.facts.fees.lacking(Weight::ZERO).ok_or(DraftError::Build)?;
        let shrinks = coin.is_empty() && lacking > Amount::ZERO && self.facts.output != PaymentOutput::Kept;
        let output = if shrinks { PaymentOutput::Change } else { PaymentOutput::Kept };
        let conservation = self.conservation(Vec::new(), output, &coin);
        let mut wants = self.wants(&coin)?;
        if shrinks {
            let (outputs, script) = (self.replacement(&conservation)?, &self.payment()?.script_pubkey);
            wants = wants.replace_receiver_outputs(outputs, script).map_err(|_| DraftError::Build)?;
        }
        self.finish(wants.commit_outputs(), conservation)
    }

    /// The crate's view of the Original, with the offer that goes with these coins. Everything before this state was
    /// checked; only whether the inputs were offered before is taken as no, which in a dry run is a supposition.
    fn wants(&self, coins: &[Coin]) -> Result<WantsOutputs, DraftError> {
        let Facts { body, params, payment, fees, .. } = self.facts;
        let taken = fees.contribution(coins).ok_or(DraftError::Build)?;
        let unsuitable = payload(body, params, taken).ok_or(DraftError::Build)?;
        let owned = unsuitable.apply_broadcast_suitability(None, true).map_err(|_| DraftError::Build)?;
        let none = owned.inputs_owned_checklist().map(|item| item.mark(false)).collect::<Vec<_>>();
        let seen = owned.apply_inputs_owned_checklist(none).map_err(|_| DraftError::Build)?;
        let none = seen.inputs_seen_checklist().map(|item| item.mark(false)).collect::<Vec<_>>();
        let unknown = seen.apply_inputs_seen_checklist(none).map_err(|_| DraftError::Build)?;
        let list = unknown.outputs_owned_checklist().enumerate();
        let ours: Vec<_> = list.map(|(index, item)| item.mark(index == *payment)).collect();
        unknown.apply_outputs_owned_checklist(ours).map_err(|_| DraftError::Build)
    }

    fn payment(&self) -> Result<&TxOut, DraftError> {
        self.facts.payment().ok_or(DraftError::Build)
    }

    fn conservation(
        &self,
        channels: Vec<(PlannedChannel, ScriptBuf)>,
        output: PaymentOutput,
        coins: &[Coin],
    ) -> Conservation {
        Conservation {
            original: self.facts.transaction.clone(),
            prevouts: self.facts.prevouts.clone(),
            payment: self.facts.payment,
            contribution: self.facts.params.contribution,
            coins: coins.to_vec(),
            channels,
            splits: Vec::new(),
            output,
            min_fee_rate: self.facts.fees.minimum,
            max_fee: self.policy.max_fee,
            payer_is_me: self.payer_is_me,
        }
    }

    /// What stands in place of the payment: the channels, what is split off, and itself with what they leave, or whole where
    /// it is kept.
    /// The crate adds to it what the coins bring beyond that, and takes the fee from it. Were the sum below the payment,
    /// it would burn the difference.
    fn replacement(&self, conservation: &Conservation) -> Result<Vec<TxOut>, DraftError> {
        let payment = self.payment()?;
        let outputs = conservation
            .channels
            .iter()
            .map(|(channel, script)| TxOut { value: channel.amount, script_pubkey: script.clone() });
        let mut outputs: Vec<TxOut> = outputs.chain(conservation.splits.iter().cloned()).collect();
        let others: Amount = outputs.iter().map(|output| output.value).sum();
        let value = match conservation.output {
            PaymentOutput::Kept => payment.value,
            PaymentOutput::Change if outputs.is_empty() => {
                let lacking = self.facts.fees.lacking(Weight::ZERO).ok_or(DraftError::Build)?;
                payment.value.checked_sub(lacking).unwrap_or_default()
            }
            PaymentOutput::Change => payment.value.checked_sub(others).unwrap_or_default(),
            PaymentOutput::Replaced => {
                // The fee for what the channel weighs more is taken from it again.
                if let [channel] = &mut outputs[..] {
                    channel.value = payment.value;
                }
                return Ok(outputs);
            }
        };
        outputs.push(TxOut { value, script_pubkey: payment.script_pubkey.clone() });
        Ok(outputs)
    }

    /// Adds the coins, takes the fee, and checks the result.
    fn finish(&self, wants: WantsInputs, conservation: Conservation) -> Result<Draft, DraftError> {
        let pairs = conservation.coins.iter().map(input_pair).collect::<Result<Vec<_>, _>>()?;
        let rate = self.facts.fees.rate_with(self.added(&conservation)?).ok_or(DraftError::Build)?;
        let provisional = wants
            .contribute_inputs(pairs)
            .map_err(|_| DraftError::Build)?
            .commit_inputs()
            .apply_fee_range(Some(rate), Some(max_fee_rate(self.policy)))
            .map_err(|_| DraftError::Build)?;
        let checked = conservation.check(provisional.psbt_to_sign())?;
        Ok(Draft { provisional, conservation, checked })
    }

    /// Weight of the coins, and of the outputs beyond those of the Original.
    fn added(&self, conservation: &Conservation) -> Result<Weight, DraftError> {
        let inputs = conservation.coins.iter().map(Coin::weight).sum::<Option<Weight>>();
        let outputs = self.replacement(conservation)?.iter().map(TxOut::weight).sum::<Weight>();
        let outputs = outputs.checked_sub(self.payment()?.weight()).unwrap_or(Weight::ZERO);
        Ok(inputs.ok_or(DraftError::Build)? + outputs)
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

    /// What it pays the miners. Conservation has shown that there is no overflow.
    pub(crate) fn fee(&self) -> Amount {
        let coins = self.conservation.coins.iter().map(|coin| &coin.txout);
        let spent = self.conservation.prevouts.iter().chain(coins);
        paid(spent, &self.checked.psbt().unsigned_tx).unwrap_or_default()
    }

    /// In how many ways its amounts can be split; `None` when that is not counted.
    pub(crate) fn partitions(&self) -> Option<u32> {
        let coins = self.conservation.coins.iter().map(|coin| &coin.txout);
        let spent = self.conservation.prevouts.iter().chain(coins).map(|spent| spent.value);
        let made = self.checked.psbt().unsigned_tx.output.iter().map(|output| output.value);
        partitions(&spent.collect::<Vec<_>>(), &made.collect::<Vec<_>>())
    }

    /// Whether it has the id that it will be broadcast with.
    pub(crate) fn has_final_txid(&self) -> bool {
        self.conservation.original.input.iter().all(|input| input.script_sig.is_empty())
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

/// Scripts for a dry run: nobody's, and of the size of funding scripts, than which none of ours is longer.
pub(crate) fn dummy_scripts(count: usize) -> Vec<ScriptBuf> {
    let script = |index: usize| {
        let hash = sha256::Hash::hash(format!("dry run {index}").as_bytes());
        ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(hash.to_byte_array()))
    };
    (0..count).map(script).collect()
}
