use payjoin_core::{ChannelFailure, FailureKind, IntentState, Left, Reply};

use super::*;
use crate::testing::{Fault, Stage, outpoint, request};

/// Drives an exchange in a task, so that its panic stays there. `None`: it panicked.
async fn outcome(stage: &Stage, name: &str, input: u32) -> Option<Reply> {
    let invoice = match stage.host.store.invoice(&payjoin_core::InvoiceId(name.into())).await.unwrap() {
        Some(invoice) => invoice,
        None => stage.invoice(name).await,
    };
    let (host, mut exchange) = (stage.host.clone(), stage.exchange(&invoice, input));
    tokio::spawn(async move { drive(&host, &mut exchange).await }).await.ok()
}

fn proposal(reply: Option<Reply>) -> String {
    match reply {
        Some(Reply::Proposal(psbt)) => psbt,
        other => panic!("{other:?}"),
    }
}

async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds");
}

#[tokio::test]
async fn a_payment_without_queued_channels_becomes_a_plain_payjoin() {
    let mut stage = Stage::new();
    let first = proposal(outcome(&stage, "a", 1).await);
    stage.assert_nothing_leaks();
    assert_eq!(stage.stored_locks(), [outpoint(100)]);
    assert_eq!(stage.world.acts(), ["inspect", "sign"]);
    // The same Original again costs neither a look at the chain nor a signature.
    assert_eq!(proposal(outcome(&stage, "a", 1).await), first);
    assert_eq!(stage.world.acts(), ["inspect", "sign"]);
    // The settler hears of it.
    let mut owing = stage.owing.take().unwrap().0;
    let told: Vec<_> = std::iter::from_fn(|| owing.try_recv().ok()).map(|(exchange, _)| exchange).collect();
    let owed = stage.host.store.obligations().await.unwrap().remove(0);
    assert_eq!(told, [owed.exchange]);
    assert_eq!((owed.coins, owed.payjoin.is_some()), (vec![outpoint(100)], true));
}

#[tokio::test]
async fn a_payment_with_a_queued_channel_funds_it() {
    let stage = Stage::new();
    let intent = stage.queue_channel().await;
    proposal(outcome(&stage, "a", 1).await);
    assert_eq!(stage.world.acts(), ["inspect", "open", "fund", "sign", "state"]);
    let state = stage.host.store.intent(intent).await.unwrap().unwrap().state;
    assert!(matches!(state, IntentState::Released { .. }), "{state:?}");
    assert_eq!(stage.host.store.kv_read("", "", "manager").unwrap(), Some(b"state".to_vec()));
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn a_lightning_fault_gives_a_plain_payjoin_and_queues_the_intent_with_its_reason() {
    for (act, fault, reason) in [
        ("open", Fault::Refuse, "no open"),
        ("open", Fault::Hang, "out of time"),
        ("fund", Fault::Refuse, "no fund"),
        ("fund", Fault::Hang, "out of time"),
    ] {
        let stage = Stage::new();
        if fault == Fault::Hang {
            stage.wait_for_channels(1);
        }
        let intent = stage.queue_channel().await;
        stage.world.fault(act, fault);
        proposal(outcome(&stage, "a", 1).await);
        assert!(stage.world.acts().contains(&"abandon 1".to_owned()), "{act} {fault:?}");
        let state = stage.host.store.intent(intent).await.unwrap().unwrap().state;
        assert_eq!(state, IntentState::Queued { reason: Some(reason.into()) }, "{act} {fault:?}");
        stage.assert_nothing_leaks();
    }
}

#[tokio::test]
async fn what_ends_without_a_proposal_gives_everything_back() {
    for act in ["inspect", "open", "fund", "sign"] {
        for fault in [Fault::Refuse, Fault::Panic] {
            if fault == Fault::Refuse && matches!(act, "open" | "fund") {
                continue; // gives a plain payjoin: see above
            }
            let stage = Stage::new();
            let intent = stage.queue_channel().await;
            stage.world.fault(act, fault);
            let reply = outcome(&stage, "a", 1).await;
            assert!(!matches!(reply, Some(Reply::Proposal(_))), "{act} {fault:?}");
            assert_eq!(reply.is_none(), fault == Fault::Panic);
            stage.host.clear_leftovers().await;
            assert_eq!(stage.host.store.waiting().await.unwrap().len(), 1);
            assert_eq!(stage.world.locked(), []);
            stage.assert_nothing_leaks();
            let owed = stage.host.store.obligations().await.unwrap();
            assert_eq!(owed.len(), usize::from(act != "inspect"), "the Original is kept once admitted");
            let state = stage.host.store.intent(intent).await.unwrap().unwrap().state;
            assert_eq!(matches!(state, IntentState::Queued { reason: Some(_) }), act != "inspect");
            // The same Original again succeeds, in the exchange that it began.
            stage.world.heal();
            proposal(outcome(&stage, "a", 1).await);
            assert_eq!(stage.host.store.exchanges(None, 9).await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_dropped_exchange_gives_everything_back() {
    for act in ["open", "fund"] {
        let stage = Stage::new();
        stage.queue_channel().await;
        stage.world.fault(act, Fault::Hang);
        let (host, mut exchange) = (stage.host.clone(), stage.exchange(&stage.invoice("a").await, 1));
        let running = tokio::spawn(async move { drive(&host, &mut exchange).await });
        until(|| stage.world.acts().contains(&act.to_owned())).await;
        running.abort();
        assert!(running.await.is_err());
        stage.host.clear_leftovers().await;
        assert_eq!(stage.host.store.waiting().await.unwrap().len(), 1);
        assert_eq!(stage.world.locked(), []);
        assert!(stage.world.acts().contains(&"abandon 1".to_owned()));
        stage.assert_nothing_leaks();
    }
}

/// An exchange that is dropped while its durable write goes through, with nobody there to hear of it. `None` when the writer
/// was so fast that the exchange heard.
#[cfg(feature = "sqlite")]
async fn dropped_in_its_write(with_channel: bool, last_act: &str) -> Option<Stage> {
    let stage = Stage::new();
    if with_channel {
        stage.queue_channel().await;
    }
    let mut exchange = stage.exchange(&stage.invoice("a").await, 1);
    let written = std::future::poll_fn(|_| {
        if stage.world.acts().last().is_none_or(|act| act != last_act) {
            return std::task::Poll::Pending;
        }
        while stage.stored_locks().is_empty() {
            std::thread::yield_now();
        }
        std::task::Poll::Ready(())
    });
    let is_dropped = tokio::select! {
        biased;
        _ = drive(&stage.host, &mut exchange) => false,
        () = written => true,
    };
    is_dropped.then_some(stage)
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn money_rule_7_an_exchange_dropped_in_its_durable_write_keeps_its_coins_locked() {
    for (with_channel, last_act) in [(false, "sign"), (true, "inspect")] {
        let mut tries = 0;
        let stage = loop {
            if let Some(stage) = dropped_in_its_write(with_channel, last_act).await {
                break stage;
            }
            tries += 1;
            assert!(tries < 20, "it was to be dropped");
        };
        assert!(stage.world.locked().contains(&outpoint(100)));
        stage.host.clear_leftovers().await;
        stage.assert_nothing_leaks();
        // A plain proposal is durable: it holds its coin until it is settled. One with channels was not released.
        assert_eq!(stage.world.locked().is_empty(), with_channel);
        assert_eq!(stage.host.store.obligations().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn money_rule_7_a_wallet_that_was_away_hears_later_who_holds_what() {
    for refused in [false, true] {
        let stage = Stage::new();
        stage.world.fault("hold", Fault::Refuse);
        if refused {
            stage.world.fault("sign", Fault::Refuse);
        }
        let reply = outcome(&stage, "a", 1).await;
        assert_eq!(matches!(reply, Some(Reply::Proposal(_))), !refused);
        assert_eq!(stage.world.locked(), [outpoint(100)]);
        stage.host.clear_leftovers().await;
        stage.world.heal();
        stage.host.clear_leftovers().await;
        stage.assert_nothing_leaks();
        assert_eq!(stage.world.locked().is_empty(), refused);
    }
}

#[tokio::test]
async fn what_an_attempt_left_is_not_taken_from_the_attempt_that_follows() {
    let stage = Stage::new();
    stage.world.fault("sign", Fault::Panic);
    stage.queue_channel().await;
    assert!(outcome(&stage, "a", 1).await.is_none());
    let id = stage.host.store.exchanges(None, 1).await.unwrap()[0].id;
    let number = stage.host.take_number(id).unwrap();
    stage.host.clear_leftovers().await;
    assert_eq!(stage.world.locked(), [outpoint(100)], "somebody has it in hand");
    drop(number);
    stage.host.clear_leftovers().await;
    assert_eq!(stage.world.locked(), []);
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn money_rule_8_a_second_payer_of_an_invoice_sees_the_coin_that_the_first_saw() {
    let stage = Stage::new();
    proposal(outcome(&stage, "a", 1).await);
    proposal(outcome(&stage, "a", 2).await);
    assert_eq!(stage.stored_locks(), [outpoint(100); 2]);
    proposal(outcome(&stage, "b", 3).await);
    assert_eq!(stage.stored_locks(), [outpoint(100), outpoint(100), outpoint(101)]);
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn money_rule_8_past_its_share_of_offers_an_invoice_gets_no_coins() {
    let stage = Stage::new();
    let share = stage.host.policy().offers_per_invoice;
    for input in 1..=share {
        proposal(outcome(&stage, "a", input).await);
    }
    stage.queue_channel().await;
    let psbt: bitcoin::Psbt = proposal(outcome(&stage, "a", share + 1).await).parse().unwrap();
    assert_eq!(psbt.inputs.len(), 1);
    assert_eq!(stage.host.store.waiting().await.unwrap().len(), 1);
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn money_rule_9_exchanges_at_once_never_share_an_intent() {
    let stage = Stage::new();
    stage.queue_channel().await;
    let (first, second) = tokio::join!(outcome(&stage, "a", 1), outcome(&stage, "b", 2));
    proposal(first);
    proposal(second);
    let opened = stage.world.acts().iter().filter(|act| *act == "open").count();
    assert_eq!(opened, 1);
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn an_original_with_a_seen_input_is_refused_and_leaks_nothing() {
    let stage = Stage::new();
    stage.queue_channel().await;
    proposal(outcome(&stage, "a", 1).await);
    let intent = stage.queue_channel().await;
    let mut again = request(1);
    again.query = "v=1&minfeerate=1".into();
    let invoice = stage.invoice("b").await;
    let mut exchange = Exchange::new(stage.host.now(), invoice, again, stage.host.policy());
    let Reply::Error { status, .. } = drive(&stage.host, &mut exchange).await else { panic!("a proposal") };
    assert_eq!(status, 400);
    assert_eq!(stage.host.store.waiting().await.unwrap()[0].wish.id, intent);
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn money_rule_1_a_proposal_whose_channel_is_gone_does_not_leave() {
    let stage = Stage::new();
    let intent = stage.queue_channel().await;
    stage.world.fault("state", Fault::Refuse);
    assert!(matches!(outcome(&stage, "a", 1).await, Some(Reply::Error { status: 503, .. })));
    assert!(stage.world.acts().contains(&"abandon 1".to_owned()));
    let state = stage.host.store.intent(intent).await.unwrap().unwrap().state;
    assert_eq!(state, IntentState::Queued { reason: Some("no state".into()) });
    assert_eq!(stage.host.store.exchanges(None, 9).await.unwrap()[0].payjoin_txid, None);
    stage.assert_nothing_leaks();
}

/// How many slots are taken at the peer of all channels.
async fn slots(stage: &Stage) -> u32 {
    stage.host.store.peer_records(0).await.unwrap().first().map_or(0, |record| record.taken)
}

fn failure(intent: IntentId) -> Left {
    let (kind, text) = (FailureKind::Late, "it is slow".to_owned());
    Left::Failed(ChannelFailure { intent, kind, text, said: None })
}

#[tokio::test]
async fn money_rule_12_a_channel_that_was_given_its_transaction_costs_a_slot_and_another_one_when_it_comes_back()
 {
    // By the operator's word the peer has slots to spare.
    let stage = Stage::new();
    let peer = crate::testing::spec(payjoin_core::ChannelAmount::Rest).peer.node_id();
    let several = payjoin_core::Policy { several_at_once: vec![peer], ..stage.host.policy() };
    stage.host.set_policy(several);
    let (first, second) = (stage.queue_small_channel().await, stage.queue_small_channel().await);
    stage.world.short.lock().unwrap().push_back(vec![failure(first), Left::Abandoned]);
    proposal(outcome(&stage, "a", 1).await);
    assert_eq!(stage.world.acts(), ["inspect", "open", "fund", "open", "fund", "sign", "state"]);
    assert_eq!(slots(&stage).await, 3, "both of the first round are lost, and the payer has one");
    let failed = stage.host.store.intent(first).await.unwrap().unwrap();
    assert!(matches!(failed.state, IntentState::Queued { reason: Some(_) }));
    let waiting = stage.host.store.waiting().await.unwrap();
    assert_eq!(waiting.iter().map(|one| (one.wish.id, one.failures)).collect::<Vec<_>>(), [(first, 1)]);
    let opened = stage.host.store.intent(second).await.unwrap().unwrap();
    assert!(matches!(opened.state, IntentState::Released { .. }));
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn money_rule_12_a_slot_that_was_lost_stays_so_when_the_peer_has_no_other_one() {
    let stage = Stage::new();
    let peer = crate::testing::spec(payjoin_core::ChannelAmount::Rest).peer.node_id();
    let several = payjoin_core::Policy { several_at_once: vec![peer], ..stage.host.policy() };
    stage.host.set_policy(several);
    let (first, _) = (stage.queue_small_channel().await, stage.queue_small_channel().await);
    stage.world.short.lock().unwrap().push_back(vec![failure(first), Left::Abandoned]);
    stage.world.full.lock().unwrap().extend([false, true]);
    proposal(outcome(&stage, "a", 1).await);
    assert_eq!(stage.world.acts(), ["inspect", "open", "fund", "open", "sign"]);
    let records = stage.host.store.peer_records(0).await.unwrap();
    assert_eq!((records[0].taken, records[0].room), (2, Some(2)), "both were given a transaction");
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn money_rule_12_a_channel_that_was_not_given_its_transaction_costs_no_slot() {
    let stage = Stage::new();
    let peer = crate::testing::spec(payjoin_core::ChannelAmount::Rest).peer.node_id();
    let several = payjoin_core::Policy { several_at_once: vec![peer], ..stage.host.policy() };
    stage.host.set_policy(several);
    let (first, _) = (stage.queue_small_channel().await, stage.queue_small_channel().await);
    let rounds = [vec![failure(first), Left::Open], vec![failure(first)]];
    stage.world.short.lock().unwrap().extend(rounds);
    proposal(outcome(&stage, "a", 1).await);
    assert_eq!(stage.world.acts(), ["inspect", "open", "fund", "fund", "abandon 1", "sign"]);
    assert_eq!(slots(&stage).await, 2, "each was given a transaction once");
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn money_rule_12_no_channel_is_risked_for_a_payer_who_waits_no_more() {
    for (until, waits) in [(0, false), (u64::MAX, true)] {
        let stage = Stage::new();
        stage.queue_channel().await;
        let invoice = stage.invoice("a").await;
        let mut exchange = stage.exchange(&invoice, 1);
        proposal(Some(drive_for(&stage.host, &mut exchange, &Timestamp(until)).await));
        assert_eq!(stage.world.acts().contains(&"fund".to_owned()), waits);
        assert_eq!(stage.world.acts().contains(&"abandon 1".to_owned()), !waits);
        assert_eq!(slots(&stage).await, u32::from(waits));
        let failures: Vec<_> =
            stage.host.store.waiting().await.unwrap().iter().map(|one| one.failures).collect();
        assert_eq!(failures, if waits { vec![] } else { vec![0] }, "it is not the peer's fault");
        stage.assert_nothing_leaks();
    }
}
