//! Channels from coins of ours alone, and the moment when a queued intent becomes one.

use payjoin_core::PlainPayment;

use super::*;

/// An opening of the first intent with this coin; its change goes to invoice `b`.
fn opening(fixture: &Fixture) -> Admission {
    Admission {
        invoice: InvoiceId("b".into()),
        original: spend(&[]),
        fee: Amount::ZERO,
        coins: vec![coin(101)],
        intents: vec![fixture.intents[0]],
        fallback_at: NOW,
        ..admission("own", &[])
    }
}

/// The transaction of [`opening`].
fn own() -> Transaction {
    let mut transaction = spend(&[101]);
    transaction.output[0].script_pubkey = invoice("b").script;
    transaction
}

fn released(fixture: &Fixture) -> Release {
    let txid = own().compute_txid();
    let (channels, coins) = (vec![channel(fixture.intents[0], 1)], vec![coin(101)]);
    Release { txid, channels, coins, signed: Some(Box::new(own())), ..release() }
}

pub async fn money_rule_1_an_opening_of_our_own_is_kept_with_its_transaction(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.admitted(&opening(&fixture)).await;
    let owed = fixture.ledger.obligation(id).await.unwrap().unwrap();
    assert_eq!((owed.is_own(), owed.signed), (true, None), "nothing to send yet");
    fixture.ledger.release(id, &released(&fixture), Vec::new()).await.unwrap();
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.recover().await.unwrap(), []);
    let owed = fixture.ledger.obligation(id).await.unwrap().unwrap();
    assert_eq!((owed.is_own(), owed.coins, owed.signed), (true, vec![coin(101)], Some(own())));
    let told = fixture.ledger.exchange(id).await.unwrap().unwrap();
    assert_eq!((told.own, told.payjoin_txid), (true, Some(own().compute_txid())));
    // It is no proposal that somebody left unsigned.
    assert_eq!(fixture.ledger.wasted_offers(NOW, NOW.plus(9_000)).await.unwrap(), 0);
    fixture.ledger.record_mined(id, Some((own(), 120))).await.unwrap();
    assert!(matches!(fixture.state(0).await, IntentState::Confirming { .. }));
    fixture.ledger.settle(id, Settled::Payjoin, NOW).await.unwrap();
    assert_eq!(fixture.locked().await, []);
}

pub async fn money_rule_9_an_opening_of_our_own_that_was_interrupted_owes_nothing(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.admitted(&opening(&fixture)).await;
    assert_eq!(fixture.locked().await, [coin(101)]);
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.recover().await.unwrap(), [id], "the node is to forget its channel");
    assert_eq!(fixture.ledger.obligations().await.unwrap(), []);
    let told = fixture.ledger.exchange(id).await.unwrap().unwrap();
    assert_eq!((told.state, told.settled), (ExchangeState::Settled, Some(Settled::Gone)));
    assert_eq!((fixture.locked().await, fixture.queued().await), (vec![], fixture.intents.clone()));
    // The same coin serves the next attempt.
    let again = Admission { original_id: OriginalId("own again".into()), ..opening(&fixture) };
    fixture.admitted(&again).await;
}

pub async fn what_comes_back_of_an_opening_is_no_payment(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.admitted(&opening(&fixture)).await;
    fixture.ledger.release(id, &released(&fixture), Vec::new()).await.unwrap();
    let (invoice, transaction, now) = (InvoiceId("b".into()), own(), NOW);
    let change = PlainPayment { invoice, transaction, now, gone_at: NOW.plus(9_000) };
    let record = async || fixture.ledger.record_plain(fixture.ledger.new_exchange(), &change).await.unwrap();
    assert_eq!(record().await, None);
    fixture.ledger.record_mined(id, Some((own(), 120))).await.unwrap();
    fixture.ledger.settle(id, Settled::Payjoin, NOW).await.unwrap();
    assert_eq!(record().await, None);
}

pub async fn an_intent_is_due_at_its_moment_and_only_while_it_is_queued(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let by = NOW.plus(60);
    let intent = fixture.ledger.queue_intent(wish(), LIMITS, Some(by)).await.unwrap();
    let fixture = fixture.reopened().await;
    let ledger = &fixture.ledger;
    assert_eq!(ledger.intent(intent).await.unwrap().unwrap().open_by, Some(by));
    assert_eq!(ledger.due_intents(NOW.plus(59)).await.unwrap(), []);
    assert_eq!(ledger.due_intents(by).await.unwrap(), [intent]);
    let taking = Admission { intents: vec![intent], ..admission("first", &[1]) };
    let id = fixture.admitted(&taking).await;
    assert_eq!(ledger.due_intents(by).await.unwrap(), [], "an exchange holds it");
    ledger.fail(id, "the peer is away").await.unwrap();
    assert_eq!(ledger.due_intents(by).await.unwrap(), [intent]);
    ledger.explain_intent(intent, "no coins").await.unwrap();
    let state = ledger.intent(intent).await.unwrap().unwrap().state;
    assert_eq!(state, IntentState::Queued { reason: Some("no coins".into()) });
    ledger.cancel_intent(intent, NOW).await.unwrap();
    ledger.explain_intent(intent, "still no coins").await.unwrap();
    let record = ledger.intent(intent).await.unwrap().unwrap();
    assert_eq!((record.state, record.ended), (IntentState::Cancelled, Some(NOW)));
    assert_eq!(ledger.due_intents(by).await.unwrap(), []);
}

pub async fn a_payment_that_is_mined_without_a_channel_makes_intents_due(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let intent = fixture.ledger.queue_intent(wish(), LIMITS, Some(NOW.plus(9_000))).await.unwrap();
    let due = async || fixture.ledger.due_intents(NOW).await.unwrap();
    // What is mined here opens a channel, or is our own.
    let own_id = fixture.admitted(&opening(&fixture)).await;
    fixture.ledger.release(own_id, &released(&fixture), Vec::new()).await.unwrap();
    fixture.ledger.record_mined(own_id, Some((own(), 120))).await.unwrap();
    let taking = Admission { intents: vec![fixture.intents[1]], ..admission("first", &[1]) };
    let id = fixture.admitted(&taking).await;
    let opens = Release { channels: vec![channel(fixture.intents[1], 0)], ..release() };
    fixture.ledger.release(id, &opens, Vec::new()).await.unwrap();
    fixture.ledger.record_mined(id, Some((payjoin(), 120))).await.unwrap();
    assert_eq!(due().await, []);
    let plain = fixture.admitted(&admission("second", &[2])).await;
    fixture.ledger.release(plain, &release(), Vec::new()).await.unwrap();
    fixture.ledger.record_mined(plain, None).await.unwrap();
    assert_eq!(due().await, []);
    fixture.ledger.record_mined(plain, Some((spend(&[2]), 121))).await.unwrap();
    assert_eq!(due().await, [intent], "those without a moment wait for a payment that opens them");
}
