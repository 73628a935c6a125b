mod plain;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bitcoin::ScriptBuf;
use payjoin_core::{IntentState, InvoiceId, Reply};

use super::*;
use crate::drive;
use crate::testing::{Fault, Stage, original, outpoint, ready};

/// A released payjoin with one channel, its settler, and both transactions a payer could broadcast.
struct Case {
    stage: Stage,
    settler: Settler,
    payjoin: Transaction,
    original: Transaction,
}

impl Case {
    async fn new() -> Self {
        let mut stage = Stage::new();
        stage.queue_channel().await;
        let mut settler = Settler::new(stage.host.clone(), stage.owing.take().unwrap()).await.unwrap();
        assert_eq!(settler.watched_outpoints().await, []);
        let mut exchange = stage.exchange(&stage.invoice("a").await, 1);
        let Reply::Proposal(psbt) = drive(&stage.host, &mut exchange).await else { panic!("no proposal") };
        let psbt: bitcoin::Psbt = psbt.parse().unwrap();
        Self { stage, settler, payjoin: psbt.unsigned_tx, original: original(1).extract_tx().unwrap() }
    }

    /// A conflict that spends the payer's coin, and pays us or the payer alone.
    fn conflict(&self, pays: bool) -> Transaction {
        let mut transaction = self.original.clone();
        transaction.output.remove(usize::from(pays));
        transaction
    }

    /// As after a crash: a new settler with what the store knows.
    async fn restarted(self) -> Self {
        let (_, incoming) = tokio::sync::mpsc::unbounded_channel();
        let settler = Settler::new(self.stage.host.clone(), Owed(incoming)).await.unwrap();
        Self { settler, ..self }
    }

    async fn mine(&mut self, height: u32, transactions: &[&Transaction]) {
        self.settler.on_block(height, &block(transactions)).await;
        self.settler.on_tip(height).await;
    }

    fn intent(&self) -> IntentState {
        ready(self.stage.host.store.intents()).unwrap().remove(0).state
    }

    fn outcome(&self) -> Option<Settled> {
        ready(self.stage.host.store.exchanges(None, 1)).unwrap().remove(0).settled
    }
}

fn block(transactions: &[&Transaction]) -> Vec<Transaction> {
    transactions.iter().map(|transaction| (*transaction).clone()).collect()
}

#[tokio::test]
async fn a_new_obligation_watches_the_payers_inputs_and_our_coins() {
    let mut case = Case::new().await;
    let mut watched = case.settler.watched_outpoints().await;
    watched.sort();
    assert_eq!(watched, [outpoint(1), outpoint(100)]);
}

#[tokio::test]
async fn a_buried_payjoin_opens_its_channel_and_frees_the_coin() {
    let mut case = Case::new().await;
    let payjoin = case.payjoin.clone();
    case.mine(100, &[&payjoin]).await;
    assert!(matches!(case.intent(), IntentState::Confirming { .. }));
    case.stage.assert_nothing_leaks();
    let mut case = case.restarted().await;
    case.mine(101, &[]).await;
    assert!(
        matches!(case.intent(), IntentState::Confirming { .. }),
        "nobody said that the channel is usable"
    );
    assert_eq!(case.outcome(), Some(Settled::Payjoin));
    assert_eq!(case.settler.watched_outpoints().await, []);
    assert_eq!(case.stage.stored_locks(), []);
    case.stage.assert_nothing_leaks();
    assert!(!case.stage.world.acts().iter().any(|act| act.starts_with("forget")));
}

#[tokio::test]
async fn the_end_of_a_channel_is_the_one_in_the_chain_also_when_blocks_change_across_a_restart() {
    let mut case = Case::new().await;
    let payjoin = case.payjoin.clone();
    case.mine(100, &[&payjoin]).await;
    case.mine(101, &[]).await;
    let IntentState::Confirming { txid, vout } = case.intent() else { panic!("{:?}", case.intent()) };
    let funding = OutPoint { txid, vout };
    let [first, second] = [0, 1].map(|lock_time| {
        let mut closing = case.conflict(false);
        closing.input[0].previous_output = funding;
        closing.lock_time = bitcoin::absolute::LockTime::from_consensus(lock_time);
        closing
    });
    case.mine(102, &[&first]).await;
    let end = payjoin_core::ChannelEnd { how: payjoin_core::Closure::ForcedByPeer, reason: "asked".into() };
    assert!(case.stage.host.store.close_intent(funding, &end, case.stage.host.now()).await.unwrap());
    let mut case = case.restarted().await;
    case.settler.on_disconnect(102).await;
    case.mine(102, &[&second]).await;
    let IntentState::Closed { closing, .. } = case.intent() else { panic!("{:?}", case.intent()) };
    assert_eq!(closing, Some(second.compute_txid()));
}

#[tokio::test]
async fn money_rule_6_an_original_or_conflict_that_is_buried_closes_the_channel_and_frees_the_coin() {
    for (outcome, other) in
        [(Settled::Original, None), (Settled::Original, Some(true)), (Settled::Conflict, Some(false))]
    {
        let mut case = Case::new().await;
        let spend = other.map_or_else(|| case.original.clone(), |pays| case.conflict(pays));
        case.mine(100, &[&spend]).await;
        assert!(matches!(case.intent(), IntentState::Released { .. }), "not buried yet");
        assert_eq!(case.outcome(), None);
        case.mine(101, &[]).await;
        assert_eq!(case.outcome(), Some(outcome));
        assert!(matches!(case.intent(), IntentState::Queued { reason: Some(_) }));
        assert!(case.stage.world.acts().contains(&"forget 1 of exchange 1".to_owned()));
        assert_eq!(case.stage.stored_locks(), []);
        case.stage.assert_nothing_leaks();
    }
}

#[tokio::test]
async fn a_reorganised_block_takes_its_confirmation_along() {
    let mut case = Case::new().await;
    let (payjoin, original) = (case.payjoin.clone(), case.original.clone());
    case.mine(100, &[&payjoin]).await;
    case.settler.on_disconnect(100).await;
    assert!(matches!(case.intent(), IntentState::Released { .. }));
    case.mine(100, &[&original]).await;
    case.mine(101, &[]).await;
    assert_eq!(case.outcome(), Some(Settled::Original));
}

#[tokio::test]
async fn money_rule_6_an_original_nobody_broadcast_is_broadcast_at_its_deadline() {
    let mut case = Case::new().await;
    case.settler.on_mempool(&HashMap::new()).await;
    let due = case.settler.tick().await.unwrap();
    assert_eq!(case.stage.host.store.obligations().await.unwrap()[0].fallback_at, due);
    assert_eq!(*case.stage.world.broadcast.lock().unwrap(), []);
    // The clock of this test is the real one: put the deadline into the past.
    let mut obligation = case.stage.host.store.obligations().await.unwrap().remove(0);
    obligation.fallback_at = Timestamp(0);
    case.settler.add(obligation);
    case.settler.tick().await;
    assert_eq!(*case.stage.world.broadcast.lock().unwrap(), [case.original.clone()]);
    // One that the mempool holds is not sent again.
    case.settler.on_tip(100).await;
    let seen = HashMap::from([(outpoint(1), case.original.clone())]);
    let before = case.stage.world.broadcast.lock().unwrap().len();
    case.settler.on_mempool(&seen).await;
    case.settler.on_tip(101).await;
    assert_eq!(case.stage.world.broadcast.lock().unwrap().len(), before);
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn money_rule_6_a_payjoin_that_is_refused_past_the_deadline_gives_way_to_the_original() {
    // A node that is away refuses nothing.
    for (fallback_at, refused, sent) in [("0", true, 2), ("0", false, 1), ("fallback_at", true, 1)] {
        let case = Case::new().await;
        let db = rusqlite::Connection::open(case.stage.file()).unwrap();
        db.execute(&format!("UPDATE exchanges SET fallback_at = {fallback_at}"), []).unwrap();
        let mut case = case.restarted().await;
        let seen = HashMap::from([(outpoint(1), case.payjoin.clone())]);
        case.settler.on_mempool(&seen).await;
        case.stage.world.fault(if refused { "mempool" } else { "broadcast" }, Fault::Refuse);
        case.settler.on_mempool(&HashMap::new()).await;
        case.settler.tick().await;
        let acts = case.stage.world.acts();
        assert_eq!(acts.iter().filter(|act| *act == "broadcast").count(), sent, "{acts:?}");
    }
}

#[tokio::test]
async fn money_rule_6_a_payjoin_that_a_conflict_drives_out_comes_back_with_a_child() {
    let mut case = Case::new().await;
    // It is seen before a restart: the store has it.
    case.settler.take_incoming().await;
    case.settler.on_mempool(&HashMap::from([(outpoint(1), case.payjoin.clone())])).await;
    let mut case = case.restarted().await;
    case.stage.world.fault("mempool", Fault::Refuse);
    let conflict = HashMap::from([(outpoint(1), case.conflict(false))]);
    case.settler.on_mempool(&conflict).await;
    let sent = case.stage.world.broadcast.lock().unwrap().clone();
    let [parent, child] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*parent, case.payjoin);
    let spent = child.input[0].previous_output;
    assert_eq!(spent.txid, case.payjoin.compute_txid());
    // 50 sat/vB for both, less what the payjoin pays.
    let fee = (parent.output[spent.vout as usize].value - child.output[0].value).to_sat();
    let both = 50 * (parent.vsize() as u64 + 122);
    assert!((both - 10_000..both + both / 40).contains(&fee), "{fee} of {both}");
    // Once for each block.
    case.settler.on_mempool(&conflict).await;
    assert_eq!(case.stage.world.broadcast.lock().unwrap().len(), 2);
    case.settler.on_tip(101).await;
    assert_eq!(case.stage.world.broadcast.lock().unwrap().len(), 4);
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn money_rule_6_what_cannot_be_weighed_or_has_no_child_gives_way_to_the_original() {
    for fault in ["prices", "child"] {
        let case = Case::new().await;
        let db = rusqlite::Connection::open(case.stage.file()).unwrap();
        db.execute("UPDATE exchanges SET fallback_at = 0", []).unwrap();
        let mut case = case.restarted().await;
        case.settler.on_mempool(&HashMap::from([(outpoint(1), case.payjoin.clone())])).await;
        case.stage.world.fault("mempool", Fault::Refuse);
        case.stage.world.fault(fault, Fault::Refuse);
        case.settler.on_mempool(&HashMap::from([(outpoint(1), case.conflict(false))])).await;
        let acts = case.stage.world.acts();
        assert_eq!(acts.iter().filter(|act| *act == "broadcast").count(), 2, "{fault}: {acts:?}");
    }
}

#[tokio::test]
async fn an_original_whose_exchange_failed_is_settled_too() {
    let mut stage = Stage::new();
    stage.world.fault("sign", Fault::Refuse);
    let mut settler = Settler::new(stage.host.clone(), stage.owing.take().unwrap()).await.unwrap();
    let mut exchange = stage.exchange(&stage.invoice("a").await, 1);
    assert!(matches!(drive(&stage.host, &mut exchange).await, Reply::Error { .. }));
    assert_eq!(settler.watched_outpoints().await, [outpoint(1)]);
    let original = original(1).extract_tx().unwrap();
    settler.on_block(100, &block(&[&original])).await;
    settler.on_tip(101).await;
    assert_eq!(stage.host.store.exchanges(None, 1).await.unwrap()[0].settled, Some(Settled::Original));
    assert_eq!(settler.watched_outpoints().await, []);
}

#[tokio::test]
async fn what_came_after_the_mempool_was_asked_is_not_judged_by_its_answer() {
    let mut case = Case::new().await;
    let mut exchange = case.stage.exchange(&case.stage.invoice("b").await, 2);
    assert_eq!(case.settler.watched_outpoints().await.len(), 2);
    let Reply::Proposal(_) = drive(&case.stage.host, &mut exchange).await else { panic!("no proposal") };
    case.settler.on_mempool(&HashMap::new()).await;
    assert_eq!(case.settler.running.len(), 1);
    assert_eq!(case.settler.watched_outpoints().await.len(), 4);
}

#[tokio::test]
async fn an_original_mined_while_its_exchange_runs_is_not_missed() {
    let mut stage = Stage::new();
    stage.wait_for_channels(5);
    stage.queue_channel().await;
    stage.world.fault("fund", Fault::Hang);
    let mut settler = Settler::new(stage.host.clone(), stage.owing.take().unwrap()).await.unwrap();
    let (host, mut exchange) = (stage.host.clone(), stage.exchange(&stage.invoice("a").await, 1));
    let running = tokio::spawn(async move { drive(&host, &mut exchange).await });
    while !stage.world.acts().contains(&"fund".to_owned()) {
        tokio::task::yield_now().await;
    }
    let original = original(1).extract_tx().unwrap();
    settler.on_block(100, &block(&[&original])).await;
    settler.on_tip(101).await;
    assert_eq!(stage.host.store.exchanges(None, 1).await.unwrap()[0].settled, None, "it runs");
    assert!(matches!(running.await.unwrap(), Reply::Proposal(_)));
    settler.on_tip(102).await;
    assert_eq!(stage.host.store.exchanges(None, 1).await.unwrap()[0].settled, Some(Settled::Original));
    stage.assert_nothing_leaks();
}

#[tokio::test]
async fn a_confirmation_of_a_block_that_was_replaced_while_we_were_down_counts_no_more() {
    let mut case = Case::new().await;
    let (payjoin, original) = (case.payjoin.clone(), case.original.clone());
    case.settler.on_block(100, &block(&[&payjoin])).await;
    // We die before the block is noted as dealt with, so that nobody tells of its end.
    let mut case = case.restarted().await;
    case.mine(100, &[]).await;
    assert!(matches!(case.intent(), IntentState::Released { .. }));
    case.mine(101, &[&original]).await;
    assert_eq!(case.outcome(), None);
    case.mine(102, &[]).await;
    assert_eq!(case.outcome(), Some(Settled::Original));
}

#[tokio::test]
async fn a_confirmation_that_the_store_refuses_is_recorded_later() {
    let mut case = Case::new().await;
    // The store refuses for want of the exchange, which begins later.
    let invoice = case.stage.invoice("b").await;
    let mut early = case.stage.host.store.obligations().await.unwrap().remove(0);
    early.exchange = ExchangeId(2);
    case.settler.add(early);
    let original = case.original.clone();
    case.settler.on_block(100, &block(&[&original])).await;
    assert!(!case.settler.is_recorded().await);
    let mut second = case.stage.exchange(&invoice, 2);
    assert!(matches!(drive(&case.stage.host, &mut second).await, Reply::Proposal(_)));
    case.settler.tick().await;
    assert!(case.settler.is_recorded().await);
    assert_eq!(case.stage.host.store.obligations().await.unwrap()[1].mined, Some((original, 100)));
}

#[tokio::test]
async fn an_obligation_that_was_read_before_its_confirmation_was_recorded_does_not_undo_it() {
    let mut case = Case::new().await;
    let (payjoin, stale) =
        (case.payjoin.clone(), case.stage.host.store.obligations().await.unwrap().remove(0));
    case.mine(100, &[&payjoin]).await;
    case.settler.add(stale);
    case.mine(101, &[]).await;
    assert_eq!(case.outcome(), Some(Settled::Payjoin));
}

#[tokio::test]
async fn a_spend_between_the_look_at_the_chain_and_the_admission_is_not_missed_however_many_blocks_follow() {
    let mut case = Case::new().await;
    case.stage.world.stalled.store(true, Ordering::SeqCst);
    let (host, mut exchange) =
        (case.stage.host.clone(), case.stage.exchange(&case.stage.invoice("b").await, 2));
    let running = tokio::spawn(async move { drive(&host, &mut exchange).await });
    while case.stage.world.inspecting.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let spend = original(2).extract_tx().unwrap();
    assert!(case.stage.host.watched().concerns(&spend));
    case.mine(100, &[&spend]).await;
    for height in 101..150 {
        case.mine(height, &[]).await;
    }
    assert!(!case.settler.is_recorded().await, "if we died here, the next start would have to tell of it");
    case.stage.world.inspections.add_permits(1);
    assert!(matches!(running.await.unwrap(), Reply::Proposal(_)));
    case.settler.tick().await;
    assert!(case.settler.is_recorded().await);
    assert_eq!(case.stage.host.store.obligations().await.unwrap()[1].mined, Some((spend, 100)));
    case.mine(150, &[]).await;
    assert_eq!(case.outcome(), Some(Settled::Original));
}

#[tokio::test]
async fn a_spend_of_a_coin_that_no_exchange_was_admitted_with_is_forgotten() {
    let mut case = Case::new().await;
    case.stage.world.fault("inspect", Fault::Hang);
    let (host, mut exchange) =
        (case.stage.host.clone(), case.stage.exchange(&case.stage.invoice("b").await, 2));
    let running = tokio::spawn(async move { drive(&host, &mut exchange).await });
    while case.stage.world.acts().iter().filter(|act| *act == "inspect").count() < 2 {
        tokio::task::yield_now().await;
    }
    let mut spend = original(2).extract_tx().unwrap();
    // One that pays a code is a payment: see `plain`.
    spend.output.remove(0);
    case.mine(100, &[&spend]).await;
    assert!(!case.settler.is_recorded().await);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(case.settler.is_recorded().await);
    assert!(!case.stage.host.watched().concerns(&spend));
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_spend_while_an_exchange_cannot_be_read_is_kept_for_it() {
    let mut case = Case::new().await;
    let db = rusqlite::Connection::open(case.stage.file()).unwrap();
    let damage = |bytes: &[u8]| db.execute("UPDATE exchanges SET original = ?1", [bytes]).unwrap();
    damage(b"nonsense");
    let payjoin = case.payjoin.clone();
    case.mine(100, &[&payjoin]).await;
    for height in 101..120 {
        case.mine(height, &[]).await;
    }
    assert!(!case.settler.is_recorded().await);
    damage(&bitcoin::consensus::serialize(&case.original));
    case.settler.tick().await;
    assert!(case.settler.is_recorded().await);
    case.mine(120, &[]).await;
    assert_eq!(case.outcome(), Some(Settled::Payjoin));
}

/// Nobody told the settler of the release: its exchange was dropped in that very write.
#[tokio::test]
async fn money_rule_9_an_outcome_is_judged_by_what_was_released_in_the_end() {
    let mut case = Case::new().await;
    let (payjoin, mut early) =
        (case.payjoin.clone(), case.stage.host.store.obligations().await.unwrap().remove(0));
    (early.payjoin, early.channels) = (None, Vec::new());
    case.settler.take_incoming().await;
    case.settler.add(early);
    case.mine(100, &[&payjoin]).await;
    case.mine(101, &[]).await;
    case.settler.on_tip(101).await;
    assert_eq!(case.stage.host.store.buried_intents().await.unwrap().len(), 1, "{:?}", case.intent());
    assert_eq!(case.outcome(), Some(Settled::Payjoin));
    case.stage.assert_nothing_leaks();
}

#[tokio::test]
async fn once_a_day_codes_that_nobody_will_pay_any_more_are_let_go_of() {
    let mut case = Case::new().await;
    let live = case.stage.invoice("live").await;
    let over = Invoice {
        id: InvoiceId("over".into()),
        script: ScriptBuf::from_bytes(vec![0x51]),
        created: Timestamp(1),
        expires: Timestamp(2),
        ..live.clone()
    };
    case.stage.host.add_invoice(&over).await.unwrap();
    let pays = |script: &ScriptBuf| {
        let mut transaction = case.original.clone();
        transaction.output.iter_mut().for_each(|output| output.script_pubkey = script.clone());
        transaction
    };
    let (to_live, to_over) = (pays(&live.script), pays(&over.script));
    let watched = case.stage.host.watched().clone();
    let paid = |transaction: &Transaction| !watched.paid_codes(transaction).is_empty();
    case.settler.on_tip(DAY - 1).await;
    assert!(paid(&to_live) && paid(&to_over));
    case.settler.on_tip(DAY).await;
    assert!(paid(&to_live) && !paid(&to_over));
}
