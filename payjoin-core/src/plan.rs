//! Which intents a payment can fund, with which coins of ours, and what comes back as change. A pure function.

use std::cmp::Reverse;

use bitcoin::{Amount, FeeRate, OutPoint, Psbt, Script, ScriptBuf, TxOut, Weight};

use crate::{
    ChannelAmount, ChannelWish, Coin, FeeTerms, IntentId, PaymentOutput, PlannedChannel, Policy, Reserve,
    partitions,
};

/// Change below this is never made: it could not be spent. P2TR's dust, the greater of the two kinds we use.
const LEAST_CHANGE: Amount = Amount::from_sat(330);
/// Most plans that are compared by what their amounts tell.
const COMPARED: usize = 16;
/// Value, length and script of a funding output, and of the heaviest that is split off the change.
const OUTPUT: Weight = Weight::from_wu((8 + 1 + 34) * 4);

/// What an exchange may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Queued intents in the operator's order.
    pub wishes: Vec<ChannelWish>,
    /// Those of them whose peers are not known to have a slot to spare.
    pub scarce: Vec<IntentId>,
    /// Confirmed coins; a bounded number of them. Not locked, but for those in `shown`.
    pub coins: Vec<Coin>,
    /// Coins that unfinished attempts at the same invoice hold: they may be spent whatever this exchange takes. If there are
    /// any, no others are taken (money rule 8).
    pub shown: Vec<OutPoint>,
    /// What must stay in the wallet.
    pub reserve: Reserve,
    /// The best block's height.
    pub height: u32,
}

/// What to do with a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Channels to open; empty for a plain payjoin.
    pub channels: Vec<PlannedChannel>,
    /// Coins of ours to add.
    pub coins: Vec<Coin>,
    /// What becomes of the payment.
    pub output: PaymentOutput,
    /// What the payment carries, our share of the fees already taken off; `None` when one channel takes its place, and what
    /// the coins bring.
    pub change: Option<Amount>,
    /// Further outputs of ours, split off the change: coins that may have to close the channels, one each.
    pub splits: Vec<Amount>,
}

/// What a plan starts from.
#[derive(Clone, Copy, Debug)]
pub struct PlanRequest<'a> {
    /// The output of the Original that pays us.
    pub payment: &'a TxOut,
    /// All outputs of the Original.
    pub outputs: &'a [TxOut],
    /// Most that may become of the payment.
    pub output: PaymentOutput,
    /// What may be used.
    pub resources: &'a Resources,
    /// Of which types our inputs may be.
    pub types: InputTypes<'a>,
    /// What is added pays so much.
    pub fees: FeeTerms,
    /// See [`Invoice::payer_is_me`](crate::Invoice::payer_is_me).
    pub payer_is_me: bool,
    /// The operator's limits.
    pub policy: &'a Policy,
}

/// Of which types inputs beside the payer's may be. Many wallets refuse a payjoin with an input of another type than
/// their own, and what a wallet refuses after channels were negotiated blocks a peer.
#[derive(Clone, Copy, Debug)]
pub struct InputTypes<'a> {
    /// What the payer's inputs spend.
    pub spent: &'a [TxOut],
    /// The payer's wallet is known not to mind.
    pub any: bool,
}

impl InputTypes<'_> {
    /// Whether the payer has an input of this coin's type.
    fn has(&self, coin: &Coin) -> bool {
        self.spent.iter().any(|spent| kind(&spent.script_pubkey) == kind(&coin.txout.script_pubkey))
    }

    /// Whether coins of other types may be taken, should there be no others that serve.
    fn may_differ(&self) -> bool {
        let kinds = self.spent.iter().map(|spent| kind(&spent.script_pubkey));
        self.any || kinds.clone().any(|one| kinds.clone().next() != Some(one))
    }

    /// These coins in groups; the next is looked at only when those before do not serve.
    pub(crate) fn groups(&self, coins: &[Coin]) -> Vec<Vec<Coin>> {
        let own: Vec<Coin> = coins.iter().filter(|coin| self.has(coin)).cloned().collect();
        let all = (self.may_differ() && own.len() < coins.len()).then(|| coins.to_vec());
        [own].into_iter().chain(all).filter(|group| !group.is_empty()).collect()
    }
}

/// A script's type, as far as wallets tell them apart.
fn kind(script: &Script) -> (bool, bool, bool, bool) {
    (script.is_p2wpkh(), script.is_p2tr(), script.is_p2wsh(), script.is_p2sh())
}

/// Chooses channels for a payment; `None` when not one intent fits.
///
/// Intents are taken in their order; one that does not fit is passed over. Exact amounts come first, and at most one
/// [`ChannelAmount::Rest`] takes what they leave of the payment. One that absorbs opens alone if it comes first. Of the
/// coins the smallest come first, no more than needed, and at
/// least one (money rule 5) unless the operator vouches for the payer. What [`Reserve`] asks for stays in the wallet.
#[must_use]
pub fn plan(request: &PlanRequest<'_>) -> Option<Plan> {
    let mut chosen: Vec<&ChannelWish> = Vec::new();
    let mut best = None;
    for wish in &request.resources.wishes {
        if best.as_ref().is_some_and(Plan::absorbs) {
            break;
        }
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

impl Plan {
    /// Whether a channel takes payment and coins whole.
    fn absorbs(&self) -> bool {
        self.change.is_none() && !self.coins.is_empty()
    }
}

impl PlanRequest<'_> {
    fn fit(&self, chosen: &[&ChannelWish]) -> Option<Plan> {
        let rests = chosen
            .iter()
            .filter(|wish| matches!(wish.amount, ChannelAmount::Rest | ChannelAmount::Absorb))
            .count();
        if rests > 1 {
            return None;
        }
        let without =
            if self.payer_is_me { self.alone(chosen).or_else(|| self.fund(chosen, &[])) } else { None };
        let groups = self.types.groups(&self.resources.coins);
        let fewest = |serves: &dyn Fn(&[Coin]) -> Option<Plan>| {
            groups.iter().find_map(|coins| self.fewest(coins, serves))
        };
        let absorbed = || fewest(&|coins| self.absorbed(chosen, coins));
        without.or_else(absorbed).or_else(|| fewest(&|coins| self.fund(chosen, coins)))
    }

    /// The shortest run of neighbouring coins that serves, from the smallest on: some wallets want no more inputs of ours
    /// than they have, and whoever only asks to see our coins sees no large one.
    fn fewest(&self, coins: &[Coin], serves: &dyn Fn(&[Coin]) -> Option<Plan>) -> Option<Plan> {
        let coins = smallest_first(coins.to_vec());
        (1..=coins.len()).find_map(|n| self.least_telling(coins.windows(n).filter_map(serves)))
    }

    /// Of plans for the same channels that cost the same, the one whose amounts can be split in most ways, of equal ones the
    /// first. One way is worse than none.
    fn least_telling(&self, plans: impl Iterator<Item = Plan>) -> Option<Plan> {
        let mut plans = plans.take(COMPARED).peekable();
        let price = |plan: &Plan| {
            (plan.channels.clone(), plan.coins.iter().map(Coin::weight).sum::<Option<Weight>>())
        };
        let first = price(plans.peek()?);
        plans.filter(|plan| price(plan) == first).min_by_key(|plan| {
            Reverse(match self.partitions(plan) {
                Some(1) => 0,
                Some(0) => 1,
                Some(ways) => ways,
                None => 2,
            })
        })
    }

    /// In how many ways the amounts of the payjoin can be split, as far as they are known.
    fn partitions(&self, plan: &Plan) -> Option<u32> {
        let spent = self.types.spent.iter().chain(plan.coins.iter().map(|coin| &coin.txout));
        let spent: Vec<Amount> = spent.map(|spent| spent.value).collect();
        let theirs = self.outputs.iter().filter(|output| output.script_pubkey != self.payment.script_pubkey);
        let ours = plan.channels.iter().map(|channel| channel.amount).chain(plan.change);
        let ours = ours.chain(plan.splits.iter().copied());
        partitions(&spent, &theirs.map(|output| output.value).chain(ours).collect::<Vec<_>>())
    }

    /// One channel that takes the payment's place, and the value of these coins, too, whole.
    fn absorbed(&self, chosen: &[&ChannelWish], coins: &[Coin]) -> Option<Plan> {
        let [wish] = chosen else { return None };
        let may = self.output == PaymentOutput::Replaced && self.policy.top_up;
        let heavier = OUTPUT.checked_sub(self.payment.weight()).unwrap_or(Weight::ZERO);
        let funds = self.payment.value.checked_add(total(coins)?)?;
        let amount = funds.checked_sub(self.our_fee(coins, heavier)?)?;
        let spare = self.resources.reserve.spare(self.gone(coins)).is_some_and(|spare| spare > 0);
        let rich = spare && self.kept(coins)? >= self.reserve_after(1)?;
        let fits = wish.amount == ChannelAmount::Absorb && within(wish, amount);
        (may && rich && fits).then(|| Plan {
            channels: vec![PlannedChannel { intent: wish.id, amount }],
            coins: coins.to_vec(),
            output: PaymentOutput::Replaced,
            change: None,
            splits: Vec::new(),
        })
    }

    /// One channel that takes the payment's place and all of its value, less what it weighs more.
    fn alone(&self, chosen: &[&ChannelWish]) -> Option<Plan> {
        let [wish] = chosen else { return None };
        let heavier = OUTPUT.checked_sub(self.payment.weight()).unwrap_or(Weight::ZERO);
        let amount = self.payment.value.checked_sub(self.our_fee(&[], heavier)?)?;
        let fits = match wish.amount {
            ChannelAmount::Exact(exact) => exact == amount,
            ChannelAmount::Rest | ChannelAmount::Absorb => true,
        };
        let lacking = self.reserve_after(1)?.checked_sub(self.kept(&[])?).unwrap_or_default();
        let spare = self.resources.reserve.spare(self.gone(&[])).is_some_and(|spare| spare > 0);
        let may = self.output == PaymentOutput::Replaced && lacking == Amount::ZERO && spare;
        (fits && may && within(wish, amount)).then(|| Plan {
            channels: vec![PlannedChannel { intent: wish.id, amount }],
            coins: Vec::new(),
            output: PaymentOutput::Replaced,
            change: None,
            splits: Vec::new(),
        })
    }

    /// Channels and change from the payment and these very coins.
    fn fund(&self, chosen: &[&ChannelWish], coins: &[Coin]) -> Option<Plan> {
        let splits = self.splits(chosen.len(), coins)?;
        let least_change = self.least_change(chosen.len(), coins, &splits)?;
        let fee = self.our_fee(coins, OUTPUT * (chosen.len() + splits.len()) as u64)?;
        let funds = self.payment.value.checked_add(total(coins)?)?.checked_sub(fee)?;
        let funds = funds.checked_sub(sum(&splits)?)?;
        let exact = chosen.iter().try_fold(Amount::ZERO, |sum, wish| match wish.amount {
            ChannelAmount::Exact(amount) => sum.checked_add(amount),
            ChannelAmount::Rest | ChannelAmount::Absorb => Some(sum),
        })?;
        let spendable = funds.checked_sub(least_change)?.checked_sub(exact)?;
        let rest = self.payment.value.checked_sub(exact).unwrap_or_default().min(spendable);
        let channels = chosen.iter().map(|wish| {
            let amount = match wish.amount {
                ChannelAmount::Exact(amount) => amount,
                ChannelAmount::Rest | ChannelAmount::Absorb => rest.min(wish.max),
            };
            within(wish, amount).then_some(PlannedChannel { intent: wish.id, amount })
        });
        let channels = channels.collect::<Option<Vec<_>>>()?;
        let spent: Amount = channels.iter().map(|channel| channel.amount).sum();
        if spent > self.payment.value && !self.policy.top_up {
            return None;
        }
        let change = Some(funds.checked_sub(spent)?);
        let output = match self.output {
            PaymentOutput::Kept => PaymentOutput::Kept,
            PaymentOutput::Change | PaymentOutput::Replaced => PaymentOutput::Change,
        };
        Some(Plan { channels, coins: coins.to_vec(), output, change, splits })
    }

    /// The reserve with `channels` channels more.
    fn reserve_after(&self, channels: usize) -> Option<Amount> {
        let reserve = &self.resources.reserve;
        reserve.existing.checked_add(reserve.per_channel.checked_mul(channels as u64)?)
    }

    /// What the payment must carry: the existing reserve stays in confirmed coins, the new one may wait for the change and
    /// for what is split off it.
    fn least_change(&self, channels: usize, coins: &[Coin], splits: &[Amount]) -> Option<Amount> {
        let kept = self.kept(coins)?;
        if !coins.is_empty() && kept < self.resources.reserve.existing {
            return None;
        }
        let kept = kept.checked_add(sum(splits)?)?;
        let lacking = self.reserve_after(channels)?.checked_sub(kept).unwrap_or_default();
        let whole = match self.output {
            PaymentOutput::Kept => self.payment.value,
            PaymentOutput::Change | PaymentOutput::Replaced => LEAST_CHANGE,
        };
        let one = match self.lacking(channels, coins) {
            0 => Amount::ZERO,
            _ => self.resources.reserve.per_channel,
        };
        Some(lacking.max(whole).max(one))
    }

    /// What is split off the change, so that each channel has a coin of its own. `None`: these coins have to stay.
    fn splits(&self, channels: usize, coins: &[Coin]) -> Option<Vec<Amount>> {
        let reserve = &self.resources.reserve;
        if !coins.is_empty() {
            reserve.spare(self.gone(coins))?;
        }
        // The change is one.
        Some(vec![reserve.per_channel.max(LEAST_CHANGE); self.lacking(channels, coins).saturating_sub(1)])
    }

    /// How many coins more it takes to close these channels too.
    fn lacking(&self, channels: usize, coins: &[Coin]) -> usize {
        channels.saturating_sub(self.resources.reserve.spare(self.gone(coins)).unwrap_or_default())
    }

    /// What stays in confirmed coins when these are spent, and those too that another attempt may spend.
    fn kept(&self, coins: &[Coin]) -> Option<Amount> {
        let balance = self.resources.reserve.balance;
        self.gone(coins).try_fold(balance, |kept, coin| kept.checked_sub(coin.txout.value))
    }

    /// These coins, and those that another attempt may spend.
    fn gone<'c>(&'c self, coins: &'c [Coin]) -> impl Iterator<Item = &'c Coin> {
        let Resources { coins: offered, shown, .. } = self.resources;
        offered.iter().filter(|coin| coins.contains(coin) || shown.contains(&coin.outpoint))
    }

    /// Which coins a plain payjoin could take one of, the smallest first: those that raise our output and leave the reserve
    /// alone, of the payer's own type if there are such.
    pub(crate) fn plain_coins(&self) -> Vec<Coin> {
        let fits = |coin: &&Coin| {
            let coins = std::slice::from_ref(*coin);
            self.kept(coins).is_some_and(|kept| kept >= self.resources.reserve.existing)
                && self.resources.reserve.spare(self.gone(coins)).is_some()
                && self.our_fee(coins, Weight::ZERO).is_some_and(|fee| fee < coin.txout.value)
        };
        let coins: Vec<Coin> = self.resources.coins.iter().filter(fits).cloned().collect();
        smallest_first(self.types.groups(&coins).into_iter().next().unwrap_or_default())
    }

    /// Our share of the fee for `coins` and for outputs of this weight beside the payment; `None` above a limit.
    /// The payer's offer pays for input weight alone. BIP 78, "Optional parameters".
    fn our_fee(&self, coins: &[Coin], outputs: Weight) -> Option<Amount> {
        let (ours, weight) = self.fee_share(coins, outputs)?;
        let most = max_fee_rate(self.policy).checked_mul_by_weight(weight)?.min(self.policy.max_fee);
        (ours <= most).then_some(ours)
    }

    /// The same whatever the limits, and the weight that it is for.
    fn fee_share(&self, coins: &[Coin], outputs: Weight) -> Option<(Amount, Weight)> {
        let inputs = coins.iter().map(Coin::weight).sum::<Option<Weight>>()?;
        let rate = self.fees.rate_with(inputs + outputs)?;
        let for_inputs = rate.checked_mul_by_weight(inputs)?;
        let for_outputs = rate.checked_mul_by_weight(outputs)?;
        let ours = for_inputs.checked_sub(self.fees.contribution(coins)?)?.checked_add(for_outputs)?;
        Some((ours, inputs + outputs))
    }

    /// What a plan costs us in fees, and the weight that this is for.
    pub(crate) fn cost(&self, plan: &Plan) -> Option<(Amount, Weight)> {
        let outputs = match plan.change {
            Some(_) => OUTPUT * (plan.channels.len() + plan.splits.len()) as u64,
            None => OUTPUT.checked_sub(self.payment.weight()).unwrap_or(Weight::ZERO),
        };
        self.fee_share(&plan.coins, outputs)
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

fn smallest_first(mut coins: Vec<Coin>) -> Vec<Coin> {
    coins.sort_by_key(|coin| coin.txout.value);
    coins
}

fn within(wish: &ChannelWish, amount: Amount) -> bool {
    (wish.min.max(LEAST_CHANGE)..=wish.max).contains(&amount)
}

fn total(coins: &[Coin]) -> Option<Amount> {
    coins.iter().try_fold(Amount::ZERO, |sum, coin| sum.checked_add(coin.txout.value))
}

fn sum(amounts: &[Amount]) -> Option<Amount> {
    amounts.iter().try_fold(Amount::ZERO, |sum, amount| sum.checked_add(*amount))
}
