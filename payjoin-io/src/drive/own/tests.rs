use bitcoin::ScriptBuf;
use payjoin_core::{ChannelFailure, ExchangeState, FailureKind, IntentState, InvoiceId, Left, Settled};

use super::*;
use crate::Settler;
use crate::testing::{Fault, Stage, outpoint};

/// The scene's only coin pays for the only intent.
async fn opening(stage: &Stage, intent: IntentId, name: &str) -> OwnOpening {
    let now = stage.host.now();
    let script = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_raw_hash(bitcoin::hashes::Hash::hash(
        name.as_bytes(),
    )));
    let id = InvoiceId(name.into());
    let change = Invoice { payer_is_me: true, ..Invoice::new(id, script, now, now) };
    OwnOpening { intent, rate: FeeRate::from_sat_per_vb_u32(2), change }
}

async fn state(stage: &Stage, intent: IntentId) -> IntentState {
    stage.host.store.intent(intent).await.unwrap().unwrap().state
}

fn failed(opened: Result<OpenedChannel, OpeningError>) -> String {
    opened.unwrap_err().to_string()
}

#[tokio::test]
async fn money_rule_1_a_channel_from_the_wallet_is_on_record_before_it_is_sent() {
    let mut stage = Stage::new();
    let intent = stage.queue_channel().await;
    let opened = open_own(&stage.host, &opening(&stage, intent, "own").await).await.unwrap();
    assert_eq!(stage.world.acts(), ["open", "fund", "sign", "inspect", "state", "broadcast"]);
    let OutPoint { txid, vout } = opened.funding;
    assert_eq!(state(&stage, intent).await, IntentState::Released { txid, vout });
    let sent = stage.world.broadcast.lock().unwrap().clone();
    assert_eq!((sent.len(), sent[0].compute_txid(), opened.waits), (1, txid, None));
    assert_eq!(sent[0].output[vout as usize].value, Amount::from_sat(100_000));
    assert_eq!(stage.stored_locks(), [outpoint(100)]);
    stage.assert_nothing_leaks();
    // The settler, and that of the next start, go on until it is buried.
    let mut settler = Settler::new(stage.host.clone(), stage.owing.take().unwrap()).await.unwrap();
    settler.tick().await;
    settler.on_block(121, &sent).await;
    settler.on_tip(121).await;
    assert_eq!(state(&stage, intent).await, IntentState::Confirming { txid, vout });
    settler.on_tip(122).await;
    settler.tick().await;
    let told = stage.host.store.exchange(opened.exchange).await.unwrap().unwrap();
    assert_eq!((told.own, told.settled), (true, Some(Settled::Payjoin)));
    assert_eq!((stage.stored_locks(), stage.host.store.exchanges(None, 9).await.unwrap().len()), (vec![], 1));
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn money_rule_7_an_opening_that_fails_gives_everything_back() {
    for act in ["open", "fund", "sign", "inspect", "state"] {
        for fault in [Fault::Refuse, Fault::Panic] {
            let stage = Stage::new();
            let intent = stage.queue_channel().await;
            stage.world.fault(act, fault);
            let (host, first) = (stage.host.clone(), opening(&stage, intent, "own").await);
            let opened = tokio::spawn(async move { open_own(&host, &first).await }).await;
            assert_eq!(opened.is_err(), fault == Fault::Panic, "{act} {fault:?}");
            stage.host.clear_leftovers().await;
            stage.host.clear_leftovers().await;
            assert!(stage.world.acts().contains(&"abandon 1".to_owned()), "{act} {fault:?}");
            assert!(stage.world.broadcast.lock().unwrap().is_empty());
            assert!(matches!(state(&stage, intent).await, IntentState::Queued { reason: Some(_) }));
            assert_eq!(stage.host.store.obligations().await.unwrap(), [], "nobody is owed anything");
            assert_eq!(stage.world.locked(), []);
            stage.assert_nothing_leaks();
            stage.world.heal();
            open_own(&stage.host, &opening(&stage, intent, "again").await).await.unwrap();
            let told = stage.host.store.exchanges(None, 9).await.unwrap();
            let states: Vec<_> = told.iter().map(|one| one.state).collect();
            assert_eq!(states, [ExchangeState::Released, ExchangeState::Settled], "{act} {fault:?}");
        }
    }
}

#[tokio::test]
async fn an_opening_that_is_dropped_gives_everything_back() {
    for act in ["open", "fund"] {
        let stage = Stage::new();
        let intent = stage.queue_channel().await;
        stage.world.fault(act, Fault::Hang);
        let (host, first) = (stage.host.clone(), opening(&stage, intent, "own").await);
        let running = tokio::spawn(async move { open_own(&host, &first).await });
        while !stage.world.acts().contains(&act.to_owned()) {
            tokio::task::yield_now().await;
        }
        running.abort();
        assert!(running.await.is_err());
        stage.host.clear_leftovers().await;
        assert!(matches!(state(&stage, intent).await, IntentState::Queued { .. }));
        assert_eq!(stage.world.locked(), []);
        stage.assert_nothing_leaks();
    }
}

#[tokio::test]
async fn money_rule_12_the_slot_of_a_peer_that_did_not_sign_stays_taken() {
    let stage = Stage::new();
    let intent = stage.queue_channel().await;
    let failure =
        ChannelFailure { intent, kind: FailureKind::Closed, text: "it went away".into(), said: None };
    stage.world.short.lock().unwrap().push_back(vec![Left::Failed(failure)]);
    let why = failed(open_own(&stage.host, &opening(&stage, intent, "own").await).await);
    assert!(why.contains("it went away"), "{why}");
    let taken = async || stage.host.store.peer_records(0).await.unwrap().first().map_or(0, |one| one.taken);
    assert_eq!(taken().await, 1);
    // One that was not asked to sign keeps none.
    stage.world.fault("fund", Fault::Refuse);
    stage.world.fault("open", Fault::Refuse);
    failed(open_own(&stage.host, &opening(&stage, intent, "again").await).await);
    assert_eq!(taken().await, 1);
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn what_cannot_be_opened_says_why_and_asks_nobody() {
    let stage = Stage::new();
    let intent = stage.queue_channel().await;
    let try_one = async |stage: &Stage, name: &str| {
        failed(open_own(&stage.host, &opening(stage, intent, name).await).await)
    };
    let dear =
        OwnOpening { rate: FeeRate::from_sat_per_vb_u32(101), ..opening(&stage, intent, "dear").await };
    assert!(failed(open_own(&stage.host, &dear).await).contains("max_fee_rate"));
    // A payment has it in hand.
    let in_hand = |peer| stage.host.reserved().intents.insert(intent, peer);
    let peer = stage.host.store.intent(intent).await.unwrap().unwrap().spec.peer.node_id();
    in_hand(peer);
    assert!(try_one(&stage, "a").await.contains("in the middle of being opened"));
    stage.host.reserved().intents.clear();
    stage.host.store.cancel_intent(intent, stage.host.now()).await.unwrap();
    assert!(try_one(&stage, "b").await.contains("is not queued"));
    assert!(stage.world.acts().is_empty());
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn a_transaction_that_the_network_does_not_take_now_is_sent_again_by_the_settler() {
    let mut stage = Stage::new();
    let intent = stage.queue_channel().await;
    stage.world.fault("mempool", Fault::Refuse);
    let opened = open_own(&stage.host, &opening(&stage, intent, "own").await).await.unwrap();
    assert_eq!(opened.waits.as_deref(), Some("no mempool"));
    stage.world.heal();
    let mut settler = Settler::new(stage.host.clone(), stage.owing.take().unwrap()).await.unwrap();
    settler.tick().await;
    assert_eq!(stage.world.broadcast.lock().unwrap().len(), 1);
}
