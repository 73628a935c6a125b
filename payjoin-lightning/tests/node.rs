//! The embedded node against a real bitcoind.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod node_support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Amount, Block, BlockHash, Psbt, ScriptBuf, TxOut};
use lightning::chain::BestBlock;
use lightning::events::bump_transaction::sync::WalletSourceSync;
use node_support::{
    BUILDER, Bitcoind, FEE, KEY, MemStore, Setup, build, config, confirm, nowhere, open, open_as, run,
    run_with, sign, start, until,
};
use payjoin_core::{ExchangeId, Holder, PeerAddress};
use payjoin_lightning::node::{
    BlockListener, Dialer, Node, NodeConfig, NodeError, NodeStore, PayError, PeerSocket, SeedError, SignError,
};
use payjoin_lightning::{ChannelKey, FunderError, Wanted};
use serde_json::json;
use tokio::net::TcpStream;

const HOUR: Duration = Duration::from_secs(3600);

fn taproot() -> ScriptBuf {
    ScriptBuf::from_hex(&format!("5120{}", "11".repeat(32))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn wallet_receives_signs_and_knows_its_own_after_a_restart() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let fresh = || setup.node.wallet().new_address().unwrap().script_pubkey();
    let native = fresh();
    assert!(native.is_p2wpkh(), "most payers take no other inputs");
    for _ in 0..4 {
        setup.earn(&bitcoind, 75_000).await;
    }
    let kept = fresh();
    assert!(kept.is_p2tr(), "one for every four");
    let ours = [native.clone(), kept.clone(), taproot()];
    assert_eq!(setup.node.wallet().owns(&ours), [true, true, false]);

    let psbt = build(&setup.node, TxOut { value: Amount::from_sat(100_000), script_pubkey: kept });
    bitcoind.broadcast(&sign(&setup.node, &psbt)).await;
    bitcoind.mine_for(1, &[&setup.node]).await;
    let coins = setup.node.wallet().coins();
    assert_eq!(coins.len(), 2);
    assert_eq!(setup.node.balance().confirmed, Amount::from_sat(300_000 - FEE));

    // One coin is P2TR now: sign that kind too.
    let psbt = build(&setup.node, TxOut { value: Amount::from_sat(50_000), script_pubkey: native });
    bitcoind.broadcast(&sign(&setup.node, &psbt)).await;
    setup.node.stop().await;
    bitcoind.mine(2).await;

    let again = run(&bitcoind, &setup.folder, &setup.store).await;
    assert_eq!(again.balance().confirmed, Amount::from_sat(300_000 - 2 * FEE));
    assert_eq!(again.wallet().owns(&ours), [true, true, false]);
    assert!(!ours.contains(&again.wallet().new_address().unwrap().script_pubkey()), "no script twice");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wallet_signs_the_named_inputs_and_no_others() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    // Four P2WPKH coins, then one P2TR coin, which is offered last.
    for sat in [25_000, 25_000, 25_000, 25_000, 200_000] {
        setup.earn(&bitcoind, sat).await;
    }
    let psbt = build(&setup.node, TxOut { value: Amount::from_sat(250_000), script_pubkey: taproot() });
    let wallet = setup.node.wallet();

    let signed = wallet.sign(&psbt, &[1]).unwrap();
    assert_eq!(signed.inputs[0], psbt.inputs[0]);
    assert!(signed.inputs[1].final_script_witness.is_some());
    assert_eq!(signed.unsigned_tx, psbt.unsigned_tx);
    assert_eq!(wallet.sign(&psbt, &[5]), Err(SignError::NoInput(5)));

    let with = |at, change: fn(&mut Psbt)| {
        let mut psbt = psbt.clone();
        change(&mut psbt);
        wallet.sign(&psbt, &[at])
    };
    let gone = |psbt: &mut Psbt| psbt.unsigned_tx.input[0].previous_output = nowhere();
    assert_eq!(with(0, gone), Err(SignError::NotOurs(0)));
    let lie = |psbt: &mut Psbt| psbt.inputs[0].witness_utxo.as_mut().unwrap().value += Amount::ONE_SAT;
    assert_eq!(with(0, lie), Err(SignError::NotOurs(0)));
    assert_eq!(with(4, |psbt| psbt.inputs[1].witness_utxo = None), Err(SignError::NoPrevout));
}

fn exchange(id: u64) -> Holder {
    Holder::Exchange(ExchangeId(id))
}

#[tokio::test(flavor = "multi_thread")]
async fn money_rule_7_locked_coins_are_never_selected() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let first = setup.earn(&bitcoind, 100_000).await;
    let wallet = setup.node.wallet();

    let (coins, reserve) = setup.node.reserve(exchange(1), &taproot(), &[]);
    assert_eq!(coins.iter().map(|coin| coin.outpoint).collect::<Vec<_>>(), [first]);
    assert_eq!(reserve.balance, Amount::from_sat(100_000));
    assert_eq!(reserve.per_channel, setup.node.reserve_per_channel());
    assert!(setup.node.reserve(exchange(2), &taproot(), &[]).0.is_empty());
    assert!(wallet.list_confirmed_utxos().unwrap().is_empty(), "nor for a fee bump");

    // A new block builds the index anew; the lock stays. What an attempt at the same invoice has shown is shown, and no more.
    let second = setup.earn(&bitcoind, 50_000).await;
    let (coins, reserve) = setup.node.reserve(exchange(2), &taproot(), &[first]);
    assert_eq!(coins.iter().map(|coin| coin.outpoint).collect::<Vec<_>>(), [first]);
    assert_eq!(reserve.balance, Amount::from_sat(150_000));
    assert_eq!(setup.node.balance().locked, Amount::from_sat(100_000));

    wallet.hold(exchange(2), &[]);
    assert_eq!(
        setup.node.reserve(exchange(3), &taproot(), &[]).0.len(),
        1,
        "the first attempt still holds its coin"
    );
    setup.node.stop().await;

    let locked = NodeConfig { held: vec![(exchange(1), vec![second])], ..config(&setup.folder) };
    let again = run_with(&bitcoind, locked, &setup.store).await;
    assert_eq!(again.wallet().list_confirmed_utxos().unwrap()[0].outpoint, first);
    assert_eq!(again.balance().locked, Amount::from_sat(50_000));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coinbase_is_offered_only_when_it_is_ripe() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let address = setup.node.wallet().new_address().unwrap();
    bitcoind.miner("generatetoaddress", json!([1, address.to_string()])).await;
    bitcoind.mine_for(98, &[&setup.node]).await;
    assert_eq!(setup.node.balance().confirmed, Amount::ZERO);
    bitcoind.mine_for(1, &[&setup.node]).await;
    assert_eq!(setup.node.reserve(exchange(1), &taproot(), &[]).0.len(), 1);
    setup.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_takes_coins_away() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let coin = setup.earn(&bitcoind, 100_000).await;
    let (tip, height) = bitcoind.tip().await;
    bitcoind.call("invalidateblock", json!([tip])).await;
    let address = bitcoind.miner("getnewaddress", json!([])).await;
    // Two empty blocks instead of the one with our coin, which waits in the mempool.
    for _ in 0..2 {
        bitcoind.miner("generateblock", json!([address, []])).await;
    }
    until("other branch", || setup.node.height() == height + 1).await;
    assert!(setup.node.wallet().coins().is_empty());
    assert!(setup.node.reserve(exchange(1), &taproot(), &[coin]).0.is_empty());
    assert_eq!(setup.node.balance().unconfirmed, Amount::from_sat(100_000));
    bitcoind.mine_for(1, &[&setup.node]).await;
    assert_eq!(setup.node.wallet().coins().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_opens_pays_and_closes_into_the_wallets() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 1_000_000).await;
    let funding = open(&alice, &bob, 500_000).await;
    let nodes = [&*alice.node, &*bob.node];
    confirm(&bitcoind, &funding, &nodes).await;
    let channel = alice.node.channels().remove(0);
    assert_eq!((channel.capacity_sat, channel.ready), (500_000, true));
    assert_eq!(channel.user_channel_id, KEY.user_channel_id().to_string());
    assert_eq!(channel.funding.map(|funding| funding.txid), Some(funding.compute_txid()));

    let invoice = bob.node.invoice(Some(Amount::from_sat(120_000)), "tea", HOUR).unwrap().to_string();
    let paid = alice.node.pay(&invoice, None).await.unwrap();
    assert_eq!((paid.preimage.len(), paid.fee_msat), (64, 0));
    until("bob can send", || bob.node.channels()[0].outbound_msat > 100_000_000).await;
    assert_eq!(alice.node.pay(&invoice, None).await, Ok(paid), "not paid twice");
    assert!(matches!(alice.node.pay("lnbc1", None).await, Err(PayError::Invoice(_))));
    let back = alice.node.invoice(Some(Amount::from_sat(10_000)), "", HOUR).unwrap();
    bob.node.pay(&back.to_string(), None).await.unwrap();

    alice.node.close(&channel.channel_id, false).unwrap();
    until("closed", || nodes.iter().all(|node| node.channels().is_empty())).await;
    bitcoind.mine_for(1, &nodes).await;
    let (bobs, total) =
        (bob.node.balance().confirmed, bob.node.balance().confirmed + alice.node.balance().confirmed);
    assert_eq!(bobs, Amount::from_sat(110_000), "straight into the wallet, no sweep needed");
    assert!(total > Amount::from_sat(995_000), "{total}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_close_is_bumped_and_swept() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 700_000).await;
    let funding = open(&alice, &bob, 500_000).await;
    let nodes = [&*alice.node, &*bob.node];
    confirm(&bitcoind, &funding, &nodes).await;
    let invoice = bob.node.invoice(Some(Amount::from_sat(100_000)), "", HOUR).unwrap();
    alice.node.pay(&invoice.to_string(), None).await.unwrap();
    bob.node.stop().await;
    // The exchange is over; without this the change could not pay for the bump.
    alice.node.wallet().hold(BUILDER, &[]);

    let channel = alice.node.channels().remove(0);
    alice.node.close(&channel.channel_id, true).unwrap();
    bitcoind.until_mempool(2).await;
    let reserve = alice.node.reserve_per_channel();
    assert_eq!(alice.node.balance().reserve, reserve, "kept until it is needed no more");
    // Our own output waits for `to_self_delay`, 144 blocks. Its sweep may be mined by the last of these.
    bitcoind.mine_for(1, &[&alice.node]).await;
    bitcoind.mine_for(144, &[&alice.node]).await;
    until("the wallet counts it", || alice.node.balance().closing == Amount::ZERO).await;
    bitcoind.mine_for(1, &[&alice.node]).await;
    let balance = alice.node.balance().confirmed;
    assert!(balance > Amount::from_sat(590_000), "{balance}");
    assert_eq!(alice.node.balance().reserve, Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_survives_a_restart_and_the_peer_is_connected_again() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let funding = open_as(&alice, &bob, 200_000, true).await;
    confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
    alice.node.stop().await;
    assert!(alice.node.peers().is_empty());

    let again = run(&bitcoind, &alice.folder, &alice.store).await;
    assert_eq!(again.node_id(), alice.node.node_id());
    until("connected again", || again.channels().iter().any(|channel| channel.usable)).await;
    let invoice = bob.node.invoice(Some(Amount::from_sat(20_000)), "", HOUR).unwrap();
    again.pay(&invoice.to_string(), None).await.unwrap();
    again.stop().await;
}

/// The state that the daemon stores with a released proposal must hold the channel, although LDK's background
/// processor has not written anything since the peer signed.
#[tokio::test(flavor = "multi_thread")]
async fn money_rule_1_the_state_taken_at_release_survives_a_crash_and_a_stale_write() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let before = alice.node.manager_state();
    let funding = open(&alice, &bob, 200_000).await;
    let released = alice.node.manager_state();
    assert!(released.generation > before.generation);

    let crashed = alice.store.snapshot();
    crashed.write_manager(released.clone()).unwrap();
    crashed.write_manager(before).unwrap();
    assert_eq!(crashed.manager_generation().unwrap(), released.generation, "the stale write is ignored");
    alice.node.stop().await;

    let again = run(&bitcoind, &alice.folder, &crashed).await;
    assert!(again.manager_state().generation > released.generation, "generations go on");
    confirm(&bitcoind, &funding, &[&again, &bob.node]).await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_rule_1_the_background_writes_only_newer_states() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    open(&alice, &bob, 200_000).await;
    let released = alice.node.manager_state();
    alice.store.write_manager(released.clone()).unwrap();
    bitcoind.mine_for(1, &[&alice.node]).await;
    until("a newer state", || alice.store.manager_generation().unwrap() > released.generation).await;
    alice.node.stop().await;
    let again = run(&bitcoind, &alice.folder, &alice.store).await;
    assert_eq!(again.channels().len(), 1);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_opens_no_more_channels_than_it_may() {
    let bitcoind = Bitcoind::start().await;
    let alice = start(&bitcoind).await;
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(MemStore::default()));
    let strict = NodeConfig { inbound_per_peer: 1, inbound_min: Amount::from_sat(50_000), ..config(&folder) };
    let bob = Setup { node: run_with(&bitcoind, strict, &store).await, folder, store };
    let funder = alice.node.funder();
    let open = |index| {
        let key = ChannelKey { index, ..KEY };
        let (funder, spec) = (Arc::clone(&funder), bob.spec(50_000));
        async move { funder.open(key, &spec, Amount::from_sat(50_000)).await }
    };
    assert!(open(0).await.unwrap().is_p2wsh());
    let refused = open(1).await;
    assert!(matches!(refused, Err(FunderError::Peer(_))), "{refused:?}");
    assert_eq!(bob.node.channels().len(), 1);
    assert_eq!(bob.node.balance().reserve, Amount::ZERO, "what a peer never funds keeps nothing back");
    assert!(alice.node.balance().reserve > Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_shut_nobody_out_and_push_out_no_peer_with_a_channel() {
    let bitcoind = Bitcoind::start().await;
    let (setup, peer, other) = (start(&bitcoind).await, start(&bitcoind).await, start(&bitcoind).await);
    peer.earn(&bitcoind, 300_000).await;
    let funding = open(&peer, &setup, 100_000).await;
    confirm(&bitcoind, &funding, &[&peer.node, &setup.node]).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(setup.node.listening().unwrap()).await.unwrap());
    }
    other.node.connect(&setup.spec(100_000).peer).await.unwrap();
    let is_connected = |known: &Setup| {
        let connected = serde_json::to_value(setup.node.peers()).unwrap().to_string();
        connected.contains(&known.node.node_id().to_string())
    };
    assert!(is_connected(&peer), "{:?}", setup.node.peers());
    // The one who dials has read our `init` before we have read the other's.
    until("the other is a peer", || is_connected(&other)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_tie_up_no_more_of_the_wallet_than_the_operator_allows() {
    let bitcoind = Bitcoind::start().await;
    let alice = start(&bitcoind).await;
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(MemStore::default()));
    let strict = NodeConfig { inbound_total: 1, ..config(&folder) };
    let bob = Setup { node: run_with(&bitcoind, strict, &store).await, folder, store };
    let nodes = [&*alice.node, &*bob.node];
    let funder = alice.node.funder();
    let open = |index, sat| {
        let key = ChannelKey { index, ..KEY };
        let (funder, spec) = (Arc::clone(&funder), bob.spec(sat));
        async move { (key, funder.open(key, &spec, Amount::from_sat(sat)).await) }
    };
    let (_, small) = open(0, 99_999).await;
    assert!(matches!(small, Err(FunderError::Peer(ref told)) if !told.contains("100000")), "{small:?}");

    // Two channels are under way before one of them is mined.
    let mut fundings = Vec::new();
    for index in [1, 2] {
        alice.earn(&bitcoind, 200_000).await;
        let (key, script) = open(index, 100_000).await;
        let output = TxOut { value: Amount::from_sat(100_000), script_pubkey: script.unwrap() };
        let psbt = build(&alice.node, output);
        let coins: Vec<_> = psbt.unsigned_tx.input.iter().map(|input| input.previous_output).collect();
        alice.node.wallet().hold(Holder::Exchange(ExchangeId(index.into())), &coins);
        funder.fund(key, &psbt, 0).await.unwrap();
        fundings.push(sign(&alice.node, &psbt));
    }
    for funding in &fundings {
        bitcoind.broadcast(funding).await;
    }
    bitcoind.mine_for(6, &nodes).await;
    until("both are open", || bob.node.channels().iter().filter(|channel| channel.ready).count() == 2).await;
    assert_eq!(bob.node.balance().reserve, bob.node.reserve_per_channel(), "of one channel, not of two");
    let (_, third) = open(3, 100_000).await;
    assert!(matches!(third, Err(FunderError::Peer(_))), "{third:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_store_fails_ends() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    setup.store.break_down();
    bitcoind.mine(1).await;
    tokio::time::timeout(Duration::from_secs(20), setup.node.stopped()).await.unwrap();
    setup.node.stop().await;
}

#[derive(Default)]
struct Blocks(Mutex<Vec<(u32, BlockHash)>>);

impl BlockListener for Blocks {
    fn best_block(&self) -> Option<BestBlock> {
        self.0.lock().unwrap().last().map(|(height, hash)| BestBlock::new(*hash, *height))
    }

    fn block_connected(&self, height: u32, block: &Block) {
        self.0.lock().unwrap().push((height, block.block_hash()));
    }

    fn blocks_disconnected(&self, height: u32) {
        self.0.lock().unwrap().retain(|(at, _)| *at <= height);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_sees_every_block_also_those_it_missed() {
    let bitcoind = Bitcoind::start().await;
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(MemStore::default()));
    let blocks = Arc::new(Blocks::default());
    let go = || {
        let store = Arc::clone(&store) as Arc<dyn NodeStore>;
        let outside = Arc::clone(&blocks) as Arc<dyn BlockListener>;
        Node::start(config(&folder), bitcoind.source(), store, Some(outside))
    };
    let node = go().await.unwrap();
    bitcoind.mine_for(2, &[&node]).await;
    node.stop().await;
    // The last block it saw is replaced while it does not look.
    let (tip, _) = bitcoind.tip().await;
    bitcoind.call("invalidateblock", json!([tip])).await;
    bitcoind.mine(3).await;
    let node = go().await.unwrap();
    bitcoind.mine_for(1, &[&node]).await;
    node.stop().await;
    let heights: Vec<u32> = blocks.0.lock().unwrap().iter().map(|(height, _)| *height).collect();
    assert_eq!(heights, [102, 103, 104, 105, 106]);
    assert_eq!(blocks.best_block().unwrap().block_hash, bitcoind.tip().await.0);
}

/// The block at which everything stands is stale, and the bitcoind was set up anew since: it never saw that block.
#[tokio::test(flavor = "multi_thread")]
async fn a_bitcoind_that_does_not_know_our_last_block_is_followed_from_the_last_common_one() {
    let bitcoind = Bitcoind::start().await;
    let (alice, bob) = (start(&bitcoind).await, start(&bitcoind).await);
    alice.earn(&bitcoind, 400_000).await;
    let funding = open(&alice, &bob, 200_000).await;
    confirm(&bitcoind, &funding, &[&alice.node, &bob.node]).await;
    bob.node.stop().await;
    let blocks = Arc::new(Blocks::default());
    let go = |bitcoind: &Bitcoind| {
        let source = bitcoind.source();
        let store = Arc::clone(&alice.store) as Arc<dyn NodeStore>;
        let outside = Arc::clone(&blocks) as Arc<dyn BlockListener>;
        Node::start(config(&alice.folder), source, store, Some(outside))
    };
    alice.node.stop().await;
    let node = go(&bitcoind).await.unwrap();
    bitcoind.mine_for(1, &[&node]).await;
    let coin = bitcoind.fund(&node.wallet().new_address().unwrap(), 50_000).await;
    until("the coin", || node.wallet().coins().iter().any(|found| found.outpoint == coin)).await;
    node.stop().await;
    let (stale, height) = bitcoind.tip().await;
    bitcoind.call("invalidateblock", json!([stale])).await;
    let address = bitcoind.miner("getnewaddress", json!([])).await;
    for _ in 0..2 {
        bitcoind.miner("generateblock", json!([address, []])).await;
    }

    let behind = bitcoind.sibling(height - 2).await;
    let refused = go(&behind).await;
    assert!(matches!(refused, Err(NodeError::Behind { node, .. }) if node == height), "nothing is undone");
    let other = Bitcoind::start().await;
    other.mine(20).await;
    assert!(matches!(go(&other).await, Err(NodeError::Stranger { .. })), "another chain");

    let sibling = bitcoind.sibling(height + 1).await;
    let node = go(&sibling).await.unwrap();
    assert_eq!(node.best_block(), bitcoind.tip().await.0);
    assert!(node.wallet().coins().iter().all(|found| found.outpoint != coin), "its block is gone");
    assert_eq!(node.channels().iter().filter(|channel| channel.ready).count(), 1, "the channel is not");
    let heights: Vec<u32> = blocks.0.lock().unwrap().iter().map(|(height, _)| *height).collect();
    assert_eq!(heights, [height - 1, height, height + 1]);
    assert_eq!(blocks.best_block().unwrap().block_hash, node.best_block());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_could_lose_money_is_refused() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    assert!(setup.store.manager_generation().unwrap() > 0, "the manager is kept before the first monitor");
    setup.node.stop().await;
    let go = |config| {
        let store = Arc::clone(&setup.store) as Arc<dyn NodeStore>;
        Node::start(config, bitcoind.source(), store, None)
    };
    let mut other = config(&setup.folder);
    other.network = bitcoin::Network::Signet;
    assert!(matches!(go(other).await, Err(NodeError::Network { .. })));
    let stranger = tempfile::tempdir().unwrap();
    assert!(matches!(go(config(&stranger)).await, Err(NodeError::Seed(SeedError::Missing))));
    let unrelated = start(&bitcoind).await;
    assert!(matches!(go(config(&unrelated.folder)).await, Err(NodeError::Wallet(_))), "another seed");
    unrelated.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wallet_changes_are_summed_up_and_idle_blocks_are_not_written() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    bitcoind.mine_for(20, &[&setup.node]).await;
    assert_eq!(setup.store.wallet_change_count(), 1, "the birth of the wallet, and no idle block");
    let mut last = setup.node.wallet().new_address().unwrap();
    for _ in 0..80 {
        last = setup.node.wallet().new_address().unwrap();
    }
    setup.node.stop().await;
    let again = run(&bitcoind, &setup.folder, &setup.store).await;
    assert_eq!(setup.store.wallet_change_count(), 1);
    assert_eq!(again.wallet().owns(&[last.script_pubkey()]), [true]);
    again.stop().await;
}

/// Knows where one onion service is.
#[derive(Debug)]
struct Rendezvous(std::net::SocketAddr);

#[async_trait]
impl Dialer for Rendezvous {
    fn reaches(&self, host: &str) -> bool {
        payjoin_core::is_onion(host)
    }

    async fn dial(&self, _: &str, _: u16) -> Result<PeerSocket, String> {
        let stream = TcpStream::connect(self.0).await.map_err(|error| error.to_string())?;
        PeerSocket::over(stream).map_err(|error| error.to_string())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialer_is_the_way_to_the_peers_it_reaches() {
    let bitcoind = Bitcoind::start().await;
    let (peer, folder) = (start(&bitcoind).await, tempfile::tempdir().unwrap());
    let at = peer.node.listening().unwrap();
    let onion = format!("{}@{}.onion:9735", peer.node.node_id(), "a".repeat(56)).parse().unwrap();
    let dialer = Some(Arc::new(Rendezvous(at)) as Arc<dyn Dialer>);
    let node = run_with(&bitcoind, NodeConfig { dialer, ..config(&folder) }, &Arc::default()).await;
    node.connect(&onion).await.unwrap();
    let info = node.peers();
    assert_eq!((info[0].node_id, info[0].address.as_ref()), (peer.node.node_id(), Some(&onion)));
    until("the peer sees us", || peer.node.peers().iter().any(|p| p.node_id == node.node_id())).await;
    node.stop().await;
    until("the peer sees us leave", || peer.node.peers().is_empty()).await;

    let alone = start(&bitcoind).await;
    assert!(alone.node.connect(&onion).await.unwrap_err().contains("Tor"));
    let direct = format!("{}@{at}", peer.node.node_id()).parse().unwrap();
    alone.node.connect(&direct).await.unwrap();
}

/// Names one peer from some moment on.
#[derive(Debug, Default)]
struct Company(Mutex<Option<PeerAddress>>);

#[async_trait]
impl Wanted for Company {
    async fn peers(&self) -> Vec<PeerAddress> {
        self.0.lock().unwrap().iter().cloned().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wanted_peer_is_kept_connected_without_a_channel() {
    let bitcoind = Bitcoind::start().await;
    let (peer, folder) = (start(&bitcoind).await, tempfile::tempdir().unwrap());
    let (id, at) = (peer.node.node_id(), peer.node.listening().unwrap());
    let company = Arc::new(Company::default());
    let wanted = Some(company.clone() as Arc<dyn Wanted>);
    let node = run_with(&bitcoind, NodeConfig { wanted, ..config(&folder) }, &Arc::default()).await;
    *company.0.lock().unwrap() = format!("{id}@{at}").parse().ok();
    until("the peer is connected", || node.peers().iter().any(|peer| peer.node_id == id)).await;

    peer.node.stop().await;
    until("the peer is gone", || node.peers().is_empty()).await;
    let settings = NodeConfig { listen: Some(at), ..config(&peer.folder) };
    let again = run_with(&bitcoind, settings, &peer.store).await;
    until("the peer is connected again", || !node.peers().is_empty()).await;
    again.stop().await;
    node.stop().await;
}
