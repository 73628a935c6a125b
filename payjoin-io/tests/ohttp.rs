//! Mailboxes of a real directory through real relays.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Address, ScriptBuf};
use payjoin::persist::InMemoryPersister;
use payjoin::receive::v2::{Initialized, Receiver, ReceiverBuilder};
use payjoin::{OhttpKeys, OhttpResponse};
use payjoin_io::{HttpClient, HttpError, HttpRequest, HttpResponse, Ohttp, OhttpError};
use support::{Mailroom, Recorder, free_port};

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
    let client = Recorder::new(None);
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
    let client = Recorder::new(Some(dead.clone()));
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
    client.assert_no_ciphertext_twice();
    let sent = client.sent.lock().unwrap();
    assert_eq!(sent.iter().filter(|request| request.url.starts_with(&dead)).count(), 1);
}

#[tokio::test]
async fn a_changed_key_is_noticed_and_fetched_once() {
    let (relay, mut directory) = (Mailroom::start(), Mailroom::start());
    let client = Recorder::new(None);
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

const LIAR: &str = "http://127.0.0.1:1";

/// Makes up that the key is rejected where the liar is asked.
struct Lies(Arc<Recorder>);

#[async_trait]
impl HttpClient for Lies {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.url.starts_with(LIAR) {
            let body = br#"{"type":"https://iana.org/assignments/http-problem-types#ohttp-key"}"#.to_vec();
            return Ok(HttpResponse { status: 400, body });
        }
        self.0.send(request).await
    }
}

#[tokio::test]
async fn one_relay_of_two_cannot_make_a_good_key_look_bad() {
    let (relay, directory) = (Mailroom::start(), Mailroom::start());
    let client = Arc::new(Lies(Recorder::new(None)));
    let ohttp = open(&[LIAR, &relay.url()], client.clone());
    let mailbox = mailbox(&directory.url(), ohttp.keys(&directory.url()).await.unwrap());
    // The relay is chosen at random.
    for _ in 0..8 {
        poll(&ohttp, &mailbox).await.unwrap();
    }
    client.0.assert_no_ciphertext_twice();
    assert_eq!(poll(&open(&[LIAR], client), &mailbox).await, Err(OhttpError::KeyRejected));
}

#[tokio::test]
async fn a_directory_that_is_down_is_passed_over() {
    let directory = Mailroom::start();
    let dead = format!("http://127.0.0.1:{}", free_port());
    let ohttp = open(&["http://127.0.0.1:1"], Recorder::new(None));
    for _ in 0..8 {
        let (chosen, _) = ohttp.directory(&[dead.clone(), directory.url()]).await.unwrap();
        assert_eq!(chosen, directory.url());
    }
    assert!(matches!(ohttp.directory(&[dead]).await, Err(OhttpError::Unreachable(_))));
}
