use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use payjoin::persist::InMemoryPersister;
use payjoin::receive::v2::ReceiverBuilder;

use super::*;

fn open(relays: &[&str], client: Arc<dyn HttpClient>) -> Ohttp {
    Ohttp::new(client, relays.iter().map(|relay| (*relay).to_owned()).collect()).unwrap()
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
    for (wait, fetches) in [(0, 1), (29, 1), (30, 2)] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        ohttp.keys("https://directory.example").await.unwrap();
        assert_eq!(client.1.load(Ordering::Relaxed), fetches);
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_silent_holds_only_those_up_who_ask_for_its_keys() {
    struct Silent(AtomicUsize);
    #[async_trait]
    impl HttpClient for Silent {
        async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let seconds = if request.url.starts_with("https://silent.example") { 20 } else { 1 };
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(HttpResponse { status: 200, body: key_configuration(7) })
        }
    }
    let client = Arc::new(Silent(AtomicUsize::new(0)));
    let (ohttp, start) = (open(&["https://relay.example"], client.clone()), Instant::now());
    let after = async |directory| {
        ohttp.keys(directory).await.unwrap();
        start.elapsed().as_secs()
    };
    let (silent, other) = ("https://silent.example", "https://directory.example");
    let waited = tokio::join!(after(silent), after(silent), after(other), after(other));
    assert_eq!(waited, (20, 20, 1, 1));
    assert_eq!(client.0.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let ohttp = open(&["https://relay.example"], scripted(200, b"<html>"));
    assert_eq!(ohttp.keys("https://directory.example").await, Err(OhttpError::NoKeys));
    let ohttp = open(&["https://relay.example"], scripted(502, b""));
    assert!(matches!(ohttp.keys("https://directory.example").await, Err(OhttpError::Unreachable(_))));
}

#[tokio::test]
async fn a_message_whose_connection_closes_is_made_anew_for_a_new_connection_to_the_same_relay() {
    /// Closes the first connection of each relay.
    struct Closes(Mutex<Vec<(String, Vec<u8>, bool)>>);
    #[async_trait]
    impl HttpClient for Closes {
        async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let body = request.body.map(|(_, body)| body).unwrap_or_default();
            self.0.lock().unwrap().push((request.url, body, request.fresh));
            match request.fresh {
                false => Err(HttpError::Closed),
                true => Ok(HttpResponse { status: 200, body: vec![0; MESSAGE] }),
            }
        }
    }
    let client = Arc::new(Closes(Mutex::default()));
    let ohttp = open(&["https://relay.example", "https://other.example"], client.clone());
    let keys = OhttpKeys::decode(&key_configuration(7)).unwrap();
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".parse::<bitcoin::Address<_>>().unwrap();
    let mailbox = ReceiverBuilder::new(address.assume_checked(), "https://directory.example", keys).unwrap();
    let mailbox = mailbox.build().save(&InMemoryPersister::default()).unwrap();
    ohttp.send(Duration::from_secs(1), |relay| mailbox.create_poll_request(relay)).await.unwrap();
    let sent = client.0.lock().unwrap();
    let [(first, one, false), (second, two, true)] = &sent[..] else { panic!("{sent:?}") };
    assert!(first == second && !one.is_empty() && one != two);
    assert!(ohttp.failed.lock().unwrap().iter().all(Option::is_none), "the relay works");
}

#[test]
fn a_relay_is_needed() {
    let client = scripted(200, b"");
    assert_eq!(Ohttp::new(client.clone(), Vec::new()).unwrap_err(), OhttpError::NoRelay);
    let bad = Ohttp::new(client, vec!["relay".into()]).unwrap_err();
    assert_eq!(bad, OhttpError::Address("relay".into()));
}
