//! Random Originals, intents, coins and limits. Whatever comes out, the ledger holds and the reference sender accepts.

use bitcoin::{Amount, FeeRate, Psbt, TxOut, Weight};
use payjoin_core::{ChannelAmount, ChannelWish, Exchange, IntentId, Invoice, Policy, Reserve, Stock};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::kit::*;

#[derive(Clone, Debug)]
struct Case {
    inputs: Vec<(usize, u64)>,
    /// Shares of what the inputs carry; the payment is one of them.
    outputs: Vec<u64>,
    payment: usize,
    fee: u64,
    wishes: Wishes,
    authenticated: bool,
    intents: Vec<(Option<u64>, u64, u64)>,
    payer_is_me: bool,
    coins: Vec<(bool, u64)>,
    /// Balance beyond the coins, existing, per channel.
    reserve: (u64, u64, u64),
    /// Channels that need a coin of their own each; `None` where a sum is enough.
    apart: Option<usize>,
    top_up: bool,
    max_fee: u64,
    max_rate: u64,
    lightning: usize,
}

fn payments() -> impl Strategy<Value = (Vec<(usize, u64)>, Vec<u64>, usize, u64, Wishes)> {
    let native = prop::collection::vec((0..3_usize, 5_000..2_000_000_u64), 1..=4);
    let mixed = prop::collection::vec((0..5_usize, 5_000..2_000_000_u64), 1..=4);
    let wishes = (prop::option::of((0..4_000_u64, 0..4_usize)), 0..300_u64, prop::bool::weighted(0.1))
        .prop_map(|(contribution, min_fee_rate, fixed_outputs)| Wishes {
            contribution,
            min_fee_rate,
            fixed_outputs,
        });
    (
        prop_oneof![4 => native, 1 => mixed],
        prop::collection::vec(1..100_u64, 1..=4),
        0..4_usize,
        200..8_000_u64,
        wishes,
    )
}

fn cases() -> impl Strategy<Value = Case> {
    let intent = (
        prop_oneof![3 => (1_000..400_000_u64).prop_map(Some), 1 => Just(None)],
        prop_oneof![Just(1_000_u64), 1_000..50_000_u64],
        prop_oneof![3 => Just(10_000_000_u64), 1 => 20_000..300_000_u64],
    );
    let receiver = (
        prop::collection::vec(intent, 0..=4),
        prop::collection::vec((any::<bool>(), 400..300_000_u64), 0..=4),
        (0..100_000_u64, prop_oneof![Just(0_u64), 0..60_000_u64], prop_oneof![Just(0_u64), 0..30_000_u64]),
        prop::bool::weighted(0.8),
        prop_oneof![3 => Just(50_000_u64), 1 => 0..2_000_u64],
        prop_oneof![3 => Just(25_000_u64), 1 => 0..3_000_u64],
        (0..6_usize, prop::option::of(0..3_usize)),
    );
    let word = (prop::bool::weighted(0.9), prop::bool::weighted(0.4));
    (payments(), receiver, word).prop_map(|(payer, receiver, (authenticated, payer_is_me))| {
        let (inputs, outputs, payment, fee, wishes) = payer;
        let (intents, coins, reserve, top_up, max_fee, max_rate, (lightning, apart)) = receiver;
        let payment = payment % outputs.len();
        Case {
            inputs,
            outputs,
            payment,
            fee,
            wishes,
            authenticated,
            intents,
            payer_is_me,
            coins,
            reserve,
            apart,
            top_up,
            max_fee,
            max_rate,
            lightning,
        }
    })
}

/// What a case is made of, once built.
struct Built {
    spends: Vec<Spend>,
    psbt: Psbt,
    host: Host,
    policy: Policy,
}

fn build(case: &Case) -> Option<Built> {
    let spends: Vec<Spend> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(index, (kind, value))| Spend::new(KINDS[*kind], index as u32, *value))
        .collect();
    let total = case.inputs.iter().map(|(_, value)| value).sum::<u64>().checked_sub(case.fee)?;
    let shares: u64 = case.outputs.iter().sum();
    let outputs: Vec<TxOut> = case
        .outputs
        .iter()
        .enumerate()
        .map(|(index, share)| {
            let ours = index == case.payment;
            let script = if ours { invoice().script } else { script(KINDS[index], 500 + index as u32) };
            txout(total * share / shares, script)
        })
        .collect();
    let psbt = original(&spends, outputs, false);
    let coins: Vec<Spend> = case
        .coins
        .iter()
        .enumerate()
        .map(|(index, (taproot, value))| {
            Spend::new(if *taproot { Kind::P2tr } else { Kind::P2wpkh }, 10_000 + index as u32, *value)
        })
        .collect();
    let balance = case.coins.iter().map(|(_, value)| value).sum::<u64>() + case.reserve.0;
    let open = if coins.len().is_multiple_of(2) { ChannelAmount::Rest } else { ChannelAmount::Absorb };
    let intents = case.intents.iter().enumerate().map(|(index, (amount, min, max))| ChannelWish {
        id: IntentId(index as u64),
        amount: amount.map_or(open, |amount| ChannelAmount::Exact(sats(amount))),
        min: sats(*min),
        max: sats(*max),
    });
    let host = Host {
        real: false,
        coins,
        wishes: intents.collect(),
        reserve: Reserve {
            balance: sats(balance),
            existing: sats(case.reserve.1),
            per_channel: sats(case.reserve.2),
            stock: case.apart.map(|channels| stock(&case.coins, case.reserve.2, channels)),
        },
        lightning: [Lightning::OpenFails, Lightning::FundFails]
            .get(case.lightning)
            .cloned()
            .unwrap_or_default(),
        ..Host::new(&spends)
    };
    let policy = Policy {
        top_up: case.top_up,
        max_fee: sats(case.max_fee),
        max_fee_rate: FeeRate::from_sat_per_kwu(case.max_rate),
        ..Policy::default()
    };
    Some(Built { spends, psbt, host, policy })
}

fn stock(coins: &[(bool, u64)], per_channel: u64, channels: usize) -> Stock {
    let (whole, parts): (Vec<u64>, Vec<u64>) =
        coins.iter().map(|(_, value)| *value).partition(|value| *value >= per_channel);
    Stock { whole: whole.len(), parts: sats(parts.iter().sum()), channels }
}

#[derive(Debug, Default)]
struct Seen {
    proposals: u32,
    with_channels: u32,
    batches: u32,
    rests: u32,
    without_coin: u32,
    /// Channels beside a payment that stays whole.
    beside: u32,
    contributions: u32,
    /// Proposals with change in more than one output.
    split: u32,
    by_the_reference: u32,
}

#[test]
fn any_proposal_conserves_value_keeps_channels_exact_and_satisfies_the_reference_sender() {
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let seen = std::cell::RefCell::new(Seen::default());
    TestRunner::new(config)
        .run(&cases(), |case| {
            if let Some(built) = build(&case) {
                run(&case, built, &mut seen.borrow_mut());
            }
            Ok(())
        })
        .unwrap();
    let seen = seen.into_inner();
    let enough = seen.proposals > 5_000
        && seen.with_channels > 2_000
        && seen.batches > 500
        && seen.rests > 500
        && seen.without_coin > 200
        && seen.beside > 20
        && seen.contributions > 500
        && seen.split > 200
        && seen.by_the_reference > 4_000;
    println!("{seen:?}");
    assert!(enough, "{seen:?}");
}

fn run(case: &Case, built: Built, seen: &mut Seen) {
    let Built { spends, psbt, mut host, policy } = built;
    let payer = payer(&psbt, &invoice(), case.wishes);
    let mut request = match &payer {
        Some(payer) => request(&payer.query, &payer.body),
        None => request(&raw_query(&case.wishes), psbt.to_string().as_bytes()),
    };
    request.authenticated = case.authenticated;
    let invoice = Invoice { payer_is_me: case.payer_is_me, top_up: false, ..invoice() };
    let reply = host.run(&mut Exchange::new(NOW, invoice, request, policy.clone()));
    if reply.status() != 200 {
        let hopeless = reply.status() == 503 && lacks_its_own_rate(case, &spends, &psbt);
        assert!(reply.status() == 400 || hopeless, "{reply:?}");
        assert!(host.admission.is_none() && host.checked.is_none());
        return;
    }
    seen.proposals += 1;
    check(case, &spends, &psbt, &host, &policy, &proposal(&reply), seen);
    if let Some(payer) = payer {
        payer.context.process_response(reply.body().as_bytes()).unwrap();
        seen.by_the_reference += 1;
    }
}

/// Where an Original pays less than its own `minfeerate` for its whole virtual bytes, and our output may not shrink by so
/// much, there may be nothing of ours that pays for the rest.
fn lacks_its_own_rate(case: &Case, spends: &[Spend], psbt: &Psbt) -> bool {
    let transaction = psbt.clone().extract_tx_unchecked_fee_rate();
    let carried: Amount = spends.iter().map(|spend| spend.txout.value).sum();
    let fee = carried - value(&transaction.output);
    let size = Weight::from_vb_unchecked(transaction.vsize() as u64);
    let demanded = FeeRate::from_sat_per_kwu(case.wishes.min_fee_rate) * size;
    let whole = case.wishes.fixed_outputs || !case.authenticated;
    let left = transaction.output[case.payment].value + fee;
    fee < demanded && (whole || demanded - fee > sats(case.max_fee) || left < demanded + sats(330))
}

/// What the reference sender refuses to say: an offer from our output, say, or one out of range.
fn raw_query(wishes: &Wishes) -> String {
    let offer = wishes.contribution.map_or_else(String::new, |(most, index)| {
        format!("&maxadditionalfeecontribution={most}&additionalfeeoutputindex={index}")
    });
    let rate = wishes.min_fee_rate as f32 / 250.0;
    format!("v=1&minfeerate={rate}&disableoutputsubstitution={}{offer}", wishes.fixed_outputs)
}

fn value(outputs: &[TxOut]) -> Amount {
    outputs.iter().map(|output| output.value).sum()
}

fn check(
    case: &Case,
    spends: &[Spend],
    original: &Psbt,
    host: &Host,
    policy: &Policy,
    proposal: &Psbt,
    seen: &mut Seen,
) {
    let (before, after) = (&original.unsigned_tx, &proposal.unsigned_tx);
    let release = host.release.as_ref().unwrap();
    let coins: Vec<&Spend> =
        host.coins.iter().filter(|coin| release.coins.contains(&coin.outpoint)).collect();
    let contributed: Amount = coins.iter().map(|coin| coin.txout.value).sum();
    assert_eq!(after.input.len(), before.input.len() + coins.len());
    let theirs: Amount = spends.iter().map(|spend| spend.txout.value).sum();

    // Value in is value out and fee; the fee does not fall.
    let fee_before = theirs - value(&before.output);
    let fee_after = (theirs + contributed).checked_sub(value(&after.output)).unwrap();
    assert!(fee_after >= fee_before);

    // The payer's outputs, in order; only the fee output shrinks, within bounds.
    let mut taken = Amount::ZERO;
    let mut position = after.output.iter();
    for (index, output) in before.output.iter().enumerate().filter(|(index, _)| *index != case.payment) {
        let found = position.find(|found| found.script_pubkey == output.script_pubkey).unwrap();
        let less = output.value.checked_sub(found.value).unwrap();
        let most = case
            .wishes
            .contribution
            .filter(|(_, fee_output)| *fee_output == index)
            .map_or(0, |(most, _)| most);
        assert!(less <= sats(most));
        taken += less;
    }
    let rate = fee_before / original.clone().extract_tx_unchecked_fee_rate().weight();
    let weight = |coin: &&Spend| Weight::from_wu(if coin.kind == Kind::P2tr { 230 } else { 272 });
    assert!(taken <= rate * coins.iter().map(weight).sum::<Weight>());
    seen.contributions += u32::from(taken > Amount::ZERO);

    // What we pay is capped.
    let ours = fee_after - fee_before - taken;
    assert!(ours <= policy.max_fee);

    // Channels are exact, and together with the change they are all that replaced the payment.
    let funded: Amount = release.channels.iter().map(|channel| channel.amount).sum();
    for (index, channel) in release.channels.iter().enumerate() {
        let output = &after.output[channel.vout as usize];
        assert_eq!((output.value, &output.script_pubkey), (channel.amount, &funding_script(index as u32)));
        let wish = &host.wishes[channel.intent.0 as usize];
        assert!((wish.min..=wish.max).contains(&channel.amount));
        match wish.amount {
            ChannelAmount::Exact(amount) => assert_eq!(amount, channel.amount),
            ChannelAmount::Rest | ChannelAmount::Absorb => seen.rests += 1,
        }
    }
    let script = invoice().script;
    let kept: Vec<&TxOut> = after.output.iter().filter(|output| output.script_pubkey == script).collect();
    assert!(kept.len() <= 1);
    let kept: Amount = kept.iter().map(|output| output.value).sum();
    let split = after.output.iter().filter(|output| host.own.contains(&output.script_pubkey));
    let split: Vec<Amount> = split.map(|output| output.value).collect();
    let whole = before.output[case.payment].value + contributed;
    assert_eq!(whole, funded + kept + split.iter().copied().sum::<Amount>() + ours);
    let added = release.channels.len() + split.len();
    assert_eq!(after.output.len(), before.output.len() + added - usize::from(kept == Amount::ZERO));
    check_coins_apart(case, host, kept, &split);
    seen.split += u32::from(!split.is_empty());

    check_rules(case, spends, host, contributed, funded, kept, &split, seen);
}

/// As many coins as channels stay: those that were not spent, what was split off, and the change.
fn check_coins_apart(case: &Case, host: &Host, kept: Amount, split: &[Amount]) {
    let release = host.release.as_ref().unwrap();
    let least = host.reserve.per_channel;
    assert!(split.iter().all(|value| *value >= least) && (case.apart.is_some() || split.is_empty()));
    let Some(channels) = case.apart.filter(|_| !release.channels.is_empty()) else { return };
    let stay = host.coins.iter().filter(|coin| !release.coins.contains(&coin.outpoint));
    let (whole, parts): (Vec<Amount>, Vec<Amount>) =
        stay.map(|coin| coin.txout.value).partition(|value| *value >= least);
    let parts =
        parts.into_iter().sum::<Amount>().to_sat().checked_div(least.to_sat()).unwrap_or_default() / 2;
    let before = whole.len() + parts as usize;
    let after = before + split.len() + usize::from(kept > Amount::ZERO && kept >= least);
    assert!(release.coins.is_empty() || before >= channels, "{host:?}");
    assert!(after >= release.channels.len() + channels.min(before), "{host:?}");
}

#[allow(clippy::too_many_arguments, reason = "a helper of one test")]
fn check_rules(
    case: &Case,
    spends: &[Spend],
    host: &Host,
    contributed: Amount,
    funded: Amount,
    kept: Amount,
    split: &[Amount],
    seen: &mut Seen,
) {
    let release = host.release.as_ref().unwrap();
    let left = host.reserve.balance - contributed;
    assert!(release.coins.is_empty() || left >= host.reserve.existing);
    if release.channels.is_empty() {
        assert!(release.coins.len() <= 1);
        return;
    }
    seen.with_channels += 1;
    seen.batches += u32::from(release.channels.len() > 1);
    seen.without_coin += u32::from(release.coins.is_empty());
    let reserve = host.reserve.existing + host.reserve.per_channel * release.channels.len() as u64;
    assert!(left + kept + split.iter().copied().sum::<Amount>() >= reserve);
    assert!(spends.iter().all(|spend| matches!(spend.kind, Kind::P2wpkh | Kind::P2tr | Kind::P2wsh)));
    let whole = case.wishes.fixed_outputs || !case.authenticated;
    assert!(case.payer_is_me || !release.coins.is_empty());
    let payment = host.admission.as_ref().unwrap().original.output[case.payment].value;
    assert!(case.top_up || funded <= payment);
    assert!(!whole || kept >= payment);
    seen.beside += u32::from(whole);
}

#[test]
fn an_original_just_below_its_own_minimum_rate_is_raised_by_our_output_where_that_may_shrink() {
    let case = Case {
        inputs: vec![(2, 175_007)],
        outputs: vec![39, 1, 9],
        payment: 0,
        fee: 211,
        wishes: Wishes { contribution: None, min_fee_rate: 255, fixed_outputs: false },
        authenticated: true,
        intents: Vec::new(),
        payer_is_me: false,
        coins: Vec::new(),
        apart: None,
        reserve: (0, 0, 0),
        top_up: true,
        max_fee: 50_000,
        max_rate: 25_000,
        lightning: 5,
    };
    // 211 sat for 206.5 vB, of which 207 would be counted.
    for (fixed_outputs, authenticated, proposals) in [(false, true, 1), (true, true, 0), (false, false, 0)] {
        let wishes = Wishes { fixed_outputs, ..case.wishes };
        let case = Case { wishes, authenticated, ..case.clone() };
        let mut seen = Seen::default();
        run(&case, build(&case).unwrap(), &mut seen);
        assert_eq!(seen.proposals, proposals, "{fixed_outputs} {authenticated}");
    }
}
