//! A real LND as the node whose coins are offered and whose channels are opened. Where none is built, nothing is tested.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod lnd_support;
mod node_support;
mod payer;
mod state;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, OutPoint, ScriptBuf};
use lnd_support::{LEASE, Peer, beside, config, programs, until};
use node_support::Bitcoind;
use payer::Payer;
use payjoin_core::{Coin, ExchangeId, Holder, InvoiceId, ResourceRequest, Wallet, WalletError};
use payjoin_lightning::lnd::{Lnd, bake_line};
use payjoin_lightning::{ChannelKey, FunderError, LightningError, LightningNode, OwnNodeConfig};
use state::State;

const HOLDER: Holder = Holder::Exchange(ExchangeId(7));

fn key(index: u32) -> ChannelKey {
    ChannelKey { exchange: ExchangeId(7), index }
}

/// What an exchange that ends at once is offered.
async fn passing(node: &Lnd) -> Vec<OutPoint> {
    let other = Holder::Exchange(ExchangeId(8));
    let request = request();
    let (coins, _) = node.reserve(other, &request, &[]).await.unwrap();
    node.hold(other, &[]).await.unwrap();
    points(&coins)
}

fn request() -> ResourceRequest {
    ResourceRequest {
        invoice: InvoiceId::from_entropy([1; 16]),
        payment: Amount::ZERO,
        payer_script: ScriptBuf::new(),
        channels: true,
    }
}

async fn coins(node: &Lnd) -> Vec<Coin> {
    node.reserve(HOLDER, &request(), &[]).await.unwrap().0
}

fn points(coins: &[Coin]) -> Vec<OutPoint> {
    coins.iter().map(|coin| coin.outpoint).collect()
}

/// From the coins of both types to two channels that can be used, with the rights of the smallest macaroon.
#[tokio::test(flavor = "multi_thread")]
async fn a_payjoin_with_coins_of_lnd_opens_its_channels_with_two_peers() {
    let Some(programs) = programs() else { return };
    let bitcoind = Bitcoind::start().await;
    let own = Peer::start(&programs, &bitcoind, "own").await;
    let (first, second) =
        (Peer::start(&programs, &bitcoind, "first").await, Peer::start(&programs, &bitcoind, "second").await);
    own.earn(&bitcoind, 250_000, false).await;
    own.earn(&bitcoind, 400_000, true).await;
    let payer = Payer::new(&bitcoind).await;
    own.ready(&bitcoind).await;

    let baked = own.folder.path().join("payjoind.macaroon");
    let line = bake_line().replace("~/.lnd/payjoind.macaroon", &baked.display().to_string());
    let words: Vec<_> = line.split(' ').skip(1).collect();
    // It prints no JSON.
    let _ = own.call(&words);
    let access = payjoin_lightning::lnd::LndAccess { macaroon: baked, ..own.access() };
    let lnd = payjoin_lightning::lnd::LndConfig { access, lease: LEASE };
    let node = Lnd::start(lnd, config(&Arc::new(State::default()))).await.unwrap();

    let ours = node.new_address().await.unwrap().script_pubkey();
    let theirs = ScriptBuf::from_hex(&format!("0014{}", "22".repeat(20))).unwrap();
    assert_eq!(node.owns(&[ours.clone(), theirs, ScriptBuf::new()]).await.unwrap(), [true, false, false]);
    let coins = coins(&node).await;
    assert_eq!(coins.len(), 2);

    let funder = node.funder();
    let amounts = [Amount::from_sat(300_000), Amount::from_sat(350_000)];
    let mut channels = Vec::new();
    for (index, (peer, amount)) in (0..).zip([&first, &second].into_iter().zip(amounts)) {
        let spec = peer.spec(amount.to_sat());
        channels.push((amount, funder.open(key(index), &spec, amount).await.unwrap()));
        assert_eq!(funder.open(key(index), &spec, amount).await, Err(FunderError::Exists));
    }
    let (conservation, checked) = payer.payjoin(&ours, &coins, &channels);
    let stable = conservation.stable(&checked).unwrap();
    for (index, (_, vout)) in (0..).zip(stable.funding()) {
        assert_eq!(funder.fund(key(index), stable.psbt(), 0).await, Err(FunderError::Mismatch));
        funder.fund(key(index), stable.psbt(), *vout).await.unwrap();
    }
    let txid = stable.transaction().compute_txid();
    let held = [(key(0), Some(OutPoint::new(txid, 2))), (key(1), Some(OutPoint::new(txid, 3)))];
    let mut known = funder.held().await;
    known.sort_unstable();
    assert_eq!(known, held);

    let signed = node.sign(&checked).await.unwrap();
    node.hold(HOLDER, &points(&coins)).await.unwrap();
    let mut leased = own.leases();
    leased.sort_unstable();
    let mut offered = points(&coins);
    offered.sort_unstable();
    assert_eq!(leased, offered);
    assert_eq!(payer.send(&bitcoind, &signed).await.compute_txid(), txid);
    bitcoind.mine(6).await;
    until("both channels can be used", async || {
        let channels = node.channels().await.unwrap();
        (channels.len() == 2 && channels.iter().all(|channel| channel.usable)).then_some(())
    })
    .await;
    node.hold(HOLDER, &[]).await.unwrap();
    assert!(own.leases().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_abandoned_and_nothing_else() {
    let Some(programs) = programs() else { return };
    let bitcoind = Bitcoind::start().await;
    let (own, peer) =
        (Peer::start(&programs, &bitcoind, "own").await, Peer::start(&programs, &bitcoind, "peer").await);
    let second = Peer::start(&programs, &bitcoind, "second").await;
    own.earn(&bitcoind, 400_000, true).await;
    let payer = Payer::new(&bitcoind).await;
    own.ready(&bitcoind).await;
    let state = Arc::new(State::default());
    let amount = Amount::from_sat(300_000);

    // One is accepted, and its exchange dies.
    let node = beside(&own, config(&state)).await.unwrap();
    node.funder().open(key(0), &peer.spec(300_000), amount).await.unwrap();
    drop(node);
    // At the next start its slot at the peer is free again, and another one is opened that waits for its payjoin.
    let node = beside(&own, config(&state)).await.unwrap();
    assert!(node.funder().held().await.is_empty());
    let script = node.funder().open(key(1), &peer.spec(300_000), amount).await.unwrap();
    let ours = node.new_address().await.unwrap().script_pubkey();
    let coins = coins(&node).await;
    let (conservation, checked) = payer.payjoin(&ours, &coins, &[(amount, script)]);
    let stable = conservation.stable(&checked).unwrap();
    let (_, vout) = stable.funding()[0];
    node.funder().fund(key(1), stable.psbt(), vout).await.unwrap();
    let funding = OutPoint::new(stable.transaction().compute_txid(), vout);
    drop(node);
    own.kill();
    own.run();
    own.ready(&bitcoind).await;

    let node = beside(&own, config(&state)).await.unwrap();
    assert_eq!(node.funder().held().await, [(key(1), Some(funding))], "it may have been released");
    // What the operator opens meanwhile is not ours.
    let id = second.spec(1).peer;
    own.call(&["connect", &id.to_string()]).unwrap();
    own.earn(&bitcoind, 200_000, false).await;
    own.call(&["openchannel", &id.node_id().to_string(), "100000"]).unwrap();
    until("two channels wait", async || (own.pending().len() == 2).then_some(())).await;
    node.funder().abandon(key(1)).await;
    let left = own.pending();
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].0, funding);
    assert!(node.funder().held().await.is_empty());
    // A stranger to this store abandons nothing, whatever its own numbers are.
    let stranger = beside(&own, config(&Arc::new(State::default()))).await.unwrap();
    stranger.funder().abandon(key(1)).await;
    assert_eq!(own.pending().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_taken_again_at_a_start_renewed_and_given_back() {
    let Some(programs) = programs() else { return };
    let bitcoind = Bitcoind::start().await;
    let own = Peer::start(&programs, &bitcoind, "own").await;
    let coin = own.earn(&bitcoind, 250_000, false).await;
    let other = own.earn(&bitcoind, 300_000, true).await;
    let state = Arc::new(State::default());
    let held = OwnNodeConfig { held: vec![(HOLDER, vec![coin])], ..config(&state) };

    let node = beside(&own, held.clone()).await.unwrap();
    assert_eq!(own.leases(), [coin]);
    assert_eq!(
        node.coins().into_iter().filter(|coin| coin.locked).map(|coin| coin.outpoint).collect::<Vec<_>>(),
        [coin]
    );
    assert_eq!(passing(&node).await, [other], "what is locked is not offered");
    tokio::time::sleep(LEASE + Duration::from_secs(4)).await;
    assert_eq!(own.leases(), [coin], "the lease would be over by now");
    own.kill();
    own.run();
    own.ready(&bitcoind).await;
    // Should the start have taken longer than a lease lasts, it is taken again.
    until("the lease", async || (own.leases() == [coin]).then_some(())).await;
    drop(node);
    // Meanwhile the exchange has ended.
    let node = beside(&own, config(&state)).await.unwrap();
    assert!(own.leases().is_empty());
    // Another one takes it before us.
    let (point, lock) = (other.to_string(), "ab".repeat(32));
    own.call(&["wallet", "leaseoutput", "--outpoint", &point, "--lockid", &lock, "--expiry", "600"]).unwrap();
    let refused = node.hold(HOLDER, &[other]).await;
    assert!(matches!(refused, Err(WalletError::Refused(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_lnd_that_does_not_answer_says_why_and_nothing_is_offered_meanwhile() {
    let Some(programs) = programs() else { return };
    let bitcoind = Bitcoind::start().await;
    let own = Peer::start(&programs, &bitcoind, "own").await;
    own.earn(&bitcoind, 250_000, false).await;
    let node = beside(&own, config(&Arc::new(State::default()))).await.unwrap();
    assert_eq!(node.trouble(), None);
    own.kill();
    let trouble = until("the trouble is seen", async || node.trouble()).await;
    assert!(trouble.contains("does not answer"), "{trouble}");
    let away = beside(&own, config(&Arc::new(State::default()))).await.unwrap_err();
    assert!(matches!(away, LightningError::Away(_)), "{away}");
    assert!(matches!(node.reserve(HOLDER, &request(), &[]).await, Err(WalletError::Away(_))));

    // It comes back with another certificate, which is read again.
    fs::remove_file(own.folder.path().join("tls.cert")).unwrap();
    fs::remove_file(own.folder.path().join("tls.key")).unwrap();
    own.run();
    own.ready(&bitcoind).await;
    until("LND answers again", async || node.trouble().is_none().then_some(())).await;
    assert_eq!(coins(&node).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_macaroon_or_network_ends_a_start_with_what_to_change() {
    let Some(programs) = programs() else { return };
    let bitcoind = Bitcoind::start().await;
    let own = Peer::start(&programs, &bitcoind, "own").await;
    let other = Peer::start(&programs, &bitcoind, "other").await;
    let readonly = own.folder.path().join("data/chain/bitcoin/regtest/readonly.macaroon");
    let right = own.access();
    let state = || config(&Arc::new(State::default()));
    let cases = [
        (
            payjoin_lightning::lnd::LndAccess { certificate: other.access().certificate, ..right.clone() },
            state(),
            "another certificate",
        ),
        (
            payjoin_lightning::lnd::LndAccess { macaroon: other.access().macaroon, ..right.clone() },
            state(),
            "does not accept the macaroon",
        ),
        (
            payjoin_lightning::lnd::LndAccess { macaroon: readonly, ..right.clone() },
            state(),
            "lacks the right",
        ),
        (
            payjoin_lightning::lnd::LndAccess { macaroon: "/nonexistent".into(), ..right.clone() },
            state(),
            "cannot use /nonexistent",
        ),
        (right, OwnNodeConfig { network: bitcoin::Network::Signet, ..state() }, "LND is on regtest"),
    ];
    for (access, config, words) in cases {
        let lnd = payjoin_lightning::lnd::LndConfig { access, lease: LEASE };
        let error = Lnd::start(lnd, config).await.unwrap_err();
        assert!(matches!(&error, LightningError::Refused(why) if why.contains(words)), "{words}: {error}");
    }
}
