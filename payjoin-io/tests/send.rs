//! Our sender against the reference receiver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, FeeRate, Network, Psbt};
use payjoin_core::{SessionKey, SessionKind, Sessions};
use payjoin_io::{DirectSettings, Fallback, HttpClient, Ohttp, Payment, SendSettings, Sender, Sent, Store};
use support::{Bitcoind, Mailroom, Receiver, Recorder, now};

const PRICE: u64 = 1_000_000;

struct Payer {
    folder: tempfile::TempDir,
    client: Arc<Recorder>,
    ohttp: Option<Arc<Ohttp>>,
    patience: Duration,
}

impl Payer {
    fn v1(receiver: &Receiver) -> Self {
        let settings = DirectSettings { socks: None, root: receiver.certificate.clone() };
        let client = Recorder::with(settings, None);
        Self { folder: tempfile::tempdir().unwrap(), client, ohttp: None, patience: Duration::from_secs(60) }
    }

    fn v2(relay: &Mailroom, patience: u64) -> Self {
        let client = Recorder::new(None);
        let ohttp = Some(Arc::new(Ohttp::new(client.clone(), vec![relay.url()]).unwrap()));
        Self { folder: tempfile::tempdir().unwrap(), client, ohttp, patience: Duration::from_secs(patience) }
    }

    fn store(&self) -> Arc<Store> {
        Arc::new(Store::open(self.folder.path().join("store")).unwrap())
    }

    fn sender(&self, store: Arc<Store>) -> Sender {
        let settings = SendSettings { v1_timeout: Duration::from_secs(60), v2_patience: self.patience };
        Sender::new(self.client.clone(), self.ohttp.clone(), store, settings, now)
    }
}

async fn payment(bitcoind: &Bitcoind, uri: &str) -> Payment {
    let address = uri[8..].split('?').next().unwrap().to_lowercase();
    let original = bitcoind.original(&address, Amount::from_sat(PRICE)).await;
    let min_fee_rate = FeeRate::BROADCAST_MIN;
    Payment { uri: uri.to_owned(), network: Network::Regtest, original, min_fee_rate }
}

/// Signs and broadcasts what must be a payjoin: one with an input that is not the payer's.
async fn complete(bitcoind: &Bitcoind, original: &Psbt, sent: Sent) -> String {
    let Sent::Payjoin(proposal) = sent else { panic!("no payjoin: {sent:?}") };
    assert!(proposal.inputs.len() > original.inputs.len());
    bitcoind.broadcast(bitcoind.sign(&proposal.to_string()).await).await
}

/// The receiver and the directory's keys.
async fn v2_receiver(bitcoind: &Bitcoind, relay: &Mailroom, directory: &Mailroom) -> Receiver {
    relay.meet(directory).await;
    let ohttp = Ohttp::new(Recorder::new(None), vec![relay.url()]).unwrap();
    let keys = ohttp.keys(&directory.url()).await.unwrap().encode().unwrap();
    Receiver::v2(bitcoind, &relay.url(), &directory.url(), &keys, PRICE)
}

#[tokio::test]
async fn a_v2_receiver_is_paid_by_payjoin() {
    let (bitcoind, relay, directory) = (Bitcoind::start().await, Mailroom::start(), Mailroom::start());
    let receiver = v2_receiver(&bitcoind, &relay, &directory).await;
    let payer = Payer::v2(&relay, 60);
    let payment = payment(&bitcoind, &receiver.uri).await;
    let sent = payer.sender(payer.store()).send("a", &payment).await.unwrap();
    complete(&bitcoind, &payment.original, sent).await;
    payer.client.assert_no_ciphertext_twice();
}

#[tokio::test]
async fn a_v1_receiver_is_paid_by_payjoin() {
    let bitcoind = Bitcoind::start().await;
    let receiver = Receiver::v1(&bitcoind, PRICE);
    let payer = Payer::v1(&receiver);
    let payment = payment(&bitcoind, &receiver.uri).await;
    let sent = payer.sender(payer.store()).send("a", &payment).await.unwrap();
    complete(&bitcoind, &payment.original, sent).await;
}

#[tokio::test]
async fn a_v1_receiver_who_is_gone_gets_the_original() {
    let bitcoind = Bitcoind::start().await;
    let receiver = Receiver::v1(&bitcoind, PRICE);
    let payer = Payer { patience: Duration::ZERO, ..Payer::v1(&receiver) };
    let payment = payment(&bitcoind, &receiver.uri).await;
    drop(receiver);
    let settings = SendSettings { v1_timeout: Duration::from_secs(2), v2_patience: Duration::ZERO };
    let client: Arc<dyn HttpClient> = payer.client.clone();
    let sender = Sender::new(client, None, payer.store(), settings, now);
    let sent = sender.send("a", &payment).await.unwrap();
    assert!(matches!(sent, Sent::Original(Fallback::Unreachable(_))), "{sent:?}");
    assert!(payer.client.sent.lock().unwrap().len() > 1, "one attempt is no attempt");
    bitcoind.broadcast(payment.original).await;
}

#[tokio::test]
async fn a_v2_receiver_who_is_offline_gets_the_original_when_patience_ends() {
    let (bitcoind, relay, directory) = (Bitcoind::start().await, Mailroom::start(), Mailroom::start());
    let receiver = v2_receiver(&bitcoind, &relay, &directory).await;
    let payment = payment(&bitcoind, &receiver.uri).await;
    drop(receiver);
    // Long enough for a loaded machine to post it, and for more than one answer.
    let payer = Payer::v2(&relay, 20);
    let sender = payer.sender(payer.store());
    assert_eq!(sender.send("a", &payment).await.unwrap(), Sent::Original(Fallback::NoAnswer));
    assert_eq!(sender.resume("a").await.unwrap(), Sent::Original(Fallback::NoAnswer));
    payer.client.assert_no_ciphertext_twice();
    bitcoind.broadcast(payment.original).await;
}

#[tokio::test]
async fn a_payment_goes_on_after_a_crash_at_every_stage() {
    let (bitcoind, relay, directory) = (Bitcoind::start().await, Mailroom::start(), Mailroom::start());
    let receiver = v2_receiver(&bitcoind, &relay, &directory).await;
    let payer = Payer::v2(&relay, 60);
    let payment = payment(&bitcoind, &receiver.uri).await;
    payer.sender(payer.store()).begin("a", &payment).await.unwrap();

    let store = payer.store();
    let sender = payer.sender(store.clone());
    assert_eq!(sender.unfinished().await.unwrap(), ["a"]);
    let running = tokio::spawn(async move { sender.resume("a").await.map(drop) });
    let key = SessionKey { kind: SessionKind::Send, name: "a".into() };
    while store.events(&key).await.unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.abort();
    drop(running.await);
    drop(store);

    let sent = payer.sender(payer.store()).resume("a").await.unwrap();
    let sender = payer.sender(payer.store());
    assert_eq!(sender.resume("a").await.unwrap(), sent);
    assert!(sender.unfinished().await.unwrap().is_empty());
    complete(&bitcoind, &payment.original, sent).await;
    payer.client.assert_no_ciphertext_twice();
}
