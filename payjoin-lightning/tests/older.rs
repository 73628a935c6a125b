//! An older copy of the store: what it would send may be punished by whoever has the later states.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod node_support;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, TxOut};
use lightning::util::persist::KVStoreSync;
use node_support::{Bitcoind, MemStore, Setup, config, confirm, open, run, run_with, start, until};
use payjoin_core::{Chain, ChainError, PaymentId};
use payjoin_lightning::node::{CloseError, Node, NodeConfig};
use serde_json::json;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(25);

/// Two nodes with a channel between them.
struct Scene {
    bitcoind: Bitcoind,
    alice: Setup,
    bob: Setup,
    funding: OutPoint,
}

impl Scene {
    async fn new() -> Self {
        let bitcoind = Bitcoind::start().await;
        let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
        alice.earn(&bitcoind, 400_000).await;
        let funding = open(&alice, &bob, 200_000).await;
        confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
        let funding = OutPoint::new(funding.compute_txid(), 0);
        Self { bitcoind, alice, bob, funding }
    }

    /// A copy of Alice's store, the channel moves on, and Alice ends.
    async fn copy_and_go_on(&self) -> Arc<MemStore> {
        let copy = self.alice.store.snapshot();
        for sat in [20_000, 30_000] {
            let hour = Duration::from_secs(3600);
            let invoice = self.bob.node.invoice(Some(Amount::from_sat(sat)), "", hour).unwrap();
            self.alice.node.pay(&invoice.to_string(), None).await.unwrap();
        }
        until("bob has it", || self.bob.node.channels()[0].outbound_msat > 45_000_000).await;
        self.alice.node.stop().await;
        copy
    }

    async fn run(&self, store: &Arc<MemStore>, older_copy: bool) -> Arc<Node> {
        let config = NodeConfig { older_copy, ..config(&self.alice.folder) };
        run_with(&self.bitcoind, config, store).await
    }

    /// What spends the channel's funding in the mempool is Bob's, and what is Alice's in it comes back to her.
    async fn bob_closes_and_alice_has(&self, alice: &Node, sat: u64) {
        self.bitcoind.until_mempool(1).await;
        let before = alice.balance().confirmed;
        let mempool = self.bitcoind.call("getrawmempool", json!([])).await;
        let closing = self.bitcoind.call("getrawtransaction", json!([mempool[0], true])).await;
        assert_eq!(closing["vin"][0]["txid"], self.funding.txid.to_string());
        self.bitcoind.mine_for(6, &[alice, &self.bob.node]).await;
        self.bitcoind.until_mempool(1).await;
        self.bitcoind.mine_for(1, &[alice, &self.bob.node]).await;
        let back = alice.balance().confirmed - before;
        let (least, most) = (Amount::from_sat(sat - 3_000), Amount::from_sat(sat));
        assert!((least..most).contains(&back), "{back} of {most} came back");
        let over = || alice.channels().is_empty() && alice.closing_channels().is_empty();
        until("nothing is left to come", over).await;
    }
}

fn queued(store: &MemStore) -> usize {
    store.list("broadcasts", "").unwrap().len()
}

/// LDK alone panics in the task of the connection, and again after each start, and the node goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_who_proves_that_the_store_is_old_ends_the_node_and_what_is_ours_comes_back() {
    let scene = Scene::new().await;
    let copy = scene.copy_and_go_on().await;
    let old = scene.run(&copy, false).await;
    let reason = timeout(PATIENCE, old.stopped()).await.expect("it ends").expect("with a reason");
    assert!(reason.contains("older"), "{reason}");
    timeout(PATIENCE, old.stop()).await.expect("at once");
    assert_eq!(copy.list("fallen_channels", "").unwrap().len(), 1, "written down");

    let again = scene.run(&copy, false).await;
    assert!(again.trouble().unwrap().contains("older copy"));
    let original = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).txdata.remove(0);
    assert!(matches!(again.inspect(&original).await, Err(ChainError::Away(_))), "no offers");
    scene.bob_closes_and_alice_has(&again, 150_000).await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_of_an_older_copy_is_asked_to_close_its_channel() {
    let scene = Scene::new().await;
    scene.alice.node.stop().await;
    let old = scene.run(&scene.alice.store, true).await;
    scene.bob_closes_and_alice_has(&old, 200_000).await;
    old.stop().await;
}

/// It is a sign, no proof: nothing else comes of it.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_one_seed_tell_of_coins_that_the_other_spends() {
    let bitcoind = Bitcoind::start().await;
    let one = start(&bitcoind).await;
    let other = run(&bitcoind, &one.folder, &Arc::default()).await;
    one.earn(&bitcoind, 100_000).await;
    until("the other has it, too", || other.balance().confirmed == Amount::from_sat(100_000)).await;
    let script_pubkey = ScriptBuf::from_hex(&format!("5120{}", "11".repeat(32))).unwrap();
    let output = TxOut { value: Amount::from_sat(20_000), script_pubkey };
    let paid = one.node.pay_on_chain(PaymentId(1), &output, FeeRate::BROADCAST_MIN).unwrap();
    let paid = paid.extract_tx().unwrap();
    bitcoind.broadcast(&paid).await;
    bitcoind.mine_for(1, &[&one.node, &other]).await;
    let told = other.seed_elsewhere().unwrap();
    assert!(told.contains(&paid.compute_txid().to_string()), "{told}");
    assert_eq!((one.node.seed_elsewhere(), other.trouble()), (None, None));
    other.stop().await;
}

/// Without Bob nothing tells that the copy is old, but the operator.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_never_sends_what_its_peer_may_punish_also_what_was_queued() {
    let scene = Scene::new().await;
    let copy = scene.copy_and_go_on().await;
    scene.bob.node.stop().await;
    let queueing = copy.snapshot();
    let unaware = scene.run(&queueing, false).await;
    scene.bitcoind.down().await;
    let channel = unaware.channels().remove(0).channel_id;
    unaware.close(&channel, true).unwrap();
    until("its commitment is queued", || queued(&queueing) == 1).await;
    unaware.stop().await;
    scene.bitcoind.up();
    scene.bitcoind.reaches(1).await;
    scene.bitcoind.call("loadwallet", json!(["miner"])).await;
    let pruned = scene.run(&queueing, true).await;
    assert_eq!(queued(&queueing), 0);

    let old = scene.run(&copy, true).await;
    assert!(old.channels()[0].fallen);
    assert_eq!(old.close(&channel, true), Err(CloseError::Fallen));
    assert_eq!(old.close(&channel, false), Err(CloseError::Fallen));
    for node in [&pruned, &old] {
        scene.bitcoind.mine_for(1, &[node]).await;
        assert_eq!((queued(&queueing), queued(&copy), scene.bitcoind.mempool().await), (0, 0, 0));
        node.stop().await;
    }
    let unasked = run(&scene.bitcoind, &scene.alice.folder, &copy).await;
    assert_eq!(unasked.close(&channel, true), Err(CloseError::Fallen), "it stays so");
    unasked.stop().await;
}
