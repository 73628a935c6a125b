use super::*;

#[tokio::test]
async fn money_rule_8_an_original_with_one_seen_input_writes_nothing() {
    let fixture = Fixture::new().await;
    fixture.admitted(&admission("first", &[1, 2])).await;
    let before = fixture.ledger();
    let mut second = admission("second", &[3, 2]);
    second.coins = vec![coin(101)];
    second.intents = vec![fixture.intents[0]];
    assert_eq!(fixture.store.admit(&second).await.unwrap(), AdmitOutcome::Seen);
    assert_eq!(fixture.ledger(), before);
    // Its other input was not recorded either.
    fixture.admitted(&admission("third", &[3])).await;
}

#[tokio::test]
async fn money_rule_8_the_same_original_is_answered_with_the_same_bytes_after_a_crash() {
    let fixture = Fixture::new().await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    let name = OriginalId("first".into());
    assert_eq!(fixture.store.recall(&name).unwrap(), None);
    fixture.store.release(id, &release(), Vec::new()).await.unwrap();
    let fixture = fixture.reopened();
    assert_eq!(fixture.store.recall(&name).unwrap(), Some("cHNidP8=".into()));
    fixture.store.settle(id, Settled::Payjoin).await.unwrap();
    assert_eq!(fixture.store.recall(&name).unwrap(), Some("cHNidP8=".into()));
    // Whoever asks without recalling is told that its inputs were seen.
    assert_eq!(fixture.store.admit(&admission("first", &[1])).await.unwrap(), AdmitOutcome::Seen);
}

#[tokio::test]
async fn money_rule_8_coins_and_offers_of_an_invoice_are_those_shown_for_it() {
    let fixture = Fixture::new().await;
    let here = InvoiceId("a".into());
    let mut first = admission("first", &[1]);
    first.coins = vec![coin(101), coin(102)];
    let id = fixture.admitted(&first).await;
    assert_eq!(fixture.store.offers(&here).unwrap(), 0);
    let kept = Release { coins: vec![coin(101)], ..release() };
    assert_eq!(fixture.store.release(id, &kept, Vec::new()).await.unwrap(), [coin(102)]);
    assert_eq!(fixture.store.offers(&here).unwrap(), 1);
    assert_eq!(fixture.store.offered_coins(&here).unwrap(), [coin(101)]);
    assert_eq!(fixture.store.offered_coins(&InvoiceId("b".into())).unwrap(), []);
}

#[tokio::test]
async fn an_offer_is_admitted_and_released_in_one_write_or_not_at_all() {
    let fixture = Fixture::new().await;
    let first = Admission { coins: vec![coin(101)], ..admission("first", &[1]) };
    let before = fixture.ledger();
    let stolen = Release { coins: vec![coin(102)], ..release() };
    assert!(matches!(fixture.store.offer(&first, &stolen).await, Err(StoreError::CoinLocked(_))));
    assert_eq!(fixture.ledger(), before);

    let commits = fixture.store.commits();
    let kept = Release { coins: vec![coin(101)], ..release() };
    let AdmitOutcome::Admitted(id) = fixture.store.offer(&first, &kept).await.unwrap() else {
        panic!("seen")
    };
    assert_eq!(fixture.store.commits(), commits + 1);
    let fixture = fixture.reopened();
    assert_eq!(fixture.store.exchange(id).unwrap().unwrap().state, ExchangeState::Released);
    assert_eq!(fixture.store.recall(&first.original_id).unwrap(), Some(kept.proposal.clone()));
    assert_eq!(fixture.store.locked_coins().unwrap(), [coin(101)]);
    let other = admission("other", &[1]);
    assert_eq!(fixture.store.offer(&other, &release()).await.unwrap(), AdmitOutcome::Seen);
}

#[tokio::test]
async fn an_original_whose_exchange_failed_takes_it_over_and_keeps_its_deadline() {
    let fixture = Fixture::new().await;
    let first = admission("first", &[1]);
    let id = fixture.admitted(&first).await;
    assert!(matches!(fixture.store.admit(&first).await, Err(StoreError::WrongState(other)) if other == id));
    fixture.store.fail(id, "the peer is away").await.unwrap();
    let again = Admission { fallback_at: NOW.plus(9_000), ..first };
    assert_eq!(fixture.admitted(&again).await, id);
    assert_eq!(fixture.store.obligation(id).unwrap().unwrap().fallback_at, NOW.plus(600));
    // Another Original with the same input is still another Original.
    assert_eq!(fixture.store.admit(&admission("other", &[1])).await.unwrap(), AdmitOutcome::Seen);
}

#[tokio::test]
async fn money_rule_7_coins_stay_locked_until_the_obligation_ends() {
    for outcome in [Settled::Payjoin, Settled::Original, Settled::Conflict] {
        let fixture = Fixture::new().await;
        let mut first = admission("first", &[1]);
        first.coins = vec![coin(101)];
        let id = fixture.admitted(&first).await;
        assert_eq!(fixture.store.locked_coins().unwrap(), [coin(101)]);
        let kept = Release { coins: vec![coin(101)], ..release() };
        assert_eq!(fixture.store.release(id, &kept, Vec::new()).await.unwrap(), []);
        let fixture = fixture.reopened();
        assert_eq!(fixture.store.locked_coins().unwrap(), [coin(101)]);
        assert_eq!(fixture.store.settle(id, outcome).await.unwrap(), [coin(101)]);
        assert_eq!(fixture.store.locked_coins().unwrap(), []);
        assert_eq!(fixture.store.exchange(id).unwrap().unwrap().settled, Some(outcome));
        assert!(matches!(fixture.store.settle(id, outcome).await, Err(StoreError::WrongState(_))));
    }
}

#[tokio::test]
async fn money_rule_7_a_coin_is_shared_by_attempts_at_one_invoice_only() {
    let fixture = Fixture::new().await;
    let offer = |name, input| Admission { coins: vec![coin(101)], ..admission(name, &[input]) };
    let first = fixture.admitted(&offer("first", 1)).await;
    let second = fixture.admitted(&offer("second", 2)).await;
    let before = fixture.ledger();
    let elsewhere = Admission { invoice: InvoiceId("b".into()), ..offer("third", 3) };
    assert!(
        matches!(fixture.store.admit(&elsewhere).await, Err(StoreError::CoinLocked(c)) if c == coin(101))
    );
    assert_eq!(fixture.ledger(), before);
    // Each of them holds a lock of its own.
    assert_eq!(fixture.store.locked_coins().unwrap(), [coin(101), coin(101)]);
    assert_eq!(fixture.store.fail(first, "x").await.unwrap(), [coin(101)]);
    assert_eq!(fixture.store.locked_coins().unwrap(), [coin(101)]);
    assert_eq!(fixture.store.fail(second, "x").await.unwrap(), [coin(101)]);
    assert_eq!(fixture.store.locked_coins().unwrap(), []);
}

#[tokio::test]
async fn money_rule_7_a_proposal_cannot_spend_a_coin_that_was_never_locked() {
    let fixture = Fixture::new().await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    let before = fixture.ledger();
    let stolen = Release { coins: vec![coin(101)], ..release() };
    let refused = fixture.store.release(id, &stolen, vec![kv(1)]).await;
    assert!(matches!(refused, Err(StoreError::CoinLocked(c)) if c == coin(101)));
    assert_eq!(fixture.ledger(), before);
    assert_eq!(fixture.store.kv_read("node", "", "manager").unwrap(), None);
}

#[tokio::test]
async fn money_rule_1_the_nodes_state_is_written_with_the_proposal_or_neither() {
    let fixture = Fixture::new().await;
    let mut first = admission("first", &[1]);
    first.intents = vec![fixture.intents[0]];
    let id = fixture.admitted(&first).await;
    let not_taken = Release { channels: vec![channel(fixture.intents[1], 0)], ..release() };
    let refused = fixture.store.release(id, &not_taken, vec![kv(1)]).await;
    assert!(matches!(refused, Err(StoreError::NotQueued(other)) if other == fixture.intents[1]));
    assert_eq!(fixture.store.kv_read("node", "", "manager").unwrap(), None);
    assert_eq!(fixture.store.recall(&first.original_id).unwrap(), None);
    let taken = Release { channels: vec![channel(fixture.intents[0], 0)], ..release() };
    fixture.store.release(id, &taken, vec![kv(1)]).await.unwrap();
    assert_eq!(fixture.store.kv_read("node", "", "manager").unwrap(), Some(vec![1]));
}

#[tokio::test]
async fn an_original_is_owed_from_admission_until_it_is_settled() {
    let fixture = Fixture::new().await;
    let mut first = admission("first", &[1]);
    first.coins = vec![coin(101)];
    let id = fixture.admitted(&first).await;
    let fixture = fixture.reopened();
    assert_eq!(fixture.store.recover().await.unwrap(), [id]);
    assert_eq!(fixture.store.recover().await.unwrap(), []);
    let owed = fixture.store.obligations().unwrap();
    assert_eq!(owed.len(), 1);
    assert_eq!(
        (&owed[0].original, owed[0].payjoin, owed[0].fallback_at),
        (&first.original, None, NOW.plus(600))
    );
    assert_eq!(owed[0].coins, []);
    let shown = fixture.store.exchanges(10).unwrap().remove(0);
    assert_eq!((shown.state, shown.reason.as_deref()), (ExchangeState::Failed, Some("interrupted")));
    fixture.store.settle(id, Settled::Original).await.unwrap();
    assert_eq!(fixture.store.obligations().unwrap(), []);
    assert_eq!(fixture.store.obligation(id).unwrap(), None);
}

#[tokio::test]
async fn an_interrupted_exchange_frees_its_coins_and_intents() {
    let fixture = Fixture::new().await;
    let mut first = admission("first", &[1]);
    first.coins = vec![coin(101)];
    first.intents = fixture.intents.clone();
    fixture.admitted(&first).await;
    assert_eq!(fixture.queued(), []);
    let fixture = fixture.reopened();
    fixture.store.recover().await.unwrap();
    assert_eq!(fixture.store.locked_coins().unwrap(), []);
    assert_eq!(fixture.queued(), fixture.intents);
    assert_eq!(fixture.state(2), IntentState::Queued { reason: Some("interrupted".into()) });
}

#[tokio::test]
async fn what_was_mined_is_kept_and_forgotten_with_the_block() {
    let fixture = Fixture::new().await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    fixture.store.release(id, &release(), Vec::new()).await.unwrap();
    fixture.store.record_mined(id, Some((payjoin(), 120))).await.unwrap();
    let fixture = fixture.reopened();
    let owed = fixture.store.obligation(id).unwrap().unwrap();
    assert_eq!((owed.mined, owed.payjoin), (Some((payjoin(), 120)), Some(payjoin().compute_txid())));
    fixture.store.record_mined(id, None).await.unwrap();
    assert_eq!(fixture.store.obligation(id).unwrap().unwrap().mined, None);
    let missing = fixture.store.record_mined(ExchangeId(99), None).await;
    assert!(matches!(missing, Err(StoreError::WrongState(ExchangeId(99)))));
}

#[tokio::test]
async fn an_exchange_is_shown_with_its_channels() {
    let fixture = Fixture::new().await;
    let mut first = admission("first", &[1]);
    first.intents = vec![fixture.intents[0]];
    let id = fixture.admitted(&first).await;
    let channels = vec![channel(fixture.intents[0], 1)];
    let released = Release { channels: channels.clone(), ..release() };
    fixture.store.release(id, &released, Vec::new()).await.unwrap();
    let expected = ExchangeRecord {
        id,
        invoice: InvoiceId("a".into()),
        state: ExchangeState::Released,
        original_txid: first.original.compute_txid(),
        payjoin_txid: Some(released.txid),
        channels,
        reason: None,
        fallback_at: NOW.plus(700),
        created: NOW,
        settled: None,
    };
    assert_eq!(fixture.store.exchange(id).unwrap(), Some(expected.clone()));
    assert_eq!(fixture.store.exchanges(1).unwrap(), [expected]);
    assert_eq!(fixture.store.exchange(ExchangeId(99)).unwrap(), None);
}

#[tokio::test]
async fn an_exchange_is_released_or_fails_once() {
    let fixture = Fixture::new().await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    assert!(matches!(fixture.store.settle(id, Settled::Original).await, Err(StoreError::WrongState(_))));
    fixture.store.release(id, &release(), Vec::new()).await.unwrap();
    assert!(matches!(
        fixture.store.release(id, &release(), Vec::new()).await,
        Err(StoreError::WrongState(_))
    ));
    assert!(matches!(fixture.store.fail(id, "x").await, Err(StoreError::WrongState(_))));
}

fn kv(generation: u64) -> KvWrite {
    let (primary, secondary, key) = ("node".into(), String::new(), "manager".into());
    KvWrite { primary, secondary, key, value: vec![u8::try_from(generation).unwrap()], generation }
}

#[tokio::test]
async fn a_stale_channel_manager_never_replaces_a_newer_one() {
    let fixture = Fixture::new().await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    fixture.store.release(id, &release(), vec![kv(7)]).await.unwrap();
    let value = || fixture.store.kv_read("node", "", "manager").unwrap();
    // (generation written, generation and value afterwards)
    for (generation, after) in [(6, 7), (7, 7), (8, 8), (3, 8)] {
        fixture.store.kv_write(kv(generation)).unwrap();
        assert_eq!(fixture.store.kv_generation("node", "", "manager").unwrap(), after);
        assert_eq!(value(), Some(vec![u8::try_from(after).unwrap()]));
    }
    fixture.store.kv_write(kv(0)).unwrap();
    assert_eq!(value(), Some(vec![0]));
    assert_eq!(fixture.store.kv_generation("node", "", "manager").unwrap(), 8);
}
