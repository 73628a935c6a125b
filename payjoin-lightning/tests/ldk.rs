//! Channels between real LDK nodes over TCP, funded by a transaction that nobody has signed yet.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, Transaction};
use common::wire::{Fault, Wire};
use common::{Dialer, Manager, Manner, Node, channel, payjoin};
use lightning::events::{ClosureReason, Event};
use payjoin_core::{
    ChannelSpec, ExchangeId, FailureKind, Funded, Funder as _, IntentId, Left, PlannedChannel, StateWrite,
};
use payjoin_lightning::{
    ChannelFunder, ChannelKey, Channels, ChannelsError, Connector as _, FunderError, FundingError, LdkFunder,
};
use tokio::net::TcpListener;

const EXCHANGE: ExchangeId = ExchangeId(7);
/// Never reached by a test that passes.
const LONG: u64 = 60;
/// Waited out by tests of silent peers. Those that are not silent answer within it, on a busy machine too.
const SHORT: u64 = 8;

type Wanted = Vec<(PlannedChannel, ChannelSpec)>;

/// Ours, and two peers.
struct Scene {
    us: Arc<Node>,
    funder: Arc<LdkFunder<Arc<Manager>>>,
    bob: Arc<Node>,
    carol: Arc<Node>,
}

/// Runs a node whose channels somebody else funds.
fn run_with_funder(node: &Arc<Node>) -> Arc<LdkFunder<Arc<Manager>>> {
    let dialer = Arc::new(Dialer(Arc::clone(&node.peers)));
    let funder = Arc::new(LdkFunder::new(Arc::clone(&node.manager), dialer));
    let events = Arc::clone(&funder);
    tokio::spawn(Arc::clone(node).run(move |event| events.handle_event(event)));
    funder
}

impl Scene {
    async fn new(bob: Manner) -> Self {
        let us = Node::new(1, Manner::Accept).await;
        let funder = run_with_funder(&us);
        let (bob, carol) = (Node::new(2, bob).await, Node::new(3, Manner::Accept).await);
        for peer in [&bob, &carol] {
            tokio::spawn(Arc::clone(peer).run(|_| false));
        }
        Self { us, funder, bob, carol }
    }

    fn channels(&self, seconds: u64) -> Channels {
        Channels::new(Arc::clone(&self.funder) as Arc<dyn ChannelFunder>, seconds)
    }

    /// One channel with Carol, who does as she should, and one with Bob.
    fn wanted(&self) -> Wanted {
        vec![channel(1, self.carol.address(), 50_000), channel(2, self.bob.address(), 60_000)]
    }

    fn all(&self) -> [&Node; 3] {
        [&self.us, &self.bob, &self.carol]
    }

    /// No channel is left on any node, and we have broadcast nothing.
    async fn expect_nothing_left(&self) {
        self.expect_nothing_left_with_carol().await;
        until("Bob has forgotten his channel", || self.bob.manager.list_channels().is_empty()).await;
    }

    async fn expect_nothing_left_with_carol(&self) {
        assert!(self.funder.live().await.is_empty());
        assert!(self.us.manager.list_channels().is_empty());
        assert!(self.us.broadcaster.0.lock().unwrap().is_empty());
        until("Carol has forgotten her channel", || self.carol.manager.list_channels().is_empty()).await;
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("never: {what}");
}

fn failed(result: Result<impl std::fmt::Debug, ChannelsError>) -> (IntentId, String) {
    match result {
        Err(ChannelsError::None(mut failed)) if failed.len() == 1 => {
            let failed = failed.remove(0);
            (failed.intent, failed.text)
        }
        other => panic!("no channel failed: {other:?}"),
    }
}

/// As the exchange hands it over.
fn stated(transaction: &Transaction) -> Psbt {
    Psbt::from_unsigned_tx(transaction.clone()).unwrap()
}

/// Opens and funds; returns what the exchange would release.
async fn fund(channels: &Channels, wanted: &Wanted) -> Transaction {
    let scripts = channels.open_all(EXCHANGE, wanted).await.unwrap();
    let (transaction, positions) = payjoin(wanted, &scripts);
    channels.fund_all(EXCHANGE, &stated(&transaction), &positions).await.unwrap();
    transaction
}

#[tokio::test]
async fn one_transaction_opens_one_channel_or_several_with_several_peers() {
    for count in [1, 3] {
        let scene = Scene::new(Manner::Accept).await;
        let (bob, carol) = (scene.bob.address(), scene.carol.address());
        let mut wanted =
            vec![channel(1, bob.clone(), 50_000), channel(2, carol, 60_000), channel(3, bob, 70_000)];
        wanted.truncate(count);
        let txid = fund(&scene.channels(LONG), &wanted).await.compute_txid();

        for (index, (planned, spec)) in wanted.iter().enumerate() {
            let key = ChannelKey { exchange: EXCHANGE, index: index as u32 };
            let ours = scene.us.manager.list_channels_with_counterparty(&spec.peer.node_id());
            let ours = ours.iter().find(|c| c.user_channel_id == key.user_channel_id()).unwrap();
            let funding = OutPoint { txid, vout: index as u32 + 1 };
            assert_eq!(ours.funding_txo.map(|o| o.into_bitcoin_outpoint()), Some(funding));
            assert_eq!(Amount::from_sat(ours.channel_value_satoshis), planned.amount);
            let theirs = scene.all().into_iter().any(|node| {
                node.manager.get_our_node_id() == spec.peer.node_id()
                    && node.manager.list_channels().iter().any(|c| c.funding_txo == ours.funding_txo)
            });
            assert!(theirs, "the peer knows channel {index}");
        }
        assert_eq!(scene.us.manager.list_channels().len(), count);
        assert!(scene.us.broadcaster.0.lock().unwrap().is_empty(), "the payer broadcasts, not we");
    }
}

#[tokio::test]
async fn push_and_announcement_are_as_the_spec_says() {
    let scene = Scene::new(Manner::Accept).await;
    let mut wanted = scene.wanted();
    wanted[0].1.push = Amount::from_sat(5_000);
    wanted[1].1.announced = true;
    fund(&scene.channels(LONG), &wanted).await;
    let mut channels = scene.us.manager.list_channels();
    channels.sort_by_key(|c| c.user_channel_id);
    let seen: Vec<_> = channels.iter().map(|c| (c.inbound_capacity_msat > 0, c.is_announced)).collect();
    assert_eq!(seen, [(true, false), (false, true)]);
}

#[tokio::test]
async fn money_rule_1_a_channel_is_not_safe_before_its_monitor_is_durable() {
    let scene = Scene::new(Manner::Accept).await;
    let channels = scene.channels(LONG);
    let wanted = scene.wanted();
    let scripts = channels.open_all(EXCHANGE, &wanted).await.unwrap();
    let (transaction, positions) = payjoin(&wanted, &scripts);

    scene.us.disk.hangs.store(true, Ordering::Relaxed);
    let psbt = stated(&transaction);
    let mut funding = std::pin::pin!(channels.fund_all(EXCHANGE, &psbt, &positions));
    let both_signed =
        || scene.us.monitor.list_pending_monitor_updates().iter().filter(|(_, u)| !u.is_empty()).count() == 2;
    tokio::select! {
        result = &mut funding => panic!("safe while no monitor is kept: {result:?}"),
        () = until("both peers have signed", both_signed) => {}
    }
    let waited = tokio::time::timeout(Duration::from_millis(100), &mut funding).await;
    assert!(waited.is_err(), "safe while no monitor is kept: {waited:?}");

    scene.us.finish_writes();
    funding.await.unwrap();
}

/// Says that the channel of index 1 is safe only when it is told to.
struct Slow(Arc<LdkFunder<Arc<Manager>>>, tokio::sync::Semaphore);

#[async_trait]
impl ChannelFunder for Slow {
    async fn open(&self, key: ChannelKey, spec: &ChannelSpec, sat: Amount) -> Result<ScriptBuf, FunderError> {
        self.0.open(key, spec, sat).await
    }

    async fn fund(&self, key: ChannelKey, transaction: &Psbt, vout: u32) -> Result<(), FunderError> {
        let funded = self.0.fund(key, transaction, vout).await;
        if key.index == 1 {
            self.1.acquire().await.unwrap().forget();
        }
        funded
    }

    async fn abandon(&self, key: ChannelKey) {
        self.0.abandon(key).await;
    }

    async fn state(&self) -> Option<StateWrite> {
        self.0.state().await
    }

    async fn held(&self) -> Vec<(ChannelKey, Option<OutPoint>)> {
        self.0.held().await
    }
}

#[tokio::test]
async fn money_rule_1_a_channel_that_closes_while_others_are_not_safe_yet_abandons_all() {
    let scene = Scene::new(Manner::Accept).await;
    let slow = Arc::new(Slow(Arc::clone(&scene.funder), tokio::sync::Semaphore::new(0)));
    let channels = Channels::new(Arc::clone(&slow) as Arc<dyn ChannelFunder>, LONG);
    let wanted = scene.wanted();
    let scripts = channels.open_all(EXCHANGE, &wanted).await.unwrap();
    let (transaction, positions) = payjoin(&wanted, &scripts);
    let carol = async {
        let is_safe = |event: &&Event| matches!(event, Event::FundingTxBroadcastSafe { .. });
        let safe = || scene.us.events.lock().unwrap().iter().filter(is_safe).count();
        until("both channels are safe", || safe() == 2).await;
        let (manager, us) = (&scene.carol.manager, scene.us.manager.get_our_node_id());
        let id = manager.list_channels().remove(0).channel_id;
        manager.force_close_broadcasting_latest_txn(&id, &us, "gone".into()).unwrap();
        until("Carol's channel is gone", || scene.us.manager.list_channels().len() == 1).await;
        slow.1.add_permits(1);
    };
    let psbt = stated(&transaction);
    let (result, ()) = tokio::join!(channels.fund_all(EXCHANGE, &psbt, &positions), carol);
    assert_eq!(result, Err(ChannelsError::Closed));
    scene.expect_nothing_left_with_carol().await;
}

#[tokio::test]
async fn money_rule_3_a_node_refuses_an_output_that_is_not_exactly_its_channel() {
    let scene = Scene::new(Manner::Accept).await;
    let wanted = scene.wanted();
    let scripts = scene.channels(LONG).open_all(EXCHANGE, &wanted).await.unwrap();
    let (good, _) = payjoin(&wanted, &scripts);
    let key = ChannelKey { exchange: EXCHANGE, index: 0 };
    let with = |change: &dyn Fn(&mut Transaction)| {
        let mut transaction = good.clone();
        change(&mut transaction);
        transaction
    };
    for (case, transaction, vout) in [
        ("a satoshi short", with(&|t| t.output[1].value = Amount::from_sat(49_999)), 1),
        ("a satoshi over", with(&|t| t.output[1].value = Amount::from_sat(50_001)), 1),
        ("other script", with(&|t| t.output[1].script_pubkey = ScriptBuf::new_op_return([2])), 1),
        ("the other channel's output", good.clone(), 2),
        ("the change", good.clone(), 0),
        ("no such output", good.clone(), 3),
    ] {
        assert_eq!(
            scene.funder.fund(key, &stated(&transaction), vout).await,
            Err(FunderError::Mismatch),
            "{case}"
        );
    }
    scene.funder.fund(key, &stated(&good), 1).await.unwrap();
}

#[tokio::test]
async fn money_rule_3_a_wrong_transaction_abandons_every_channel() {
    let scene = Scene::new(Manner::Accept).await;
    let channels = scene.channels(LONG);
    let wanted = scene.wanted();
    let scripts = channels.open_all(EXCHANGE, &wanted).await.unwrap();
    let (mut transaction, positions) = payjoin(&wanted, &scripts);
    transaction.output[2].value += Amount::ONE_SAT;
    assert_eq!(
        channels.fund_all(EXCHANGE, &stated(&transaction), &positions).await,
        Err(FundingError::Output(IntentId(2)).into())
    );
    scene.expect_nothing_left().await;
}

#[tokio::test]
async fn money_rule_9_an_exchange_never_opens_its_channels_twice_not_even_after_a_restart() {
    let scene = Scene::new(Manner::Accept).await;
    let channels = scene.channels(LONG);
    let wanted = scene.wanted();
    let scripts = channels.open_all(EXCHANGE, &wanted).await.unwrap();
    assert_eq!(channels.open_all(EXCHANGE, &wanted).await, Err(ChannelsError::Live));
    let (transaction, positions) = payjoin(&wanted, &scripts);
    channels.fund_all(EXCHANGE, &stated(&transaction), &positions).await.unwrap();
    assert_eq!(channels.open_all(EXCHANGE, &wanted).await, Err(ChannelsError::Live));
    let again = channels.fund_all(EXCHANGE, &stated(&transaction), &positions).await;
    assert_eq!(again, Err(ChannelsError::NotOpen));
    assert_eq!(scene.us.manager.list_channels().len(), 2, "the first channels are left as they are");

    let reborn = scene.us.reborn().await;
    let channels = Channels::new(run_with_funder(&reborn), LONG);
    assert_eq!(channels.live().await, BTreeSet::from([EXCHANGE]));
    assert_eq!(channels.open_all(EXCHANGE, &wanted).await, Err(ChannelsError::Live));
    assert_eq!(reborn.manager.list_channels().len(), 2);

    channels.abandon_all(EXCHANGE, "never released").await;
    assert!(channels.live().await.is_empty());
    assert!(reborn.broadcaster.0.lock().unwrap().is_empty(), "an unfunded channel needs no commitment");
}

#[tokio::test]
async fn money_rule_9_a_second_channel_by_the_same_key_is_refused() {
    let scene = Scene::new(Manner::Accept).await;
    let (planned, spec) = channel(1, scene.bob.address(), 50_000);
    let key = ChannelKey { exchange: EXCHANGE, index: 0 };
    scene.funder.open(key, &spec, planned.amount).await.unwrap();
    assert_eq!(scene.funder.open(key, &spec, planned.amount).await, Err(FunderError::Exists));
    assert_eq!(scene.us.manager.list_channels().len(), 1);
}

#[tokio::test]
async fn a_peer_that_is_not_there_abandons_every_channel() {
    let scene = Scene::new(Manner::Accept).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut wanted = scene.wanted();
    wanted[1].1.peer = format!("{}@{address}", scene.bob.manager.get_our_node_id()).parse().unwrap();
    let (intent, reason) = failed(scene.channels(LONG).open_all(EXCHANGE, &wanted).await);
    assert_eq!((intent, reason.as_str()), (IntentId(2), "cannot connect to the peer: connection refused"));
    scene.expect_nothing_left().await;
}

/// The message of the peer that the fault hits.
#[derive(Clone, Copy, Debug)]
enum Step {
    Init,
    AcceptChannel,
    FundingSigned,
}

async fn fault_at(step: Step, fault: Fault) {
    let scene = Scene::new(Manner::Accept).await;
    let channels = scene.channels(match (step, fault) {
        // Only time ends these.
        (Step::AcceptChannel, _) | (_, Fault::Silence) => SHORT,
        _ => LONG,
    });
    let wire = Wire::to(&scene.bob).await;
    let mut wanted = scene.wanted();
    wanted[1].1.peer = wire.address();
    if !matches!(step, Step::Init) {
        Dialer(Arc::clone(&scene.us.peers)).connect(&wire.address()).await.unwrap();
    }
    let result = if let Step::FundingSigned = step {
        let scripts = channels.open_all(EXCHANGE, &wanted).await.unwrap();
        let (transaction, positions) = payjoin(&wanted, &scripts);
        wire.fail(fault);
        channels.fund_all(EXCHANGE, &stated(&transaction), &positions).await
    } else {
        wire.fail(fault);
        channels.open_all(EXCHANGE, &wanted).await.map(drop)
    };
    assert_eq!(failed(result).0, IntentId(2), "{fault:?} at {step:?}");
    scene.expect_nothing_left_with_carol().await;
}

#[tokio::test]
async fn a_fault_of_one_peer_at_any_step_abandons_the_channels_of_all() {
    let mut rows = tokio::task::JoinSet::new();
    for step in [Step::Init, Step::AcceptChannel, Step::FundingSigned] {
        for fault in [Fault::Silence, Fault::Disconnect, Fault::Garbage] {
            rows.spawn(fault_at(step, fault));
        }
    }
    rows.join_all().await;
}

#[tokio::test]
async fn a_peer_that_refuses_abandons_every_channel_and_its_words_are_cut_and_cleaned() {
    let scene = Scene::new(Manner::Refuse).await;
    let (intent, reason) = failed(scene.channels(LONG).open_all(EXCHANGE, &scene.wanted()).await);
    assert_eq!(intent, IntentId(2));
    assert!(reason.contains("no new\u{fffd}channels no new"), "{reason:?}");
    assert!(reason.chars().count() < 250, "{reason:?}");
    scene.expect_nothing_left().await;
}

#[tokio::test]
async fn channels_that_cannot_open_are_left_out_and_the_others_are_funded() {
    for manner in [Manner::Refuse, Manner::Ignore] {
        let scene = Scene::new(manner).await;
        let channels = scene.channels(LONG).accepting_within(SHORT);
        let wanted = scene.wanted();
        let answers = channels.open_each(EXCHANGE, &wanted).await.unwrap();
        let [Ok(script), Err(failure)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(failure.intent, IntentId(2));
        assert_eq!(failure.said.is_some(), manner == Manner::Refuse, "{failure:?}");
        until("Bob has forgotten his channel", || scene.bob.manager.list_channels().is_empty()).await;
        let accepted = wanted[..1].to_vec();
        let (transaction, positions) = payjoin(&accepted, std::slice::from_ref(script));
        channels.fund_all(EXCHANGE, &stated(&transaction), &positions).await.unwrap();
        assert!(channels.are_live(EXCHANGE, 1).await);
        assert_eq!(scene.us.manager.list_channels().len(), 1);
    }
}

/// Bob is silent when he should sign. Carol, who has, comes back over a new connection; Dave, who is asked last, never
/// notices.
#[tokio::test]
async fn money_rule_12_what_a_silent_peer_spoils_is_opened_once_more_by_another_transaction() {
    let scene = Scene::new(Manner::Accept).await;
    let dave = Node::new(4, Manner::Accept).await;
    tokio::spawn(Arc::clone(&dave).run(|_| false));
    let channels = scene.channels(LONG).signing_within(SHORT);
    let wire = Wire::to(&scene.bob).await;
    Dialer(Arc::clone(&scene.us.peers)).connect(&wire.address()).await.unwrap();
    let mut wanted = scene.wanted();
    wanted[1].1.peer = wire.address();
    wanted.push(channel(3, dave.address(), 70_000));
    let last = [IntentId(3)];
    let scripts = channels.open_all(EXCHANGE, &wanted).await.unwrap();
    let (transaction, positions) = payjoin(&wanted, &scripts);
    wire.fail(Fault::Silence);
    let left = channels.fund_in_order(EXCHANGE, &stated(&transaction), &positions, &last).await.unwrap();
    let Funded::Short(left) = left else { panic!("Bob has signed") };
    let [Left::Abandoned, Left::Failed(late), Left::Open] = &left[..] else { panic!("{left:?}") };
    assert_eq!((late.intent, late.kind), (IntentId(2), FailureKind::Late));
    let dave_has = || dave.manager.list_channels().iter().map(|c| c.channel_id).collect::<Vec<_>>();
    let before = dave_has();

    let open = channels.open_each(EXCHANGE, &wanted[2..]).await;
    assert_eq!(open, Err(ChannelsError::Live), "money rule 9: Dave's is open");
    let again = channels.open_each(EXCHANGE, &wanted[..1]).await.unwrap().remove(0).unwrap();
    assert_ne!(again, scripts[0], "another channel with Carol");
    assert_eq!(dave_has(), before);
    let others = vec![wanted[2].clone(), wanted[0].clone()];
    let (second, positions) = payjoin(&others, &[scripts[2].clone(), again]);
    let funded = channels.fund_in_order(EXCHANGE, &stated(&second), &positions, &last).await;
    assert_eq!(funded, Ok(Funded::All));
    assert!(channels.are_live(EXCHANGE, 2).await);
    let txid = second.compute_txid();
    for node in [&*scene.carol, &*dave] {
        let funding: Vec<_> =
            node.manager.list_channels().iter().map(|c| c.funding_txo.unwrap().txid).collect();
        assert_eq!(funding, [txid]);
    }
    assert!(scene.us.broadcaster.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn money_rule_12_a_channel_that_waits_on_the_connection_of_one_that_failed_goes_with_it() {
    let scene = Scene::new(Manner::Accept).await;
    let channels = scene.channels(LONG).signing_within(SHORT);
    let wire = Wire::to(&scene.bob).await;
    Dialer(Arc::clone(&scene.us.peers)).connect(&wire.address()).await.unwrap();
    let mut wanted = scene.wanted();
    wanted[1].1.peer = wire.address();
    wanted.push(channel(3, wire.address(), 70_000));
    let scripts = channels.open_all(EXCHANGE, &wanted).await.unwrap();
    let (transaction, positions) = payjoin(&wanted, &scripts);
    wire.fail(Fault::Silence);
    let last = [IntentId(2), IntentId(3)];
    let left = channels.fund_in_order(EXCHANGE, &stated(&transaction), &positions, &last).await.unwrap();
    let Funded::Short(left) = left else { panic!("Bob has signed") };
    assert!(matches!(left[..], [Left::Abandoned, Left::Failed(_), Left::Failed(_)]), "{left:?}");
    scene.expect_nothing_left_with_carol().await;
}

#[tokio::test]
async fn an_opening_that_nobody_funds_tells_the_terms_and_leaves_nothing() {
    let scene = Scene::new(Manner::Refuse).await;
    let wanted = scene.wanted();
    let asked: Vec<_> = wanted.iter().map(|(planned, spec)| (spec.clone(), planned.amount)).collect();
    let answers = scene.channels(LONG).probe(&asked).await.unwrap();
    let [Ok(terms), Err(refused)] = &answers[..] else { panic!("{answers:?}") };
    assert!(terms.reserve.is_some() && terms.confirmations.is_some() && terms.delay.is_some(), "{terms:?}");
    assert!(refused.text.starts_with("the peer refuses: "), "{refused:?}");
    scene.expect_nothing_left().await;
}

#[tokio::test]
async fn a_channel_our_node_refuses_abandons_every_channel() {
    let scene = Scene::new(Manner::Accept).await;
    let mut wanted = scene.wanted();
    wanted[1].0.amount = Amount::from_sat(999);
    let (intent, reason) = failed(scene.channels(LONG).open_all(EXCHANGE, &wanted).await);
    assert_eq!(intent, IntentId(2));
    assert!(reason.contains("at least 1000 satoshis"), "{reason}");
    scene.expect_nothing_left().await;
}

#[tokio::test]
async fn a_disconnect_after_accept_abandons_every_channel() {
    let scene = Scene::new(Manner::Accept).await;
    let channels = scene.channels(LONG);
    let wanted = scene.wanted();
    let scripts = channels.open_all(EXCHANGE, &wanted).await.unwrap();
    scene.bob.peers.disconnect_by_node_id(scene.us.manager.get_our_node_id());
    let closed = |event: &Event| matches!(event, Event::ChannelClosed { .. });
    until("we have noticed", || scene.us.events.lock().unwrap().iter().any(closed)).await;

    let (transaction, positions) = payjoin(&wanted, &scripts);
    let (intent, reason) = failed(channels.fund_all(EXCHANGE, &stated(&transaction), &positions).await);
    assert_eq!(intent, IntentId(2));
    assert!(reason.contains("disconnected"), "{reason}");
    scene.expect_nothing_left().await;
}

#[tokio::test]
async fn an_exchange_that_ends_between_its_steps_leaves_nothing_behind() {
    let scene = Scene::new(Manner::Ignore).await;
    let channels = scene.channels(LONG);
    let wanted = scene.wanted();
    let both_proposed = || scene.us.manager.list_channels().len() == 2;
    tokio::select! {
        result = channels.open_all(EXCHANGE, &wanted) => panic!("Bob never accepts: {result:?}"),
        () = until("both channels are proposed", both_proposed) => {}
    }
    channels.abandon_all(EXCHANGE, "the exchange was dropped").await;
    scene.expect_nothing_left().await;

    let carol: Wanted = wanted.into_iter().take(1).collect();
    fund(&channels, &carol).await;
    channels.abandon_all(EXCHANGE, "our inputs could not be signed").await;
    scene.expect_nothing_left().await;
    fund(&channels, &carol).await;
}

#[tokio::test]
async fn only_the_channels_of_the_named_exchange_are_abandoned() {
    let scene = Scene::new(Manner::Accept).await;
    let channels = scene.channels(LONG);
    fund(&channels, &scene.wanted()).await;
    let other = ExchangeId(8);
    channels.open_all(other, &[channel(3, scene.carol.address(), 70_000)]).await.unwrap();
    channels.abandon_all(other, "the payer went away").await;
    assert_eq!(channels.live().await, BTreeSet::from([EXCHANGE]));
    assert_eq!(scene.us.manager.list_channels().len(), 2);
}

#[tokio::test]
async fn money_rule_11_a_peer_never_reads_why_a_channel_was_abandoned() {
    let scene = Scene::new(Manner::Accept).await;
    let channels = scene.channels(LONG);
    fund(&channels, &scene.wanted()).await;
    channels.abandon_all(EXCHANGE, "secret-reason").await;
    scene.expect_nothing_left().await;
    for peer in [&scene.bob, &scene.carol] {
        let told = || {
            peer.events.lock().unwrap().iter().find_map(|event| match event {
                Event::ChannelClosed {
                    reason: ClosureReason::CounterpartyForceClosed { peer_msg }, ..
                } => Some(peer_msg.0.clone()),
                _ => None,
            })
        };
        until("the peer was told", || told().is_some()).await;
        assert!(!told().unwrap().contains("secret"), "{:?}", told());
    }
}
