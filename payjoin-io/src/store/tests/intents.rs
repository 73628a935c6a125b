use super::*;

#[tokio::test]
async fn money_rule_9_an_intent_is_taken_by_one_exchange() {
    let fixture = Fixture::new().await;
    let taking = |name, input, which: &[usize]| Admission {
        intents: which.iter().map(|n| fixture.intents[*n]).collect(),
        ..admission(name, &[input])
    };
    fixture.admitted(&taking("first", 1, &[0])).await;
    assert_eq!(fixture.state(0), IntentState::Negotiating);
    assert_eq!(fixture.queued(), fixture.intents[1..]);
    let before = fixture.ledger();
    let refused = fixture.store.admit(&taking("second", 2, &[1, 0])).await;
    assert!(matches!(refused, Err(StoreError::NotQueued(id)) if id == fixture.intents[0]));
    assert_eq!(fixture.ledger(), before);
    assert!(matches!(fixture.store.cancel_intent(fixture.intents[0]).await, Err(StoreError::NotQueued(_))));
}

#[tokio::test]
async fn money_rule_9_an_intent_goes_from_the_queue_to_an_open_channel() {
    let fixture = Fixture::new().await;
    let mut first = admission("first", &[1]);
    first.intents = vec![fixture.intents[0], fixture.intents[2]];
    let id = fixture.admitted(&first).await;
    let released = Release {
        channels: vec![channel(fixture.intents[0], 1)],
        reason: Some("the second peer is away".into()),
        ..release()
    };
    fixture.store.release(id, &released, Vec::new()).await.unwrap();
    let (txid, vout) = (released.txid, 1);
    assert_eq!(fixture.state(0), IntentState::Released { txid, vout });
    assert_eq!(fixture.state(2), IntentState::Queued { reason: released.reason });
    assert_eq!(fixture.queued(), fixture.intents[1..]);
    fixture.store.record_mined(id, Some((payjoin(), 120))).await.unwrap();
    assert_eq!(fixture.state(0), IntentState::Confirming { txid, vout });
    fixture.store.record_mined(id, None).await.unwrap();
    assert_eq!(fixture.state(0), IntentState::Released { txid, vout });
    // The Original in a block confirms no channel.
    fixture.store.record_mined(id, Some((first.original, 121))).await.unwrap();
    assert_eq!(fixture.state(0), IntentState::Released { txid, vout });
    fixture.store.settle(id, Settled::Payjoin).await.unwrap();
    assert_eq!(fixture.state(0), IntentState::Open { txid, vout });
}

#[tokio::test]
async fn money_rule_9_an_intent_whose_payjoin_lost_is_queued_with_the_reason() {
    for outcome in [Settled::Original, Settled::Conflict] {
        let fixture = Fixture::new().await;
        let mut first = admission("first", &[1]);
        first.intents = vec![fixture.intents[0]];
        let id = fixture.admitted(&first).await;
        let released = Release { channels: vec![channel(fixture.intents[0], 0)], ..release() };
        fixture.store.release(id, &released, Vec::new()).await.unwrap();
        fixture.store.settle(id, outcome).await.unwrap();
        assert!(matches!(fixture.state(0), IntentState::Queued { reason: Some(_) }));
        // It can be taken again, and the old exchange has no power over it.
        let again = Admission { intents: vec![fixture.intents[0]], ..admission("second", &[2]) };
        fixture.admitted(&again).await;
        fixture.store.record_mined(id, Some((payjoin(), 120))).await.unwrap();
        assert_eq!(fixture.state(0), IntentState::Negotiating);
    }
}

#[tokio::test]
async fn an_intent_that_failed_keeps_its_place_in_the_queue() {
    let fixture = Fixture::new().await;
    let mut first = admission("first", &[1]);
    first.intents = vec![fixture.intents[0]];
    let id = fixture.admitted(&first).await;
    fixture.store.fail(id, "the peer is away").await.unwrap();
    assert_eq!(fixture.queued(), fixture.intents);
    assert_eq!(fixture.state(0), IntentState::Queued { reason: Some("the peer is away".into()) });
}

#[tokio::test]
async fn an_intent_whose_channel_failed_waits_until_no_better_one_is_left() {
    let fixture = Fixture::new().await;
    let [first, second, third] = fixture.intents[..] else { panic!("three intents") };
    fixture.store.put_behind(&[first]).await.unwrap();
    assert_eq!(fixture.queued(), [second, third]);
    fixture.store.put_behind(&[second, third]).await.unwrap();
    assert_eq!(fixture.queued(), [first, second, third]);
    fixture.store.put_behind(&[first, third]).await.unwrap();
    fixture.store.cancel_intent(second).await.unwrap();
    assert_eq!(fixture.queued(), [first, third]);
}

#[tokio::test]
async fn an_intent_is_given_back_as_it_was_queued() {
    let fixture = Fixture::new().await;
    let rest = NewIntent { amount: ChannelAmount::Rest, payer_is_me: true, ..wish() };
    let id = fixture.store.queue_intent(rest.clone()).await.unwrap();
    let record = fixture.store.intent(id).unwrap().unwrap();
    assert_eq!((&record.spec, record.wish.amount), (&rest.spec, ChannelAmount::Rest));
    assert_eq!((record.wish.min, record.wish.max, record.wish.payer_is_me), (rest.min, rest.max, true));
    assert_eq!(record.state, IntentState::Queued { reason: None });
    assert_eq!(fixture.store.intents().unwrap().len(), 4);
    assert_eq!(fixture.store.queued_wishes(2).unwrap().len(), 2);
}

#[tokio::test]
async fn a_cancelled_intent_is_never_taken() {
    let fixture = Fixture::new().await;
    fixture.store.cancel_intent(fixture.intents[1]).await.unwrap();
    assert_eq!(fixture.state(1), IntentState::Cancelled);
    assert_eq!(fixture.queued(), [fixture.intents[0], fixture.intents[2]]);
    let taking = Admission { intents: vec![fixture.intents[1]], ..admission("first", &[1]) };
    assert!(matches!(fixture.store.admit(&taking).await, Err(StoreError::NotQueued(_))));
    assert!(matches!(fixture.store.cancel_intent(fixture.intents[1]).await, Err(StoreError::NotQueued(_))));
    assert!(matches!(fixture.store.cancel_intent(IntentId(99)).await, Err(StoreError::NotQueued(_))));
}
