//! Invoices and exchanges.

use super::*;

pub async fn an_invoice_is_found_by_its_name(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await.reopened().await;
    let ledger = &fixture.ledger;
    assert_eq!(ledger.invoice(&InvoiceId("a".into())).await.unwrap(), Some(invoice("a")));
    assert_eq!(ledger.invoice(&InvoiceId("'; --".into())).await.unwrap(), None);
    assert_eq!(ledger.invoices(10).await.unwrap(), [invoice("b"), invoice("a")]);
    assert_eq!(ledger.invoices(1).await.unwrap(), [invoice("b")]);
    assert!(matches!(ledger.insert_invoice(&invoice("a")).await, Err(LedgerError::Conflict(_))));
    let mine = Invoice { payer_is_me: true, ..invoice("c") };
    ledger.insert_invoice(&mine).await.unwrap();
    assert_eq!(ledger.invoice(&mine.id).await.unwrap(), Some(mine));
}

pub async fn an_exchange_needs_an_invoice_that_exists(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let nowhere = Admission { invoice: InvoiceId("c".into()), ..admission("first", &[1]) };
    assert!(matches!(fixture.admit(&nowhere).await, Err(LedgerError::Conflict(_))));
    assert_eq!(fixture.ledger.exchanges(None, 10).await.unwrap(), []);
}

pub async fn money_rule_8_an_original_with_one_seen_input_writes_nothing(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    fixture.admitted(&admission("first", &[1, 2])).await;
    let before = fixture.picture().await;
    let mut second = admission("second", &[3, 2]);
    second.coins = vec![coin(101)];
    second.intents = vec![fixture.intents[0]];
    assert_eq!(fixture.admit(&second).await.unwrap(), AdmitOutcome::Seen);
    assert_eq!(fixture.picture().await, before);
    // Its other input was not recorded either.
    fixture.admitted(&admission("third", &[3])).await;
}

pub async fn money_rule_8_the_same_original_is_answered_with_the_same_bytes_after_a_crash(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    let name = OriginalId("first".into());
    assert_eq!(fixture.ledger.recall(&name).await.unwrap(), None);
    fixture.ledger.release(id, &release(), Vec::new()).await.unwrap();
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.recall(&name).await.unwrap(), Some("cHNidP8=".into()));
    fixture.ledger.settle(id, Settled::Payjoin, NOW).await.unwrap();
    assert_eq!(fixture.ledger.recall(&name).await.unwrap(), Some("cHNidP8=".into()));
    // Whoever asks without recalling is told that its inputs were seen.
    assert_eq!(fixture.admit(&admission("first", &[1])).await.unwrap(), AdmitOutcome::Seen);
}

pub async fn money_rule_8_coins_and_offers_of_an_invoice_are_those_shown_for_it(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let here = InvoiceId("a".into());
    let mut first = admission("first", &[1]);
    first.coins = vec![coin(101), coin(102)];
    let id = fixture.admitted(&first).await;
    assert_eq!(fixture.ledger.offers(&here).await.unwrap(), 0);
    let kept = Release { coins: vec![coin(101)], ..release() };
    fixture.ledger.release(id, &kept, Vec::new()).await.unwrap();
    assert_eq!(fixture.ledger.offers(&here).await.unwrap(), 1);
    assert_eq!(fixture.ledger.offered_coins(&here).await.unwrap(), [coin(101)]);
    assert_eq!(fixture.ledger.offered_coins(&InvoiceId("b".into())).await.unwrap(), []);
}

pub async fn an_offer_is_admitted_and_released_in_one_write_or_not_at_all(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let first = Admission { coins: vec![coin(101)], ..admission("first", &[1]) };
    let before = fixture.picture().await;
    let stolen = Release { coins: vec![coin(102)], ..release() };
    assert!(matches!(
        fixture.ledger.offer(fixture.number(&first).await, &first, &stolen).await,
        Err(LedgerError::CoinLocked(_))
    ));
    assert_eq!(fixture.picture().await, before);

    let kept = Release { coins: vec![coin(101)], ..release() };
    let id = fixture.number(&first).await;
    assert_eq!(fixture.ledger.offer(id, &first, &kept).await.unwrap(), AdmitOutcome::Admitted);
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.exchange(id).await.unwrap().unwrap().state, ExchangeState::Released);
    assert_eq!(fixture.ledger.recall(&first.original_id).await.unwrap(), Some(kept.proposal.clone()));
    assert_eq!(fixture.locked().await, [coin(101)]);
    let other = admission("other", &[1]);
    assert_eq!(
        fixture.ledger.offer(fixture.number(&other).await, &other, &release()).await.unwrap(),
        AdmitOutcome::Seen
    );
}

pub async fn an_original_whose_exchange_failed_takes_it_over_and_keeps_its_deadline(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let first = admission("first", &[1]);
    let id = fixture.admitted(&first).await;
    assert!(matches!(fixture.admit(&first).await, Err(LedgerError::WrongState(other)) if other == id));
    fixture.ledger.fail(id, "the peer is away").await.unwrap();
    let again = Admission { fallback_at: NOW.plus(9_000), ..first };
    assert_eq!(fixture.admitted(&again).await, id);
    assert_eq!(fixture.ledger.obligation(id).await.unwrap().unwrap().fallback_at, NOW.plus(600));
    // Another Original with the same input is still another Original.
    assert_eq!(fixture.admit(&admission("other", &[1])).await.unwrap(), AdmitOutcome::Seen);
}

pub async fn money_rule_7_coins_stay_locked_until_the_obligation_ends(new: NewHome<'_>) {
    for outcome in [Settled::Payjoin, Settled::Original, Settled::Conflict] {
        let fixture = Fixture::new(new).await;
        let mut first = admission("first", &[1]);
        first.coins = vec![coin(101)];
        let id = fixture.admitted(&first).await;
        assert_eq!(fixture.locked().await, [coin(101)]);
        let kept = Release { coins: vec![coin(101)], ..release() };
        fixture.ledger.release(id, &kept, Vec::new()).await.unwrap();
        let fixture = fixture.reopened().await;
        assert_eq!(fixture.locked().await, [coin(101)]);
        fixture.ledger.settle(id, outcome, NOW).await.unwrap();
        assert_eq!(fixture.locked().await, []);
        assert_eq!(fixture.ledger.exchange(id).await.unwrap().unwrap().settled, Some(outcome));
        assert!(matches!(fixture.ledger.settle(id, outcome, NOW).await, Err(LedgerError::WrongState(_))));
    }
}

pub async fn money_rule_7_a_coin_is_shared_by_attempts_at_one_invoice_only(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let offer = |name, input| Admission { coins: vec![coin(101)], ..admission(name, &[input]) };
    let first = fixture.admitted(&offer("first", 1)).await;
    let second = fixture.admitted(&offer("second", 2)).await;
    let before = fixture.picture().await;
    let elsewhere = Admission { invoice: InvoiceId("b".into()), ..offer("third", 3) };
    assert!(matches!(fixture.admit(&elsewhere).await, Err(LedgerError::CoinLocked(c)) if c == coin(101)));
    assert_eq!(fixture.picture().await, before);
    // Each of them holds a lock of its own.
    assert_eq!(fixture.locked().await, [coin(101), coin(101)]);
    fixture.ledger.fail(first, "x").await.unwrap();
    assert_eq!(fixture.locked().await, [coin(101)]);
    fixture.ledger.fail(second, "x").await.unwrap();
    assert_eq!(fixture.locked().await, []);
}

pub async fn money_rule_7_a_proposal_cannot_spend_a_coin_that_was_never_locked(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    let before = fixture.picture().await;
    let stolen = Release { coins: vec![coin(101)], ..release() };
    let refused = fixture.ledger.release(id, &stolen, vec![kv(1)]).await;
    assert!(matches!(refused, Err(LedgerError::CoinLocked(c)) if c == coin(101)));
    assert_eq!(fixture.picture().await, before);
    assert_eq!(fixture.ledger.kv_read("node", "", "manager").unwrap(), None);
}

pub async fn money_rule_1_the_nodes_state_is_written_with_the_proposal_or_neither(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let mut first = admission("first", &[1]);
    first.intents = vec![fixture.intents[0]];
    let id = fixture.admitted(&first).await;
    let not_taken = Release { channels: vec![channel(fixture.intents[1], 0)], ..release() };
    let refused = fixture.ledger.release(id, &not_taken, vec![kv(1)]).await;
    assert!(matches!(refused, Err(LedgerError::NotQueued(other)) if other == fixture.intents[1]));
    assert_eq!(fixture.ledger.kv_read("node", "", "manager").unwrap(), None);
    assert_eq!(fixture.ledger.recall(&first.original_id).await.unwrap(), None);
    let taken = Release { channels: vec![channel(fixture.intents[0], 0)], ..release() };
    fixture.ledger.release(id, &taken, vec![kv(1)]).await.unwrap();
    assert_eq!(fixture.ledger.kv_read("node", "", "manager").unwrap(), Some(vec![1]));
}

pub async fn an_original_is_owed_from_admission_until_it_is_settled(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let mut first = admission("first", &[1]);
    first.coins = vec![coin(101)];
    let id = fixture.admitted(&first).await;
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.recover().await.unwrap(), [id]);
    assert_eq!(fixture.ledger.recover().await.unwrap(), []);
    let owed = fixture.ledger.obligations().await.unwrap();
    assert_eq!(owed.len(), 1);
    assert_eq!(
        (&owed[0].original, owed[0].payjoin, owed[0].fallback_at),
        (&first.original, None, NOW.plus(600))
    );
    assert_eq!(owed[0].coins, []);
    let shown = fixture.ledger.exchanges(None, 10).await.unwrap().remove(0);
    assert_eq!((shown.state, shown.reason.as_deref()), (ExchangeState::Failed, Some("interrupted")));
    fixture.ledger.settle(id, Settled::Original, NOW).await.unwrap();
    assert_eq!(fixture.ledger.obligations().await.unwrap(), []);
    assert_eq!(fixture.ledger.obligation(id).await.unwrap(), None);
}

pub async fn an_interrupted_exchange_frees_its_coins_and_intents(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let mut first = admission("first", &[1]);
    first.coins = vec![coin(101)];
    first.intents = fixture.intents.clone();
    fixture.admitted(&first).await;
    assert_eq!(fixture.queued().await, []);
    let fixture = fixture.reopened().await;
    fixture.ledger.recover().await.unwrap();
    assert_eq!(fixture.locked().await, []);
    assert_eq!(fixture.queued().await, fixture.intents);
    assert_eq!(fixture.state(2).await, IntentState::Queued { reason: Some("interrupted".into()) });
}

pub async fn what_was_mined_is_kept_and_forgotten_with_the_block(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    fixture.ledger.release(id, &release(), Vec::new()).await.unwrap();
    fixture.ledger.record_mined(id, Some((payjoin(), 120))).await.unwrap();
    let fixture = fixture.reopened().await;
    let owed = fixture.ledger.obligation(id).await.unwrap().unwrap();
    assert_eq!((owed.mined, owed.payjoin), (Some((payjoin(), 120)), Some(payjoin().compute_txid())));
    fixture.ledger.record_mined(id, None).await.unwrap();
    assert_eq!(fixture.ledger.obligation(id).await.unwrap().unwrap().mined, None);
    let missing = fixture.ledger.record_mined(ExchangeId(99), None).await;
    assert!(matches!(missing, Err(LedgerError::WrongState(ExchangeId(99)))));
}

pub async fn an_exchange_is_shown_with_its_channels(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let mut first = admission("first", &[1]);
    first.intents = vec![fixture.intents[0]];
    let id = fixture.admitted(&first).await;
    let channels = vec![channel(fixture.intents[0], 1)];
    let released = Release { channels: channels.clone(), ..release() };
    fixture.ledger.release(id, &released, Vec::new()).await.unwrap();
    let expected = ExchangeRecord {
        plain: None,
        id,
        invoice: InvoiceId("a".into()),
        state: ExchangeState::Released,
        original_txid: first.original.compute_txid(),
        payjoin_txid: Some(released.txid),
        mined_txid: None,
        own: false,
        channels,
        partitions: released.partitions,
        reason: None,
        amount: Some(Amount::ZERO),
        fee: Some(Amount::from_sat(1_000)),
        saved: None,
        mined_height: None,
        fallback_at: NOW.plus(700),
        created: NOW,
        settled: None,
    };
    assert_eq!(fixture.ledger.exchange(id).await.unwrap(), Some(expected.clone()));
    assert_eq!(fixture.ledger.exchanges(None, 1).await.unwrap(), std::slice::from_ref(&expected));
    let older = |before| fixture.ledger.exchanges(Some(before), 1);
    assert_eq!(older(ExchangeId(id.0 + 1)).await.unwrap(), [expected]);
    assert_eq!(older(id).await.unwrap(), []);
    assert_eq!(fixture.ledger.exchange(ExchangeId(99)).await.unwrap(), None);
}

pub async fn a_transaction_id_that_a_signature_may_change_is_not_shown(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let signed = |mut transaction: Transaction| {
        transaction.input[0].script_sig = ScriptBuf::from_bytes(vec![1]);
        transaction
    };
    let nested = Admission { original: signed(spend(&[1])), ..admission("first", &[1]) };
    let id = fixture.admitted(&nested).await;
    fixture.ledger.release(id, &release(), Vec::new()).await.unwrap();
    let shown = async || {
        let record = fixture.ledger.exchange(id).await.unwrap().unwrap();
        (record.payjoin_txid, record.mined_txid)
    };
    assert_eq!(shown().await, (None, None));
    let payjoin = signed(payjoin());
    fixture.ledger.record_signed(id, &payjoin).await.unwrap();
    assert_eq!(shown().await, (Some(payjoin.compute_txid()), None));
    let owed = fixture.ledger.obligation(id).await.unwrap().unwrap();
    assert_eq!(
        (owed.signed.as_ref(), owed.fees.original.to_sat(), owed.fees.payjoin.to_sat()),
        (Some(&payjoin), 1_000, 2_000)
    );
    let other = spend(&[1, 2]);
    fixture.ledger.record_mined(id, Some((other.clone(), 9))).await.unwrap();
    fixture.ledger.settle(id, Settled::Conflict, NOW).await.unwrap();
    assert_eq!(shown().await.1, Some(other.compute_txid()));
    let missing = fixture.ledger.record_signed(ExchangeId(99), &payjoin).await;
    assert!(matches!(missing, Err(LedgerError::WrongState(ExchangeId(99)))));
}

pub async fn an_exchange_is_released_or_fails_once(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    assert!(matches!(
        fixture.ledger.settle(id, Settled::Original, NOW).await,
        Err(LedgerError::WrongState(_))
    ));
    fixture.ledger.release(id, &release(), Vec::new()).await.unwrap();
    assert!(matches!(
        fixture.ledger.release(id, &release(), Vec::new()).await,
        Err(LedgerError::WrongState(_))
    ));
    assert!(matches!(fixture.ledger.fail(id, "x").await, Err(LedgerError::WrongState(_))));
}

pub async fn an_exchange_stands_where_the_writes_before_left_it(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let first = Admission { coins: vec![coin(101)], ..admission("first", &[1]) };
    let id = fixture.number(&first).await;
    assert_eq!(fixture.ledger.standing(id).await.unwrap(), None);
    let mut write = fixture.ledger.admit(id, &first);
    // The future of the write is dropped once it began: nobody hears how it went.
    std::future::poll_fn(|context| {
        let _ = write.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    drop(write);
    let standing = fixture.ledger.standing(id).await.unwrap();
    assert_eq!(standing, Some((ExchangeState::Admitted, vec![coin(101)])));
    fixture.ledger.fail(id, "x").await.unwrap();
    assert_eq!(fixture.ledger.standing(id).await.unwrap(), Some((ExchangeState::Failed, vec![])));
}

pub async fn a_number_is_given_once_and_never_that_of_another_exchange(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let first = fixture.admitted(&admission("first", &[1])).await;
    let (second, third) = (fixture.ledger.new_exchange(), fixture.ledger.new_exchange());
    assert!(first < second && second < third);
    let fixture = fixture.reopened().await;
    assert!(fixture.ledger.new_exchange() > first);
    // Under another number the Original is another's business.
    fixture.ledger.recover().await.unwrap();
    let refused = fixture.ledger.admit(fixture.ledger.new_exchange(), &admission("first", &[1])).await;
    assert!(matches!(refused, Err(LedgerError::WrongState(other)) if other == first));
}
