//! Money that the embedded node could lose, lock or pay twice.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod node_support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Address, Amount, Network, ScriptBuf, TxOut};
use lightning::events::bump_transaction::sync::WalletSourceSync;
use lightning::util::persist::KVStoreSync;
use node_support::{
    BUILDER, Bitcoind, FEE, KEY, Setup, build, config, confirm, open, run, run_with, sign, start, until,
};
use payjoin_lightning::ChannelKey;
use payjoin_lightning::PaidOnce;
use payjoin_lightning::node::{NodeConfig, PayError};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);

/// Closes the only channel with the peer's help.
async fn close(from: &Setup, to: &Setup) {
    let channel = from.node.channels().remove(0);
    from.node.close(&channel.channel_id, false).unwrap();
    until("closed", || from.node.channels().is_empty() && to.node.channels().is_empty()).await;
}

fn queued(setup: &Setup) -> usize {
    setup.store.list("broadcasts", "").unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_before_the_funding_is_sent_when_the_funding_is_there_and_forgotten_when_buried() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let funding = open(&alice, &bob, 200_000).await;
    close(&alice, &bob).await;
    assert_eq!((queued(&alice), queued(&bob), bitcoind.mempool().await), (1, 1, 0));
    bob.node.stop().await;
    alice.node.stop().await;

    bitcoind.broadcast(&funding).await;
    let again = run(&bitcoind, &alice.folder, &alice.store).await;
    bitcoind.until_mempool(2).await;
    bitcoind.mine_for(1, &[&again]).await;
    let balance = again.balance().confirmed;
    assert!(balance > Amount::from_sat(390_000), "{balance}");
    bitcoind.mine_for(4, &[&again]).await;
    assert_eq!(queued(&alice), 1, "a reorganisation may undo it");
    bitcoind.mine_for(1, &[&again]).await;
    until("nothing to send", || queued(&alice) == 0).await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_while_bitcoind_is_away_is_sent_when_it_is_back() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let funding = open(&alice, &bob, 200_000).await;
    confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
    bitcoind.down().await;
    close(&alice, &bob).await;
    bob.node.stop().await;
    bitcoind.up();
    bitcoind.until_mempool(1).await;
    alice.node.stop().await;
}

/// LDK alone forgets a payment seven of its minutes after it arrived.
#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_paid_once_however_often_and_late_it_is_asked_for() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let funding = open(&alice, &bob, 200_000).await;
    confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
    let invoice = |sat| bob.node.invoice(Some(Amount::from_sat(sat)), "", HOUR).unwrap().to_string();
    let (large, small) = (invoice(500_000), invoice(20_000));
    for _ in 0..2 {
        let failed = alice.node.pay(&large, None).await;
        assert_eq!(failed, Err(PayError::NoRoute), "one that failed may be tried again");
    }
    let (first, second) = tokio::join!(alice.node.pay(&small, None), alice.node.pay(&small, None));
    assert!(first.is_ok(), "{first:?}");
    assert_eq!(first, second);
    until("bob has it", || bob.node.channels()[0].outbound_msat > 15_000_000).await;
    let received = bob.node.channels()[0].outbound_msat;

    (0..20).for_each(|_| alice.node.tick());
    assert_eq!(alice.node.pay(&small, None).await, first);
    alice.node.stop().await;
    let again = run(&bitcoind, &alice.folder, &alice.store).await;
    (0..20).for_each(|_| again.tick());
    until("connected again", || again.channels().iter().any(|channel| channel.usable)).await;
    assert_eq!(again.pay(&small, None).await, first);
    assert_eq!(bob.node.channels()[0].outbound_msat, received, "paid once");
    again.stop().await;
}

/// Answers in this order from the back on, and then takes everything.
#[derive(Debug)]
struct Answers(Mutex<Vec<Result<bool, String>>>);

#[async_trait]
impl PaidOnce for Answers {
    async fn may_take(&self, _: [u8; 32]) -> Result<bool, String> {
        self.0.lock().unwrap().pop().unwrap_or(Ok(true))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_may_not_be_taken_is_given_back_and_one_that_nobody_can_judge_waits() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    bob.node.stop().await;
    let unknown = || Err("the disk is full".to_owned());
    let answers = Arc::new(Answers(Mutex::new(vec![Ok(true), unknown(), unknown(), Ok(false)])));
    let once = Some(Arc::clone(&answers) as Arc<dyn PaidOnce>);
    let node = run_with(&bitcoind, NodeConfig { once, ..config(&bob.folder) }, &bob.store).await;
    let bob = Setup { node, ..bob };
    alice.earn(&bitcoind, 400_000).await;
    let funding = open(&alice, &bob, 200_000).await;
    confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
    let invoice = || bob.node.invoice(Some(Amount::from_sat(20_000)), "", HOUR).unwrap().to_string();
    let refused = alice.node.pay(&invoice(), None).await;
    assert!(matches!(refused, Err(PayError::Failed(_))), "{refused:?}");
    let paid = alice.node.pay(&invoice(), None).await;
    assert!(paid.is_ok(), "{paid:?}");
    assert!(answers.0.lock().unwrap().is_empty(), "it was asked again");
    alice.node.stop().await;
    bob.node.stop().await;
}

/// The process died between the record and the sending.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_never_left_may_be_made_after_a_restart() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let funding = open(&alice, &bob, 200_000).await;
    confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
    let invoice = bob.node.invoice(Some(Amount::from_sat(20_000)), "", HOUR).unwrap();
    alice.node.stop().await;
    let record = br#"{"amount_msat":20000000,"began":1,"expires":9999999999,"state":"under_way"}"#;
    let hash = invoice.payment_hash().to_string();
    alice.store.write("outgoing_payments", "", &hash, record.to_vec()).unwrap();
    let again = run(&bitcoind, &alice.folder, &alice.store).await;
    until("connected again", || again.channels().iter().any(|channel| channel.usable)).await;
    again.pay(&invoice.to_string(), None).await.unwrap();
    let kept = alice.store.read("outgoing_payments", "", &hash).unwrap();
    assert!(String::from_utf8(kept).unwrap().contains("\"state\":\"paid\""));
    again.stop().await;
}

/// The peer paid for the channel; this wallet has no coin at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_forced_close_without_coins_is_sent_and_shown_until_all_of_it_is_ours() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let funding = open(&alice, &bob, 200_000).await;
    confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
    let invoice = bob.node.invoice(Some(Amount::from_sat(50_000)), "", HOUR).unwrap();
    alice.node.pay(&invoice.to_string(), None).await.unwrap();
    until("bob has it", || bob.node.channels()[0].outbound_msat > 45_000_000).await;
    alice.node.stop().await;

    let channel = bob.node.channels().remove(0);
    bob.node.close(&channel.channel_id, true).unwrap();
    bitcoind.until_mempool(1).await;
    until("it says what it needs", || {
        let closing = bob.node.closing_channels();
        closing.iter().any(|closing| (closing.sat, closing.funding) == (50_000, channel.funding.unwrap()))
            && closing[0].needs_sat.is_some_and(|sat| (300..10_000).contains(&sat))
    })
    .await;
    assert_eq!(bob.node.balance().closing, Amount::from_sat(50_000));
    bitcoind.mine_for(1, &[&bob.node]).await;
    bitcoind.mine_for(140, &[&bob.node]).await;
    assert_eq!(bob.node.balance().closing, Amount::from_sat(50_000), "until `to_self_delay` is over");
    // The sweep may be mined by the last of these.
    bitcoind.mine_for(3, &[&bob.node]).await;
    until("the wallet counts it", || bob.node.balance().closing == Amount::ZERO).await;
    bitcoind.mine_for(1, &[&bob.node]).await;
    until("it is confirmed", || bob.node.balance().confirmed > Amount::from_sat(45_000)).await;
    until("nothing of it is shown any more", || bob.node.closing_channels().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_stranger_does_for_free_advances_the_wallet() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    let wallet = bob.node.wallet();
    let first = wallet.get_change_script().unwrap();
    open_unfunded(&alice, &bob, 0).await;
    let changes = bob.store.wallet_change_count();
    for index in 1..4 {
        open_unfunded(&alice, &bob, index).await;
    }
    assert_eq!(bob.store.wallet_change_count(), changes);
    assert_eq!(wallet.get_change_script().unwrap(), first, "a bump that is not mined takes no new one");
    bob.node.stop().await;

    let again = run(&bitcoind, &bob.folder, &bob.store).await;
    assert_eq!(again.wallet().get_change_script().unwrap(), first);
    let address = Address::from_script(&first, Network::Regtest).unwrap();
    bitcoind.fund(&address, 10_000).await;
    until("it is mined", || again.balance().confirmed == Amount::from_sat(10_000)).await;
    assert_ne!(again.wallet().get_change_script().unwrap(), first, "nor is one used twice");
    again.stop().await;
}

async fn open_unfunded(from: &Setup, to: &Setup, index: u32) {
    let key = ChannelKey { index, ..KEY };
    from.node.funder().open(key, &to.spec(200_000), Amount::from_sat(200_000)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_spends_a_funding_that_can_never_be_is_kept() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    open(&alice, &bob, 200_000).await;
    close(&alice, &bob).await;
    let funder = alice.node.funder();
    let noted = async {
        while queued(&alice) > 0 {
            funder.discard(KEY.exchange).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(25), noted).await.expect("the end of the channel is noted");
    assert_eq!(queued(&bob), 1, "nobody told him");
}

/// LDK waits 4,032 blocks after it saw first that nothing is left to claim.
#[tokio::test(flavor = "multi_thread")]
async fn the_monitor_of_a_channel_that_closed_long_ago_goes_to_the_archive() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let funding = open(&alice, &bob, 200_000).await;
    confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
    close(&alice, &bob).await;
    bitcoind.until_mempool(1).await;
    bob.node.stop().await;
    let keys = |namespace| alice.store.list(namespace, "").unwrap();
    let watched = keys("monitors");
    for _ in 0..20 {
        bitcoind.mine_for(200, &[&alice.node]).await;
        assert_eq!(keys("monitors"), watched, "before its time");
    }
    bitcoind.mine_for(200, &[&alice.node]).await;
    bitcoind.mine_for(200, &[&alice.node]).await;
    assert_eq!((keys("monitors"), keys("archived_monitors")), (Vec::new(), watched));
    alice.node.stop().await;
    let again = run(&bitcoind, &alice.folder, &alice.store).await;
    assert!(again.channels().is_empty() && again.closing_channels().is_empty());
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_mempool_lost_hides_no_coins_and_one_that_is_there_does() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    setup.earn(&bitcoind, 300_000).await;
    let nobody = ScriptBuf::from_hex(&format!("5120{}", "11".repeat(32))).unwrap();
    let signed = {
        let psbt = build(&setup.node, TxOut { value: Amount::from_sat(100_000), script_pubkey: nobody });
        setup.node.wallet().hold(BUILDER, &[]);
        sign(&setup.node, &psbt)
    };
    let (hidden, free) = (Amount::ZERO, Amount::from_sat(300_000));
    // In turn: never sent; sent; sent and lost again with the parent that paid for it, as far as the wallet can see.
    setup.node.wallet().saw(&signed);
    assert_eq!(setup.node.balance().confirmed, hidden);
    bitcoind.mine_for(1, &[&setup.node]).await;
    until("the coin is back", || setup.node.balance().confirmed == free).await;
    assert_eq!(setup.node.balance().unconfirmed, Amount::ZERO);
    setup.node.stop().await;

    let again = run(&bitcoind, &setup.folder, &setup.store).await;
    assert_eq!(again.balance().confirmed, free, "forgotten for good");
    bitcoind.broadcast(&signed).await;
    again.wallet().saw(&signed);
    assert_eq!(again.balance().confirmed, hidden, "seen again");
    let address = bitcoind.miner("getnewaddress", json!([])).await;
    for _ in 0..3 {
        bitcoind.miner("generateblock", json!([address, []])).await;
    }
    let (_, height) = bitcoind.tip().await;
    until("empty blocks", || again.height() == height).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(again.balance().confirmed, hidden, "it waits in the mempool");
    bitcoind.mine_for(1, &[&again]).await;
    assert_eq!(again.balance().confirmed, free - Amount::from_sat(100_000 + FEE));
    again.stop().await;
}
