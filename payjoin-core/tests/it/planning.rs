//! Which channels a payment opens, with which coins, and what comes back.

use bitcoin::{FeeRate, ScriptBuf, TxOut, Weight};
use payjoin_core::{
    ChannelAmount, ChannelWish, Coin, FeeTerms, InputTypes, MinFeeRate, PaymentOutput, Plan, PlanRequest,
    Policy, Reserve, Resources, Stock, plan,
};

use crate::kit::*;

/// 10 sat/vB: a P2WPKH coin costs 680, a channel 430.
const RATE: u64 = 2_500;
const COIN: u64 = 680;
const CHANNEL: u64 = 430;

#[derive(Clone)]
struct Setting {
    payment: u64,
    script: ScriptBuf,
    output: PaymentOutput,
    /// Types of the payer's inputs.
    payer: Vec<Kind>,
    any_type: bool,
    wishes: Vec<ChannelWish>,
    coins: Vec<u64>,
    /// Indices of coins that another attempt holds.
    shown: Vec<usize>,
    /// Beyond the coins.
    balance: u64,
    existing: u64,
    per_channel: u64,
    stock: Option<Stock>,
    contribution: u64,
    payer_is_me: bool,
    policy: Policy,
}

/// An Original of 250 vB.
fn fees(contribution: u64) -> FeeTerms {
    FeeTerms {
        fee: sats(RATE),
        weight: Weight::from_wu(1_000),
        minimum: MinFeeRate::ZERO,
        offer: sats(contribution),
        input_vbytes: 68,
    }
}

fn setting(payment: u64, wishes: &[ChannelWish], coins: &[u64]) -> Setting {
    Setting {
        payment,
        script: invoice().script,
        output: PaymentOutput::Replaced,
        payer: vec![Kind::P2wpkh],
        any_type: false,
        wishes: wishes.to_vec(),
        coins: coins.to_vec(),
        shown: Vec::new(),
        balance: 0,
        existing: 0,
        per_channel: 0,
        stock: None,
        contribution: 0,
        payer_is_me: false,
        policy: Policy { top_up: true, ..Policy::default() },
    }
}

/// Of a code whose payer is the operator.
fn mine(payment: u64, wishes: &[ChannelWish], coins: &[u64]) -> Setting {
    Setting { payer_is_me: true, ..setting(payment, wishes, coins) }
}

impl Setting {
    fn plan(&self) -> Option<Plan> {
        let coins: Vec<Coin> = self
            .coins
            .iter()
            .enumerate()
            .map(|(index, value)| our_coin(index as u32, *value).coin())
            .collect();
        self.plan_with(coins)
    }

    fn plan_with(&self, coins: Vec<Coin>) -> Option<Plan> {
        let payer = self.payer.iter().map(|kind| txout(1, script(*kind, 1))).collect::<Vec<_>>();
        self.plan_of(coins, &payer, &[])
    }

    /// With what the payer spends, and what goes back to him.
    fn plan_among(&self, payer: &[TxOut], outputs: &[TxOut]) -> Option<Plan> {
        let coins = (0..).zip(&self.coins).map(|(index, value)| our_coin(index, *value).coin());
        self.plan_of(coins.collect(), payer, outputs)
    }

    fn plan_of(&self, coins: Vec<Coin>, payer: &[TxOut], outputs: &[TxOut]) -> Option<Plan> {
        let balance = sats(self.coins.iter().sum::<u64>() + self.balance);
        let (existing, per_channel) = (sats(self.existing), sats(self.per_channel));
        let reserve = Reserve { balance, existing, per_channel, stock: self.stock };
        let shown = self.shown.iter().map(|index| coins[*index].outpoint).collect();
        let resources =
            Resources { wishes: self.wishes.clone(), coins, shown, reserve, ..Resources::default() };
        plan(&PlanRequest {
            payment: &TxOut { value: sats(self.payment), script_pubkey: self.script.clone() },
            outputs,
            output: self.output,
            resources: &resources,
            types: InputTypes { spent: payer, any: self.any_type },
            fees: fees(self.contribution),
            payer_is_me: self.payer_is_me,
            policy: &self.policy,
        })
    }

    /// Intent and amount of each channel, values of the coins, change.
    #[track_caller]
    fn gives(&self, channels: &[(u64, u64)], coins: &[u64], change: Option<u64>) {
        let plan = self.plan().expect("a plan");
        let got: Vec<_> = plan.channels.iter().map(|c| (c.intent.0, c.amount.to_sat())).collect();
        assert_eq!(got, channels);
        assert_eq!(plan.coins.iter().map(|coin| coin.txout.value.to_sat()).collect::<Vec<_>>(), coins);
        assert_eq!(plan.change.map(bitcoin::Amount::to_sat), change);
    }

    #[track_caller]
    fn gives_nothing(&self) {
        assert_eq!(self.plan(), None);
    }
}

#[test]
fn nothing_queued_is_nothing_planned() {
    setting(1_000_000, &[], &[50_000]).gives_nothing();
}

#[test]
fn change_is_what_payment_and_coin_leave_after_fees() {
    let change = 600_000 + 50_000 - 400_000 - COIN - CHANNEL;
    setting(600_000, &[exact(1, 400_000)], &[50_000]).gives(&[(1, 400_000)], &[50_000], Some(change));
}

#[test]
fn the_payers_offer_pays_for_inputs_and_not_for_outputs() {
    let with = |contribution| Setting { contribution, ..setting(600_000, &[exact(1, 400_000)], &[50_000]) };
    let before = 600_000 + 50_000 - 400_000 - COIN - CHANNEL;
    with(500).gives(&[(1, 400_000)], &[50_000], Some(before + 500));
    with(9_999).gives(&[(1, 400_000)], &[50_000], Some(before + COIN));
}

#[test]
fn money_rule_5_own_input_without_a_coin_only_the_code_of_a_payer_who_is_me_opens_channels() {
    setting(600_000, &[exact(1, 400_000)], &[]).gives_nothing();
    let change = Some(200_000 - CHANNEL);
    mine(600_000, &[exact(1, 400_000), exact(2, 300_000)], &[]).gives(&[(1, 400_000)], &[], change);
}

#[test]
fn a_payer_who_is_me_takes_no_coin_that_is_not_needed() {
    mine(600_000, &[exact(1, 400_000)], &[50_000]).gives(&[(1, 400_000)], &[], Some(200_000 - CHANNEL));
    let change = 600_000 + 50_000 - 620_000 - COIN - CHANNEL;
    mine(600_000, &[exact(1, 620_000)], &[50_000]).gives(&[(1, 620_000)], &[50_000], Some(change));
}

#[test]
fn a_payment_of_mine_that_one_channel_takes_whole_has_no_change() {
    mine(600_000, &[exact(1, 600_000)], &[]).gives(&[(1, 600_000)], &[], None);
    mine(600_000, &[rest(1)], &[]).gives(&[(1, 600_000)], &[], None);
    mine(600_000, &[exact(1, 599_900)], &[]).gives_nothing();
}

#[test]
fn a_channel_that_weighs_more_than_the_payment_pays_for_it() {
    // 12 vB more for P2WSH in place of P2WPKH.
    let native = |wish| Setting { script: script(Kind::P2wpkh, 1), ..mine(600_000, &[wish], &[]) };
    native(exact(1, 600_000)).gives_nothing();
    native(exact(1, 599_880)).gives(&[(1, 599_880)], &[], None);
    native(rest(1)).gives(&[(1, 599_880)], &[], None);
}

#[test]
fn the_rest_is_the_payment_less_the_exact_channels() {
    setting(600_000, &[rest(1)], &[50_000]).gives(&[(1, 600_000)], &[50_000], Some(50_000 - COIN - CHANNEL));
    let change = 50_000 - COIN - 2 * CHANNEL;
    setting(600_000, &[rest(1), exact(2, 200_000)], &[50_000]).gives(
        &[(1, 400_000), (2, 200_000)],
        &[50_000],
        Some(change),
    );
}

#[test]
fn the_rest_is_taken_once_and_within_its_limits() {
    let capped = ChannelWish { max: sats(500_000), ..rest(1) };
    let change = 100_000 + 50_000 - COIN - CHANNEL;
    setting(600_000, &[capped.clone(), rest(2)], &[50_000]).gives(&[(1, 500_000)], &[50_000], Some(change));
    let small = |id| ChannelWish { max: sats(100_000), ..rest(id) };
    setting(600_000, &[small(1), small(2)], &[50_000]).gives(
        &[(1, 100_000)],
        &[50_000],
        Some(change + 400_000),
    );
    let large = ChannelWish { min: sats(600_001), ..rest(1) };
    setting(600_000, &[large], &[50_000]).gives_nothing();
    mine(600_000, &[capped], &[]).gives(&[(1, 500_000)], &[], Some(100_000 - CHANNEL));
}

#[test]
fn intents_come_in_order_and_one_that_does_not_fit_is_passed_over() {
    let wishes = [exact(1, 300_000), exact(2, 400_000), exact(3, 200_000)];
    let change = 600_000 + 50_000 - 500_000 - COIN - 2 * CHANNEL;
    setting(600_000, &wishes, &[50_000]).gives(&[(1, 300_000), (3, 200_000)], &[50_000], Some(change));
}

#[test]
fn an_exact_amount_outside_what_the_node_can_open_is_passed_over() {
    let small = ChannelWish { min: sats(500_000), ..exact(1, 400_000) };
    let large = ChannelWish { max: sats(300_000), ..exact(2, 400_000) };
    let dust = ChannelWish { min: sats(0), ..exact(3, 329) };
    setting(600_000, &[small, large, dust], &[50_000]).gives_nothing();
}

#[test]
fn coins_top_up_a_small_payment_only_where_the_operator_allows_it() {
    let change = 600_000 + 300_000 - 700_000 - COIN - CHANNEL;
    let allowed = setting(600_000, &[exact(1, 700_000)], &[300_000]);
    allowed.gives(&[(1, 700_000)], &[300_000], Some(change));
    let forbidden = Policy { top_up: false, ..Policy::default() };
    Setting { policy: forbidden, ..setting(600_000, &[exact(1, 700_000)], &[300_000]) }.gives_nothing();
}

#[test]
fn the_smallest_sufficient_number_of_coins_is_taken_and_of_so_many_the_smallest() {
    let wish = [exact(1, 700_000)];
    let change = |coins: u64, count: u64| Some(600_000 + coins - 700_000 - count * COIN - CHANNEL);
    setting(600_000, &wish, &[200_000, 90_000, 150_000]).gives(
        &[(1, 700_000)],
        &[150_000],
        change(150_000, 1),
    );
    setting(600_000, &wish, &[80_000, 60_000, 70_000]).gives(
        &[(1, 700_000)],
        &[60_000, 70_000],
        change(130_000, 2),
    );
}

#[test]
fn coins_never_go_below_the_reserve_of_the_channels_that_exist() {
    let mut setting = setting(600_000, &[exact(1, 400_000)], &[50_000, 20_000]);
    setting.existing = 45_000;
    setting.gives(&[(1, 400_000)], &[20_000], Some(220_000 - COIN - CHANNEL));
    setting.existing = 60_000;
    setting.gives_nothing();
    setting.balance = 10_000;
    setting.gives(&[(1, 400_000)], &[20_000], Some(220_000 - COIN - CHANNEL));
}

/// Payjoins with other coins do not exclude each other.
#[test]
fn a_coin_that_another_attempt_may_spend_is_no_reserve() {
    let mut setting = setting(600_000, &[exact(1, 700_000)], &[50_000, 200_000]);
    setting.existing = 50_000;
    setting.gives(&[(1, 700_000)], &[200_000], Some(100_000 - COIN - CHANNEL));
    setting.shown = vec![0];
    setting.gives_nothing();
    setting.balance = 50_000;
    setting.gives(&[(1, 700_000)], &[200_000], Some(100_000 - COIN - CHANNEL));
    // The shown coin itself is spent once, by whichever attempt.
    setting.shown = vec![1];
    setting.gives(&[(1, 700_000)], &[200_000], Some(100_000 - COIN - CHANNEL));
}

#[test]
fn change_fills_the_reserve_for_the_new_channels() {
    let mut setting = setting(410_000, &[exact(1, 400_000)], &[50_000]);
    setting.per_channel = 58_000;
    setting.gives(&[(1, 400_000)], &[50_000], Some(60_000 - COIN - CHANNEL));
    setting.per_channel = 60_000;
    setting.gives_nothing();
}

#[test]
fn each_channel_keeps_a_coin_of_its_own_which_is_split_off_the_change() {
    const KEPT: u64 = 30_000;
    let wishes: Vec<_> = (1..=4).map(|id| exact(id, 100_000)).collect();
    let stock = |whole, parts, channels| Some(Stock { whole, parts: sats(parts), channels });
    // Our coin, what else is free, how the coins are counted, channels more, and outputs beside the change.
    for (coin, balance, stock, more, splits) in [
        (200_000, 0, stock(1, 0, 0), 1, Some(0)),
        (200_000, 0, stock(1, 0, 0), 2, Some(1)),
        (200_000, 0, stock(1, 0, 0), 4, Some(3)),
        (200_000, 40_000, stock(2, 0, 0), 4, Some(2)),
        (200_000, 40_000, stock(2, 0, 1), 4, Some(3)),
        (200_000, 400_000, stock(6, 0, 1), 4, Some(0)),
        // The one coin closes the channel that there is.
        (200_000, 400_000, stock(1, 0, 1), 1, None),
        // Small coins close one channel: up to twice of what is needed goes there.
        (200_000, 100_000, stock(1, 60_000, 1), 1, Some(0)),
        (200_000, 100_000, stock(1, 60_000, 2), 1, None),
        // A small coin that is spent costs no channel the coin that it has.
        (20_000, 200_000, stock(2, 20_000, 2), 2, Some(1)),
    ] {
        let setting = Setting {
            balance,
            per_channel: KEPT,
            existing: KEPT * stock.map_or(0, |stock| stock.channels as u64),
            stock,
            ..setting(700_000, &wishes[..more], &[coin])
        };
        let plan = setting.plan();
        let expected = splits.map(|splits| vec![sats(KEPT); splits]);
        assert_eq!(plan.as_ref().map(|plan| plan.splits.clone()), expected, "{stock:?}, {more} more");
        if let (Some(plan), Some(splits)) = (plan, splits) {
            let given = 100_000 * more as u64 + KEPT * splits as u64;
            let change = 700_000 + coin - given - COIN - CHANNEL * (more + splits) as u64;
            assert_eq!(plan.change, Some(sats(change)), "{stock:?}, {more} more");
        }
    }
}

#[test]
fn an_empty_wallet_bootstraps_with_a_rest_that_leaves_the_reserve() {
    let mut setting = mine(600_000, &[rest(1)], &[]);
    setting.per_channel = 25_000;
    setting.gives(&[(1, 600_000 - 25_000 - CHANNEL)], &[], Some(25_000));
    setting.wishes = vec![exact(1, 575_000 - CHANNEL)];
    setting.gives(&[(1, 575_000 - CHANNEL)], &[], Some(25_000));
    setting.wishes = vec![exact(1, 575_000)];
    setting.gives_nothing();
}

#[test]
fn change_that_would_be_dust_drops_the_last_intent() {
    let fee = COIN + 2 * CHANNEL;
    let fits = 600_000 + 50_000 - 400_000 - fee - 330;
    setting(600_000, &[exact(1, 400_000), exact(2, fits)], &[50_000]).gives(
        &[(1, 400_000), (2, fits)],
        &[50_000],
        Some(330),
    );
    setting(600_000, &[exact(1, 400_000), exact(2, fits + 1)], &[50_000]).gives(
        &[(1, 400_000)],
        &[50_000],
        Some(250_000 - COIN - CHANNEL),
    );
}

#[test]
fn fee_limits_bound_what_is_planned() {
    let wishes = [exact(1, 100_000), exact(2, 100_000)];
    let limit = |policy| Setting { policy, ..setting(600_000, &wishes, &[50_000]) };
    limit(Policy { max_fee: sats(COIN + CHANNEL), top_up: true, ..Policy::default() }).gives(
        &[(1, 100_000)],
        &[50_000],
        Some(550_000 - COIN - CHANNEL),
    );
    limit(Policy { max_fee: sats(COIN + CHANNEL - 1), ..Policy::default() }).gives_nothing();
    limit(Policy { max_fee_rate: FeeRate::from_sat_per_kwu(RATE - 10), ..Policy::default() }).gives_nothing();
}

#[test]
fn absurd_numbers_plan_nothing_and_do_not_panic() {
    let most = u64::MAX / 4;
    setting(most, &[exact(1, most), exact(2, most), exact(3, most)], &[]).gives_nothing();
    let mut setting = mine(600_000, &[rest(1), exact(2, 1_000)], &[50_000]);
    setting.per_channel = u64::MAX;
    setting.gives_nothing();
    setting.per_channel = 0;
    setting.existing = u64::MAX;
    setting.gives_nothing();
}

#[test]
fn coins_that_we_cannot_weigh_are_not_used() {
    let resources = Resources {
        wishes: vec![exact(1, 400_000)],
        coins: vec![Spend::new(Kind::P2pkh, 1, 50_000).coin()],
        reserve: Reserve { balance: sats(50_000), ..Reserve::default() },
        ..Resources::default()
    };
    let request = PlanRequest {
        payment: &TxOut { value: sats(600_000), script_pubkey: invoice().script },
        outputs: &[],
        output: PaymentOutput::Replaced,
        resources: &resources,
        types: InputTypes { spent: &[txout(1, script(Kind::P2pkh, 1))], any: true },
        fees: fees(0),
        payer_is_me: false,
        policy: &Policy::default(),
    };
    assert_eq!(plan(&request), None);
}

#[test]
fn channels_take_the_whole_payment_only_where_it_may_be_replaced() {
    let with = |output| Setting { output, ..mine(600_000, &[rest(1)], &[]) };
    with(PaymentOutput::Replaced).gives(&[(1, 600_000)], &[], None);
    with(PaymentOutput::Change).gives(&[(1, 600_000 - CHANNEL - 330)], &[], Some(330));
    with(PaymentOutput::Kept).gives_nothing();
}

#[test]
fn a_payment_that_must_stay_whole_leaves_the_channels_to_our_coins() {
    let with = |coins: &[u64]| Setting {
        output: PaymentOutput::Kept,
        ..setting(600_000, &[exact(1, 400_000)], coins)
    };
    let cost = 400_000 + COIN + CHANNEL;
    with(&[cost - 1]).gives_nothing();
    with(&[cost]).gives(&[(1, 400_000)], &[cost], Some(600_000));
    with(&[cost + 7]).gives(&[(1, 400_000)], &[cost + 7], Some(600_007));
    with(&[300_000, 200_000]).gives(
        &[(1, 400_000)],
        &[200_000, 300_000],
        Some(700_000 - cost - COIN + 400_000),
    );
    Setting { wishes: vec![rest(1)], ..with(&[500_000]) }.gives(
        &[(1, 500_000 - COIN - CHANNEL)],
        &[500_000],
        Some(600_000),
    );
    let mut reserved = with(&[500_000]);
    reserved.existing = 1;
    reserved.gives_nothing();
    let forbidden = Policy { top_up: false, ..Policy::default() };
    Setting { policy: forbidden, wishes: vec![exact(1, 700_000)], ..with(&[900_000]) }.gives_nothing();
}

#[test]
fn coins_are_of_the_payers_own_type_and_others_only_where_they_are_no_fault() {
    let coins = |kinds: &[Kind]| -> Vec<Coin> {
        let coin = |(index, kind): (usize, &Kind)| Spend::new(*kind, 20 + index as u32, 150_000).coin();
        kinds.iter().enumerate().map(coin).collect()
    };
    let chosen = |payer: &[Kind], any_type, ours: &[Kind]| -> Option<Vec<bool>> {
        let setting =
            Setting { payer: payer.to_vec(), any_type, ..setting(600_000, &[exact(1, 740_000)], &[]) };
        let plan = Setting { balance: 1_000_000, ..setting }.plan_with(coins(ours))?;
        Some(plan.coins.iter().map(|coin| coin.txout.script_pubkey.is_p2tr()).collect())
    };
    use Kind::{Nested, P2tr, P2wpkh, P2wsh};
    assert_eq!(chosen(&[P2wpkh], false, &[P2tr, P2wpkh]), Some(vec![false]));
    assert_eq!(chosen(&[P2tr], false, &[P2wpkh, P2tr]), Some(vec![true]));
    for payer in [P2tr, P2wsh, Nested] {
        assert_eq!(chosen(&[payer], false, &[P2wpkh, P2wpkh]), None, "{payer:?}");
        assert_eq!(chosen(&[payer], true, &[P2wpkh, P2wpkh]), Some(vec![false]), "{payer:?}");
    }
    assert_eq!(chosen(&[P2wsh, P2wpkh], false, &[P2tr, P2wpkh]), Some(vec![false]));
    assert_eq!(chosen(&[P2wsh, P2wpkh], false, &[P2tr]), Some(vec![true]));
    // Two of the right type are better than one of another.
    let two = Setting { any_type: true, balance: 1_000_000, ..setting(600_000, &[exact(1, 800_000)], &[]) };
    let ours = [vec![Spend::new(P2tr, 30, 300_000).coin()], coins(&[P2wpkh, P2wpkh])].concat();
    assert_eq!(two.plan_with(ours).unwrap().coins.len(), 2);
}

fn absorb(id: u64) -> ChannelWish {
    ChannelWish { amount: ChannelAmount::Absorb, ..rest(id) }
}

#[test]
fn a_channel_that_absorbs_takes_payment_and_coin_whole_and_leaves_the_reserve_to_others() {
    // The funding output is 12 vB heavier than a payment to P2WPKH.
    let heavier = if invoice().script.is_p2wpkh() { 120 } else { 0 };
    let whole = 600_000 + 50_000 - COIN - heavier;
    let alone = setting(600_000, &[absorb(1)], &[50_000]);
    alone.gives(&[(1, whole)], &[50_000], None);
    // The next channel waits for another payment.
    setting(600_000, &[absorb(1), exact(2, 100_000)], &[50_000]).gives(&[(1, whole)], &[50_000], None);
    Setting { contribution: 500, ..setting(600_000, &[absorb(1)], &[50_000]) }.gives(
        &[(1, whole + 500)],
        &[50_000],
        None,
    );
    let reserve =
        |balance| Setting { balance, per_channel: 30_000, ..setting(600_000, &[absorb(1)], &[50_000]) };
    reserve(30_000).gives(&[(1, whole)], &[50_000], None);
    assert!(reserve(29_999).plan().unwrap().change.is_some());
}

#[test]
fn a_channel_that_cannot_absorb_takes_the_rest() {
    let like_rest = |setting: &Setting| {
        let wishes = setting.wishes.iter().map(|wish| match wish.amount {
            ChannelAmount::Absorb => ChannelWish { amount: ChannelAmount::Rest, ..wish.clone() },
            _ => wish.clone(),
        });
        let plan = setting.plan();
        assert!(plan.as_ref().is_some_and(|plan| plan.change.is_some()));
        assert_eq!(plan, Setting { wishes: wishes.collect(), ..setting.clone() }.plan());
    };
    let queue = [absorb(1)];
    let can = setting(600_000, &queue, &[50_000]);
    like_rest(&Setting { output: PaymentOutput::Change, ..can.clone() });
    like_rest(&Setting { policy: Policy { top_up: false, ..Policy::default() }, ..can.clone() });
    like_rest(&setting(600_000, &[exact(2, 100_000), absorb(1)], &[50_000]));
    like_rest(&setting(600_000, &[ChannelWish { max: sats(600_000), ..absorb(1) }], &[50_000]));
}

#[test]
fn of_coins_that_cost_the_same_the_one_whose_change_amounts_do_not_give_away() {
    // The payer's 900,000 pay 400,000 and come back as 499,000. Either coin pays for the channel. What comes back of the
    // first is 300,000 less a fee, and splits the payjoin in one way; the second is as large as the payer's input.
    let theirs = [txout(499_000, script(Kind::P2wpkh, 1))];
    let plan = |coins: &[u64]| {
        let setting = setting(400_000, &[exact(1, 399_000)], coins);
        let plan = setting.plan_among(&[txout(900_000, script(Kind::P2wpkh, 1))], &theirs).unwrap();
        plan.coins.iter().map(|coin| coin.txout.value.to_sat()).collect::<Vec<_>>()
    };
    assert_eq!(plan(&[300_000]), [300_000]);
    assert_eq!(plan(&[300_000, 900_000]), [900_000]);
}
