//! What every `Wallet` and every `Funder` must do, whatever node is behind it: the same tests for the embedded node, Core
//! Lightning and LND, with the real programs. What a machine lacks is skipped with a word.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod cln_support;
mod homes;
mod lnd_support;
mod node_support;
mod payer;
mod state;

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf};
use homes::{Held, Home};
use lnd_support::until;
use node_support::{Bitcoind, Setup, free_port, nowhere};
use payer::Payer;
use payjoin_core::{
    ChannelLimits, ChannelSpec, CheckedProposal, Coin, ExchangeId, FailureKind, Funded, FundedChannel,
    Funder, Holder, IntentId, InvoiceId, OwnFunding, OwnFundingRequest, PlannedChannel, Policy,
    ResourceRequest, Resources, StableProposal, Timestamp, WalletError,
};
use payjoin_lightning::{ChannelInfo, Channels, LightningNode};

/// A test of each rule for each node.
macro_rules! contract {
    ($($home:ident)*) => { $(mod $home { contract!(@ $home
        a_coin_is_held_for_one_holder_until_he_ends
        a_lock_survives_a_restart_and_ends_with_its_record
        coins_of_both_types_are_signed_for_and_no_others
        a_channel_is_opened_once_and_lives_on_after_a_crash
        a_channel_is_opened_with_coins_of_the_wallet_alone
        each_channel_that_fails_is_named_with_its_kind_and_the_others_open
        what_is_abandoned_or_forgotten_leaves_nothing
    ); })* };
    (@ $home:ident $($rule:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $rule() {
            let bitcoind = super::Bitcoind::start().await;
            if let Some(home) = super::homes::$home(&bitcoind).await {
                super::$rule(&super::Scene { bitcoind, home }).await;
            }
        }
    )* };
}

contract!(embedded cln lnd);

const FIRST: Holder = Holder::Exchange(ExchangeId(1));
const SECOND: Holder = Holder::Exchange(ExchangeId(2));
const THIRD: Holder = Holder::Exchange(ExchangeId(3));
/// More than a channel of [`AMOUNT`] needs, with the reserve of any node.
const COIN: u64 = 130_000;
const AMOUNT: Amount = Amount::from_sat(300_000);

/// A chain, and the node on it.
struct Scene {
    // Ends before the chain.
    home: Box<dyn Home>,
    bitcoind: Bitcoind,
}

impl Scene {
    async fn start(&self, held: Held) -> Arc<dyn LightningNode> {
        self.home.start(&self.bitcoind, held).await
    }

    /// The node with coins of both types, and where they are.
    async fn with_coins(&self) -> (Arc<dyn LightningNode>, BTreeSet<OutPoint>) {
        let node = self.start(Vec::new()).await;
        let mut points = BTreeSet::new();
        // A stock of four P2WPKH coins lacks one of P2TR.
        for count in [4, 1] {
            for _ in 0..count {
                let address = node.new_address().await.unwrap();
                points.insert(self.bitcoind.fund(&address, COIN).await);
            }
            until("the coins are there", async || (coins(&*node) == points).then_some(())).await;
        }
        (node, points)
    }
}

fn coins(node: &dyn LightningNode) -> BTreeSet<OutPoint> {
    node.coins().into_iter().map(|coin| coin.outpoint).collect()
}

fn locked(node: &dyn LightningNode) -> BTreeSet<OutPoint> {
    node.coins().into_iter().filter(|coin| coin.locked).map(|coin| coin.outpoint).collect()
}

async fn offered(node: &dyn LightningNode, holder: Holder, prefer: &[OutPoint]) -> Vec<Coin> {
    let request = ResourceRequest {
        invoice: InvoiceId::from_entropy([1; 16]),
        payment: payer::PAYMENT,
        payer_script: ScriptBuf::new(),
        channels: true,
    };
    answer(async || node.reserve(holder, &request, prefer).await).await.unwrap().0
}

/// Whoever is not ready just after a block is asked again.
async fn answer<T>(mut ask: impl AsyncFnMut() -> Result<T, WalletError>) -> Result<T, WalletError> {
    until("the wallet answers", async || match ask().await {
        Err(WalletError::Away(_)) => None,
        answer => Some(answer),
    })
    .await
}

fn points(coins: &[Coin]) -> BTreeSet<OutPoint> {
    coins.iter().map(|coin| coin.outpoint).collect()
}

/// What is shown to a holder who ends at once.
async fn free(node: &dyn LightningNode) -> BTreeSet<OutPoint> {
    let found = points(&offered(node, THIRD, &[]).await);
    node.hold(THIRD, &[]).await.unwrap();
    found
}

async fn a_coin_is_held_for_one_holder_until_he_ends(scene: &Scene) {
    let (node, all) = scene.with_coins().await;
    let node = &*node;
    let first = *all.first().unwrap();
    let others: BTreeSet<_> = all.iter().copied().filter(|coin| *coin != first).collect();
    for _ in 0..2 {
        assert_eq!(
            points(&offered(node, FIRST, &[]).await),
            all,
            "asked again, the holder is shown the same"
        );
        assert!(free(node).await.is_empty(), "two holders exclude each other");
    }
    for _ in 0..2 {
        node.hold(FIRST, &[first]).await.unwrap();
        assert_eq!((free(node).await, locked(node)), (others.clone(), BTreeSet::from([first])));
        assert_eq!(node.balance().locked, Amount::from_sat(COIN));
    }
    // An attempt at the same invoice is shown what the first was and no more, and both must end.
    assert_eq!(points(&offered(node, SECOND, &[first]).await), BTreeSet::from([first]));
    node.hold(SECOND, &[first]).await.unwrap();
    for (ends, left) in [(FIRST, &others), (SECOND, &all)] {
        for _ in 0..2 {
            node.hold(ends, &[]).await.unwrap();
            assert_eq!(free(node).await, *left, "{ends:?} has ended");
        }
    }
    // What is not ours, or nobody's, is no trouble either.
    for coins in [&[nowhere()][..], &[]] {
        node.hold(FIRST, coins).await.unwrap();
        assert_eq!(free(node).await, all);
    }
}

async fn a_lock_survives_a_restart_and_ends_with_its_record(scene: &Scene) {
    let (node, all) = scene.with_coins().await;
    let first = *all.first().unwrap();
    let others: BTreeSet<_> = all.iter().copied().filter(|coin| *coin != first).collect();
    node.hold(FIRST, &[first]).await.unwrap();
    scene.home.kill(node).await;

    let node = scene.start(vec![(FIRST, vec![first])]).await;
    assert_eq!(locked(&*node), BTreeSet::from([first]));
    assert_eq!(free(&*node).await, others);
    // A second attempt that was never on record holds nothing after a crash.
    assert_eq!(points(&offered(&*node, SECOND, &[]).await), others);
    scene.home.kill(node).await;

    let node = scene.start(vec![(FIRST, vec![first])]).await;
    assert_eq!(free(&*node).await, others);
    scene.home.kill(node).await;

    let node = scene.start(Vec::new()).await;
    assert_eq!(free(&*node).await, all);
}

async fn coins_of_both_types_are_signed_for_and_no_others(scene: &Scene) {
    let (node, all) = scene.with_coins().await;
    let (payer, stranger) = (Payer::new(&scene.bitcoind).await, Payer::new(&scene.bitcoind).await);
    let ours = node.new_address().await.unwrap().script_pubkey();
    let coins = offered(&*node, FIRST, &[]).await;
    for is_taproot in [true, false] {
        assert!(coins.iter().any(|coin| coin.txout.script_pubkey.is_p2tr() == is_taproot));
    }

    let foreign = [
        stranger.coin.txout.script_pubkey.clone(),
        ScriptBuf::from_hex(&format!("5120{}", "11".repeat(32))).unwrap(),
        ScriptBuf::new(),
    ];
    let known: Vec<_> =
        coins.iter().map(|coin| coin.txout.script_pubkey.clone()).chain([ours.clone()]).collect();
    let expected: Vec<_> = known.iter().map(|_| true).chain(foreign.iter().map(|_| false)).collect();
    let scripts = [known, foreign.to_vec()].concat();
    assert_eq!(answer(async || node.owns(&scripts).await).await.unwrap(), expected);

    node.hold(FIRST, &all.iter().copied().collect::<Vec<_>>()).await.unwrap();
    let with_strangers = [coins.clone(), vec![stranger.coin.clone()]].concat();
    let (_, theirs) = payer.payjoin(&ours, &with_strangers, &[]);
    let refused = node.sign(&theirs).await;
    assert!(matches!(refused, Err(WalletError::Refused(_))), "a coin of somebody else: {refused:?}");

    let (_, checked) = payer.payjoin(&ours, &coins, &[]);
    let signed = node.sign(&checked).await.unwrap();
    for (at, input) in signed.inputs.iter().enumerate() {
        assert_eq!(input.final_script_witness.is_some(), checked.our_inputs().contains(&at), "input {at}");
    }
    let again = node.sign(&checked).await.unwrap();
    assert_eq!(again.unsigned_tx, signed.unsigned_tx);
    payer.send(&scene.bitcoind, &again).await;
}

const EXCHANGE: ExchangeId = ExchangeId(7);

fn channels(node: &dyn LightningNode) -> Channels {
    Channels::new(node.funder(), 60)
}

/// A channel of exactly this much with that peer.
fn planned(intent: u64, amount: Amount, peer: &Setup) -> (PlannedChannel, ChannelSpec) {
    (PlannedChannel { intent: IntentId(intent), amount }, peer.spec(amount.to_sat()))
}

/// Everything that an exchange has when its channels are funded.
struct Opened {
    payer: Payer,
    checked: CheckedProposal,
    stable: StableProposal,
    funding: OutPoint,
}

/// Opens a channel with the peer and gives it its transaction.
async fn open(
    scene: &Scene,
    node: &dyn LightningNode,
    channels: &Channels,
    exchange: ExchangeId,
    to: &Setup,
) -> Opened {
    let payer = Payer::new(&scene.bitcoind).await;
    let wanted = [planned(0, AMOUNT, to)];
    let scripts = channels.open(exchange, &wanted).await.unwrap();
    let script = scripts.into_iter().next().unwrap().unwrap();
    assert!(channels.open(exchange, &wanted).await.is_err(), "money rule 9: no second channel of one intent");
    let ours = node.new_address().await.unwrap().script_pubkey();
    let holder = Holder::Exchange(exchange);
    let coins = offered(node, holder, &[]).await;
    let (conservation, checked) = payer.payjoin(&ours, &coins, &[(AMOUNT, script)]);
    let stable = conservation.stable(&checked).unwrap();
    assert_eq!(channels.fund(exchange, &stable, &[]).await, Ok(Funded::All));
    assert!(channels.fund(exchange, &stable, &[]).await.is_err(), "it has its transaction");
    let funding = OutPoint::new(stable.transaction().compute_txid(), stable.funding()[0].1);
    assert_eq!(held(channels, exchange).await, [Some(funding)]);
    Opened { payer, checked, stable, funding }
}

/// The funding outputs of the exchange's channels, as far as they have one.
async fn held(channels: &Channels, exchange: ExchangeId) -> Vec<Option<OutPoint>> {
    let all = channels.held().await.into_iter();
    all.filter(|(key, _)| key.exchange == exchange).map(|(_, funding)| funding).collect()
}

async fn a_channel_is_opened_once_and_lives_on_after_a_crash(scene: &Scene) {
    let peer = node_support::start(&scene.bitcoind).await;
    let (node, all) = scene.with_coins().await;
    let opened = open(scene, &*node, &channels(&*node), EXCHANGE, &peer).await;
    let on_record: Vec<_> =
        opened.stable.transaction().input.iter().map(|input| input.previous_output).collect();
    let on_record: Vec<_> = on_record.into_iter().filter(|coin| all.contains(coin)).collect();
    node.hold(Holder::Exchange(EXCHANGE), &on_record).await.unwrap();
    let signed = node.sign(&opened.checked).await.unwrap();
    let (planned, vout) = opened.stable.funding()[0].clone();
    let funded = [FundedChannel { intent: planned.intent, vout, amount: planned.amount }];
    // Money rule 1: the release writes what the node gives, and dies.
    scene.home.write(channels(&*node).state(EXCHANGE, &funded).await.unwrap());
    scene.home.kill(node).await;

    let node = scene.start(vec![(Holder::Exchange(EXCHANGE), on_record)]).await;
    assert_eq!(held(&channels(&*node), EXCHANGE).await, [Some(opened.funding)]);
    opened.payer.send(&scene.bitcoind, &signed).await;
    scene.bitcoind.mine(6).await;
    let is_it = |channel: &ChannelInfo| channel.funding == Some(opened.funding) && channel.usable;
    until("both ends can use the channel", async || {
        let ours = node.channels().await.ok()?.iter().any(is_it);
        (ours && peer.node.channels().iter().any(is_it)).then_some(())
    })
    .await;
    assert_eq!(node.channels().await.unwrap().len(), 1);
}

async fn a_channel_is_opened_with_coins_of_the_wallet_alone(scene: &Scene) {
    let peer = node_support::start(&scene.bitcoind).await;
    let (node, all) = scene.with_coins().await;
    let (planned, spec) = planned(0, AMOUNT, &peer);
    let change = node.new_address().await.unwrap().script_pubkey();
    let request = ResourceRequest {
        invoice: InvoiceId::from_entropy([2; 16]),
        payment: Amount::ZERO,
        payer_script: change.clone(),
        channels: true,
    };
    let holder = Holder::Exchange(EXCHANGE);
    let (coins, reserve) = answer(async || node.reserve(holder, &request, &[]).await).await.unwrap();
    let wishes = vec![spec.wish(planned.intent, &ChannelLimits::default())];
    let resources = Resources { wishes, coins, reserve, ..Resources::default() };
    let (rate, policy) = (FeeRate::from_sat_per_vb_u32(5), Policy::default());
    let plan = OwnFundingRequest { resources: &resources, change: &change, rate, policy: &policy };
    let plan = OwnFunding::plan(&plan).unwrap();
    node.hold(holder, &plan.coins()).await.unwrap();
    assert!(plan.coins().iter().all(|coin| all.contains(coin)) && plan.coins().len() > 2, "{plan:?}");

    let channels = channels(&*node);
    let splits = match plan.splits() {
        0 => Vec::new(),
        count => node.scripts(count).await.unwrap(),
    };
    let script = channels.open(EXCHANGE, &[(planned, spec)]).await.unwrap().remove(0).unwrap();
    let (stable, checked) = plan.draw(&script, &splits).unwrap();
    assert_eq!(channels.fund(EXCHANGE, &stable, &[]).await, Ok(Funded::All));
    let signed = node.sign(&checked).await.unwrap();
    let release = plan.release(&stable, signed, Timestamp(1)).unwrap();
    scene.home.write(channels.state(EXCHANGE, &release.channels).await.unwrap());
    scene.bitcoind.broadcast(&release.signed.unwrap()).await;
    scene.bitcoind.mine(6).await;
    let funding = OutPoint::new(release.txid, release.channels[0].vout);
    let is_it = |channel: &ChannelInfo| channel.funding == Some(funding) && channel.usable;
    until("both ends can use the channel", async || {
        let ours = node.channels().await.ok()?.iter().any(is_it);
        (ours && peer.node.channels().iter().any(is_it)).then_some(())
    })
    .await;
}

async fn each_channel_that_fails_is_named_with_its_kind_and_the_others_open(scene: &Scene) {
    let (small, peer) =
        (node_support::start(&scene.bitcoind).await, node_support::start(&scene.bitcoind).await);
    let (node, _) = scene.with_coins().await;
    let nobody = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let mut away = planned(4, AMOUNT, &peer);
    away.1.peer = format!("{nobody}@127.0.0.1:{}", free_port()).parse().unwrap();
    let channels = channels(&*node);
    let wanted = [away, planned(5, AMOUNT, &peer), planned(6, Amount::from_sat(50_000), &small)];
    let answers = channels.open(EXCHANGE, &wanted).await.unwrap();
    let failures: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    let named: Vec<_> = failures.iter().map(|failure| (failure.intent, failure.kind)).collect();
    let expected = [(IntentId(4), FailureKind::Unreachable), (IntentId(6), FailureKind::Refused)];
    assert_eq!(named, expected, "{failures:?}");
    assert!(answers[1].is_ok());
    assert_eq!(held(&channels, EXCHANGE).await, [None], "only the one that is open");
}

/// How far an opening has come when it ends, and how it does.
const ENDS: [&str; 4] = ["accepted", "accepted, and the process died", "funded", "funded and forgotten"];

async fn what_is_abandoned_or_forgotten_leaves_nothing(scene: &Scene) {
    let peer = node_support::start(&scene.bitcoind).await;
    let wanted = [planned(0, AMOUNT, &peer)];
    let (mut node, _) = scene.with_coins().await;
    for (exchange, end) in (1..).map(ExchangeId).zip(ENDS) {
        let ours = channels(&*node);
        match end.starts_with("funded") {
            true => drop(open(scene, &*node, &ours, exchange, &peer).await),
            false => assert!(ours.open(exchange, &wanted).await.unwrap()[0].is_ok(), "{end}"),
        }
        if end.ends_with("died") {
            scene.home.kill(node).await;
            node = scene.start(Vec::new()).await;
        }
        let ours = channels(&*node);
        for _ in 0..2 {
            match end.ends_with("forgotten") {
                true => ours.forget(exchange, &[]).await,
                false => ours.abandon(exchange, "a test").await,
            }
        }
        until(&format!("nothing is left: {end}"), async || {
            let known = node.channels().await.ok()?;
            (known.is_empty() && ours.held().await.is_empty()).then_some(())
        })
        .await;
        node.hold(Holder::Exchange(exchange), &[]).await.unwrap();
    }
    // Nothing is done for an exchange that nobody knows, and the peer takes another channel.
    let ours = channels(&*node);
    ours.abandon(ExchangeId(99), "a test").await;
    assert!(ours.open(EXCHANGE, &wanted).await.unwrap()[0].is_ok());
}
