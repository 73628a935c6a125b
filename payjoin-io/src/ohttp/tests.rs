use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bitcoin::{Address, ScriptBuf};
use payjoin::OhttpResponse;
use payjoin::persist::InMemoryPersister;
use payjoin::receive::v2::{Initialized, Receiver, ReceiverBuilder};

use super::*;
use crate::mailroom::{Mailroom, free_port};
use crate::{DirectClient, DirectSettings};

/// Passes requests on and keeps them; those to a dead relay it loses.
struct Recorder {
    inner: DirectClient,
    sent: Mutex<Vec<HttpRequest>>,
    dead: Option<String>,
}

#[async_trait]
impl HttpClient for Recorder {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.sent.lock().unwrap().push(request.clone());
        match &self.dead {
            Some(dead) if request.url.starts_with(dead) => Err(HttpError::Timeout),
            _ => self.inner.send(request).await,
        }
    }
}

fn recorder(dead: Option<String>) -> Arc<Recorder> {
    let inner = DirectClient::new(DirectSettings::default()).unwrap();
    Arc::new(Recorder { inner, sent: Mutex::default(), dead })
}

fn mailbox(directory: &str, keys: OhttpKeys) -> Receiver<Initialized> {
    let script =
        ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_raw_hash(bitcoin::hashes::Hash::all_zeros()));
    let address = Address::from_script(&script, bitcoin::Network::Regtest).unwrap();
    let builder = ReceiverBuilder::new(address, directory, keys).unwrap();
    builder.build().save(&InMemoryPersister::default()).unwrap()
}

async fn poll(ohttp: &Ohttp, mailbox: &Receiver<Initialized>) -> Result<Vec<u8>, OhttpError> {
    let answer: Result<(_, OhttpResponse), _> =
        ohttp.send(Duration::from_secs(10), |relay| mailbox.create_poll_request(relay)).await;
    answer.map(|(body, _)| body)
}

fn open(relays: &[&str], client: Arc<dyn HttpClient>) -> Ohttp {
    Ohttp::new(client, relays.iter().map(|relay| (*relay).to_owned()).collect()).unwrap()
}

#[tokio::test]
async fn a_mailbox_is_polled_through_a_relay() {
    let (relay, directory) = (Mailroom::start(), Mailroom::start());
    let client = recorder(None);
    let ohttp = open(&[&relay.url()], client.clone());
    let keys = ohttp.keys(&directory.url()).await.unwrap();
    let mailbox = mailbox(&directory.url(), keys);
    assert_eq!(poll(&ohttp, &mailbox).await.unwrap().len(), 8192);
    let sent = client.sent.lock().unwrap();
    assert!(sent[1].url.starts_with(&relay.url()), "{}", sent[1].url);
}

#[tokio::test]
async fn another_relay_stands_in_and_gets_another_ciphertext() {
    let (relay, directory) = (Mailroom::start(), Mailroom::start());
    let dead = format!("http://127.0.0.1:{}", free_port());
    let client = recorder(Some(dead.clone()));
    let ohttp = open(&[&dead, &relay.url()], client.clone());
    let mailbox = mailbox(&directory.url(), ohttp.keys(&directory.url()).await.unwrap());
    let mut polls = 0;
    while !client.sent.lock().unwrap().iter().any(|request| request.url.starts_with(&dead)) {
        poll(&ohttp, &mailbox).await.unwrap();
        polls += 1;
    }
    let attempts = client.sent.lock().unwrap().iter().filter(|request| request.body.is_some()).count();
    assert_eq!(attempts, polls + 1);
    // A relay that failed is not chosen first again.
    poll(&ohttp, &mailbox).await.unwrap();
    let sent = client.sent.lock().unwrap();
    assert_eq!(sent.iter().filter(|request| request.url.starts_with(&dead)).count(), 1);
    let bodies: Vec<_> = sent.iter().filter_map(|request| request.body.as_ref()).collect();
    for (index, body) in bodies.iter().enumerate() {
        assert!(!bodies[..index].contains(body), "a ciphertext was sent twice");
    }
}

#[tokio::test]
async fn a_changed_key_is_noticed_and_fetched_once() {
    let (relay, mut directory) = (Mailroom::start(), Mailroom::start());
    let client = recorder(None);
    let ohttp = open(&[&relay.url()], client.clone());
    let stale = ohttp.keys(&directory.url()).await.unwrap();
    directory.rotate_keys();
    let mailbox_before = mailbox(&directory.url(), stale.clone());
    assert_eq!(poll(&ohttp, &mailbox_before).await, Err(OhttpError::KeyRejected));
    let fresh = ohttp.keys_after(&directory.url(), &stale).await.unwrap();
    assert_eq!(ohttp.keys_after(&directory.url(), &stale).await.unwrap(), fresh);
    assert_ne!(fresh, stale);
    let fetches = client.sent.lock().unwrap().iter().filter(|request| request.body.is_none()).count();
    assert_eq!(fetches, 2);
    poll(&ohttp, &mailbox(&directory.url(), fresh)).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_down_is_passed_over() {
    let directory = Mailroom::start();
    let dead = format!("http://127.0.0.1:{}", free_port());
    let ohttp = open(&["http://127.0.0.1:1"], recorder(None));
    for _ in 0..8 {
        let (chosen, _) = ohttp.directory(&[dead.clone(), directory.url()]).await.unwrap();
        assert_eq!(chosen, directory.url());
    }
    assert!(matches!(ohttp.directory(&[dead]).await, Err(OhttpError::Unreachable(_))));
}

/// Answers every request alike.
struct Scripted(Result<HttpResponse, HttpError>, AtomicUsize);

#[async_trait]
impl HttpClient for Scripted {
    async fn send(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.clone()
    }
}

fn scripted(status: u16, body: &[u8]) -> Arc<Scripted> {
    Arc::new(Scripted(Ok(HttpResponse { status, body: body.to_vec() }), AtomicUsize::new(0)))
}

/// The key configuration of a directory as it comes over the wire.
fn key_configuration(id: u8) -> Vec<u8> {
    let key = bitcoin::secp256k1::PublicKey::from_secret_key(
        bitcoin::secp256k1::SECP256K1,
        &bitcoin::secp256k1::SecretKey::from_slice(&[id; 32]).unwrap(),
    );
    [&[id, 0, 22], &key.serialize_uncompressed()[..], &[0, 4, 0, 1, 0, 3]].concat()
}

#[tokio::test]
async fn keys_of_a_directory_on_the_net_come_through_a_relay() {
    struct Tunnels(Mutex<Vec<Option<String>>>);
    #[async_trait]
    impl HttpClient for Tunnels {
        async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            self.0.lock().unwrap().push(request.tunnel);
            Ok(HttpResponse { status: 200, body: key_configuration(7) })
        }
    }
    let client = Arc::new(Tunnels(Mutex::default()));
    let ohttp = open(&["https://relay.example"], client.clone());
    ohttp.keys("https://directory.example").await.unwrap();
    ohttp.keys("http://directory.onion").await.unwrap();
    assert_eq!(*client.0.lock().unwrap(), [Some("https://relay.example".to_owned()), None]);
    let error = ohttp.keys("http://directory.example").await;
    assert_eq!(error, Err(OhttpError::Address("http://directory.example".into())));
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_again_when_they_are_old() {
    let client = scripted(200, &key_configuration(7));
    let ohttp = open(&["https://relay.example"], client.clone());
    for (wait, fetches) in [(0, 1), (3600, 1), (6 * 3600, 2)] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        ohttp.keys("https://directory.example").await.unwrap();
        assert_eq!(client.1.load(Ordering::Relaxed), fetches);
    }
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let ohttp = open(&["https://relay.example"], scripted(200, b"<html>"));
    assert_eq!(ohttp.keys("https://directory.example").await, Err(OhttpError::NoKeys));
    let ohttp = open(&["https://relay.example"], scripted(502, b""));
    assert!(matches!(ohttp.keys("https://directory.example").await, Err(OhttpError::Unreachable(_))));
}

#[test]
fn a_relay_is_needed() {
    let client = scripted(200, b"");
    assert_eq!(Ohttp::new(client.clone(), Vec::new()).unwrap_err(), OhttpError::NoRelay);
    let bad = Ohttp::new(client, vec!["relay".into()]).unwrap_err();
    assert_eq!(bad, OhttpError::Address("relay".into()));
}
