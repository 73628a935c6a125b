//! Payments of ours, and the logs of sessions.

use super::*;

fn original(coins: &[u32]) -> Psbt {
    Psbt::from_unsigned_tx(spend(coins)).unwrap()
}

pub async fn money_rule_7_the_coins_of_a_payment_are_locked_until_it_is_settled_across_a_restart(
    new: NewHome<'_>,
) {
    let fixture = Fixture::new(new).await;
    let rate = FeeRate::from_sat_per_kwu(300);
    let insert = |uri: &'static str, coins: &[u32]| {
        let (ledger, original) = (fixture.ledger.clone(), original(coins));
        async move {
            let id = ledger.new_payment();
            ledger.insert_payment(id, uri, &original, rate, Timestamp(9)).await.map(|()| id)
        }
    };
    let first = insert("bitcoin:a", &[1, 2]).await.unwrap();
    let second = insert("bitcoin:b", &[3]).await.unwrap();
    assert!(matches!(insert("bitcoin:a", &[4]).await, Err(LedgerError::Conflict(_))));
    let (payjoin, plain) = (spend(&[1, 2, 7]), spend(&[1, 2]));
    let paid = |transaction: &Transaction, fallback: Option<&str>| Paid {
        transaction: transaction.clone(),
        fallback: fallback.map(Into::into),
    };
    fixture.ledger.record_paid(first, &paid(&payjoin, None)).await.unwrap();

    let fixture = fixture.reopened().await;
    let ledger = &fixture.ledger;
    assert_eq!(fixture.locked().await.len(), 3);
    let record = ledger.payment_of("bitcoin:a").await.unwrap().unwrap();
    assert_eq!((record.id, record.fee_rate, record.settled), (first, rate, false));
    assert_eq!(record.original, original(&[1, 2]));
    assert_eq!(record.paid, Some(paid(&payjoin, None)));
    assert_eq!(ledger.payment(second).await.unwrap().unwrap().paid, None);
    ledger.record_paid(first, &paid(&plain, Some("refused"))).await.unwrap();
    ledger.settle_payment(first).await.unwrap();
    let record = ledger.payment(first).await.unwrap().unwrap();
    assert_eq!((record.paid, record.settled), (Some(paid(&plain, Some("refused"))), true));
    assert_eq!(ledger.holds().await.unwrap(), [(Holder::Payment(second), vec![coin(3)])]);
    let open: Vec<_> =
        ledger.unsettled_payments().await.unwrap().into_iter().map(|payment| payment.id).collect();
    assert_eq!(open, [second]);
    assert_eq!(ledger.payment_of("bitcoin:c").await.unwrap(), None);
}

pub async fn a_log_keeps_its_order_and_its_end_across_a_restart(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let key = |name: &str| SessionKey { kind: SessionKind::Send, name: name.into() };
    for event in ["created", "posted"] {
        fixture.ledger.append(&key("a"), event.into()).await.unwrap();
        fixture.ledger.append(&key("b"), event.into()).await.unwrap();
    }
    fixture.ledger.close(&key("a"), "ended".into()).await.unwrap();
    let fixture = fixture.reopened().await;
    let ledger = &fixture.ledger;
    assert_eq!(ledger.events(&key("a")).await.unwrap(), ["created", "posted", "ended"]);
    assert_eq!(ledger.events(&key("c")).await.unwrap(), [""; 0]);
    assert_eq!(ledger.open_sessions(SessionKind::Send).await.unwrap(), ["b"]);
    assert_eq!(ledger.open_sessions(SessionKind::Receive).await.unwrap(), [""; 0]);
    // A late event does not open it again.
    ledger.append(&key("a"), "late".into()).await.unwrap();
    assert_eq!(ledger.open_sessions(SessionKind::Send).await.unwrap(), ["b"]);
}
