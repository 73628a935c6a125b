//! One node pays another, which has a funder of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[allow(dead_code, reason = "its main is not for tests")]
#[path = "../examples/no_lightning.rs"]
mod no_lightning;
mod support;

use std::sync::Arc;

use no_lightning::{Always, PEER};
use payjoin_node::requests::{Code, IntentStage, Payment, PaymentStatus};
use payjoin_node::{Event, EventStream, ExchangeId, Heard, InvoiceId, Node, Response, Settings, Step};
use support::{Chain, ask, folder, free_port};

/// The next event that `pick` takes, with what it took.
async fn heard<T>(events: &mut EventStream, pick: impl Fn(&Step) -> Option<T>) -> (Event, T) {
    let wait = async {
        loop {
            match events.next().await {
                Some(Heard::Event(event)) => {
                    if let Some(picked) = pick(&event.step) {
                        return (event, picked);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.unwrap()
}

/// A receiver with TLS and its own funder, and a payer who trusts its certificate and has coins.
async fn receiver_and_payer(chain: &Chain, folders: [&tempfile::TempDir; 2]) -> (Node, Node) {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [ours, theirs] = folders;
    let (certificate, key) = (ours.path().join("certificate"), ours.path().join("key"));
    std::fs::write(&certificate, own.cert.der()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_der()).unwrap();
    let port = free_port();
    let mut receiving = chain.settings(ours);
    receiving.http.plain_listen = None;
    receiving.http.listen = Some(([127, 0, 0, 1], port).into());
    (receiving.http.certificate, receiving.http.key) = (Some(certificate.clone()), Some(key));
    receiving.http.public_endpoint = Some(format!("https://localhost:{port}"));
    let mut paying = Settings { http: Default::default(), ..chain.settings(theirs) };
    paying.payjoin.root_certificate = Some(certificate);
    let receiver = Node::builder(receiving).funder(Arc::new(Always)).start().await.unwrap();
    let payer = Node::builder(paying).start().await.unwrap();
    let Response::Address(to) = ask(&payer, r#"{"wallet":"address"}"#).await.unwrap() else { panic!("none") };
    chain.mine(101, &to.address).await;
    for node in [&receiver, &payer] {
        chain.until_followed_by(node).await;
    }
    (receiver, payer)
}

/// The same code in another spelling, then twice the same address.
async fn a_second_time_pays_only_when_told(receiver: &Node, payer: &Node, (code, paid): (&Code, Payment)) {
    let pay = async |uri: &str, again: bool| {
        let send = format!(r#"{{"send":{{"uri":"{uri}","again":{again},"fee_rate":3,"wait":30}}}}"#);
        let Response::Payment(payment) = ask(payer, &send).await.unwrap() else { panic!("no payment") };
        payment
    };
    let scanned = code.uri.replacen("bitcoin:", "BITCOIN:", 1) + "&";
    assert_eq!(pay(&scanned, false).await, Payment { earlier: true, ..paid });

    let Response::Address(to) = ask(receiver, r#"{"wallet":"address"}"#).await.unwrap() else {
        panic!("none")
    };
    let uri = format!("{}?amount=0.0001", to.address);
    let (first, repeated) = (pay(&uri, false).await, pay(&uri, false).await);
    assert!(!first.earlier && repeated.earlier && first.txid == repeated.txid, "{repeated:?}");
    let (second, repeated) = (pay(&uri, true).await, pay(&uri, false).await);
    assert!(!second.earlier && second.txid != first.txid && repeated.txid == second.txid, "{repeated:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_pays_the_channel_of_a_funder_that_is_somebody_elses() {
    let (chain, ours, theirs) = (Chain::start().await, folder(), folder());
    let (receiver, payer) = receiver_and_payer(&chain, [&ours, &theirs]).await;
    let (mut at_receiver, mut at_payer) = (receiver.events(), payer.events());
    let queue = format!(
        r#"{{"channel":{{"queue":{{"peer":"{}","amount":"100000","push":0,"private":false}}}}}}"#,
        PEER
    );
    ask(&receiver, &queue).await.unwrap();
    let Response::Code(code) =
        ask(&receiver, r#"{"receive":{"expires":600,"payer_is_me":true}}"#).await.unwrap()
    else {
        panic!("no code")
    };
    let send = format!(r#"{{"send":{{"uri":"{}","fee_rate":3,"wait":30}}}}"#, code.uri);
    let Response::Payment(payment) = ask(&payer, &send).await.unwrap() else { panic!("no payment") };
    assert_eq!((payment.status, &payment.reason), (PaymentStatus::Payjoin, &None));

    let invoice: &InvoiceId = &code.invoice;
    let (original, amount) = heard(&mut at_receiver, |step| match step {
        Step::Original { invoice: told, amount } if told == invoice => Some(*amount),
        _ => None,
    })
    .await;
    assert_eq!((Some(amount), original.invoice.as_ref()), (code.amount, Some(invoice)));
    let (proposal, channels) = heard(&mut at_receiver, |step| match step {
        Step::Proposal { channels, .. } => Some(*channels),
        _ => None,
    })
    .await;
    assert_eq!((channels, proposal.exchange, proposal.txid), (1, Some(ExchangeId(1)), payment.txid));
    let (paid, _) = heard(&mut at_payer, |step| matches!(step, Step::Paid { .. }).then_some(())).await;
    assert_eq!(paid.txid, payment.txid);
    heard(&mut at_receiver, |step| matches!(step, Step::Broadcast { .. }).then_some(())).await;

    let Response::Channels(listed) = ask(&receiver, r#"{"channel":"list"}"#).await.unwrap() else {
        panic!("no list")
    };
    assert_eq!((listed.intents[0].state, listed.intents[0].txid), (IntentStage::Released, payment.txid));
    let Response::Address(to) = ask(&payer, r#"{"wallet":"address"}"#).await.unwrap() else { panic!("none") };
    chain.mine(1, &to.address).await;
    let (confirmed, height) = heard(&mut at_receiver, |step| match step {
        Step::Confirmed { height, .. } => Some(*height),
        _ => None,
    })
    .await;
    assert_eq!((confirmed.txid, height), (payment.txid, 103));
    chain.until_followed_by(&payer).await;
    a_second_time_pays_only_when_told(&receiver, &payer, (&code, payment)).await;
    payer.stop().await;
    receiver.stop().await;
}
