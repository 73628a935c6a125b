//! A payment of ours, from the offer to its burial.

use bitcoin::{Psbt, Transaction};
use payjoin_core::{
    Broadcast, Outgoing, OutgoingError, OutgoingInput as In, OutgoingOutput as Out, Paid, Timestamp,
};

use crate::kit::*;

const BURIAL: u32 = 6;
const LATER: Timestamp = Timestamp(NOW.0 + 5);
const SEEN: &str = "the receiver broadcast the Original";

/// What may spend the coins of a payment.
struct World {
    original: Transaction,
    payjoin: Transaction,
    proposal: Box<Psbt>,
}

fn world() -> World {
    let (coin, theirs) = (Spend::new(Kind::P2wpkh, 1, 100_000), Spend::new(Kind::P2wpkh, 2, 50_000));
    let to = |value| vec![txout(value, script(Kind::P2tr, 5))];
    let plain = original(std::slice::from_ref(&coin), to(99_000), true).extract_tx_unchecked_fee_rate();
    let proposal = original(&[coin, theirs], to(148_000), true);
    let payjoin = proposal.clone().extract_tx_unchecked_fee_rate();
    World { original: plain, payjoin, proposal: Box::new(proposal) }
}

impl World {
    fn begin(&self) -> Outgoing {
        self.resume(None)
    }

    fn resume(&self, paid: Option<Paid>) -> Outgoing {
        Outgoing::new(self.original.clone(), paid, BURIAL)
    }

    fn plain(&self, reason: &str) -> Paid {
        Paid { transaction: self.original.clone(), fallback: Some(reason.to_owned()) }
    }

    fn joined(&self) -> Paid {
        Paid { transaction: self.payjoin.clone(), fallback: None }
    }
}

fn block(tip: u32) -> In {
    In::Chain { tip, spend: None }
}

fn mined(tip: u32, spend: &Transaction, height: u32) -> In {
    In::Chain { tip, spend: Some((spend.clone(), height)) }
}

fn send(paid: &Paid) -> Out {
    Out::Broadcast(paid.transaction.clone())
}

fn refused() -> In {
    In::Sent(Broadcast::Refused("txn-mempool-conflict".to_owned()))
}

const TAKEN: In = In::Sent(Broadcast::Taken);

/// Each output must be what is written, and each input is then given.
fn play(outgoing: &mut Outgoing, script: impl IntoIterator<Item = (Out, In)>) {
    for (step, (output, input)) in script.into_iter().enumerate() {
        assert_eq!(outgoing.poll_output(), output, "step {step}");
        outgoing.handle_input(NOW, input).unwrap();
    }
}

const IDLE: Out = Out::Wait(None);

#[test]
fn a_proposal_is_signed_recorded_sent_and_followed_until_it_is_buried() {
    let world = world();
    let (mut outgoing, joined) = (world.begin(), world.joined());
    play(
        &mut outgoing,
        [
            (IDLE, block(100)),
            (Out::Offer, block(101)),
            (Out::Offer, In::Answer(Ok(world.proposal.clone()))),
            (Out::Sign(world.proposal.clone()), In::Signed(Ok(world.payjoin.clone()))),
            (Out::Record(joined.clone()), In::Done),
            (send(&joined), TAKEN),
            (IDLE, mined(102, &world.payjoin, 102)),
            (IDLE, mined(106, &world.payjoin, 102)),
            (IDLE, mined(107, &world.payjoin, 102)),
            (Out::Settle, In::Done),
        ],
    );
    assert_eq!(outgoing.poll_output(), Out::Done);
}

#[test]
fn money_rule_6_without_a_payjoin_the_original_is_recorded_and_sent() {
    let world = world();
    for (answer, signed, reason) in [
        (Err("the receiver did not answer in time"), None, "the receiver did not answer in time"),
        (
            Err("the proposal is not acceptable: it takes our change"),
            None,
            "the proposal is not acceptable: it takes our change",
        ),
        (Ok(()), Some("an input is not ours"), "the proposal is not acceptable: an input is not ours"),
    ] {
        let (mut outgoing, plain) = (world.begin(), world.plain(reason));
        let answer = answer.map(|()| world.proposal.clone()).map_err(ToOwned::to_owned);
        play(&mut outgoing, [(IDLE, block(100)), (Out::Offer, In::Answer(answer))]);
        if let Some(why) = signed {
            play(&mut outgoing, [(Out::Sign(world.proposal.clone()), In::Signed(Err(why.to_owned())))]);
        }
        play(&mut outgoing, [(Out::Record(plain.clone()), In::Done), (send(&plain), TAKEN)]);
        assert_eq!(outgoing.poll_output(), IDLE);
    }
}

#[test]
fn money_rule_6_a_payjoin_that_the_network_refuses_gives_way_to_the_original() {
    let world = world();
    let plain = world.plain("the network refuses the payjoin: txn-mempool-conflict");
    let mut outgoing = world.resume(Some(world.joined()));
    play(
        &mut outgoing,
        [
            (IDLE, block(100)),
            (send(&world.joined()), refused()),
            (Out::Record(plain.clone()), In::Done),
            (send(&plain), TAKEN),
            (IDLE, block(101)),
            (send(&plain), TAKEN),
        ],
    );
    assert_eq!(outgoing.poll_output(), IDLE);
}

#[test]
fn money_rule_6_an_original_that_is_refused_is_sent_again_after_a_rest() {
    let world = world();
    let plain = world.plain("the receiver refused");
    let mut outgoing = world.resume(Some(plain.clone()));
    play(&mut outgoing, [(IDLE, block(100)), (send(&plain), refused())]);
    assert_eq!(outgoing.poll_output(), Out::Wait(Some(LATER)));
    outgoing.handle_input(LATER, In::Tick).unwrap();
    play(
        &mut outgoing,
        [(send(&plain), refused()), (Out::Wait(Some(LATER)), block(101)), (send(&plain), TAKEN)],
    );
    assert_eq!(outgoing.poll_output(), IDLE);
}

#[test]
fn a_receiver_who_broadcasts_the_original_ends_the_conversation() {
    let world = world();
    let (mut outgoing, plain) = (world.begin(), world.plain(SEEN));
    play(
        &mut outgoing,
        [
            (IDLE, block(100)),
            (Out::Offer, mined(101, &world.original, 101)),
            // A reorganisation meanwhile does not bring the conversation back.
            (Out::Withdraw, block(101)),
            (Out::Withdraw, In::Done),
            (Out::Record(plain.clone()), mined(102, &world.original, 102)),
            (Out::Record(plain.clone()), In::Done),
            (IDLE, mined(107, &world.original, 102)),
            (Out::Settle, In::Done),
        ],
    );
    assert_eq!(outgoing.poll_output(), Out::Done);
}

#[test]
fn a_spend_that_is_mined_while_the_proposal_is_signed_is_what_was_paid() {
    let world = world();
    let (mut outgoing, plain) = (world.begin(), world.plain(SEEN));
    play(
        &mut outgoing,
        [
            (IDLE, block(100)),
            (Out::Offer, In::Answer(Ok(world.proposal.clone()))),
            (Out::Sign(world.proposal.clone()), mined(101, &world.original, 101)),
            (Out::Sign(world.proposal.clone()), In::Signed(Ok(world.payjoin.clone()))),
            (Out::Record(world.joined()), In::Done),
            (Out::Record(plain), In::Done),
        ],
    );
    assert_eq!(outgoing.poll_output(), IDLE);
}

#[test]
fn money_rule_7_after_a_reorganisation_the_payment_is_sent_again_and_its_coins_stay_locked() {
    let world = world();
    let (joined, plain) = (world.joined(), world.plain(SEEN));
    let mut outgoing = world.resume(Some(joined.clone()));
    play(
        &mut outgoing,
        [
            (IDLE, block(100)),
            (send(&joined), TAKEN),
            (IDLE, mined(105, &world.payjoin, 101)),
            // The block that would have buried it is on a branch without it.
            (IDLE, block(106)),
            (send(&joined), TAKEN),
            // The other branch has the Original.
            (IDLE, mined(107, &world.original, 104)),
            (Out::Record(plain.clone()), In::Done),
            (IDLE, mined(109, &world.original, 104)),
            (Out::Settle, block(109)),
            (send(&plain), TAKEN),
        ],
    );
    assert_eq!(outgoing.poll_output(), IDLE);
}

#[test]
fn a_crash_between_record_and_broadcast_sends_what_was_recorded() {
    let world = world();
    for paid in [world.joined(), world.plain("cancelled")] {
        let mut outgoing = world.resume(Some(paid.clone()));
        play(&mut outgoing, [(IDLE, In::Tick), (IDLE, block(100)), (send(&paid), TAKEN)]);
        // It was mined while we were away.
        let mut outgoing = world.resume(Some(paid.clone()));
        play(&mut outgoing, [(IDLE, mined(100, &paid.transaction, 99)), (IDLE, In::Tick)]);
        let mut outgoing = world.resume(Some(paid.clone()));
        play(&mut outgoing, [(IDLE, mined(110, &paid.transaction, 99)), (Out::Settle, In::Done)]);
    }
}

#[test]
fn a_crash_before_the_record_takes_the_conversation_up_again_unless_a_block_ended_it() {
    let world = world();
    let mut outgoing = world.begin();
    play(&mut outgoing, [(IDLE, block(100)), (Out::Offer, In::Answer(Err("cancelled".to_owned())))]);
    let mut outgoing = world.begin();
    play(&mut outgoing, [(IDLE, mined(100, &world.original, 99)), (Out::Withdraw, In::Done)]);
    assert_eq!(outgoing.poll_output(), Out::Record(world.plain(SEEN)));
}

#[test]
fn what_fails_is_asked_for_again_after_a_rest_that_no_clock_makes_longer() {
    let world = world();
    let joined = world.joined();
    for (mut outgoing, lead, asked) in [
        (world.begin(), vec![(IDLE, block(100))], Out::Offer),
        (
            world.begin(),
            vec![(IDLE, block(100)), (Out::Offer, mined(101, &world.original, 101))],
            Out::Withdraw,
        ),
        (world.resume(Some(joined.clone())), vec![(IDLE, block(100))], send(&joined)),
        (world.resume(Some(joined.clone())), vec![(IDLE, mined(200, &world.payjoin, 100))], Out::Settle),
    ] {
        play(&mut outgoing, lead);
        play(&mut outgoing, [(asked.clone(), In::Failed), (Out::Wait(Some(LATER)), In::Tick)]);
        outgoing.handle_input(Timestamp(NOW.0 - 1_000), In::Tick).unwrap();
        assert_eq!(outgoing.poll_output(), Out::Wait(Some(Timestamp(NOW.0 - 995))));
        outgoing.handle_input(LATER, In::Tick).unwrap();
        assert_eq!(outgoing.poll_output(), asked);
    }
}

#[test]
fn a_block_is_not_waited_for_by_what_rests() {
    let world = world();
    let joined = world.joined();
    let mut outgoing = world.resume(Some(joined.clone()));
    play(
        &mut outgoing,
        [(IDLE, block(100)), (send(&joined), In::Failed), (Out::Wait(Some(LATER)), block(101))],
    );
    assert_eq!(outgoing.poll_output(), send(&joined));
}

#[test]
fn what_was_not_asked_for_changes_nothing() {
    let world = world();
    let mut outgoing = world.begin();
    for input in [In::Done, In::Failed, TAKEN, In::Answer(Ok(world.proposal.clone()))] {
        assert_eq!(outgoing.handle_input(NOW, input), Err(OutgoingError));
        assert_eq!(outgoing.poll_output(), IDLE);
    }
    play(&mut outgoing, [(IDLE, block(100)), (Out::Offer, In::Answer(Err("no".to_owned())))]);
    for input in [TAKEN, refused(), In::Signed(Ok(world.payjoin.clone())), In::Answer(Err("no".to_owned()))] {
        assert_eq!(outgoing.handle_input(NOW, input), Err(OutgoingError));
        assert_eq!(outgoing.poll_output(), Out::Record(world.plain("no")));
    }
}
