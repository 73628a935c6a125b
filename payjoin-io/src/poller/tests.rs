//! Over a real relay and directory; the chain, the wallet and the Lightning node are scripted.

use std::time::Instant;

use bitcoin::{FeeRate, Psbt};
use payjoin_core::{IntentState, Settled};

use super::*;
use crate::support::{Mailroom, Recorder};
use crate::testing::{Fault, PAYMENT, Stage, ledger, now, original};
use crate::{Fallback, HttpClient, HttpRequest, Payment, SendSettings, Sender, Sent};

struct Field {
    relay: Mailroom,
    directory: Mailroom,
    client: Arc<Recorder>,
    ohttp: Arc<Ohttp>,
    stage: Stage,
    poller: Poller,
}

impl Field {
    async fn new() -> Self {
        Self::with(Mailroom::start()).await
    }

    async fn with(directory: Mailroom) -> Self {
        let (relay, stage) = (Mailroom::start(), Stage::new());
        let client = Recorder::new(None);
        let ohttp = Arc::new(Ohttp::new(client.clone(), vec![relay.url()]).unwrap());
        let poller = poller(&stage, &ohttp, &directory, 3600);
        Self { relay, directory, client, ohttp, stage, poller }
    }

    async fn code(&self, name: &str) -> (Invoice, String) {
        let invoice = self.stage.invoice(name).await;
        let uri = self.poller.open(&invoice, Network::Regtest).await.unwrap();
        (invoice, uri)
    }

    /// Stops polling and begins again, as a new process does.
    async fn restart(&mut self) {
        self.poller.stop().await;
        self.poller = poller(&self.stage, &self.ohttp, &self.directory, 3600);
        self.poller.resume().await.unwrap();
    }

    /// The payment of a code by a payer of its own; `patience` in seconds.
    fn pay(&self, uri: &str, input: u32, patience: u64) -> tokio::task::JoinHandle<Sent> {
        let folder = tempfile::tempdir().unwrap();
        let client = Recorder::new(None);
        let ohttp = Arc::new(Ohttp::new(client.clone(), vec![self.relay.url()]).unwrap());
        let store = ledger(&folder.path().join("payer"));
        let settings = SendSettings { v2_patience: Duration::from_secs(patience), ..SendSettings::default() };
        let sender = Sender::new(client, Some(ohttp), store, settings, now);
        let (uri, network, min_fee_rate) = (uri.to_owned(), Network::Regtest, FeeRate::BROADCAST_MIN);
        let payment = Payment { uri, network, original: original(input), min_fee_rate };
        tokio::spawn(async move {
            let _folder = folder;
            sender.send("a", &payment).await.unwrap()
        })
    }

    async fn ended(&self, invoice: &Invoice) -> SessionEnd {
        let begun = Instant::now();
        loop {
            if let Some(end) = self.poller.session(&invoice.id).await.unwrap().unwrap().end {
                return end;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the session does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_received(&self, invoice: &Invoice) {
        let begun = Instant::now();
        while !self.poller.session(&invoice.id).await.unwrap().unwrap().received {
            assert!(begun.elapsed() < Duration::from_secs(30), "no Original comes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn times(&self, act: &str) -> usize {
        self.stage.world.acts().iter().filter(|done| *done == act).count()
    }
}

fn poller(stage: &Stage, ohttp: &Arc<Ohttp>, directory: &Mailroom, lifetime: u64) -> Poller {
    let directories = vec![directory.url()];
    let settings = PollSettings { directories, lifetime, ..PollSettings::default() };
    Poller::new(stage.host.clone(), ohttp.clone(), settings)
}

fn payjoin(sent: Sent) -> Psbt {
    match sent {
        Sent::Payjoin(psbt) => *psbt,
        sent => panic!("no payjoin: {sent:?}"),
    }
}

fn funds_a_channel(psbt: &Psbt) -> bool {
    psbt.unsigned_tx.output.iter().any(|output| output.script_pubkey.is_p2wsh())
}

#[tokio::test]
async fn a_payment_through_a_directory_opens_a_channel() {
    let field = Field::new().await;
    let intent = field.stage.queue_channel().await;
    let (invoice, uri) = field.code("a").await;
    let psbt = payjoin(field.pay(&uri, 0, 30).await.unwrap());
    assert!(funds_a_channel(&psbt));
    assert_eq!(field.ended(&invoice).await, SessionEnd::Answered);
    let state = field.stage.host.store.intent(intent).await.unwrap().unwrap().state;
    assert!(matches!(state, IntentState::Released { .. }), "{state:?}");
    assert!(field.poller.open_sessions().await.unwrap().is_empty());
    field.client.assert_no_ciphertext_twice();
    field.stage.assert_nothing_leaks();
}

#[tokio::test]
async fn a_payer_may_come_while_we_are_away() {
    let mut field = Field::new().await;
    let (invoice, uri) = field.code("a").await;
    field.poller.stop().await;
    let payer = field.pay(&uri, 0, 30);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!payer.is_finished());
    field.restart().await;
    payjoin(payer.await.unwrap());
    assert_eq!(field.ended(&invoice).await, SessionEnd::Answered);
}

#[tokio::test]
async fn a_proposal_that_could_not_be_posted_is_posted_later_and_not_made_again() {
    let mut field = Field::new().await;
    field.stage.queue_channel().await;
    let (invoice, uri) = field.code("a").await;
    field.stage.world.fault("inspect", Fault::Refuse);
    let payer = field.pay(&uri, 0, 60);
    field.until_received(&invoice).await;
    field.directory.stop();
    field.stage.world.heal();
    while field.times("fund") == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    field.restart().await;
    field.directory.start_again();
    assert!(funds_a_channel(&payjoin(payer.await.unwrap())));
    assert_eq!(field.ended(&invoice).await, SessionEnd::Answered);
    assert_eq!((field.times("open"), field.times("fund")), (1, 1));
}

#[tokio::test]
async fn a_node_that_is_not_ready_yet_is_asked_again_before_the_payer_is_refused() {
    let field = Field::new().await;
    let (invoice, uri) = field.code("a").await;
    field.stage.world.fault("inspect", Fault::Panic);
    let payer = field.pay(&uri, 0, 60);
    field.until_received(&invoice).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    field.stage.world.heal();
    payjoin(payer.await.unwrap());
    assert_eq!(field.ended(&invoice).await, SessionEnd::Answered);
}

#[tokio::test]
async fn a_refusal_reaches_the_payer() {
    let field = Field::new().await;
    let ((first, uri), (second, again)) = (field.code("a").await, field.code("b").await);
    payjoin(field.pay(&uri, 0, 30).await.unwrap());
    let sent = field.pay(&again, 0, 30).await.unwrap();
    assert!(matches!(sent, Sent::Original(Fallback::Refused(_))), "{sent:?}");
    assert_eq!(field.ended(&first).await, SessionEnd::Answered);
    assert_eq!(field.ended(&second).await, SessionEnd::Refused);
}

#[tokio::test]
async fn a_v1_payer_at_the_directory_keeps_his_payment_whole() {
    let field = Field::new().await;
    field.stage.queue_channel().await;
    let (invoice, uri) = field.code("a").await;
    // `pj=HTTP://HOST:PORT/MAILBOX%23…`
    let mailbox = uri.rsplit('/').next().unwrap().split('%').next().unwrap();
    let body = Some(("text/plain", original(0).to_string().into_bytes()));
    let request = HttpRequest {
        url: format!("{}/{mailbox}?v=2", field.directory.url()),
        accept: None,
        headers: Vec::new(),
        body,
        timeout: Duration::from_secs(10),
        limit: 100_000,
        tunnel: None,
        fresh: false,
    };
    let answer = field.client.send(request).await.unwrap();
    assert_eq!(answer.status, 200);
    let psbt: Psbt = String::from_utf8(answer.body).unwrap().parse().unwrap();
    let mut outputs = psbt.unsigned_tx.output.iter();
    let paid = outputs.find(|output| output.script_pubkey == invoice.script).unwrap();
    assert!(paid.value >= PAYMENT && funds_a_channel(&psbt), "our coin pays for the channel");
    assert_eq!(field.ended(&invoice).await, SessionEnd::Answered);
}

#[tokio::test]
async fn new_keys_of_the_directory_do_not_lose_a_message() {
    let mut field = Field::new().await;
    let (invoice, uri) = field.code("a").await;
    field.poller.stop().await;
    let payer = field.pay(&uri, 0, 20);
    tokio::time::sleep(Duration::from_secs(1)).await;
    field.directory.rotate_keys();
    field.restart().await;
    assert_eq!(field.ended(&invoice).await, SessionEnd::Answered);
    // His code has the old key; he cannot read the answer any more.
    assert!(matches!(payer.await.unwrap(), Sent::Original(Fallback::Unreachable(_))));
}

#[tokio::test]
async fn an_expired_session_ends_and_an_original_without_reply_is_broadcast() {
    let field = Field::new().await;
    let short = poller(&field.stage, &field.ohttp, &field.directory, 4);
    let (paid, idle) = (field.stage.invoice("a").await, field.stage.invoice("b").await);
    field.stage.world.fault("inspect", Fault::Refuse);
    let uri = short.open(&paid, Network::Regtest).await.unwrap();
    short.open(&idle, Network::Regtest).await.unwrap();
    let payer = field.pay(&uri, 0, 10);
    assert_eq!(field.ended(&paid).await, SessionEnd::Expired);
    assert_eq!(field.ended(&idle).await, SessionEnd::Expired);
    let original = original(0).extract_tx_unchecked_fee_rate();
    assert_eq!(*field.stage.world.broadcast.lock().unwrap(), [original]);
    assert_eq!(payer.await.unwrap(), Sent::Original(Fallback::Expired));
}

#[tokio::test]
async fn a_node_that_is_away_when_a_session_expires_gets_the_original_later() {
    let field = Field::new().await;
    let short = poller(&field.stage, &field.ohttp, &field.directory, 4);
    let invoice = field.stage.invoice("a").await;
    field.stage.world.fault("inspect", Fault::Refuse);
    field.stage.world.fault("broadcast", Fault::Refuse);
    let uri = short.open(&invoice, Network::Regtest).await.unwrap();
    let payer = field.pay(&uri, 0, 10);
    assert_eq!(payer.await.unwrap(), Sent::Original(Fallback::Expired));
    while field.times("broadcast") == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    field.stage.world.heal();
    assert_eq!(field.ended(&invoice).await, SessionEnd::Expired);
    assert_eq!(*field.stage.world.broadcast.lock().unwrap(), [original(0).extract_tx_unchecked_fee_rate()]);
}

#[tokio::test]
async fn an_invoice_that_is_served_on_another_way_waits_for_its_turn() {
    let field = Field::new().await;
    let (invoice, uri) = field.code("a").await;
    let claim = field.stage.host.claim(&invoice.id).unwrap();
    let payer = field.pay(&uri, 0, 30);
    field.until_received(&invoice).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(field.times("inspect"), 0);
    drop(claim);
    payjoin(payer.await.unwrap());
    assert_eq!(field.ended(&invoice).await, SessionEnd::Answered);
}

#[tokio::test]
async fn a_payer_who_waits_for_a_turn_does_not_hold_up_the_stop_and_is_served_after_it() {
    let mut field = Field::new().await;
    let directories = vec![field.directory.url()];
    // No turn ever comes.
    let settings = PollSettings { directories, exchanges: 0, ..PollSettings::default() };
    field.poller = Poller::new(field.stage.host.clone(), field.ohttp.clone(), settings);
    let (invoice, uri) = field.code("a").await;
    let paying = field.pay(&uri, 0, 30);
    field.until_received(&invoice).await;
    tokio::time::timeout(Duration::from_secs(5), field.poller.stop()).await.unwrap();
    field.restart().await;
    payjoin(paying.await.unwrap());
}

#[tokio::test]
async fn a_cancelled_session_answers_nobody() {
    let field = Field::new().await;
    let (invoice, uri) = field.code("a").await;
    assert!(field.poller.cancel(&invoice.id));
    assert_eq!(field.ended(&invoice).await, SessionEnd::Cancelled);
    // Its end is on record a moment before it runs no more.
    let over = async {
        while field.poller.cancel(&invoice.id) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.unwrap();
    assert_eq!(field.pay(&uri, 0, 4).await.unwrap(), Sent::Original(Fallback::NoAnswer));
    let again = field.poller.open(&invoice, Network::Regtest).await;
    assert!(matches!(again, Err(PollError::Known(_))));
}

#[tokio::test]
async fn one_payer_among_many_sessions_is_answered_at_once() {
    let field = Field::with(Mailroom::holding(30)).await;
    let mut codes = Vec::new();
    for number in 0..100 {
        codes.push(field.code(&format!("invoice {number}")).await);
    }
    let (invoice, uri) = &codes[73];
    let begun = Instant::now();
    payjoin(field.pay(uri, 0, 30).await.unwrap());
    // The directory holds a poll for 30 s: nobody waited for the next one.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(field.ended(invoice).await, SessionEnd::Answered);
    assert_eq!(field.poller.open_sessions().await.unwrap().len(), 99);
    field.poller.stop().await;
    field.client.assert_no_ciphertext_twice();
}

#[tokio::test]
async fn an_original_is_settled_like_any_other() {
    let field = Field::new().await;
    let (_, uri) = field.code("a").await;
    payjoin(field.pay(&uri, 0, 30).await.unwrap());
    let obligations = field.stage.host.store.obligations().await.unwrap();
    assert_eq!(obligations.len(), 1);
    field
        .stage
        .host
        .store
        .settle(obligations[0].exchange, Settled::Payjoin, payjoin_core::Timestamp(1))
        .await
        .unwrap();
}
