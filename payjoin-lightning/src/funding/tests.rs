use bitcoin::hashes::Hash;
use bitcoin::{Amount, TxOut, WPubkeyHash, WScriptHash, absolute, transaction};

use super::*;

const SECONDS: u64 = 20;
const NOW: Timestamp = Timestamp(1_000);
const DEADLINE: Timestamp = Timestamp(1_000 + SECONDS);

fn planned(index: usize) -> PlannedChannel {
    PlannedChannel { intent: IntentId(index as u64), amount: Amount::from_sat(100_000 + index as u64) }
}

fn machine(channels: usize) -> Funding {
    Funding::new(NOW, SECONDS, (0..channels).map(planned).collect()).unwrap()
}

fn script(n: usize) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([n as u8; 32]))
}

fn output(index: usize) -> TxOut {
    TxOut { value: planned(index).amount, script_pubkey: script(index) }
}

fn transaction(output: Vec<TxOut>) -> Arc<Transaction> {
    let lock_time = absolute::LockTime::ZERO;
    Arc::new(Transaction { version: transaction::Version::TWO, lock_time, input: vec![], output })
}

/// Channel `i` at output `n - 1 - i`, so that no position is right by accident.
fn place(machine: &mut Funding, now: Timestamp) {
    let n = machine.channels.len();
    let positions: Vec<_> = (0..n).map(|i| (planned(i), (n - 1 - i) as u32)).collect();
    machine
        .handle_input(now, FundingInput::Fund(transaction((0..n).rev().map(output).collect()), &positions));
}

fn opened(index: usize) -> FundingInput<'static> {
    FundingInput::Opened(index, script(index))
}

/// Everything the machine wants until it waits or ends; the last entry is the wait or the end.
fn drain(machine: &mut Funding) -> Vec<FundingOutput> {
    let mut outputs = Vec::new();
    loop {
        outputs.push(machine.poll_output());
        match outputs.last() {
            Some(FundingOutput::Open { .. } | FundingOutput::Fund { .. } | FundingOutput::Abandon(_)) => {}
            _ => return outputs,
        }
    }
}

#[test]
fn channels_are_opened_side_by_side_then_funded_side_by_side() {
    let mut machine = machine(2);
    let open = |index| FundingOutput::Open { index, amount: planned(index).amount };
    assert_eq!(drain(&mut machine), [open(0), open(1), FundingOutput::Wait(DEADLINE)]);
    machine.handle_input(NOW, opened(1));
    assert_eq!(drain(&mut machine), [FundingOutput::Wait(DEADLINE)]);
    machine.handle_input(NOW, opened(0));
    assert_eq!(drain(&mut machine), [FundingOutput::AllOpen]);
    assert!(machine.scripts().eq(&[script(0), script(1)]));

    place(&mut machine, NOW);
    let transaction = transaction(vec![output(1), output(0)]);
    let fund = |index, vout| FundingOutput::Fund { index, transaction: Arc::clone(&transaction), vout };
    assert_eq!(drain(&mut machine), [fund(0, 1), fund(1, 0), FundingOutput::Wait(DEADLINE)]);
    machine.handle_input(NOW, FundingInput::Safe(0));
    assert_eq!(drain(&mut machine), [FundingOutput::Wait(DEADLINE)]);
    machine.handle_input(NOW, FundingInput::Safe(1));
    assert_eq!(drain(&mut machine), [FundingOutput::AllSafe]);
    machine.handle_input(DEADLINE, FundingInput::Tick);
    assert_eq!(drain(&mut machine), [FundingOutput::AllSafe], "what is safe does not time out");
}

#[test]
fn a_failure_names_the_intents_whose_channels_failed() {
    let mut silent = machine(3);
    drain(&mut silent);
    silent.handle_input(NOW, opened(1));
    silent.handle_input(DEADLINE, FundingInput::Tick);
    let mut unsigned = machine(2);
    drain(&mut unsigned);
    [0, 1].into_iter().for_each(|index| unsigned.handle_input(NOW, opened(index)));
    place(&mut unsigned, NOW);
    drain(&mut unsigned);
    unsigned.handle_input(NOW, FundingInput::Safe(0));
    unsigned.handle_input(DEADLINE, FundingInput::Tick);
    let mut refused = machine(2);
    drain(&mut refused);
    refused.handle_input(NOW, FundingInput::Failed(1, "no".into()));
    for (mut machine, expected) in [(silent, vec![0, 2]), (unsigned, vec![1]), (refused, vec![1])] {
        let end = drain(&mut machine).pop();
        let Some(FundingOutput::Failed(error)) = end else { panic!("not failed: {end:?}") };
        assert!(error.culprits().iter().map(|id| id.0).eq(expected), "{error}");
    }
}

/// Where channel 1 of 2 stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Channel 0 is being opened, channel 1 not yet.
    Init,
    Open,
    Accept,
    Created,
    Signed,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Silence,
    Error,
    Disconnect,
    Malformed,
    Late,
    Twice,
}

fn at(step: Step) -> Funding {
    let mut machine = machine(2);
    machine.poll_output();
    if step == Step::Init {
        return machine;
    }
    drain(&mut machine);
    match step {
        Step::Init | Step::Open => machine.handle_input(NOW, opened(0)),
        Step::Accept => machine.handle_input(NOW, opened(1)),
        Step::Created | Step::Signed => {
            machine.handle_input(NOW, opened(0));
            machine.handle_input(NOW, opened(1));
            place(&mut machine, NOW);
            drain(&mut machine);
            let safe = if step == Step::Created { 0 } else { 1 };
            machine.handle_input(NOW, FundingInput::Safe(safe));
        }
    }
    machine
}

fn strike(machine: &mut Funding, step: Step, fault: Fault) {
    let (now, input) = match (fault, step) {
        (Fault::Silence, _) => (DEADLINE, FundingInput::Tick),
        (Fault::Error, Step::Init) => (NOW, FundingInput::Failed(0, "no such host".into())),
        (Fault::Error, _) => (NOW, FundingInput::Failed(1, "chain hash".into())),
        (Fault::Disconnect, Step::Init) => (NOW, FundingInput::Failed(0, "disconnected".into())),
        (Fault::Disconnect, _) => (NOW, FundingInput::Failed(1, "disconnected".into())),
        (Fault::Malformed, Step::Init) => (NOW, opened(1)),
        (Fault::Malformed, Step::Open) => {
            let wrong = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([1; 20]));
            (NOW, FundingInput::Opened(1, wrong))
        }
        (Fault::Malformed, Step::Accept) => (NOW, FundingInput::Safe(1)),
        (Fault::Malformed, Step::Created | Step::Signed) => (NOW, opened(1)),
        (Fault::Late, Step::Init | Step::Accept) => (DEADLINE, opened(0)),
        (Fault::Late, Step::Open) => (DEADLINE, opened(1)),
        (Fault::Late, Step::Created) => (DEADLINE, FundingInput::Safe(1)),
        (Fault::Late, Step::Signed) => (DEADLINE, FundingInput::Safe(0)),
        (Fault::Twice, Step::Init) => {
            machine.handle_input(NOW, opened(0));
            (NOW, opened(0))
        }
        (Fault::Twice, Step::Open) => (NOW, opened(0)),
        (Fault::Twice, Step::Accept) => (NOW, opened(1)),
        (Fault::Twice, Step::Created) => return place(machine, NOW),
        (Fault::Twice, Step::Signed) => (NOW, FundingInput::Safe(1)),
    };
    machine.handle_input(now, input);
}

#[test]
fn every_fault_at_every_step_abandons_every_channel_and_makes_none_safe() {
    use Fault::{Disconnect, Error, Late, Malformed, Silence, Twice};
    for step in [Step::Init, Step::Open, Step::Accept, Step::Created, Step::Signed] {
        for fault in [Silence, Error, Disconnect, Malformed, Late, Twice] {
            let mut machine = at(step);
            strike(&mut machine, step, fault);
            let (end, abandoned) =
                drain(&mut machine).split_last().map(|(a, b)| (a.clone(), b.to_vec())).unwrap();
            let expected: &[_] = match step {
                Step::Init => &[FundingOutput::Abandon(0)],
                _ => &[FundingOutput::Abandon(0), FundingOutput::Abandon(1)],
            };
            assert_eq!(abandoned, expected, "{fault:?} at {step:?}");
            assert!(matches!(end, FundingOutput::Failed(_)), "{fault:?} at {step:?}: {end:?}");

            for input in [opened(0), opened(1), FundingInput::Safe(0), FundingInput::Safe(1)] {
                machine.handle_input(NOW, input);
            }
            place(&mut machine, NOW);
            assert_eq!(drain(&mut machine), [end], "{fault:?} at {step:?}: good news came too late");
        }
    }
}

#[test]
fn money_rule_1_all_is_safe_only_when_the_last_channel_is() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut machine = machine(3);
        drain(&mut machine);
        order.iter().for_each(|index| machine.handle_input(NOW, opened(*index)));
        place(&mut machine, NOW);
        drain(&mut machine);
        for (done, index) in order.into_iter().enumerate() {
            assert_eq!(drain(&mut machine), [FundingOutput::Wait(DEADLINE)], "{done} of 3 safe");
            machine.handle_input(NOW, FundingInput::Safe(index));
        }
        assert_eq!(drain(&mut machine), [FundingOutput::AllSafe]);
    }
}

#[test]
fn money_rule_3_a_funding_output_that_is_not_exactly_the_channel_funds_nothing() {
    let good = || vec![output(0), output(1)];
    let value = |sat| TxOut { value: Amount::from_sat(sat), ..output(1) };
    let other = PlannedChannel { intent: IntentId(9), ..planned(1) };
    let bigger = PlannedChannel { amount: Amount::from_sat(100_002), ..planned(1) };
    for (case, outputs, positions) in [
        ("a satoshi short", vec![output(0), value(100_000)], [(planned(0), 0), (planned(1), 1)]),
        ("a satoshi over", vec![output(0), value(100_002)], [(planned(0), 0), (planned(1), 1)]),
        (
            "other script",
            vec![output(0), TxOut { script_pubkey: script(7), ..output(1) }],
            [(planned(0), 0), (planned(1), 1)],
        ),
        ("positions swapped", good(), [(planned(0), 1), (planned(1), 0)]),
        ("one output for both", good(), [(planned(0), 0), (planned(1), 0)]),
        ("no such output", good(), [(planned(0), 0), (planned(1), 2)]),
        ("far from any output", good(), [(planned(0), 0), (planned(1), u32::MAX)]),
        ("other intent", good(), [(planned(0), 0), (other, 1)]),
        ("other plan", vec![output(0), value(100_002)], [(planned(0), 0), (bigger, 1)]),
    ] {
        let mut machine = machine(2);
        drain(&mut machine);
        machine.handle_input(NOW, opened(0));
        machine.handle_input(NOW, opened(1));
        machine.handle_input(NOW, FundingInput::Fund(transaction(outputs), &positions));
        let outputs = drain(&mut machine);
        assert!(matches!(outputs.last(), Some(FundingOutput::Failed(FundingError::Output(_)))), "{case}");
        assert_eq!(outputs.len(), 3, "{case}: {outputs:?}");
    }
}

#[test]
fn money_rule_3_two_channels_never_share_a_script() {
    let mut machine = machine(2);
    drain(&mut machine);
    machine.handle_input(NOW, opened(0));
    machine.handle_input(NOW, FundingInput::Opened(1, script(0)));
    assert_eq!(drain(&mut machine).last(), Some(&FundingOutput::Failed(FundingError::Script(IntentId(1)))));
}

#[test]
fn money_rule_9_an_intent_is_not_opened_twice_in_one_attempt() {
    let twice = Funding::new(NOW, SECONDS, vec![planned(0), planned(1), planned(0)]);
    assert_eq!(twice.err(), Some(FundingError::TwiceNamed(IntentId(0))));
}

#[test]
fn an_attempt_has_at_least_one_channel() {
    assert_eq!(Funding::new(NOW, SECONDS, vec![]).err(), Some(FundingError::Nothing));
}

#[test]
fn a_funding_transaction_before_all_are_open_funds_nothing() {
    for missing in [0, 1] {
        let mut machine = machine(2);
        drain(&mut machine);
        machine.handle_input(NOW, opened(1 - missing));
        place(&mut machine, NOW);
        let outputs = drain(&mut machine);
        assert_eq!(outputs.last(), Some(&FundingOutput::Failed(FundingError::OutOfStep)));
        assert!(!outputs.iter().any(|output| matches!(output, FundingOutput::Fund { .. })), "{outputs:?}");
    }
}

const NEWS: u32 = 8;

fn tell(machine: &mut Funding, news: u32) {
    match news {
        0 | 1 => machine.handle_input(NOW, opened(news as usize)),
        2 => place(machine, NOW),
        3 | 4 => machine.handle_input(NOW, FundingInput::Safe(news as usize - 3)),
        5 => machine.handle_input(NOW, FundingInput::Failed(0, String::new())),
        6 => machine.handle_input(NOW, FundingInput::Tick),
        _ => machine.handle_input(DEADLINE, FundingInput::Tick),
    }
}

#[test]
fn of_all_news_in_all_orders_only_the_right_ones_end_safe_and_all_others_abandon_what_was_begun() {
    const LENGTH: u32 = 5;
    let mut safe = 0;
    for sequence in 0..NEWS.pow(LENGTH) {
        let mut machine = machine(2);
        let mut abandoned = Vec::new();
        let mut last = drain(&mut machine);
        for place in 0..LENGTH {
            tell(&mut machine, sequence / NEWS.pow(place) % NEWS);
            last = drain(&mut machine);
            abandoned.extend(last.iter().filter_map(|output| match output {
                FundingOutput::Abandon(index) => Some(*index),
                _ => None,
            }));
        }
        match last.last() {
            Some(FundingOutput::AllSafe) => safe += 1,
            Some(FundingOutput::Failed(_)) => assert_eq!(abandoned, [0, 1], "{sequence:o}"),
            _ => assert!(abandoned.is_empty(), "{sequence:o}"),
        }
    }
    assert_eq!(safe, 2 * 2, "two orders to open, then the transaction, then two orders to sign");
}
