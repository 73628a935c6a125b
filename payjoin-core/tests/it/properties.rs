//! Random Originals, intents, coins and limits. Whatever comes out, the ledger holds and the reference sender accepts.

use bitcoin::{Amount, FeeRate, Psbt, TxOut, Weight};
use payjoin_core::{ChannelAmount, ChannelWish, Exchange, IntentId, Policy, Reserve};
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
    intents: Vec<(Option<u64>, u64, u64, bool)>,
    coins: Vec<(bool, u64)>,
    /// Balance beyond the coins, existing, per channel.
    reserve: (u64, u64, u64),
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
        prop::bool::weighted(0.4),
    );
    let receiver = (
        prop::collection::vec(intent, 0..=4),
        prop::collection::vec((any::<bool>(), 400..300_000_u64), 0..=4),
        (0..100_000_u64, prop_oneof![Just(0_u64), 0..60_000_u64], prop_oneof![Just(0_u64), 0..30_000_u64]),
        prop::bool::weighted(0.8),
        prop_oneof![3 => Just(50_000_u64), 1 => 0..2_000_u64],
        prop_oneof![3 => Just(25_000_u64), 1 => 0..3_000_u64],
        0..6_usize,
    );
    (payments(), receiver, prop::bool::weighted(0.9)).prop_map(|(payer, receiver, authenticated)| {
        let (inputs, outputs, payment, fee, wishes) = payer;
        let (intents, coins, reserve, top_up, max_fee, max_rate, lightning) = receiver;
        let payment = payment % outputs.len();
        Case {
            inputs,
            outputs,
            payment,
            fee,
            wishes,
            authenticated,
            intents,
            coins,
            reserve,
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
    let intents =
        case.intents.iter().enumerate().map(|(index, (amount, min, max, payer_is_me))| ChannelWish {
            id: IntentId(index as u64),
            amount: amount.map_or(ChannelAmount::Rest, |amount| ChannelAmount::Exact(sats(amount))),
            min: sats(*min),
            max: sats(*max),
            payer_is_me: *payer_is_me,
        });
    let host = Host {
        real: false,
        coins,
        wishes: intents.collect(),
        reserve: Reserve {
            balance: sats(balance),
            existing: sats(case.reserve.1),
            per_channel: sats(case.reserve.2),
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

#[derive(Debug, Default)]
struct Seen {
    proposals: u32,
    with_channels: u32,
    batches: u32,
    rests: u32,
    without_coin: u32,
    contributions: u32,
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
        && seen.contributions > 500
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
    let reply = host.run(&mut Exchange::new(NOW, invoice(), request, policy.clone()));
    if reply.status() != 200 {
        assert_eq!(reply.status(), 400, "{reply:?}");
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
            ChannelAmount::Rest => seen.rests += 1,
        }
    }
    let kept = if release.channels.is_empty() { invoice().script } else { invoice().change };
    let kept: Vec<&TxOut> = after.output.iter().filter(|output| output.script_pubkey == kept).collect();
    assert!(kept.len() <= 1);
    let kept: Amount = kept.iter().map(|output| output.value).sum();
    assert_eq!(before.output[case.payment].value + contributed, funded + kept + ours);
    assert_eq!(
        after.output.len(),
        before.output.len() + release.channels.len() - usize::from(kept == Amount::ZERO)
    );

    check_rules(case, spends, host, contributed, funded, kept, seen);
}

fn check_rules(
    case: &Case,
    spends: &[Spend],
    host: &Host,
    contributed: Amount,
    funded: Amount,
    kept: Amount,
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
    assert!(left + kept >= reserve);
    assert!(spends.iter().all(|spend| matches!(spend.kind, Kind::P2wpkh | Kind::P2tr | Kind::P2wsh)));
    assert!(case.authenticated && !case.wishes.fixed_outputs && host.channels_offered == Some(true));
    let vouched = release.channels.iter().all(|channel| host.wishes[channel.intent.0 as usize].payer_is_me);
    assert!(vouched || !release.coins.is_empty());
    let payment = host.admission.as_ref().unwrap().original.output[case.payment].value;
    assert!(case.top_up || funded <= payment);
}
