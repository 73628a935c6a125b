//! Codes that can be paid over Lightning, too.

use super::*;

const HASH: [u8; 32] = [7; 32];

fn here() -> InvoiceId {
    InvoiceId("a".into())
}

pub async fn a_code_that_was_paid_over_lightning_admits_no_original(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    fixture.ledger.ask_over_lightning(&here(), HASH).await.unwrap();
    assert_eq!(fixture.ledger.claim(HASH, NOW).await, Ok(Claim::Taken(here())));
    let fixture = fixture.reopened().await;
    let before = fixture.picture().await;
    assert_eq!(fixture.admit(&admission("first", &[1])).await, Ok(AdmitOutcome::Paid));
    let id = fixture.ledger.new_exchange();
    let offered = fixture.ledger.offer(id, &admission("first", &[1]), &release()).await;
    assert_eq!(offered, Ok(AdmitOutcome::Paid));
    assert_eq!(fixture.picture().await, before);
    // LDK may ask again after a crash.
    assert_eq!(fixture.ledger.claim(HASH, NOW).await, Ok(Claim::Taken(here())));
    fixture.admitted(&Admission { invoice: InvoiceId("b".into()), ..admission("second", &[2]) }).await;
}

pub async fn a_code_of_which_an_original_is_kept_takes_no_lightning_payment(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    fixture.ledger.ask_over_lightning(&here(), HASH).await.unwrap();
    let id = fixture.admitted(&admission("first", &[1])).await;
    assert_eq!(fixture.ledger.claim(HASH, NOW).await, Ok(Claim::PaidOnChain(here())));
    fixture.ledger.fail(id, "no proposal").await.unwrap();
    let fixture = fixture.reopened().await;
    assert_eq!(
        fixture.ledger.claim(HASH, NOW).await,
        Ok(Claim::PaidOnChain(here())),
        "it is owed its broadcast"
    );
    fixture.ledger.settle(id, Settled::Original, NOW).await.unwrap();
    assert_eq!(fixture.ledger.claim(HASH, NOW).await, Ok(Claim::PaidOnChain(here())));
    assert_eq!(fixture.admit(&admission("first", &[1])).await, Ok(AdmitOutcome::Seen));
}

pub async fn a_lightning_payment_for_no_code_is_nobodys_business(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    assert_eq!(fixture.ledger.claim(HASH, NOW).await, Ok(Claim::None));
    let unknown = InvoiceId("c".into());
    let refused = fixture.ledger.ask_over_lightning(&unknown, HASH).await;
    assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{refused:?}");
    fixture.ledger.ask_over_lightning(&here(), HASH).await.unwrap();
    let twice = fixture.ledger.ask_over_lightning(&InvoiceId("b".into()), HASH).await;
    assert!(matches!(twice, Err(LedgerError::Conflict(_))), "{twice:?}");
}
