use bitcoin::hashes::Hash;
use bitcoin::{Amount, Transaction, TxOut, WPubkeyHash, WScriptHash, absolute, transaction};

use super::*;

const SECONDS: u64 = 20;
const SIGN: u64 = 5;
const NOW: Timestamp = Timestamp(1_000);
const DEADLINE: Timestamp = Timestamp(1_000 + SECONDS);
/// For those who are asked first.
const SIGN_BY: Timestamp = Timestamp(1_000 + SIGN);

fn planned(index: usize) -> PlannedChannel {
    PlannedChannel { intent: IntentId(index as u64), amount: Amount::from_sat(100_000 + index as u64) }
}

fn script(n: usize) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([n as u8; 32]))
}

fn output(index: usize) -> TxOut {
    TxOut { value: planned(index).amount, script_pubkey: script(index) }
}

fn transaction(output: Vec<TxOut>) -> Transaction {
    let lock_time = absolute::LockTime::ZERO;
    Transaction { version: transaction::Version::TWO, lock_time, input: vec![], output }
}

type Open = [(PlannedChannel, ScriptBuf)];
type Outputs = [(PlannedChannel, u32)];

fn begin(
    open: &Open,
    transaction: &Transaction,
    outputs: &Outputs,
    last: &[usize],
) -> Result<Funding, FundingError> {
    let last: Vec<_> = last.iter().map(|index| IntentId(*index as u64)).collect();
    let terms = FundingTerms { open, outputs, last: &last, sign_seconds: SIGN, deadline: DEADLINE };
    Funding::new(NOW, transaction, &terms)
}

/// Channel `i` at output `n - 1 - i`, so that no position is right by accident.
fn machine(n: usize, last: &[usize]) -> Funding {
    let open: Vec<_> = (0..n).map(|i| (planned(i), script(i))).collect();
    let outputs: Vec<_> = (0..n).map(|i| (planned(i), (n - 1 - i) as u32)).collect();
    begin(&open, &transaction((0..n).rev().map(output).collect()), &outputs, last).unwrap()
}

fn failed(index: usize) -> FundingInput {
    FundingInput::Failed(index, Failure::new(FailureKind::Closed, "it hung up"))
}

/// What the machine wants until it waits or ends: the channels that it gives the transaction, or abandons, and that.
fn drain(machine: &mut Funding) -> (Vec<usize>, FundingOutput) {
    let mut channels = Vec::new();
    loop {
        match machine.poll_output() {
            FundingOutput::Fund { index, vout } => {
                assert_eq!(vout as usize, machine.channels.len() - 1 - index);
                channels.push(index);
            }
            FundingOutput::Abandon(index) => channels.push(index),
            end => return (channels, end),
        }
    }
}

/// A letter for each channel: open, abandoned, failed.
fn left(end: &FundingOutput) -> String {
    let FundingOutput::Short(left) = end else { panic!("not void: {end:?}") };
    let letter = |left: &Left| match left {
        Left::Open => 'o',
        Left::Abandoned => 'a',
        Left::Failed(_) => 'f',
    };
    left.iter().map(letter).collect()
}

#[test]
fn channels_are_funded_side_by_side() {
    let mut machine = machine(2, &[]);
    assert_eq!(drain(&mut machine), (vec![0, 1], FundingOutput::Wait(SIGN_BY)));
    machine.handle_input(NOW.plus(2), FundingInput::Safe(0));
    assert_eq!(drain(&mut machine), (vec![], FundingOutput::Wait(SIGN_BY)));
    machine.handle_input(NOW.plus(2), FundingInput::Safe(1));
    assert_eq!(drain(&mut machine), (vec![], FundingOutput::AllSafe));
    machine.handle_input(DEADLINE, FundingInput::Tick);
    assert_eq!(drain(&mut machine), (vec![], FundingOutput::AllSafe), "what is safe does not time out");
}

#[test]
fn money_rule_12_peers_without_a_slot_to_spare_are_asked_one_by_one_once_all_others_have_signed() {
    let mut machine = machine(4, &[0, 2]);
    assert_eq!(drain(&mut machine), (vec![1, 3], FundingOutput::Wait(SIGN_BY)));
    machine.handle_input(NOW.plus(1), FundingInput::Safe(3));
    assert_eq!(drain(&mut machine), (vec![], FundingOutput::Wait(SIGN_BY)));
    machine.handle_input(NOW.plus(4), FundingInput::Safe(1));
    // Each has its own time.
    assert_eq!(drain(&mut machine), (vec![0], FundingOutput::Wait(NOW.plus(4 + SIGN))));
    machine.handle_input(NOW.plus(8), FundingInput::Safe(0));
    assert_eq!(drain(&mut machine), (vec![2], FundingOutput::Wait(NOW.plus(8 + SIGN))));
    machine.handle_input(NOW.plus(12), FundingInput::Safe(2));
    assert_eq!(drain(&mut machine), (vec![], FundingOutput::AllSafe));
}

#[test]
fn money_rule_12_where_one_is_not_signed_those_that_were_not_given_the_transaction_stay_open() {
    // Channels 0 and 1 side by side, then 2, then 3.
    for (signed, news, expected) in [
        (0, failed(1), "afoo"),
        (0, failed(0), "faoo"),
        (1, failed(1), "afoo"),
        (2, failed(2), "aafo"),
        (3, failed(3), "aaaf"),
        (0, FundingInput::Safe(3), "aaof"),
        (1, FundingInput::Safe(0), "faoo"),
    ] {
        let mut machine = machine(4, &[2, 3]);
        drain(&mut machine);
        for index in 0..signed {
            machine.handle_input(NOW, FundingInput::Safe(index));
            drain(&mut machine);
        }
        machine.handle_input(NOW, news.clone());
        let (abandoned, end) = drain(&mut machine);
        assert_eq!(left(&end), expected, "{signed} signed, {news:?}");
        let gone = expected.char_indices().filter(|(_, left)| *left != 'o').map(|(index, _)| index);
        assert_eq!(abandoned, gone.collect::<Vec<_>>());
        for input in [FundingInput::Safe(0), FundingInput::Safe(2), failed(3), FundingInput::Tick] {
            machine.handle_input(NOW, input);
        }
        assert_eq!(drain(&mut machine), (vec![], end), "news came too late");
    }
}

#[test]
fn who_does_not_sign_in_time_is_named_and_a_signature_that_comes_late_counts_for_nothing() {
    for (signed, time, late) in
        [(0, SIGN_BY, "ffo"), (1, SIGN_BY, "afo"), (2, SIGN_BY, "aaf"), (0, DEADLINE, "ffo")]
    {
        for input in [FundingInput::Tick, FundingInput::Safe(signed), failed(signed)] {
            let mut machine = machine(3, &[2]);
            drain(&mut machine);
            for index in 0..signed {
                machine.handle_input(NOW, FundingInput::Safe(index));
                drain(&mut machine);
            }
            machine.handle_input(time, input);
            let (_, end) = drain(&mut machine);
            assert_eq!(left(&end), late, "{signed} signed");
            let FundingOutput::Short(left) = end else { panic!("checked above") };
            let is_late = |left: &Left| match left {
                Left::Failed(failure) => failure.kind == FailureKind::Late,
                _ => true,
            };
            assert!(left.iter().all(is_late), "{left:?}");
        }
    }
}

#[test]
fn no_wait_is_longer_than_the_time_for_all() {
    let mut machine = machine(5, &[0, 1, 2, 3, 4]);
    for index in 0..4 {
        let now = NOW.plus(4 * index as u64);
        assert_eq!(drain(&mut machine), (vec![index], FundingOutput::Wait(now.plus(SIGN).min(DEADLINE))));
        machine.handle_input(now.plus(4), FundingInput::Safe(index));
    }
    assert_eq!(drain(&mut machine), (vec![4], FundingOutput::Wait(DEADLINE)));
    machine.handle_input(DEADLINE, FundingInput::Tick);
    assert_eq!(left(&drain(&mut machine).1), "aaaaf");
}

#[test]
fn money_rule_1_all_is_safe_only_when_the_last_channel_is() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut machine = machine(3, &[]);
        drain(&mut machine);
        for (done, index) in order.into_iter().enumerate() {
            assert_eq!(drain(&mut machine).1, FundingOutput::Wait(SIGN_BY), "{done} of 3 safe");
            machine.handle_input(NOW, FundingInput::Safe(index));
        }
        assert_eq!(drain(&mut machine).1, FundingOutput::AllSafe);
    }
}

#[test]
fn money_rule_3_a_funding_output_that_is_not_exactly_the_channel_funds_nothing() {
    let good = || vec![output(0), output(1)];
    let value = |sat| TxOut { value: Amount::from_sat(sat), ..output(1) };
    let other = PlannedChannel { intent: IntentId(9), ..planned(1) };
    let bigger = PlannedChannel { amount: Amount::from_sat(100_002), ..planned(1) };
    let open = [(planned(0), script(0)), (planned(1), script(1))];
    let output_of = |id| FundingError::Output(IntentId(id));
    for (case, outputs, positions, error) in [
        (
            "a satoshi short",
            vec![output(0), value(100_000)],
            vec![(planned(0), 0), (planned(1), 1)],
            output_of(1),
        ),
        (
            "a satoshi over",
            vec![output(0), value(100_002)],
            vec![(planned(0), 0), (planned(1), 1)],
            output_of(1),
        ),
        (
            "other script",
            vec![output(0), TxOut { script_pubkey: script(7), ..output(1) }],
            vec![(planned(0), 0), (planned(1), 1)],
            output_of(1),
        ),
        ("positions swapped", good(), vec![(planned(0), 1), (planned(1), 0)], output_of(0)),
        ("one output for both", good(), vec![(planned(0), 0), (planned(1), 0)], output_of(1)),
        ("no such output", good(), vec![(planned(0), 0), (planned(1), 2)], output_of(1)),
        ("far from any output", good(), vec![(planned(0), 0), (planned(1), u32::MAX)], output_of(1)),
        ("other plan", vec![output(0), value(100_002)], vec![(planned(0), 0), (bigger, 1)], output_of(1)),
        ("other intent", good(), vec![(planned(0), 0), (other, 1)], FundingError::Others),
        ("one too few", good(), vec![(planned(0), 0)], FundingError::Others),
    ] {
        let refused = begin(&open, &transaction(outputs), &positions, &[]).err();
        assert_eq!(refused, Some(error), "{case}");
    }
}

#[test]
fn money_rule_3_two_channels_never_share_a_script_and_each_has_one_of_two_keys() {
    let outputs = [(planned(0), 0), (planned(1), 1)];
    let single = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([1; 20]));
    for (second, refused) in [(script(0), true), (single, true), (script(1), false)] {
        let open = [(planned(0), script(0)), (planned(1), second.clone())];
        let outcome = begin(
            &open,
            &transaction(vec![output(0), TxOut { script_pubkey: second, ..output(1) }]),
            &outputs,
            &[],
        );
        let expected = refused.then_some(FundingError::Script(IntentId(1)));
        assert_eq!(outcome.err(), expected);
    }
}

#[test]
fn money_rule_9_an_intent_is_not_funded_twice_in_one_attempt() {
    assert_eq!(check([planned(0), planned(1)].iter()), Ok(()));
    let twice = check([planned(0), planned(1), planned(0)].iter());
    assert_eq!(twice, Err(FundingError::TwiceNamed(IntentId(0))));
    assert_eq!(check([].iter()), Err(FundingError::Nothing));
    assert_eq!(begin(&[], &transaction(vec![]), &[], &[]).err(), Some(FundingError::Nothing));
}

const NEWS: u32 = 7;

fn tell(machine: &mut Funding, news: u32) {
    match news {
        0..3 => machine.handle_input(NOW, FundingInput::Safe(news as usize)),
        3 => machine.handle_input(NOW, failed(0)),
        4 => machine.handle_input(NOW, failed(2)),
        5 => machine.handle_input(NOW, FundingInput::Tick),
        _ => machine.handle_input(DEADLINE, FundingInput::Tick),
    }
}

#[test]
fn of_all_news_in_all_orders_only_the_right_ones_end_safe_and_all_others_abandon_what_was_given() {
    const LENGTH: u32 = 5;
    let mut safe = Vec::new();
    for sequence in 0..NEWS.pow(LENGTH) {
        let mut machine = machine(3, &[2]);
        let (mut given, mut abandoned) = (drain(&mut machine).0, Vec::new());
        for place in 0..LENGTH {
            let void = machine.left.is_some();
            tell(&mut machine, sequence / NEWS.pow(place) % NEWS);
            let (channels, end) = drain(&mut machine);
            match end {
                FundingOutput::Short(_) if !void => abandoned = channels,
                _ => given.extend(channels),
            }
        }
        match drain(&mut machine).1 {
            FundingOutput::AllSafe => safe.push(sequence),
            end @ FundingOutput::Short(_) => {
                let left = left(&end);
                let open = left.chars().nth(2) == Some('o');
                // Channel 2 stays open as long as nobody gave it the transaction and nothing is said of it.
                assert!(!open || given == [0, 1], "{sequence:o}: {left}");
                assert_eq!(abandoned.len(), 3 - usize::from(open), "{sequence:o}: {left}");
            }
            _ => assert!(abandoned.is_empty(), "{sequence:o}"),
        }
    }
    // 0 and 1 in one of two orders, then 2; a tick may stand anywhere between, and anything may come after.
    let tickless =
        |sequence: &&u32| (0..LENGTH).map(|place| **sequence / NEWS.pow(place) % NEWS).take(3).all(|n| n < 3);
    assert_eq!(safe.iter().filter(tickless).count(), 2 * (NEWS as usize).pow(2));
}
