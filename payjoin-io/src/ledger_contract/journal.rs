//! The journal, and the list of everything that moves money.

use super::*;

const HASH: [u8; 32] = [7; 32];
/// Nobody's clock is there yet.
const LATE: Timestamp = Timestamp(4_000_000_000);

impl Fixture {
    async fn told(&self, since: EntryId) -> Vec<Entry> {
        self.ledger.entries(since, 100).await.unwrap()
    }

    /// Kinds and details of the entries after this one.
    async fn kinds(&self, since: EntryId) -> Vec<(EntryKind, Option<String>)> {
        self.told(since).await.into_iter().map(|entry| (entry.fact.kind, entry.fact.detail)).collect()
    }

    async fn end(&self) -> EntryId {
        self.ledger.last_entry().await.unwrap()
    }

    async fn moved(&self) -> Vec<Movement> {
        self.ledger.movements(None, 100).await.unwrap()
    }
}

fn with(kind: EntryKind, detail: &str) -> (EntryKind, Option<String>) {
    (kind, Some(detail.to_owned()))
}

fn alone(kind: EntryKind) -> (EntryKind, Option<String>) {
    (kind, None)
}

pub async fn what_becomes_of_a_payment_is_told_in_its_order_and_across_a_restart(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let since = fixture.end().await;
    let intent = fixture.intents[0];
    let id = fixture.admitted(&Admission { intents: vec![intent], ..admission("first", &[1]) }).await;
    let released = Release { channels: vec![channel(intent, 0)], reason: Some("late".into()), ..release() };
    fixture.ledger.release(id, &released, Vec::new()).await.unwrap();
    let fixture = fixture.reopened().await;
    let ledger = &fixture.ledger;
    ledger.record_signed(id, &payjoin()).await.unwrap();
    ledger.record_signed(id, &payjoin()).await.unwrap();
    ledger.record_mined(id, Some((payjoin(), 7))).await.unwrap();
    ledger.record_mined(id, None).await.unwrap();
    ledger.record_mined(id, Some((payjoin(), 8))).await.unwrap();
    ledger.settle(id, Settled::Payjoin, NOW).await.unwrap();
    ledger.open_intent(intent).await.unwrap();
    ledger.open_intent(intent).await.unwrap();
    let funding = OutPoint { txid: payjoin().compute_txid(), vout: 0 };
    let end = ChannelEnd { how: Closure::Cooperative, reason: "asked".into() };
    ledger.close_intent(funding, &end, NOW).await.unwrap();
    ledger.close_intent(funding, &end, NOW).await.unwrap();
    use EntryKind as K;
    let expected = [
        alone(K::OriginalReceived),
        with(K::ProposalSent, "late"),
        with(K::PaymentSeen, "payjoin"),
        with(K::PaymentConfirmed, "payjoin"),
        alone(K::PaymentUnconfirmed),
        with(K::PaymentConfirmed, "payjoin"),
        with(K::PaymentSettled, "payjoin"),
        alone(K::ChannelUsable),
        with(K::ChannelClosed, "asked"),
    ];
    assert_eq!(fixture.kinds(since).await, expected);
    let told = fixture.told(since).await;
    let numbers: Vec<u64> = told.iter().map(|entry| entry.id.0).collect();
    assert_eq!(numbers, (since.0 + 1..=since.0 + 9).collect::<Vec<_>>(), "a gap");
    let belongs = |entry: &Entry| {
        let Fact { invoice, exchange, txid, .. } = &entry.fact;
        (invoice.clone(), *exchange, txid.is_some())
    };
    assert!(told.iter().all(|entry| belongs(entry) == (Some(InvoiceId("a".into())), Some(id), true)));
    assert_eq!(told[7].fact.intent, Some(intent));
    let record = ledger.exchange(id).await.unwrap().unwrap();
    assert_eq!((record.mined_height, record.fee), (Some(8), Some(Amount::from_sat(1_000))));
    assert!(record.saved.is_some_and(|saved| saved > Amount::ZERO), "{record:?}");
    let moved = fixture.moved().await;
    assert!(
        matches!(&moved[..], [Movement { what: Moved::Close(closed), .. }, Movement { what: Moved::Exchange(_), .. }]
        if closed.reason == "asked" && closed.intent == intent)
    );
}

pub async fn a_payment_that_does_not_arrive_is_told_as_lost(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let mut paying = admission("first", &[1]);
    let script_pubkey = ScriptBuf::from_bytes(vec![0x51]);
    paying.original.output = vec![TxOut { value: Amount::from_sat(100_000), script_pubkey }];
    let id = fixture.admitted(&paying).await;
    let since = fixture.end().await;
    fixture.ledger.fail(id, "no peer").await.unwrap();
    fixture.ledger.record_mined(id, Some((spend(&[1, 9]), 7))).await.unwrap();
    fixture.ledger.settle(id, Settled::Conflict, NOW).await.unwrap();
    let expected = [
        with(EntryKind::ExchangeFailed, "no peer"),
        with(EntryKind::PaymentConfirmed, "other"),
        with(EntryKind::PaymentLost, "conflict"),
    ];
    assert_eq!(fixture.kinds(since).await, expected);
    assert_eq!(fixture.told(since).await[0].fact.amount, Some(Amount::from_sat(100_000)));
    let here = fixture.ledger.exchanges_at(&paying.invoice).await.unwrap();
    assert_eq!((here.len(), here[0].id), (1, id));
    assert_eq!(fixture.ledger.exchanges_at(&InvoiceId("b".into())).await, Ok(vec![]));
}

pub async fn a_write_that_fails_tells_nothing(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let since = fixture.end().await;
    let wrong = Admission { intents: vec![IntentId(99)], ..admission("first", &[1]) };
    assert_eq!(fixture.admit(&wrong).await, Err(LedgerError::NotQueued(IntentId(99))));
    assert!(fixture.ledger.settle(ExchangeId(77), Settled::Payjoin, NOW).await.is_err());
    assert!(fixture.ledger.insert_invoice(&invoice("a")).await.is_err());
    assert_eq!((fixture.kinds(since).await, fixture.moved().await), (vec![], vec![]));
    fixture.admitted(&admission("first", &[1])).await;
    assert_eq!(fixture.told(since).await[0].id, EntryId(since.0 + 1), "a number was lost");
}

pub async fn words_of_the_operator_for_a_code_are_with_what_is_told_of_it(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let since = fixture.end().await;
    let (label, own_id) = ("order; =1+1".parse().ok(), "17".parse().ok());
    let named = Invoice { label, own_id, top_up: true, ..invoice("c") };
    fixture.ledger.insert_invoice(&named).await.unwrap();
    let paying = Admission { invoice: InvoiceId("c".into()), ..admission("first", &[1]) };
    fixture.admitted(&paying).await;
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.invoice(&named.id).await.unwrap(), Some(named.clone()));
    let told = fixture.told(since).await;
    assert_eq!(told.len(), 2);
    for entry in told {
        assert_eq!((entry.label, entry.own_id), (named.label.clone(), named.own_id.clone()));
    }
}

pub async fn a_code_that_nobody_pays_expires_once(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    for name in ["unpaid", "paid", "lightning"] {
        let late = Invoice { expires: LATE, ..invoice(name) };
        fixture.ledger.insert_invoice(&late).await.unwrap();
    }
    fixture.ledger.expire_codes(Timestamp(LATE.0 - 1)).await.unwrap();
    let paid = Admission { invoice: InvoiceId("paid".into()), ..admission("first", &[1]) };
    fixture.admitted(&paid).await;
    fixture.ledger.ask_over_lightning(&InvoiceId("lightning".into()), HASH).await.unwrap();
    fixture.ledger.claim(HASH, NOW).await.unwrap();
    let since = fixture.end().await;
    assert_eq!(fixture.ledger.expire_codes(LATE).await, Ok(1));
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.expire_codes(LATE.plus(1)).await, Ok(0));
    let told = fixture.told(since).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].fact.invoice, Some(InvoiceId("unpaid".into())));
    assert_eq!(told[0].fact.kind, EntryKind::CodeExpired);
}

pub async fn old_entries_leave_and_their_numbers_are_not_given_again(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let last = fixture.end().await;
    assert_eq!(fixture.ledger.prune_journal(Timestamp(1), 100).await, Ok(0));
    assert_eq!(fixture.ledger.prune_journal(LATE, 1).await, Ok(1));
    assert_eq!(fixture.told(EntryId(0)).await[0].id, EntryId(2));
    assert_eq!(fixture.ledger.prune_journal(LATE, 100).await, Ok(1));
    assert_eq!(fixture.told(EntryId(0)).await, []);
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.end().await, last);
    fixture.admitted(&admission("first", &[1])).await;
    assert_eq!(fixture.told(EntryId(0)).await[0].id, EntryId(last.0 + 1));
}

pub async fn a_reader_goes_on_where_it_was_and_is_woken_by_the_next_entry(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    assert_eq!(fixture.ledger.read_until("webhook").await, Ok(None));
    fixture.ledger.keep_read("webhook", EntryId(1)).await.unwrap();
    fixture.ledger.keep_read("webhook", EntryId(2)).await.unwrap();
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.read_until("webhook").await, Ok(Some(EntryId(2))));
    assert_eq!(fixture.ledger.read_until("other").await, Ok(None));
    let (since, ledger) = (fixture.end().await, fixture.ledger.clone());
    let woken = tokio::spawn(async move { ledger.grown(since).await });
    fixture.admitted(&admission("first", &[1])).await;
    woken.await.unwrap();
    fixture.ledger.grown(since).await;
    assert_eq!(fixture.ledger.entries(since, 0).await, Ok(vec![]));
}

pub async fn a_payment_over_lightning_ends_once_and_well_for_good(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let ledger = &fixture.ledger;
    let since = fixture.end().await;
    let amount = Some(Amount::from_sat(5));
    let payment = |hash, outgoing| LightningPayment { hash, outgoing, amount, about: Some("tea".into()) };
    let (ours, theirs) = ([1; 32], [2; 32]);
    ledger.begin_lightning(&payment(theirs, false), NOW).await.unwrap();
    assert_eq!(fixture.moved().await, [], "it may never come");
    ledger.begin_lightning(&payment(ours, true), NOW).await.unwrap();
    ledger.begin_lightning(&payment(ours, true), NOW).await.unwrap();
    let failed = || LightningEnd::Failed("no route".into());
    for end in [failed(), failed()] {
        ledger.end_lightning(ours, end, NOW).await.unwrap();
    }
    ledger.end_lightning([3; 32], failed(), NOW).await.unwrap();
    ledger.begin_lightning(&payment(ours, true), NOW).await.unwrap();
    for end in [LightningEnd::Sent(1_500), LightningEnd::Sent(1_500), failed()] {
        ledger.end_lightning(ours, end, NOW).await.unwrap();
    }
    let received = LightningEnd::Received(Amount::from_sat(6));
    for _ in 0..2 {
        ledger.end_lightning(theirs, received.clone(), NOW).await.unwrap();
    }
    let expected = [
        with(EntryKind::LightningFailed, "no route"),
        alone(EntryKind::LightningSent),
        alone(EntryKind::LightningReceived),
    ];
    assert_eq!(fixture.kinds(since).await, expected);
    assert_eq!(fixture.told(since).await[0].fact.payment_hash, Some("01".repeat(32)));
    let fixture = fixture.reopened().await;
    let moved = fixture.moved().await;
    let ends = moved.iter().map(|moved| match &moved.what {
        Moved::Lightning(LightningRecord { payment, end, .. }) => (payment.amount, end.clone()),
        other => panic!("{other:?}"),
    });
    let sat = |sat| Some(Amount::from_sat(sat));
    let expected = [(sat(6), Some(received)), (sat(5), Some(LightningEnd::Sent(1_500)))];
    assert_eq!(ends.collect::<Vec<_>>(), expected);
    let older = fixture.ledger.movements(Some(moved[0].id), 9).await.unwrap();
    assert_eq!(
        (older.len(), fixture.ledger.movement(moved[1].id).await.unwrap()),
        (1, older.first().cloned())
    );
}
