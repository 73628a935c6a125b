//! Which intents a payment can fund, with which coins of ours, and what comes back as change. A pure function.

use bitcoin::transaction::InputWeightPrediction;
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, Script, ScriptBuf, TxOut, Weight};
use serde::{Deserialize, Serialize};

use crate::{ChannelAmount, ChannelWish, IntentId, Policy, Resources};

/// Change below this is never made: it could not be spent. P2TR's dust, the greater of the two kinds we use.
const LEAST_CHANGE: Amount = Amount::from_sat(330);
/// Outpoint and sequence of an input, in weight units; the rest of it is in the prediction.
const INPUT_BASE: Weight = Weight::from_wu((36 + 4) * 4);
/// Value, length and script of a funding output.
const FUNDING_OUTPUT: Weight = Weight::from_wu((8 + 1 + 34) * 4);

/// A coin of ours that may be spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is. P2WPKH or P2TR key spend.
    pub txout: TxOut,
}

impl Coin {
    /// Weight of an input that spends it; `None` for a script that we do not spend.
    pub(crate) fn weight(&self) -> Option<Weight> {
        let script = &self.txout.script_pubkey;
        let prediction = if script.is_p2wpkh() {
            InputWeightPrediction::P2WPKH_MAX
        } else if script.is_p2tr() {
            InputWeightPrediction::P2TR_KEY_DEFAULT_SIGHASH
        } else {
            return None;
        };
        Some(prediction.weight() + INPUT_BASE)
    }
}

/// What must stay in the wallet so that channels with anchors can be closed (all values in satoshis).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// Confirmed coins of the wallet that are not locked, the offered ones included.
    pub balance: Amount,
    /// Needed for the channels that exist.
    pub existing: Amount,
    /// Needed for each channel more.
    pub per_channel: Amount,
}

/// One channel with its exact value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedChannel {
    /// The intent it serves.
    pub intent: IntentId,
    /// The value of its funding output, to the satoshi.
    pub amount: Amount,
}

/// What to do with a payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Channels to open; empty for a plain payjoin.
    pub channels: Vec<PlannedChannel>,
    /// Coins of ours to add.
    pub coins: Vec<Coin>,
    /// What comes back to the wallet, our share of the fees already taken off; `None` when one channel takes the
    /// whole payment, or when there are no channels.
    pub change: Option<Amount>,
    /// Every chosen intent carries the operator's word that payer and operator are the same person.
    pub payer_is_me: bool,
}

/// What a plan starts from.
#[derive(Clone, Copy, Debug)]
pub struct PlanRequest<'a> {
    /// The output of the Original that pays us.
    pub payment: &'a TxOut,
    /// Where change would go.
    pub change: &'a Script,
    /// What may be used.
    pub resources: &'a Resources,
    /// The Original's fee rate: what is added pays the same.
    pub fee_rate: FeeRate,
    /// Most that the payer adds for the weight of our inputs.
    pub contribution: Amount,
    /// The operator's limits.
    pub policy: &'a Policy,
}

/// Chooses channels for a payment; `None` when not one intent fits.
///
/// Intents are taken in their order; one that does not fit is passed over. Exact amounts come first, and at most one
/// [`ChannelAmount::Rest`] takes what they leave of the payment. Coins come best first, no more than needed, and at
/// least one (money rule 5) unless the operator vouches for the payer. What [`Reserve`] asks for stays in the wallet.
#[must_use]
pub fn plan(request: &PlanRequest<'_>) -> Option<Plan> {
    let mut chosen: Vec<&ChannelWish> = Vec::new();
    let mut best = None;
    for wish in &request.resources.wishes {
        chosen.push(wish);
        match request.fit(&chosen) {
            Some(plan) => best = Some(plan),
            None => {
                chosen.pop();
            }
        }
    }
    best
}

impl PlanRequest<'_> {
    /// Tries every run of neighbouring coins, shortest first.
    fn fit(&self, chosen: &[&ChannelWish]) -> Option<Plan> {
        let rests = chosen.iter().filter(|wish| wish.amount == ChannelAmount::Rest).count();
        if rests > 1 {
            return None;
        }
        let payer_is_me = chosen.iter().all(|wish| wish.payer_is_me);
        let coins = &self.resources.coins;
        let without = if payer_is_me { self.alone(chosen).or_else(|| self.fund(chosen, &[])) } else { None };
        without.or_else(|| {
            (1..=coins.len()).flat_map(|n| coins.windows(n)).find_map(|coins| self.fund(chosen, coins))
        })
    }

    /// One channel that takes the whole payment, with nothing added that would cost a fee.
    fn alone(&self, chosen: &[&ChannelWish]) -> Option<Plan> {
        let [wish] = chosen else { return None };
        let fits = match wish.amount {
            ChannelAmount::Exact(amount) => amount == self.payment.value,
            ChannelAmount::Rest => true,
        };
        let lacking = self.reserve_after(1)?.checked_sub(self.kept(&[])?);
        let free = self.added_outputs(FUNDING_OUTPUT) == Weight::ZERO;
        (fits && within(wish, self.payment.value) && lacking.unwrap_or_default() == Amount::ZERO && free)
            .then(|| {
                let channels = vec![PlannedChannel { intent: wish.id, amount: self.payment.value }];
                Plan { channels, coins: Vec::new(), change: None, payer_is_me: true }
            })
    }

    /// Channels and change from the payment and these very coins.
    fn fund(&self, chosen: &[&ChannelWish], coins: &[Coin]) -> Option<Plan> {
        let least_change = self.least_change(chosen.len(), coins)?;
        let change_weight = TxOut { value: Amount::ZERO, script_pubkey: self.change.into() }.weight();
        let fee = self.our_fee(coins, FUNDING_OUTPUT * chosen.len() as u64 + change_weight)?;
        let funds = self.payment.value.checked_add(total(coins)?)?.checked_sub(fee)?;
        let exact = chosen.iter().try_fold(Amount::ZERO, |sum, wish| match wish.amount {
            ChannelAmount::Exact(amount) => sum.checked_add(amount),
            ChannelAmount::Rest => Some(sum),
        })?;
        let spendable = funds.checked_sub(least_change)?.checked_sub(exact)?;
        let rest = self.payment.value.checked_sub(exact).unwrap_or_default().min(spendable);
        let channels = chosen.iter().map(|wish| {
            let amount = match wish.amount {
                ChannelAmount::Exact(amount) => amount,
                ChannelAmount::Rest => rest.min(wish.max),
            };
            within(wish, amount).then_some(PlannedChannel { intent: wish.id, amount })
        });
        let channels = channels.collect::<Option<Vec<_>>>()?;
        let spent: Amount = channels.iter().map(|channel| channel.amount).sum();
        if spent > self.payment.value && !self.policy.top_up {
            return None;
        }
        let change = Some(funds.checked_sub(spent)?);
        let payer_is_me = chosen.iter().all(|wish| wish.payer_is_me);
        Some(Plan { channels, coins: coins.to_vec(), change, payer_is_me })
    }

    /// The reserve with `channels` channels more.
    fn reserve_after(&self, channels: usize) -> Option<Amount> {
        let reserve = &self.resources.reserve;
        reserve.existing.checked_add(reserve.per_channel.checked_mul(channels as u64)?)
    }

    /// What must come back: the existing reserve stays in confirmed coins, the new one may wait for the change.
    fn least_change(&self, channels: usize, coins: &[Coin]) -> Option<Amount> {
        let kept = self.kept(coins)?;
        if !coins.is_empty() && kept < self.resources.reserve.existing {
            return None;
        }
        let lacking = self.reserve_after(channels)?.checked_sub(kept).unwrap_or_default();
        Some(lacking.max(LEAST_CHANGE))
    }

    /// What stays in confirmed coins when these are spent, and those too that another attempt may spend.
    fn kept(&self, coins: &[Coin]) -> Option<Amount> {
        let Resources { coins: offered, shown, reserve, .. } = self.resources;
        let gone = |coin: &&Coin| coins.contains(coin) || shown.contains(&coin.outpoint);
        offered.iter().filter(gone).try_fold(reserve.balance, |kept, coin| kept.checked_sub(coin.txout.value))
    }

    /// Which coins a plain payjoin could take one of: those that raise our output and leave the reserve alone.
    pub(crate) fn plain_coins(&self) -> Vec<Coin> {
        let fits = |coin: &&Coin| {
            let kept = self.kept(std::slice::from_ref(*coin));
            kept.is_some_and(|kept| kept >= self.resources.reserve.existing)
                && self
                    .our_fee(std::slice::from_ref(*coin), self.payment.weight())
                    .is_some_and(|fee| fee < coin.txout.value)
        };
        self.resources.coins.iter().filter(fits).cloned().collect()
    }

    /// Our share of the fee for `coins` and for outputs of this weight in place of the payment; `None` above a limit.
    /// The payer's offer pays for input weight alone. BIP 78, "Optional parameters".
    fn our_fee(&self, coins: &[Coin], outputs: Weight) -> Option<Amount> {
        let inputs = coins.iter().map(Coin::weight).sum::<Option<Weight>>()?;
        let outputs = self.added_outputs(outputs);
        let for_inputs = self.fee_rate.checked_mul_by_weight(inputs)?;
        let for_outputs = self.fee_rate.checked_mul_by_weight(outputs)?;
        let ours = for_inputs.checked_sub(self.contribution.min(for_inputs))?.checked_add(for_outputs)?;
        let most =
            max_fee_rate(self.policy).checked_mul_by_weight(inputs + outputs)?.min(self.policy.max_fee);
        (ours <= most).then_some(ours)
    }

    fn added_outputs(&self, outputs: Weight) -> Weight {
        outputs.checked_sub(self.payment.weight()).unwrap_or(Weight::ZERO)
    }
}

/// The operator's greatest fee rate, within what arithmetic bears.
pub(crate) fn max_fee_rate(policy: &Policy) -> FeeRate {
    policy.max_fee_rate.min(Psbt::DEFAULT_MAX_FEE_RATE)
}

/// The least value that nodes relay for an output with this script.
pub(crate) fn least_spendable(script: &ScriptBuf) -> Amount {
    script.minimal_non_dust()
}

fn within(wish: &ChannelWish, amount: Amount) -> bool {
    (wish.min.max(LEAST_CHANGE)..=wish.max).contains(&amount)
}

fn total(coins: &[Coin]) -> Option<Amount> {
    coins.iter().try_fold(Amount::ZERO, |sum, coin| sum.checked_add(coin.txout.value))
}
