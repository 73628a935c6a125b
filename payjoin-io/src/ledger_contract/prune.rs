//! What is over for good.

use super::*;

const LATER: Timestamp = Timestamp(NOW.0 + 1);

/// An exchange that was released with a channel and settled so.
async fn settled(fixture: &Fixture, outcome: Settled, mined: Transaction) -> ExchangeId {
    let intent = fixture.intents[0];
    let id = fixture.admitted(&Admission { intents: vec![intent], ..admission("first", &[1]) }).await;
    let released = Release { channels: vec![channel(intent, 0)], ..release() };
    fixture.ledger.release(id, &released, Vec::new()).await.unwrap();
    fixture.ledger.record_signed(id, &payjoin()).await.unwrap();
    fixture.ledger.record_mined(id, Some((mined, 120))).await.unwrap();
    fixture.ledger.settle(id, outcome, NOW).await.unwrap();
    id
}

pub async fn what_settled_long_ago_keeps_no_transactions_and_all_that_is_told_of_it(new: NewHome<'_>) {
    for (outcome, mined) in [(Settled::Payjoin, payjoin()), (Settled::Original, spend(&[1]))] {
        let fixture = Fixture::new(new).await;
        let id = settled(&fixture, outcome, mined).await;
        let owed = fixture.admitted(&admission("second", &[2])).await;
        fixture.ledger.fail(owed, "x").await.unwrap();
        let before = fixture.picture().await;
        let original = OriginalId("first".into());
        assert_eq!(fixture.ledger.prune(NOW, 9).await.unwrap(), 0, "not before its time");
        assert!(fixture.ledger.recall(&original).await.unwrap().is_some());
        assert_eq!(fixture.ledger.prune(LATER, 9).await.unwrap(), 1);
        assert_eq!(fixture.ledger.prune(LATER, 9).await.unwrap(), 0, "once");
        let fixture = fixture.reopened().await;
        assert_eq!(fixture.ledger.recall(&original).await.unwrap(), None, "the proposal is gone");
        assert_eq!(fixture.picture().await, before);
        assert_eq!(fixture.ledger.obligation(owed).await.unwrap().unwrap().original, spend(&[2]));
        assert_eq!(fixture.ledger.exchange(id).await.unwrap().unwrap().settled, Some(outcome));
    }
}

pub async fn what_was_pruned_is_recognised_when_it_is_told_again(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    settled(&fixture, Settled::Payjoin, payjoin()).await;
    fixture.ledger.prune(LATER, 9).await.unwrap();
    assert_eq!(fixture.admit(&admission("first", &[1])).await.unwrap(), AdmitOutcome::Seen);
    assert_eq!(fixture.admit(&admission("other", &[1])).await.unwrap(), AdmitOutcome::Seen);
    let invoice = InvoiceId("a".into());
    let told = payjoin_core::PlainPayment { invoice, transaction: payjoin(), now: NOW, gone_at: LATER };
    assert_eq!(fixture.ledger.record_plain(fixture.ledger.new_exchange(), &told).await.unwrap(), None);
}

pub async fn cancelled_intents_leave_and_their_numbers_are_not_given_again(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let last = fixture.intents[2];
    fixture.ledger.cancel_intent(fixture.intents[0], NOW).await.unwrap();
    fixture.ledger.cancel_intent(last, NOW).await.unwrap();
    assert_eq!(fixture.ledger.prune(NOW, 9).await.unwrap(), 0);
    assert_eq!(fixture.ledger.prune(LATER, 1).await.unwrap(), 1, "at most so many at a time");
    assert_eq!(fixture.ledger.prune(LATER, 1).await.unwrap(), 1);
    let fixture = fixture.reopened().await;
    let left: Vec<_> = fixture.ledger.intents().await.unwrap().iter().map(|intent| intent.id).collect();
    assert_eq!(left, [fixture.intents[1]]);
    assert!(fixture.ledger.queue_intent(wish(), LIMITS, None).await.unwrap() > last);
}

pub async fn a_payjoin_is_lost_once_another_spend_lies_deep_enough(new: NewHome<'_>) {
    let txid = payjoin().compute_txid();
    for (outcome, mined, is_lost) in [
        (Settled::Payjoin, payjoin(), false),
        (Settled::Original, spend(&[1]), true),
        (Settled::Conflict, spend(&[1, 9]), true),
    ] {
        let fixture = Fixture::new(new).await;
        let ledger = &fixture.ledger;
        assert_eq!(ledger.lost(&[txid], 120).await.unwrap(), []);
        settled(&fixture, outcome, mined).await;
        let other = spend(&[5]).compute_txid();
        let expected: &[Txid] = if is_lost { &[txid] } else { &[] };
        assert_eq!(ledger.lost(&[other, txid], 119).await.unwrap(), []);
        assert_eq!(ledger.lost(&[other, txid], 120).await.unwrap(), expected);
        ledger.prune(LATER, 9).await.unwrap();
        assert_eq!(ledger.lost(&[other, txid], 120).await.unwrap(), expected);
    }
}

pub async fn values_move_together_to_another_namespace(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    for key in ["x", "y", "z"] {
        let (primary, secondary, value) = ("monitors".into(), String::new(), key.as_bytes().to_vec());
        let write = StateWrite { primary, secondary, key: key.into(), value, generation: 0 };
        fixture.ledger.kv_write(write).unwrap();
    }
    fixture.ledger.kv_move("monitors", "archive", vec!["x".into(), "z".into(), "none".into()]).unwrap();
    let fixture = fixture.reopened().await;
    let store = &fixture.ledger;
    assert_eq!(store.kv_list("monitors", "").unwrap(), ["y"]);
    assert_eq!(store.kv_read("archive", "", "z").unwrap(), Some(b"z".to_vec()));
    assert_eq!(store.kv_read("archive", "", "none").unwrap(), None);
}
