//! Coins that pay for closing channels: how many are needed, and what is said of them.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod node_support;

use std::sync::Arc;

use bitcoin::Amount;
use node_support::{Bitcoind, KEY, MemStore, Setup, config, confirm, open, run, run_with, start, until};
use payjoin_lightning::node::NodeConfig;
use payjoin_lightning::{ChannelKey, FunderError};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_opens_a_channel_only_where_a_coin_of_ours_could_close_it() {
    let bitcoind = Bitcoind::start().await;
    let alice = start(&bitcoind).await;
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(MemStore::default()));
    let careful = NodeConfig { inbound_without_coins: false, ..config(&folder) };
    let bob = Setup { node: run_with(&bitcoind, careful, &store).await, folder, store };
    let funder = alice.node.funder();
    let open = |index| {
        let key = ChannelKey { index, ..KEY };
        let (funder, spec) = (Arc::clone(&funder), bob.spec(100_000));
        async move { funder.open(key, &spec, Amount::from_sat(100_000)).await }
    };
    let refused = |opened| matches!(opened, Err(FunderError::Peer(_)));
    assert!(refused(open(0).await), "an empty wallet");
    // Together they are worth a reserve, and neither is worth spending when fees are high.
    let dust = |_| (bob.node.wallet().new_address().unwrap().to_string(), json!(0.000013));
    let dust: serde_json::Map<_, _> = (0..30).map(dust).collect();
    bitcoind.miner("sendmany", json!(["", dust])).await;
    bitcoind.mine_for(1, &[&alice.node, &bob.node]).await;
    assert!(bob.node.balance().confirmed > bob.node.reserve_per_channel());
    assert!(refused(open(1).await), "dust");
    bob.earn(&bitcoind, 50_000).await;
    assert_eq!((bob.node.balance().closable, bob.node.balance().channels), (1, 0));
    open(2).await.unwrap();
    assert!(refused(open(3).await), "the coin is for the channel that waits");
    bob.earn(&bitcoind, 50_000).await;
    open(4).await.unwrap();
}

/// LDK alone says nothing of it after a restart, nor while its commitment waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_closing_channel_keeps_its_reserve_until_its_commitment_is_mined_also_after_a_restart() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let funding = open(&alice, &bob, 200_000).await;
    confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
    bob.node.stop().await;
    let channel = alice.node.channels().remove(0);
    alice.node.close(&channel.channel_id, true).unwrap();
    bitcoind.until_mempool(1).await;
    let address = bitcoind.miner("getnewaddress", json!([])).await;
    for _ in 0..8 {
        bitcoind.miner("generateblock", json!([address, []])).await;
    }
    let (_, height) = bitcoind.tip().await;
    until("empty blocks", || alice.node.height() == height).await;
    let kept = alice.node.reserve_per_channel();
    assert_eq!(alice.node.balance().reserve_closing, kept);
    alice.node.stop().await;
    let again = run(&bitcoind, &alice.folder, &alice.store).await;
    let balance = again.balance();
    assert_eq!((balance.reserve, balance.reserve_closing, balance.channels), (kept, kept, 1));
    bitcoind.mine_for(1, &[&again]).await;
    assert_eq!((again.balance().reserve_closing, again.balance().channels), (Amount::ZERO, 0));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_that_ripen_and_coins_that_wait_are_told_apart() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let address = setup.node.wallet().new_address().unwrap();
    bitcoind.miner("generatetoaddress", json!([1, address.to_string()])).await;
    let (_, height) = bitcoind.tip().await;
    until("the block", || setup.node.height() == height).await;
    let balance = setup.node.balance();
    assert!(balance.immature > Amount::ONE_BTC, "{balance:?}");
    assert_eq!((balance.confirmed, balance.unconfirmed, balance.closable), (Amount::ZERO, Amount::ZERO, 0));
}
