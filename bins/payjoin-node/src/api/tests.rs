use bitcoin::hashes::{Hash as _, sha256};
use payjoin_core::{Timestamp, Token, Tokens};
use payjoin_io::{Clerk as _, Head, Look, MemoryLedger, Told};

use super::*;
use crate::starting::Starting;

/// A clerk of a node that starts, and tokens with each right, named by it.
async fn clerk() -> ApiClerk {
    let store = MemoryLedger::default();
    for (name, rights) in
        [("read", "read"), ("receive", "receive"), ("spend", "spend"), ("all", "read receive spend")]
    {
        let hash = sha256::Hash::hash(name.as_bytes()).to_byte_array();
        let (name, rights) = (name.to_owned(), rights.to_owned());
        store.add_token(&Token { name, hash, rights, created: Timestamp(0) }).await.unwrap();
    }
    let asked = watch::channel(Asked::Starting(Starting::default())).1;
    ApiClerk::new(asked, Arc::new(store), Rate { per_minute: 60, burst: 30 })
}

fn head(method: &str, path: &str, token: &str) -> Head {
    let headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
    Head { method: method.to_owned(), path: path.to_owned(), headers }
}

fn status(look: &Look) -> u16 {
    match look {
        Look::Body(_) => 0,
        Look::Answer(told) => told.status,
        Look::Stranger => 401,
    }
}

#[tokio::test]
async fn a_token_allows_what_its_rights_say_and_without_one_there_are_two_paths() {
    let clerk = clerk().await;
    for (method, path, token, expected) in [
        ("GET", "/healthz", "", 200),
        ("GET", "/readyz", "", 503),
        ("POST", "/readyz", "all", 405),
        ("GET", "/", "", 401),
        ("GET", "/metrics", "", 401),
        ("POST", "/v1/status", "guess", 401),
        ("POST", "/v1/status", "read", 0),
        ("POST", "/v1/status", "spend", 403),
        ("GET", "/v1/status", "read", 405),
        ("POST", "/v1/receive", "read", 403),
        ("POST", "/v1/receive", "receive", 0),
        ("POST", "/v1/pay", "receive", 403),
        ("POST", "/v1/pay", "spend", 0),
        ("GET", "/metrics", "spend", 403),
        ("GET", "/metrics", "read", 200),
        ("GET", "/v1/openapi.json", "spend", 200),
        ("POST", "/v1/token/list", "all", 404),
        ("POST", "/v1/stop", "all", 404),
        ("POST", "/v1/../v1/status", "all", 404),
        ("GET", "/", "all", 404),
    ] {
        let look = clerk.look(&head(method, path, token)).await;
        assert_eq!(status(&look), expected, "{method} {path} {token}");
    }
}

async fn told(clerk: &ApiClerk, path: &str, token: &str, key: Option<&str>, body: &str) -> (u16, String) {
    let mut head = head("POST", path, token);
    head.headers.extend(key.map(|key| ("idempotency-key".to_owned(), key.to_owned())));
    let Told { status, body, .. } = clerk.answer(head, body.as_bytes().to_vec()).await;
    (status, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_a_code() {
    let clerk = clerk().await;
    let mine = r#"{"expires":60,"payer_is_me":true}"#;
    let pay = r#"{"bolt11":"lnbc1"}"#;
    for (path, token, key, body, expected, code) in [
        ("/v1/status", "read", None, "nonsense", 400, "request"),
        ("/v1/status", "read", None, "{\"x\":1}", 400, "request"),
        ("/v1/status", "read", None, "", 503, "chain"),
        ("/v1/exchange/show", "read", None, "", 400, "request"),
        ("/v1/exchange/show", "read", None, "{\"exchange\":-1}", 400, "request"),
        ("/v1/receive", "receive", None, mine, 403, "right"),
        ("/v1/receive", "spend", None, mine, 400, "key"),
        ("/v1/receive", "spend", Some("a"), mine, 503, "chain"),
        ("/v1/receive", "spend", None, "{\"expires\":60}", 403, "right"),
        ("/v1/pay", "spend", None, pay, 400, "key"),
        ("/v1/pay", "spend", Some("b"), pay, 503, "chain"),
        ("/v1/pay", "spend", Some("b"), " {\"bolt11\": \"lnbc1\"}", 503, "chain"),
        ("/v1/pay", "spend", Some("b"), "{\"bolt11\":\"lnbc2\"}", 409, "key_reused"),
    ] {
        let (status, told) = told(&clerk, path, token, key, body).await;
        assert_eq!(status, expected, "{path} {body}: {told}");
        assert!(told.contains(&format!("\"code\":\"{code}\"")), "{path} {body}: {told}");
    }
    let (status, nothing) = told(&clerk, "/v1/status", "guess", None, "").await;
    assert_eq!((status, nothing.as_str()), (401, ""));
}

#[tokio::test]
async fn a_token_that_asks_too_often_waits_and_others_do_not() {
    let clerk = clerk().await;
    let ask = async |token: &str| clerk.look(&head("GET", "/v1/openapi.json", token)).await;
    for _ in 0..30 {
        assert_eq!(status(&ask("read").await), 200);
    }
    assert_eq!(status(&ask("read").await), 429);
    assert_eq!(status(&ask("spend").await), 200);
}
