//! The queue of channel intents.

use super::*;

fn end(reason: &str) -> ChannelEnd {
    ChannelEnd { how: Closure::Cooperative, reason: reason.into() }
}

pub async fn money_rule_9_an_intent_is_taken_by_one_exchange(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let taking = |name, input, which: &[usize]| Admission {
        intents: which.iter().map(|n| fixture.intents[*n]).collect(),
        ..admission(name, &[input])
    };
    fixture.admitted(&taking("first", 1, &[0])).await;
    assert_eq!(fixture.state(0).await, IntentState::Negotiating);
    assert_eq!(fixture.queued().await, fixture.intents[1..]);
    let before = fixture.picture().await;
    let refused = fixture.admit(&taking("second", 2, &[1, 0])).await;
    assert!(matches!(refused, Err(LedgerError::NotQueued(id)) if id == fixture.intents[0]));
    assert_eq!(fixture.picture().await, before);
    assert!(matches!(
        fixture.ledger.cancel_intent(fixture.intents[0], NOW).await,
        Err(LedgerError::NotQueued(_))
    ));
}

pub async fn money_rule_9_an_intent_goes_from_the_queue_to_an_open_channel(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let mut first = admission("first", &[1]);
    first.intents = vec![fixture.intents[0], fixture.intents[2]];
    let id = fixture.admitted(&first).await;
    let released = Release {
        channels: vec![channel(fixture.intents[0], 1)],
        reason: Some("the second peer is away".into()),
        ..release()
    };
    fixture.ledger.release(id, &released, Vec::new()).await.unwrap();
    let (txid, vout) = (released.txid, 1);
    assert_eq!(fixture.state(0).await, IntentState::Released { txid, vout });
    assert_eq!(fixture.state(2).await, IntentState::Queued { reason: released.reason });
    assert_eq!(fixture.queued().await, fixture.intents[1..]);
    fixture.ledger.record_mined(id, Some((payjoin(), 120))).await.unwrap();
    assert_eq!(fixture.state(0).await, IntentState::Confirming { txid, vout });
    fixture.ledger.record_mined(id, None).await.unwrap();
    assert_eq!(fixture.state(0).await, IntentState::Released { txid, vout });
    // The Original in a block confirms no channel.
    fixture.ledger.record_mined(id, Some((first.original, 121))).await.unwrap();
    assert_eq!(fixture.state(0).await, IntentState::Released { txid, vout });
    let intent = fixture.intents[0];
    fixture.ledger.open_intent(intent).await.unwrap();
    assert_eq!(fixture.state(0).await, IntentState::Released { txid, vout }, "it is not buried");
    fixture.ledger.settle(id, Settled::Payjoin, NOW).await.unwrap();
    assert_eq!(fixture.state(0).await, IntentState::Confirming { txid, vout }, "its channel is not usable");
    assert_eq!(fixture.ledger.buried_intents().await.unwrap(), [(intent, OutPoint { txid, vout })]);
    fixture.ledger.open_intent(intent).await.unwrap();
    assert_eq!(fixture.state(0).await, IntentState::Open { txid, vout });
    assert_eq!(fixture.ledger.buried_intents().await.unwrap(), []);
}

pub async fn money_rule_9_an_intent_whose_payjoin_lost_is_queued_with_the_reason(new: NewHome<'_>) {
    for outcome in [Settled::Original, Settled::Conflict] {
        let fixture = Fixture::new(new).await;
        let mut first = admission("first", &[1]);
        first.intents = vec![fixture.intents[0]];
        let id = fixture.admitted(&first).await;
        let released = Release { channels: vec![channel(fixture.intents[0], 0)], ..release() };
        fixture.ledger.release(id, &released, Vec::new()).await.unwrap();
        fixture.ledger.settle(id, outcome, NOW).await.unwrap();
        assert!(matches!(fixture.state(0).await, IntentState::Queued { reason: Some(_) }));
        // It can be taken again, and the old exchange has no power over it.
        let again = Admission { intents: vec![fixture.intents[0]], ..admission("second", &[2]) };
        fixture.admitted(&again).await;
        fixture.ledger.record_mined(id, Some((payjoin(), 120))).await.unwrap();
        assert_eq!(fixture.state(0).await, IntentState::Negotiating);
    }
}

pub async fn an_intent_that_failed_keeps_its_place_in_the_queue(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let mut first = admission("first", &[1]);
    first.intents = vec![fixture.intents[0]];
    let id = fixture.admitted(&first).await;
    fixture.ledger.fail(id, "the peer is away").await.unwrap();
    assert_eq!(fixture.queued().await, fixture.intents);
    assert_eq!(fixture.state(0).await, IntentState::Queued { reason: Some("the peer is away".into()) });
}

pub async fn an_intent_is_given_back_as_it_was_queued(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let rest = ChannelSpec { amount: ChannelAmount::Rest, ..wish() };
    let absorb = ChannelSpec { amount: ChannelAmount::Absorb, ..wish() };
    for spec in [rest, absorb] {
        let id = fixture.ledger.queue_intent(spec.clone(), LIMITS, None).await.unwrap();
        let record = fixture.ledger.intent(id).await.unwrap().unwrap();
        assert_eq!((&record.spec, &record.wish), (&spec, &spec.wish(id, &LIMITS)));
        assert_eq!(record.state, IntentState::Queued { reason: None });
    }
    assert_eq!(fixture.ledger.intents().await.unwrap().len(), 5);
}

pub async fn a_cancelled_intent_is_never_taken(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    fixture.ledger.cancel_intent(fixture.intents[1], NOW).await.unwrap();
    assert_eq!(fixture.state(1).await, IntentState::Cancelled);
    assert_eq!(fixture.queued().await, [fixture.intents[0], fixture.intents[2]]);
    let taking = Admission { intents: vec![fixture.intents[1]], ..admission("first", &[1]) };
    assert!(matches!(fixture.admit(&taking).await, Err(LedgerError::NotQueued(_))));
    assert!(matches!(
        fixture.ledger.cancel_intent(fixture.intents[1], NOW).await,
        Err(LedgerError::NotQueued(_))
    ));
    assert!(matches!(fixture.ledger.cancel_intent(IntentId(99), NOW).await, Err(LedgerError::NotQueued(_))));
}

pub async fn money_rule_9_a_channel_that_closes_ends_its_intent_once_its_payjoin_is_buried(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let intent = fixture.intents[0];
    let id = fixture.admitted(&Admission { intents: vec![intent], ..admission("first", &[1]) }).await;
    let released = Release { channels: vec![channel(intent, 1)], ..release() };
    fixture.ledger.release(id, &released, Vec::new()).await.unwrap();
    let funding = OutPoint { txid: released.txid, vout: 1 };
    let closing = |n: u32| spend(&[n]).compute_txid();
    let ledger = &fixture.ledger;
    assert_eq!(ledger.fundings(NOW).await.unwrap(), [funding]);
    // The peer was quick. The payjoin may still lose, and another payment open this channel.
    assert!(!ledger.close_intent(funding, &end("asked"), NOW).await.unwrap());
    ledger.record_mined(id, Some((payjoin(), 120))).await.unwrap();
    assert!(!ledger.close_intent(funding, &end("asked"), NOW).await.unwrap());
    assert!(matches!(fixture.state(0).await, IntentState::Confirming { .. }));
    ledger.record_closing(funding, closing(7)).await.unwrap();
    ledger.settle(id, Settled::Payjoin, NOW).await.unwrap();
    assert!(ledger.close_intent(funding, &end("asked"), NOW).await.unwrap());
    let closed = |closing| IntentState::Closed {
        txid: funding.txid,
        vout: funding.vout,
        closing: Some(closing),
        reason: "asked".into(),
    };
    let fixture = fixture.reopened().await;
    let ledger = &fixture.ledger;
    assert_eq!(fixture.state(0).await, closed(closing(7)));
    ledger.record_closing(funding, closing(8)).await.unwrap();
    assert_eq!(fixture.state(0).await, closed(closing(8)), "a block of another branch");
    assert_eq!(ledger.fundings(NOW).await.unwrap(), [funding], "blocks may be reorganised after a restart");
    assert_eq!(ledger.fundings(NOW.plus(1)).await.unwrap(), []);
    // It is over: neither does it open again, nor is it queued, nor does a second word change the first.
    ledger.open_intent(intent).await.unwrap();
    assert!(ledger.close_intent(funding, &end("once more"), NOW).await.unwrap());
    assert_eq!(fixture.state(0).await, closed(closing(8)));
    assert_eq!(fixture.queued().await, fixture.intents[1..]);
    assert!(ledger.close_intent(OutPoint { vout: 9, ..funding }, &end("a stranger's"), NOW).await.unwrap());
}

pub async fn money_rule_9_a_channel_that_closed_before_its_payjoin_lost_is_queued_again(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let intent = fixture.intents[0];
    let id = fixture.admitted(&Admission { intents: vec![intent], ..admission("first", &[1]) }).await;
    let released = Release { channels: vec![channel(intent, 1)], ..release() };
    fixture.ledger.release(id, &released, Vec::new()).await.unwrap();
    let funding = OutPoint { txid: released.txid, vout: 1 };
    assert!(!fixture.ledger.close_intent(funding, &end("asked"), NOW).await.unwrap());
    fixture.ledger.settle(id, Settled::Original, NOW).await.unwrap();
    assert!(fixture.ledger.close_intent(funding, &end("asked"), NOW).await.unwrap(), "nobody's any more");
    assert!(matches!(fixture.state(0).await, IntentState::Queued { .. }));
    assert_eq!(fixture.ledger.fundings(NOW).await.unwrap(), []);
}
