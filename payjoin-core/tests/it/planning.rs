//! Which channels a payment opens, with which coins, and what comes back.

use bitcoin::{FeeRate, ScriptBuf, TxOut};
use payjoin_core::{ChannelWish, Coin, Plan, PlanRequest, Policy, Reserve, Resources, plan};

use crate::kit::*;

/// 10 sat/vB: a P2WPKH coin costs 680, a P2WPKH change output 310, a further channel 430.
const RATE: u64 = 2_500;
const COIN: u64 = 680;
const CHANGE: u64 = 310;
const CHANNEL: u64 = 430;

struct Setting {
    payment: u64,
    script: ScriptBuf,
    wishes: Vec<ChannelWish>,
    coins: Vec<u64>,
    /// Indices of coins that another attempt holds.
    shown: Vec<usize>,
    /// Beyond the coins.
    balance: u64,
    existing: u64,
    per_channel: u64,
    contribution: u64,
    policy: Policy,
}

fn setting(payment: u64, wishes: &[ChannelWish], coins: &[u64]) -> Setting {
    Setting {
        payment,
        script: invoice().script,
        wishes: wishes.to_vec(),
        coins: coins.to_vec(),
        shown: Vec::new(),
        balance: 0,
        existing: 0,
        per_channel: 0,
        contribution: 0,
        policy: Policy::default(),
    }
}

impl Setting {
    fn plan(&self) -> Option<Plan> {
        let coins: Vec<Coin> = self
            .coins
            .iter()
            .enumerate()
            .map(|(index, value)| our_coin(index as u32, *value).coin())
            .collect();
        let balance = sats(self.coins.iter().sum::<u64>() + self.balance);
        let reserve = Reserve { balance, existing: sats(self.existing), per_channel: sats(self.per_channel) };
        let shown = self.shown.iter().map(|index| coins[*index].outpoint).collect();
        let resources = Resources { wishes: self.wishes.clone(), coins, shown, reserve };
        plan(&PlanRequest {
            payment: &TxOut { value: sats(self.payment), script_pubkey: self.script.clone() },
            change: &invoice().change,
            resources: &resources,
            fee_rate: FeeRate::from_sat_per_kwu(RATE),
            contribution: sats(self.contribution),
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
    let change = 600_000 + 50_000 - 400_000 - COIN - CHANGE;
    setting(600_000, &[exact(1, 400_000)], &[50_000]).gives(&[(1, 400_000)], &[50_000], Some(change));
}

#[test]
fn the_payers_offer_pays_for_inputs_and_not_for_outputs() {
    let with = |contribution| Setting { contribution, ..setting(600_000, &[exact(1, 400_000)], &[50_000]) };
    let before = 600_000 + 50_000 - 400_000 - COIN - CHANGE;
    with(500).gives(&[(1, 400_000)], &[50_000], Some(before + 500));
    with(9_999).gives(&[(1, 400_000)], &[50_000], Some(before + COIN));
}

#[test]
fn without_a_coin_only_vouched_intents_are_served() {
    setting(600_000, &[exact(1, 400_000)], &[]).gives_nothing();
    setting(600_000, &[exact(1, 400_000), mine(exact(2, 300_000))], &[]).gives(
        &[(2, 300_000)],
        &[],
        Some(300_000 - CHANGE),
    );
}

#[test]
fn vouched_intents_take_no_coin_that_they_do_not_need() {
    setting(600_000, &[mine(exact(1, 400_000))], &[50_000]).gives(
        &[(1, 400_000)],
        &[],
        Some(200_000 - CHANGE),
    );
    let change = 600_000 + 50_000 - 620_000 - COIN - CHANGE;
    setting(600_000, &[mine(exact(1, 620_000))], &[50_000]).gives(&[(1, 620_000)], &[50_000], Some(change));
}

#[test]
fn a_payment_that_one_vouched_channel_takes_whole_has_no_change() {
    setting(600_000, &[mine(exact(1, 600_000))], &[]).gives(&[(1, 600_000)], &[], None);
    setting(600_000, &[mine(rest(1))], &[]).gives(&[(1, 600_000)], &[], None);
    setting(600_000, &[mine(exact(1, 599_900))], &[]).gives_nothing();
}

#[test]
fn a_funding_output_that_weighs_more_than_the_payment_cannot_take_all_of_it() {
    let native = |wish| Setting { script: script(Kind::P2wpkh, 1), ..setting(600_000, &[wish], &[]) };
    native(mine(exact(1, 600_000))).gives_nothing();
    // 12 vB more for P2WSH in place of P2WPKH, and change.
    native(mine(rest(1))).gives(&[(1, 600_000 - 120 - CHANGE - 330)], &[], Some(330));
}

#[test]
fn the_rest_is_the_payment_less_the_exact_channels() {
    setting(600_000, &[rest(1)], &[50_000]).gives(&[(1, 600_000)], &[50_000], Some(50_000 - COIN - CHANGE));
    let change = 50_000 - COIN - CHANGE - CHANNEL;
    setting(600_000, &[rest(1), exact(2, 200_000)], &[50_000]).gives(
        &[(1, 400_000), (2, 200_000)],
        &[50_000],
        Some(change),
    );
}

#[test]
fn the_rest_is_taken_once_and_within_its_limits() {
    let capped = ChannelWish { max: sats(500_000), ..rest(1) };
    let change = 100_000 + 50_000 - COIN - CHANGE;
    setting(600_000, &[capped.clone(), rest(2)], &[50_000]).gives(&[(1, 500_000)], &[50_000], Some(change));
    let small = |id| ChannelWish { max: sats(100_000), ..rest(id) };
    setting(600_000, &[small(1), small(2)], &[50_000]).gives(
        &[(1, 100_000)],
        &[50_000],
        Some(change + 400_000),
    );
    let large = ChannelWish { min: sats(600_001), ..rest(1) };
    setting(600_000, &[large], &[50_000]).gives_nothing();
    setting(600_000, &[mine(capped)], &[]).gives(&[(1, 500_000)], &[], Some(100_000 - CHANGE));
}

#[test]
fn intents_come_in_order_and_one_that_does_not_fit_is_passed_over() {
    let wishes = [exact(1, 300_000), exact(2, 400_000), exact(3, 200_000)];
    let change = 600_000 + 50_000 - 500_000 - COIN - CHANGE - CHANNEL;
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
    let change = 600_000 + 300_000 - 700_000 - COIN - CHANGE;
    let allowed = setting(600_000, &[exact(1, 700_000)], &[300_000]);
    allowed.gives(&[(1, 700_000)], &[300_000], Some(change));
    let forbidden = Policy { top_up: false, ..Policy::default() };
    Setting { policy: forbidden, ..setting(600_000, &[exact(1, 700_000)], &[300_000]) }.gives_nothing();
}

#[test]
fn the_smallest_sufficient_number_of_coins_is_taken_best_first() {
    let wish = [exact(1, 700_000)];
    let change = |coins: u64, count: u64| Some(600_000 + coins - 700_000 - count * COIN - CHANGE);
    setting(600_000, &wish, &[90_000, 150_000, 200_000]).gives(
        &[(1, 700_000)],
        &[150_000],
        change(150_000, 1),
    );
    setting(600_000, &wish, &[60_000, 70_000, 80_000]).gives(
        &[(1, 700_000)],
        &[60_000, 70_000],
        change(130_000, 2),
    );
}

#[test]
fn coins_never_go_below_the_reserve_of_the_channels_that_exist() {
    let mut setting = setting(600_000, &[exact(1, 400_000)], &[50_000, 20_000]);
    setting.existing = 45_000;
    setting.gives(&[(1, 400_000)], &[20_000], Some(220_000 - COIN - CHANGE));
    setting.existing = 60_000;
    setting.gives_nothing();
    setting.balance = 10_000;
    setting.gives(&[(1, 400_000)], &[20_000], Some(220_000 - COIN - CHANGE));
}

/// Payjoins with other coins do not exclude each other.
#[test]
fn a_coin_that_another_attempt_may_spend_is_no_reserve() {
    let mut setting = setting(600_000, &[exact(1, 700_000)], &[50_000, 200_000]);
    setting.existing = 50_000;
    setting.gives(&[(1, 700_000)], &[200_000], Some(100_000 - COIN - CHANGE));
    setting.shown = vec![0];
    setting.gives_nothing();
    setting.balance = 50_000;
    setting.gives(&[(1, 700_000)], &[200_000], Some(100_000 - COIN - CHANGE));
    // The shown coin itself is spent once, by whichever attempt.
    setting.shown = vec![1];
    setting.gives(&[(1, 700_000)], &[200_000], Some(100_000 - COIN - CHANGE));
}

#[test]
fn change_fills_the_reserve_for_the_new_channels() {
    let mut setting = setting(410_000, &[exact(1, 400_000)], &[50_000]);
    setting.per_channel = 59_000;
    setting.gives(&[(1, 400_000)], &[50_000], Some(60_000 - COIN - CHANGE));
    setting.per_channel = 60_000;
    setting.gives_nothing();
}

#[test]
fn an_empty_wallet_bootstraps_with_a_rest_that_leaves_the_reserve() {
    let mut setting = setting(600_000, &[mine(rest(1))], &[]);
    setting.per_channel = 25_000;
    setting.gives(&[(1, 600_000 - 25_000 - CHANGE)], &[], Some(25_000));
    setting.wishes = vec![mine(exact(1, 575_000 - CHANGE))];
    setting.gives(&[(1, 575_000 - CHANGE)], &[], Some(25_000));
    setting.wishes = vec![mine(exact(1, 575_000))];
    setting.gives_nothing();
}

#[test]
fn change_that_would_be_dust_drops_the_last_intent() {
    let fee = COIN + CHANGE + CHANNEL;
    let fits = 600_000 + 50_000 - 400_000 - fee - 330;
    setting(600_000, &[exact(1, 400_000), exact(2, fits)], &[50_000]).gives(
        &[(1, 400_000), (2, fits)],
        &[50_000],
        Some(330),
    );
    setting(600_000, &[exact(1, 400_000), exact(2, fits + 1)], &[50_000]).gives(
        &[(1, 400_000)],
        &[50_000],
        Some(250_000 - COIN - CHANGE),
    );
}

#[test]
fn fee_limits_bound_what_is_planned() {
    let wishes = [exact(1, 100_000), exact(2, 100_000)];
    let limit = |policy| Setting { policy, ..setting(600_000, &wishes, &[50_000]) };
    limit(Policy { max_fee: sats(COIN + CHANGE), ..Policy::default() }).gives(
        &[(1, 100_000)],
        &[50_000],
        Some(550_000 - COIN - CHANGE),
    );
    limit(Policy { max_fee: sats(COIN + CHANGE - 1), ..Policy::default() }).gives_nothing();
    limit(Policy { max_fee_rate: FeeRate::from_sat_per_kwu(RATE - 10), ..Policy::default() }).gives_nothing();
}

#[test]
fn absurd_numbers_plan_nothing_and_do_not_panic() {
    let most = u64::MAX / 4;
    setting(most, &[exact(1, most), exact(2, most), exact(3, most)], &[]).gives_nothing();
    let mut setting = setting(600_000, &[mine(rest(1)), exact(2, 1_000)], &[50_000]);
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
        change: &invoice().change,
        resources: &resources,
        fee_rate: FeeRate::from_sat_per_kwu(RATE),
        contribution: sats(0),
        policy: &Policy::default(),
    };
    assert_eq!(plan(&request), None);
}
