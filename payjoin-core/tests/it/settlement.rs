//! What happens to an admitted exchange until one of its outcomes is buried.

use bitcoin::{Transaction, TxOut};
use payjoin_core::{
    ExchangeId, Fees, Kin, Obligation, Policy, Prices, Rival, Settled, Settlement, SettlementInput as In,
    SettlementOutput as Out, Timestamp, Undefended,
};

use crate::kit::*;

const FALLBACK: Timestamp = Timestamp(NOW.0 + 600);
const LATER: Timestamp = Timestamp(NOW.0 + 601);

/// An exchange whose payer has a nested input, so that the final payjoin has another id than the proposal.
pub(crate) struct World {
    pub(crate) original: Transaction,
    pub(crate) payjoin: Transaction,
    pub(crate) conflict: Transaction,
    /// The payer's own fee bump: it pays the invoice as the Original does.
    pub(crate) bumped: Transaction,
    /// Spends our coin and nothing of the payer.
    pub(crate) theft: Transaction,
    obligation: Obligation,
}

pub(crate) fn world() -> World {
    let payer = Spend::new(Kind::Nested, 1, 150_000);
    let coin = our_coin(1, 50_000);
    let to = |value| vec![txout(value, script(Kind::P2tr, 5))];
    let sign = |spends: &[Spend], outputs: Vec<TxOut>| {
        original(spends, outputs, true).extract_tx_unchecked_fee_rate()
    };
    let change = || txout(50_000, script(Kind::P2wpkh, 6));
    let one = sign(std::slice::from_ref(&payer), [to(99_000), vec![change()]].concat());
    let bumped = sign(std::slice::from_ref(&payer), to(99_000));
    let payjoin = sign(&[payer.clone(), coin.clone()], to(148_000));
    let conflict = sign(std::slice::from_ref(&payer), to(98_000));
    let theft = sign(std::slice::from_ref(&coin), to(49_000));
    let obligation = Obligation {
        exchange: ExchangeId(1),
        original: one.clone(),
        payment: one.output[0].clone(),
        fees: Fees { original: sats(1_000), payjoin: sats(2_000) },
        payjoin: Some(bitcoin::Txid::from_raw_hash(payjoin.compute_ntxid())),
        coins: vec![coin.outpoint],
        channels: Vec::new(),
        plain: false,
        fallback_at: FALLBACK,
        signed: None,
        mined: None,
    };
    assert_ne!(payjoin.compute_txid().to_raw_hash(), payjoin.compute_ntxid());
    World { original: one, payjoin, conflict, bumped, theft, obligation }
}

impl World {
    /// The payer's coins, and nothing for us.
    fn conflict_to_himself(&self) -> Transaction {
        let mut transaction = self.conflict.clone();
        transaction.output[0].script_pubkey = script(Kind::P2wpkh, 6);
        transaction
    }
}

pub(crate) struct Run(pub(crate) Settlement);

impl Run {
    pub(crate) fn new(world: &World) -> Self {
        Self(Settlement::new(world.obligation.clone(), Policy::default()))
    }

    /// What comes out of this input, without the final wait.
    pub(crate) fn feed(&mut self, now: Timestamp, input: In) -> Vec<Out> {
        self.0.handle_input(now, input);
        let mut outputs = Vec::new();
        loop {
            match self.0.poll_output() {
                Out::Wait(_) => return outputs,
                done @ Out::Done(_) => {
                    outputs.push(done);
                    return outputs;
                }
                // Its own test below.
                Out::RecordSigned(_) => {}
                output => outputs.push(output),
            }
        }
    }

    /// Feeds tips until it ends.
    fn bury(&mut self, from: u32) -> (u32, Vec<Out>) {
        for tip in from.. {
            let outputs = self.feed(LATER, In::Tip(tip));
            if matches!(outputs.last(), Some(Out::Done(_))) {
                return (tip, outputs);
            }
            assert!(tip < from + 200, "never ends");
        }
        unreachable!()
    }
}

fn recorded(transaction: &Transaction, height: u32) -> Vec<Out> {
    vec![Out::RecordMined(Some((transaction.clone(), height)))]
}

fn broadcast(transaction: &Transaction) -> Vec<Out> {
    vec![Out::Broadcast(transaction.clone())]
}

#[test]
fn waits_for_the_fallback_moment_and_not_longer() {
    let world = world();
    let mut run = Run::new(&world);
    assert_eq!(run.0.poll_output(), Out::Wait(Some(FALLBACK)));
    assert_eq!(run.feed(Timestamp(FALLBACK.0 - 1), In::Tick), []);
    assert_eq!(run.feed(FALLBACK, In::Tick), broadcast(&world.original));
    assert_eq!(run.0.poll_output(), Out::Wait(None));
}

#[test]
fn a_clock_that_is_set_back_puts_the_fallback_off_by_no_more_than_its_time() {
    let world = world();
    let mut run = Run::new(&world);
    assert_eq!(run.feed(NOW, In::Tick), []);
    let year_ago = Timestamp(NOW.0 - 31_536_000);
    assert_eq!(run.feed(year_ago, In::Tick), []);
    assert_eq!(run.0.poll_output(), Out::Wait(Some(year_ago.plus(600))));
    assert_eq!(run.feed(year_ago.plus(599), In::Tick), []);
    assert_eq!(run.feed(year_ago.plus(600), In::Tick), broadcast(&world.original));
}

#[test]
fn the_original_is_sent_once_per_block_until_it_is_seen() {
    let world = world();
    let mut run = Run::new(&world);
    assert_eq!(run.feed(LATER, In::Tick), broadcast(&world.original));
    assert_eq!(run.feed(LATER, In::Tick), []);
    assert_eq!(run.feed(LATER, In::Tip(101)), broadcast(&world.original));
    assert_eq!(run.feed(LATER, In::Tick), []);
    assert_eq!(run.feed(LATER, In::Mempool(vec![world.original.clone()])), []);
    assert_eq!(run.feed(LATER, In::Tip(102)), []);
    assert_eq!(run.feed(LATER, In::Mempool(Vec::new())), broadcast(&world.original));
}

#[test]
fn each_spend_that_pays_the_invoice_holds_the_fallback_back() {
    let world = world();
    for seen in [&world.original, &world.payjoin, &world.bumped] {
        let mut run = Run::new(&world);
        assert_eq!(run.feed(NOW, In::Mempool(vec![seen.clone()])), []);
        assert_eq!(run.0.poll_output(), Out::Wait(None));
        assert_eq!(run.feed(LATER, In::Tick), []);
        assert_eq!(run.feed(LATER, In::Tip(101)), []);
    }
}

#[test]
fn money_rule_6_a_conflict_in_the_mempool_holds_nothing_back() {
    let world = world();
    let conflict = || In::Mempool(vec![world.conflict.clone()]);
    let mut run = Run::new(&world);
    assert_eq!(run.feed(NOW, conflict()), [], "not due");
    assert_eq!(run.0.poll_output(), Out::Wait(Some(FALLBACK)));
    for (now, tip) in (FALLBACK.0..).map(Timestamp).zip(101..110) {
        assert_eq!(run.feed(now, In::Tip(tip)), broadcast(&world.original), "at each block");
        assert_eq!(run.feed(now, conflict()), [], "once");
    }
    let mut run = Run::new(&world);
    run.feed(NOW, In::Mempool(vec![world.payjoin.clone()]));
    assert_eq!(run.feed(NOW, conflict()), broadcast(&world.payjoin), "worth more, and due at once");
    assert_eq!(run.feed(NOW, In::Refused), weigh(&world));
    assert_eq!(run.feed(NOW, In::Weighed(None)), [], "nobody can tell");
    assert_eq!(run.feed(FALLBACK, In::Tick), broadcast(&world.original));
}

fn weigh(world: &World) -> Vec<Out> {
    vec![Out::Weigh(vec![world.conflict.compute_txid()])]
}

/// The conflict alone, with this fee.
fn prices(world: &World, fee: u64) -> In {
    let alone = Kin { count: 1, vsize: 100, fee: sats(fee) };
    let txid = world.conflict.compute_txid();
    let rate = bitcoin::FeeRate::from_sat_per_vb_u32;
    let rival = Rival { txid, alone, ancestors: alone, descendants: alone };
    In::Weighed(Some(Prices { rivals: vec![rival], floor: rate(1), step: rate(1) }))
}

#[test]
fn money_rule_6_a_conflict_that_pays_more_is_outbid_by_a_child_of_ours_up_to_the_limit() {
    let world = world();
    let mut run = Run::new(&world);
    run.feed(NOW, In::Mempool(vec![world.payjoin.clone()]));
    assert_eq!(run.feed(NOW, In::Mempool(vec![world.conflict.clone()])), broadcast(&world.payjoin));
    assert_eq!(run.feed(NOW, In::Refused), weigh(&world));
    let outputs = run.feed(NOW, prices(&world, 1_000));
    let [Out::Defend { parent, vout: 0, fee }] = &outputs[..] else { panic!("{outputs:?}") };
    // 10 sat/vB for both, and a margin.
    let needed = 10 * (world.payjoin.vsize() as u64 + 122);
    assert_eq!((parent, fee.to_sat()), (&world.payjoin, needed + needed.div_ceil(50) - 2_000));
    assert_eq!(run.feed(NOW, In::Refused), [], "the Original is not due");
    // At the next block, and past the limit: the payjoin, the Original, and a word for each.
    assert_eq!(run.feed(LATER, In::Tip(101)), broadcast(&world.payjoin));
    assert_eq!(run.feed(LATER, In::Refused), weigh(&world));
    for (given_up, next) in [(&world.payjoin, broadcast(&world.original)), (&world.original, Vec::new())] {
        let outputs = run.feed(LATER, prices(&world, 30_000));
        let [Out::GiveUp(txid, Undefended::TooDear { limit, .. }), rest @ ..] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!((*txid, *limit, rest), (given_up.compute_txid(), sats(99_000 / 100 * 25), &next[..]));
        run.feed(LATER, In::Refused);
    }
    assert_eq!(run.feed(LATER, In::Tick), [], "until the next block");
}

#[test]
fn money_rule_6_a_payjoin_without_an_output_of_ours_gives_way_to_the_due_original() {
    let mut world = world();
    world.obligation.payment.script_pubkey = script(Kind::P2tr, 99);
    let mut run = Run::new(&world);
    run.feed(LATER, In::Mempool(vec![world.payjoin.clone()]));
    run.feed(LATER, In::Mempool(vec![world.conflict.clone()]));
    run.feed(LATER, In::Refused);
    let given_up = Out::GiveUp(world.payjoin.compute_txid(), Undefended::NoOutput);
    assert_eq!(run.feed(LATER, prices(&world, 1_000)), [vec![given_up], broadcast(&world.original)].concat());
}

#[test]
fn an_evicted_payjoin_is_sent_again_at_each_block_and_never_the_original() {
    let world = world();
    let mut run = Run::new(&world);
    run.feed(NOW, In::Mempool(vec![world.payjoin.clone()]));
    assert_eq!(run.feed(NOW, In::Mempool(Vec::new())), broadcast(&world.payjoin));
    for tip in 101..110 {
        assert_eq!(run.feed(LATER, In::Tip(tip)), broadcast(&world.payjoin));
        assert_eq!(run.feed(LATER, In::Tick), []);
    }
    assert_eq!(run.feed(LATER, In::Mempool(vec![world.payjoin.clone()])), []);
    assert_eq!(run.feed(LATER, In::Tip(110)), []);
}

#[test]
fn money_rule_6_an_evicted_payjoin_that_is_refused_gives_way_to_the_original_once_that_is_due() {
    let world = world();
    let mut run = Run::new(&world);
    assert_eq!(run.feed(NOW, In::Mempool(vec![world.payjoin.clone()])), []);
    assert_eq!(run.feed(NOW, In::Mempool(Vec::new())), broadcast(&world.payjoin));
    assert_eq!(run.feed(NOW, In::Refused), [], "the Original is not due");
    assert_eq!(run.feed(NOW, In::Tick), [], "once per block");
    assert_eq!(run.feed(LATER, In::Tick), broadcast(&world.original));
    assert_eq!(run.feed(LATER, In::Refused), []);
    assert_eq!(run.feed(LATER, In::Tip(101)), broadcast(&world.payjoin), "it may be possible again");
    assert_eq!(run.feed(LATER, In::Refused), broadcast(&world.original));
    assert_eq!(run.feed(LATER, In::Tick), []);
    assert_eq!(run.feed(LATER, In::Tip(102)), broadcast(&world.payjoin));
    assert_eq!(run.feed(LATER, In::Tick), []);
}

#[test]
fn each_outcome_ends_when_it_is_six_deep() {
    let world = world();
    let outcomes = [
        (&world.payjoin, Settled::Payjoin),
        (&world.original, Settled::Original),
        (&world.bumped, Settled::Original),
        (&world.conflict, Settled::Conflict),
    ];
    for (transaction, settled) in outcomes {
        let mut run = Run::new(&world);
        assert_eq!(run.feed(LATER, In::Mined(transaction.clone(), 100)), recorded(transaction, 100));
        assert_eq!(run.0.obligation().mined, Some((transaction.clone(), 100)));
        assert_eq!(run.bury(100), (105, vec![Out::Done(settled)]));
        assert_eq!(run.feed(LATER, In::Disconnected(100)), [Out::Done(settled)], "nothing follows");
    }
}

#[test]
fn burial_depth_is_the_operators() {
    let world = world();
    for (burial, tip) in [(0, 100), (1, 100), (2, 101), (144, 243)] {
        let policy = Policy { burial, ..Policy::default() };
        let mut run = Run(Settlement::new(world.obligation.clone(), policy));
        let first = run.feed(NOW, In::Mined(world.payjoin.clone(), 100));
        let ended = first.contains(&Out::Done(Settled::Payjoin));
        assert_eq!(if ended { 100 } else { run.bury(101).0 }, tip, "burial {burial}");
    }
}

#[test]
fn a_released_proposal_never_ends_by_the_clock() {
    let world = world();
    let mut run = Run::new(&world);
    for year in 0..50 {
        let outputs = run.feed(NOW.plus(year * 31_536_000), In::Tick);
        assert!(!outputs.iter().any(|output| matches!(output, Out::Done(_))));
    }
}

#[test]
fn a_reorganisation_of_any_depth_takes_the_confirmation_back() {
    let world = world();
    for depth in 1..=5 {
        let mut run = Run::new(&world);
        run.feed(NOW, In::Mempool(vec![world.payjoin.clone()]));
        run.feed(NOW, In::Mined(world.payjoin.clone(), 100));
        let tip = 100 + depth - 1;
        run.feed(NOW, In::Tip(tip));
        let outputs = run.feed(NOW, In::Disconnected(100));
        assert_eq!(outputs, [Out::RecordMined(None)], "depth {depth}: the other branch may hold it");
        assert_eq!(run.feed(NOW, In::Tick), broadcast(&world.payjoin), "depth {depth}");
        assert_eq!(run.0.obligation().mined, None);
        assert_eq!(run.feed(NOW, In::Mined(world.payjoin.clone(), 101)), recorded(&world.payjoin, 101));
        assert_eq!(run.bury(tip), (106, vec![Out::Done(Settled::Payjoin)]), "depth {depth}");
    }
}

#[test]
fn a_reorganisation_above_the_confirmation_changes_nothing() {
    let world = world();
    let mut run = Run::new(&world);
    run.feed(NOW, In::Mined(world.payjoin.clone(), 100));
    run.feed(NOW, In::Tip(104));
    assert_eq!(run.feed(NOW, In::Disconnected(101)), []);
    assert_eq!(run.bury(101).0, 105);
}

#[test]
fn payjoin_and_original_may_swap_in_a_reorganisation() {
    let world = world();
    for (first, second, settled) in [
        (&world.payjoin, &world.original, Settled::Original),
        (&world.original, &world.payjoin, Settled::Payjoin),
        (&world.payjoin, &world.conflict, Settled::Conflict),
    ] {
        let mut run = Run::new(&world);
        run.feed(LATER, In::Mined(first.clone(), 100));
        run.feed(LATER, In::Tip(104));
        run.feed(LATER, In::Disconnected(100));
        assert_eq!(run.feed(LATER, In::Mined(second.clone(), 100)), recorded(second, 100));
        assert_eq!(run.bury(104), (105, vec![Out::Done(settled)]));
    }
}

#[test]
fn the_first_of_two_conflicts_decides_and_a_reorganisation_of_the_second_changes_nothing() {
    let world = world();
    let mut second = world.conflict.clone();
    second.output[0].value -= bitcoin::Amount::ONE_SAT;
    let mut run = Run::new(&world);
    assert_eq!(run.feed(LATER, In::Mined(world.conflict.clone(), 100)), recorded(&world.conflict, 100));
    assert_eq!(run.feed(LATER, In::Mined(second, 102)), []);
    assert_eq!(run.feed(LATER, In::Disconnected(102)), []);
    assert_eq!(run.bury(102), (105, vec![Out::Done(Settled::Conflict)]));
}

#[test]
fn a_block_told_twice_is_recorded_once() {
    let world = world();
    let mut run = Run::new(&world);
    assert_eq!(run.feed(NOW, In::Mined(world.payjoin.clone(), 100)).len(), 1);
    assert_eq!(run.feed(NOW, In::Mined(world.payjoin.clone(), 100)), []);
}

#[test]
fn after_a_restart_the_stored_obligation_goes_on() {
    let world = world();
    let mut run = Run::new(&world);
    run.feed(NOW, In::Mined(world.payjoin.clone(), 100));
    let stored = serde_json::to_string(run.0.obligation()).unwrap();
    let mut again = Run(Settlement::new(serde_json::from_str(&stored).unwrap(), Policy::default()));
    assert_eq!(again.feed(LATER, In::Tick), [], "it is mined: no fallback");
    assert_eq!(again.feed(LATER, In::Disconnected(100)), [Out::RecordMined(None)]);
    assert_eq!(again.feed(LATER, In::Tick), broadcast(&world.payjoin));
    again.feed(LATER, In::Mined(world.payjoin.clone(), 102));
    assert_eq!(again.bury(102), (107, vec![Out::Done(Settled::Payjoin)]));
}

#[test]
fn after_a_restart_past_the_fallback_the_original_is_sent_at_once() {
    let world = world();
    let mut run = Run::new(&world);
    assert_eq!(run.feed(LATER.plus(1_000_000), In::Mempool(Vec::new())), broadcast(&world.original));
}

#[test]
fn a_foreign_spend_of_our_coin_sends_the_original_and_ends_nothing() {
    let world = world();
    let mut run = Run::new(&world);
    run.feed(NOW, In::Mempool(vec![world.payjoin.clone()]));
    assert_eq!(run.feed(NOW, In::Mined(world.theft.clone(), 100)), []);
    assert_eq!(
        run.feed(NOW, In::Mempool(Vec::new())),
        broadcast(&world.original),
        "the payjoin is impossible now"
    );
    for tip in 101..120 {
        assert_eq!(run.feed(NOW, In::Tip(tip)), broadcast(&world.original));
    }
    run.feed(NOW, In::Mined(world.original.clone(), 120));
    assert_eq!(run.bury(120), (125, vec![Out::Done(Settled::Original)]));
}

#[test]
fn a_foreign_spend_of_our_coin_that_is_reorganised_out_makes_the_payjoin_possible_again() {
    let world = world();
    let mut run = Run::new(&world);
    run.feed(NOW, In::Mempool(vec![world.payjoin.clone()]));
    run.feed(NOW, In::Mined(world.theft.clone(), 100));
    run.feed(NOW, In::Mempool(Vec::new()));
    assert_eq!(run.feed(NOW, In::Disconnected(100)), []);
    assert_eq!(run.feed(NOW, In::Tick), broadcast(&world.payjoin));
}

#[test]
fn an_unconfirmed_foreign_spend_of_our_coin_only_holds_the_payjoin_back() {
    let world = world();
    let mut run = Run::new(&world);
    run.feed(NOW, In::Mempool(vec![world.payjoin.clone()]));
    assert_eq!(run.feed(NOW, In::Mempool(vec![world.theft.clone()])), []);
    assert_eq!(run.feed(LATER, In::Tick), broadcast(&world.original));
}

#[test]
fn transactions_of_others_are_ignored() {
    let world = world();
    let stranger = Spend::new(Kind::P2wpkh, 55, 10_000);
    let stranger = original(&[stranger], vec![txout(9_000, script(Kind::P2tr, 5))], true);
    let stranger = stranger.extract_tx_unchecked_fee_rate();
    let mut run = Run::new(&world);
    assert_eq!(run.feed(NOW, In::Mined(stranger.clone(), 100)), []);
    assert_eq!(run.feed(LATER, In::Mempool(vec![stranger])), broadcast(&world.original));
}

#[test]
fn an_exchange_without_a_proposal_owes_the_original() {
    let mut world = world();
    world.obligation.payjoin = None;
    let mut run = Run::new(&world);
    assert_eq!(run.feed(FALLBACK, In::Tick), broadcast(&world.original));
    run.feed(LATER, In::Mined(world.payjoin.clone(), 100));
    assert_eq!(
        run.bury(100).1,
        [Out::Done(Settled::Original)],
        "not released by us, and it pays the invoice"
    );
}

#[test]
fn a_payjoin_that_was_seen_is_recorded_once_and_sent_after_a_restart() {
    let world = world();
    let mut settlement = Settlement::new(world.obligation.clone(), Policy::default());
    settlement.handle_input(NOW, In::Mempool(vec![world.payjoin.clone()]));
    assert_eq!(settlement.poll_output(), Out::RecordSigned(world.payjoin.clone()));
    settlement.handle_input(NOW, In::Mempool(vec![world.payjoin.clone()]));
    assert_eq!(settlement.poll_output(), Out::Wait(None));
    let mut run = Run(Settlement::new(settlement.obligation().clone(), Policy::default()));
    assert_eq!(run.feed(LATER, In::Mempool(vec![world.conflict.clone()])), broadcast(&world.payjoin));
}

/// A payment that its payer broadcast, to be given up after a while.
fn plain(world: &World) -> Run {
    let obligation = Obligation {
        plain: true,
        payment: TxOut { value: sats(0), ..world.original.output[0].clone() },
        payjoin: None,
        fees: Fees::default(),
        coins: Vec::new(),
        ..world.obligation.clone()
    };
    Run(Settlement::new(obligation, Policy::default()))
}

#[test]
fn a_plain_payment_ends_when_a_transaction_that_pays_us_is_buried_and_nothing_is_ever_sent_for_it() {
    let world = world();
    // Itself; a fee bump; one that pays less.
    let mut less = world.original.clone();
    less.output[0].value = sats(5_000);
    for (spend, outcome) in [
        (&world.original, Settled::Plain),
        (&world.bumped, Settled::Plain),
        (&less, Settled::Plain),
        (&world.conflict_to_himself(), Settled::Conflict),
    ] {
        let mut run = plain(&world);
        assert_eq!(run.feed(LATER, In::Mempool(vec![world.original.clone()])), []);
        assert_eq!(run.feed(LATER, In::Mempool(vec![spend.clone()])), []);
        assert_eq!(run.feed(LATER, In::Mined(spend.clone(), 100)), recorded(spend, 100));
        assert_eq!(run.feed(LATER, In::Disconnected(100)), [Out::RecordMined(None)]);
        assert_eq!(run.feed(LATER, In::Mempool(vec![spend.clone()])), []);
        assert_eq!(run.feed(LATER, In::Mined(spend.clone(), 101)), recorded(spend, 101));
        assert_eq!(run.bury(102).1, [Out::Done(outcome)]);
    }
}

#[test]
fn a_plain_payment_that_left_the_mempool_is_given_up_in_its_time_and_not_before_the_mempool_was_looked_at() {
    let world = world();
    let mut run = plain(&world);
    assert_eq!(run.feed(Timestamp(FALLBACK.0 - 1), In::Mempool(Vec::new())), []);
    assert_eq!(run.feed(FALLBACK, In::Tick), []);
    assert_eq!(run.feed(FALLBACK, In::Tip(7)), []);
    assert_eq!(run.feed(FALLBACK, In::Mempool(vec![world.original.clone()])), []);
    assert_eq!(run.feed(FALLBACK, In::Mempool(vec![world.conflict_to_himself()])), [], "not decided yet");
    assert_eq!(run.feed(FALLBACK, In::Mempool(Vec::new())), [Out::Done(Settled::Gone)]);
}
