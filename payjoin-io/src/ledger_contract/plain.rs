//! Payments that came without payjoin.

use payjoin_core::PlainPayment;

use super::*;

const GONE_AT: Timestamp = Timestamp(NOW.0 + 1_000_000);

/// A payment of this much to an invoice.
fn payment(to: &str, inputs: &[u32], sat: u64) -> PlainPayment {
    let mut transaction = spend(inputs);
    let output = TxOut { value: Amount::from_sat(sat), script_pubkey: invoice(to).script };
    transaction.output = vec![output.clone(), TxOut { value: Amount::ONE_SAT, ..output }];
    PlainPayment { invoice: InvoiceId(to.into()), transaction, now: NOW, gone_at: GONE_AT }
}

async fn record(fixture: &Fixture, plain: &PlainPayment) -> Option<ExchangeId> {
    fixture.ledger.record_plain(fixture.ledger.new_exchange(), plain).await.unwrap()
}

pub async fn a_payment_without_payjoin_is_an_exchange_with_an_outcome(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let nowhere = PlainPayment { invoice: InvoiceId("c".into()), ..payment("a", &[1], 7) };
    let refused = fixture.ledger.record_plain(fixture.ledger.new_exchange(), &nowhere).await;
    assert!(matches!(refused, Err(LedgerError::Conflict(_))));
    let plain = payment("a", &[1], 60_000);
    let id = record(&fixture, &plain).await.unwrap();
    let fixture = fixture.reopened().await;
    let ledger = &fixture.ledger;
    let owed = ledger.obligation(id).await.unwrap().unwrap();
    assert_eq!((owed.plain, owed.payment.value, owed.fallback_at), (true, Amount::ZERO, GONE_AT));
    assert_eq!((&owed.original, owed.coins.len()), (&plain.transaction, 0));
    assert_eq!(ledger.recover().await.unwrap(), [], "no exchange that was interrupted");
    let told = ledger.exchange(id).await.unwrap().unwrap();
    assert_eq!((told.state, told.plain), (ExchangeState::Plain, Some(Amount::from_sat(60_001))));
    assert_eq!((told.original_txid, told.mined_txid), (plain.transaction.compute_txid(), None));
    assert_eq!(told.reason.as_deref(), Some("the code asks for 100000 sat"));

    // The payer replaced it, and pays in full.
    let better = payment("a", &[1], 100_000).transaction;
    ledger.record_mined(id, Some((better.clone(), 120))).await.unwrap();
    let told = ledger.exchange(id).await.unwrap().unwrap();
    assert_eq!((told.plain, told.reason), (Some(Amount::from_sat(100_001)), None));
    ledger.record_mined(id, None).await.unwrap();
    assert_eq!(ledger.exchange(id).await.unwrap().unwrap().plain, Some(Amount::from_sat(60_001)));
    ledger.record_mined(id, Some((better.clone(), 121))).await.unwrap();
    ledger.settle(id, Settled::Plain, NOW).await.unwrap();
    let told = ledger.exchange(id).await.unwrap().unwrap();
    assert_eq!((told.state, told.settled), (ExchangeState::Settled, Some(Settled::Plain)));
    assert_eq!(told.mined_txid, Some(better.compute_txid()));
    assert_eq!(ledger.obligations().await.unwrap(), []);
}

pub async fn a_payment_without_payjoin_is_recorded_once_whatever_is_told_again(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let plain = payment("a", &[1], 60_000);
    let id = record(&fixture, &plain).await.unwrap();
    assert_eq!(record(&fixture, &plain).await, None);
    let replaced = payment("a", &[1, 2], 50_000);
    assert_eq!(record(&fixture, &replaced).await, None, "it is the outcome of the first");
    // Several payments to one code, and one that pays two codes, are each on their own.
    assert!(record(&fixture, &payment("a", &[3], 60_000)).await.is_some());
    assert!(record(&fixture, &payment("b", &[1], 60_000)).await.is_some());
    fixture.ledger.record_mined(id, Some((replaced.transaction.clone(), 120))).await.unwrap();
    fixture.ledger.settle(id, Settled::Plain, NOW).await.unwrap();
    let fixture = fixture.reopened().await;
    assert_eq!(record(&fixture, &plain).await, None, "a block that was dealt with is told again");
    assert_eq!(fixture.ledger.exchanges(None, 10).await.unwrap().len(), 3);
}

pub async fn what_spends_an_input_of_an_exchange_at_the_same_invoice_is_its_outcome(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.admitted(&admission("first", &[1, 2])).await;
    fixture.ledger.fail(id, "x").await.unwrap();
    let conflict = payment("a", &[1], 60_000);
    assert_eq!(record(&fixture, &conflict).await, None);
    assert!(record(&fixture, &payment("b", &[1], 60_000)).await.is_some(), "at another invoice");
    let fixture = {
        let fixture = Fixture::new(new).await;
        let id = fixture.admitted(&admission("first", &[1, 2])).await;
        fixture.ledger.fail(id, "x").await.unwrap();
        fixture.ledger.record_mined(id, Some((conflict.transaction.clone(), 120))).await.unwrap();
        fixture.ledger.settle(id, Settled::Conflict, NOW).await.unwrap();
        fixture
    };
    assert_eq!(record(&fixture, &conflict).await, None, "told again");
    assert!(record(&fixture, &payment("a", &[2], 60_000)).await.is_some(), "the payer's other coin");
    assert_eq!(fixture.admit(&admission("second", &[2])).await.unwrap(), AdmitOutcome::Seen);
}

pub async fn a_payment_that_was_given_up_and_comes_back_has_its_number_again(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let plain = payment("a", &[1], 60_000);
    let id = record(&fixture, &plain).await.unwrap();
    fixture.ledger.settle(id, Settled::Gone, NOW).await.unwrap();
    assert_eq!(fixture.ledger.obligations().await.unwrap(), []);
    let later = PlainPayment { gone_at: GONE_AT.plus(5), ..plain };
    assert_eq!(record(&fixture, &later).await, Some(id));
    let owed = fixture.ledger.obligation(id).await.unwrap().unwrap();
    assert_eq!((owed.plain, owed.fallback_at), (true, GONE_AT.plus(5)));
    assert_eq!(fixture.ledger.exchange(id).await.unwrap().unwrap().settled, None);
}
