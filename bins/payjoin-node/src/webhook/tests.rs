//! The receiver is scripted: what it answers is what is tested.

use std::sync::Mutex;

use async_trait::async_trait;
use payjoin_core::{EntryKind, Invoice, InvoiceId};
use payjoin_io::{HttpError, HttpResponse, Store as Sqlite};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Answers in this order, and then 200; keeps what it was sent.
#[derive(Default)]
struct Receiver {
    answers: Mutex<Vec<Result<u16, HttpError>>>,
    seen: Mutex<Vec<HttpRequest>>,
}

#[async_trait]
impl HttpClient for Receiver {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.seen.lock().unwrap().push(request);
        let next = self.answers.lock().unwrap().pop().unwrap_or(Ok(204));
        next.map(|status| HttpResponse { status, body: Vec::new() })
    }
}

impl Receiver {
    fn ids(&self) -> Vec<u64> {
        let id = |request: &HttpRequest| {
            let body: Value = serde_json::from_slice(&request.body.as_ref().unwrap().1).unwrap();
            body["id"].as_u64().unwrap()
        };
        self.seen.lock().unwrap().iter().map(id).collect()
    }
}

fn webhook(answers: Vec<Result<u16, HttpError>>) -> (Webhook, Arc<Receiver>, Store, TempDir) {
    let folder = TempDir::new().unwrap();
    let store: Store = Arc::new(Sqlite::open(folder.path().join("store.sqlite")).unwrap());
    let receiver = Arc::<Receiver>::default();
    *receiver.answers.lock().unwrap() = answers.into_iter().rev().collect();
    let webhook = Webhook::new("http://[::1]/hook".into(), SECRET.into(), receiver.clone(), store.clone());
    (webhook, receiver, store, folder)
}

async fn code(store: &Store, name: &str) {
    let invoice = Invoice::new(InvoiceId(name.into()), bitcoin::ScriptBuf::new(), Timestamp(1), Timestamp(2));
    store.insert_invoice(&invoice).await.unwrap();
}

#[tokio::test]
async fn what_happens_after_it_was_set_up_is_posted_signed() {
    let (webhook, receiver, store, _folder) = webhook(Vec::new());
    code(&store, "before").await;
    store.keep_read(READER, store.last_entry().await.unwrap()).await.unwrap();
    code(&store, "after").await;
    webhook.next().await.unwrap();
    let seen = receiver.seen.lock().unwrap().clone();
    let [request] = &seen[..] else { panic!("{seen:?}") };
    let body = String::from_utf8(request.body.clone().unwrap().1).unwrap();
    assert!(body.starts_with(r#"{"id":2,"#) && body.contains(EntryKind::CodeCreated.name()), "{body}");
    let header = |name| request.headers.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    let time = Timestamp(header("Payjoind-Time").parse().unwrap());
    assert_eq!(header("Payjoind-Event"), "2");
    assert_eq!(header("Payjoind-Signature"), sign(SECRET, EntryId(2), time, &body));
    assert_ne!(sign(SECRET, EntryId(2), time, &body), sign(SECRET, EntryId(2), time.plus(1), &body));
    assert_ne!(sign(SECRET, EntryId(2), time, &body), sign("another", EntryId(2), time, &body));
}

#[test]
fn a_signature_is_what_others_compute() {
    // printf '7.9.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    let expected = "63ca1f0c4d1e8fa851d3f842948c3743064fdf5b7ca23ebba58e51a7effefdfb";
    assert_eq!(sign(SECRET, EntryId(7), Timestamp(9), "{}"), expected);
}

#[tokio::test]
async fn an_event_that_is_not_taken_is_posted_again_before_the_next() {
    let down = HttpError::Transport("nobody is there".into());
    let (webhook, receiver, store, _folder) = webhook(vec![Ok(200), Err(down), Ok(301), Ok(500)]);
    store.keep_read(READER, EntryId(0)).await.unwrap();
    for name in ["a", "b", "c"] {
        code(&store, name).await;
    }
    for expected in ["nobody", "301", "500"] {
        assert!(webhook.next().await.unwrap_err().to_string().contains(expected));
        assert_eq!(store.read_until(READER).await, Ok(Some(EntryId(1))));
    }
    webhook.next().await.unwrap();
    assert_eq!(receiver.ids(), [1, 2, 2, 2, 2, 3]);
    assert_eq!(store.read_until(READER).await, Ok(Some(EntryId(3))));
}

#[tokio::test]
async fn events_that_are_not_kept_any_more_are_passed_over() {
    let (webhook, receiver, store, _folder) = webhook(Vec::new());
    store.keep_read(READER, EntryId(0)).await.unwrap();
    code(&store, "a").await;
    store.prune_journal(Timestamp(9_000_000_000), 10).await.unwrap();
    webhook.next().await.unwrap();
    code(&store, "b").await;
    webhook.next().await.unwrap();
    assert_eq!(receiver.ids(), [2]);
}
