//! A node over a real bitcoind: asked, listened to, stopped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use bitcoin::Amount;
use payjoin_node::requests::{IntentStage, Via};
use payjoin_node::{ErrorKind, EventStream, Heard, Node, Response, Settings, StartError, Step};
use support::{Chain, ask, folder, free_port};

const PEER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:1";

/// The next step, which must be there already.
fn step(events: &mut EventStream) -> Step {
    match events.try_next() {
        Some(Heard::Event(event)) => event.step,
        heard => panic!("{heard:?}"),
    }
}

async fn refusal(settings: Settings) -> StartError {
    match Node::builder(settings).start().await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_tells_and_stops() {
    let (chain, folder) = (Chain::start().await, folder());
    let builder = Node::builder(chain.settings(&folder));
    let mut events = builder.events();
    let node = builder.start().await.unwrap();
    let Response::Status(status) = ask(&node, "\"status\"").await.unwrap() else { panic!("no status") };
    assert_eq!((status.height, status.bitcoind_height, status.network.as_str()), (1, Some(1), "regtest"));
    assert_eq!((status.peers, status.channels, status.payments, status.obligations), (0, 0, 0, 0));
    assert_eq!(step(&mut events), Step::Ready { node_id: status.node_id, height: 1 });

    let mut later = node.events();
    let code = ask(&node, r#"{"receive":{"amount":5000,"expires":60}}"#).await.unwrap();
    let Response::Code(code) = code else { panic!("{code:?}") };
    assert_eq!((code.via, code.amount), (Via::Https, Some(Amount::from_sat(5000))));
    assert_eq!(code.endpoint, format!("https://pay.example/{}", code.invoice));
    let told = Step::Code { invoice: code.invoice.clone(), amount: code.amount, uri: code.uri.clone() };
    assert_eq!((step(&mut events), step(&mut later)), (told.clone(), told));

    let own = ask(&node, &format!(r#"{{"send":{{"uri":"{}","wait":1}}}}"#, code.uri)).await.unwrap_err();
    assert_eq!((own.kind(), own.to_string().as_str()), (ErrorKind::Request, "this code is our own"));

    node.clone().stop().await;
    node.ended().await.unwrap();
    let late = ask(&node, "\"status\"").await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Stopped);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_queued_listed_and_cancelled() {
    let (chain, folder) = (Chain::start().await, folder());
    let node = Node::builder(chain.settings(&folder)).start().await.unwrap();
    let queue = |amount: &str| {
        format!(
            r#"{{"channel":{{"queue":{{"peer":"{PEER}","amount":"{amount}","push":0,"private":false,"unchecked":true}}}}}}"#
        )
    };
    let small = ask(&node, &queue("5")).await.unwrap_err();
    assert_eq!(small.kind(), ErrorKind::Request);
    assert!(small.to_string().contains("too small"), "{small}");
    for (n, amount) in [(1, "250000"), (2, "rest")] {
        let Response::Queued(queued) = ask(&node, &queue(amount)).await.unwrap() else { panic!("{n}") };
        assert_eq!((queued.intent.0, queued.state), (n, IntentStage::Queued));
    }
    let Response::Channels(listed) = ask(&node, r#"{"channel":"list"}"#).await.unwrap() else {
        panic!("no list")
    };
    assert_eq!((listed.intents.len(), listed.channels.len()), (2, 0));
    assert_eq!(listed.intents[0].peer, PEER.parse().unwrap());

    // The wallet has no coin: the code asks for more than the channels and says what the payment will do.
    let Response::Code(code) = ask(&node, r#"{"receive":{"expires":60}}"#).await.unwrap() else {
        panic!("no code")
    };
    assert!(
        code.amount.unwrap() > Amount::from_sat(250_000) && code.note.unwrap().contains("no confirmed coin")
    );
    let mine = ask(&node, r#"{"receive":{"expires":60,"payer_is_me":true}}"#).await.unwrap();
    let Response::Code(mine) = mine else { panic!("no code") };
    assert_eq!((mine.amount, mine.note), (code.amount, None));

    ask(&node, r#"{"channel":{"cancel":{"intent":1}}}"#).await.unwrap();
    let again = ask(&node, r#"{"channel":{"cancel":{"intent":1}}}"#).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Ledger);
    let Response::Channels(listed) = ask(&node, r#"{"channel":"all"}"#).await.unwrap() else {
        panic!("no list")
    };
    assert!(listed.intents.iter().any(|intent| intent.state == IntentStage::Cancelled));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_configured_is_refused_with_its_kind() {
    let (chain, folder) = (Chain::start().await, folder());
    let node = Node::builder(chain.settings(&folder)).start().await.unwrap();
    for (request, kind, why) in [
        (r#"{"exchange":{"show":{"exchange":7}}}"#, ErrorKind::Missing, "no exchange 7"),
        (r#"{"exchange":{"bump":{"exchange":7,"fee_rate":2}}}"#, ErrorKind::Missing, "no exchange 7"),
        (r#"{"session":"list"}"#, ErrorKind::Settings, "`directories`"),
        (r#"{"receive":{"expires":60,"via":"onion"}}"#, ErrorKind::Settings, "[tor]"),
        (r#"{"receive":{"amount":1,"expires":60}}"#, ErrorKind::Request, "at least 330 sat"),
        (r#"{"invoice":{"amount":0,"description":""}}"#, ErrorKind::Request, "0 sat"),
        (r#"{"pay":{"bolt11":"nonsense"}}"#, ErrorKind::Request, "not a valid invoice"),
        (r#"{"channel":{"close":{"channel":"ab","force":true}}}"#, ErrorKind::Lightning, "no such channel"),
        (r#"{"send":{"uri":"nonsense","wait":1}}"#, ErrorKind::Request, ""),
    ] {
        let error = ask(&node, request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{request}: {error}");
        assert!(error.to_string().contains(why), "{request}: {error}");
    }
    let Response::Exchanges(none) = ask(&node, r#"{"exchange":{"list":{"limit":9}}}"#).await.unwrap() else {
        panic!("no exchanges")
    };
    assert!(none.exchanges.is_empty());
    let Response::Address(fresh) = ask(&node, r#"{"wallet":"address"}"#).await.unwrap() else {
        panic!("none")
    };
    let to_us = format!(r#"{{"send":{{"uri":"bitcoin:{}?amount=0.001","wait":1}}}}"#, fresh.address);
    assert_eq!(ask(&node, &to_us).await.unwrap_err().to_string(), "this code is our own");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_in_the_folder_is_refused_and_after_a_stop_the_same_one_comes_back() {
    let (chain, folder) = (Chain::start().await, folder());
    let node = Node::builder(chain.settings(&folder)).start().await.unwrap();
    let Response::Status(first) = ask(&node, "\"status\"").await.unwrap() else { panic!("no status") };
    assert!(
        matches!(refusal(chain.settings(&folder)).await, StartError::InUse(used) if used == folder.path())
    );
    node.stop().await;
    drop(node);
    let node = Node::builder(chain.settings(&folder)).start().await.unwrap();
    let Response::Status(second) = ask(&node, "\"status\"").await.unwrap() else { panic!("no status") };
    assert_eq!(first.node_id, second.node_id);
    node.stop().await;
}

#[tokio::test]
async fn a_start_is_refused_with_what_to_change() {
    use std::os::unix::fs::PermissionsExt;
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let settings = Settings { datadir: open.path().into(), ..Settings::default() };
    assert!(refusal(settings).await.to_string().contains("chmod 700"));

    let folder = folder();
    let settings = || Settings { datadir: folder.path().into(), ..Settings::default() };
    let mut wrong = settings();
    wrong.policy.burial = 0;
    let refused = refusal(wrong).await;
    assert!(
        matches!(refused, StartError::Settings(_)) && refused.to_string().contains("`burial`"),
        "{refused}"
    );

    let mut away = settings();
    away.bitcoind.url = Some(format!("http://127.0.0.1:{}", free_port()));
    (away.bitcoind.user, away.bitcoind.password) = (Some("user".into()), Some("secret".into()));
    let refused = refusal(away).await;
    assert!(matches!(refused, StartError::Bitcoind { .. }), "{refused}");
    assert!(
        refused.to_string().contains("is it running") && !refused.to_string().contains("secret"),
        "{refused}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut busy = settings();
    busy.http.plain_listen = Some(payjoin_node::settings::PlainListen::Tcp(taken.local_addr().unwrap()));
    busy.http.public_endpoint = Some("https://pay.example".into());
    assert!(refusal(busy).await.to_string().contains("cannot serve payers on"));

    std::fs::write(folder.path().join("payjoind.sqlite"), "no database").unwrap();
    let damaged = refusal(settings()).await;
    assert!(damaged.to_string().contains("database"), "{damaged}");
    assert!(payjoin_node::rescue(folder.path()).is_err());
}
