//! What an LND, or whoever is in its place, may answer besides what it should.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod fake_lnd;
mod state;

use std::str::FromStr as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bitcoin::hashes::Hash as _;
use bitcoin::hex::DisplayHex as _;
use bitcoin::{Address, Amount, OutPoint, Psbt, ScriptBuf, Transaction, TxIn, TxOut, Txid};
use fake_lnd::{Answer, FakeLnd, KEY, pending};
use payjoin_core::{ChannelAmount, ChannelSpec, ExchangeId, Wallet, WalletError};
use payjoin_lightning::lnd::Lnd;
use payjoin_lightning::{ChannelKey, FunderError, LightningNode, PaidOnce};
use serde_json::{Value, json};
use state::State;

const NAME: ChannelKey = ChannelKey { exchange: ExchangeId(7), index: 0 };
const AMOUNT: Amount = Amount::from_sat(300_000);
const FUNDING: &str = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry";

fn spec() -> ChannelSpec {
    ChannelSpec {
        peer: format!("{KEY}@127.0.0.1:9735").parse().unwrap(),
        amount: ChannelAmount::Exact(AMOUNT),
        push: Amount::ZERO,
        announced: true,
    }
}

fn script() -> ScriptBuf {
    Address::from_str(FUNDING).unwrap().assume_checked().script_pubkey()
}

/// A transaction with the channel's output at 0.
fn transaction() -> Psbt {
    let transaction = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn::default()],
        output: vec![TxOut { value: AMOUNT, script_pubkey: script() }],
    };
    Psbt::from_unsigned_tx(transaction).unwrap()
}

fn accepted(sat: u64) -> Value {
    json!({ "psbt_fund": { "funding_address": FUNDING, "funding_amount": sat.to_string(), "psbt": "" } })
}

fn signed(txid: Txid) -> Value {
    let txid =
        bitcoin::base64::Engine::encode(&bitcoin::base64::prelude::BASE64_STANDARD, txid.to_byte_array());
    json!({ "chan_pending": { "txid": txid, "output_index": 0 } })
}

fn opens(pieces: &[Value]) -> impl Fn(&(String, Value), &str) -> Option<Answer> + use<> {
    let pieces = pieces.to_vec();
    move |(call, _), _| (call == "POST /v1/channels/stream").then(|| Answer::Pieces(pieces.clone()))
}

async fn open(node: &Lnd) -> Result<ScriptBuf, FunderError> {
    node.funder().open(NAME, &spec(), AMOUNT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_safe_when_its_peer_has_signed_this_transaction_and_for_no_other() {
    let other = Txid::from_byte_array([7; 32]);
    let right = transaction().unsigned_tx.compute_txid();
    for (txid, expected) in [(right, Ok(())), (other, Err(FunderError::Mismatch))] {
        let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
        let node = lnd.beside(&state).await.unwrap();
        lnd.answer(opens(&[accepted(300_000), signed(txid)]));
        assert_eq!(open(&node).await, Ok(script()));
        assert_eq!(node.funder().fund(NAME, &transaction(), 0).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_of_another_value_or_without_an_address_is_not_opened() {
    let no_address = json!({ "psbt_fund": { "funding_address": "x", "funding_amount": "300000" } });
    for piece in [accepted(299_999), no_address, signed(Txid::from_byte_array([7; 32]))] {
        let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
        let node = lnd.beside(&state).await.unwrap();
        lnd.answer(opens(std::slice::from_ref(&piece)));
        assert!(open(&node).await.is_err(), "{piece}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_channel_is_asked_for_whose_name_cannot_be_kept() {
    let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
    let node = lnd.beside(&state).await.unwrap();
    let before = lnd.asked("POST /v1/channels/stream").len();
    state.is_full.store(true, Ordering::Relaxed);
    assert!(matches!(open(&node).await, Err(FunderError::Refused(_))));
    assert_eq!(lnd.asked("POST /v1/channels/stream").len(), before);

    // Nor is a transaction handed over that cannot be kept.
    state.is_full.store(false, Ordering::Relaxed);
    lnd.answer(opens(&[accepted(300_000)]));
    open(&node).await.unwrap();
    state.is_full.store(true, Ordering::Relaxed);
    let steps = lnd.asked("POST /v1/funding/step").len();
    assert!(matches!(node.funder().fund(NAME, &transaction(), 0).await, Err(FunderError::Refused(_))));
    assert_eq!(lnd.asked("POST /v1/funding/step").len(), steps);
}

/// LND goes on before it has looked at its reserve: what it refuses may still become a channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_comes_of_a_refused_transaction_is_abandoned_if_it_is_ours_and_not_mined() {
    let funding = OutPoint::new(transaction().unsigned_tx.compute_txid(), 0).to_string();
    let elsewhere = OutPoint::new(Txid::from_byte_array([9; 32]), 0).to_string();
    for (mine, point, height, abandoned) in
        [(true, &funding, 0, 1), (true, &funding, 100, 0), (true, &elsewhere, 0, 0), (false, &funding, 0, 0)]
    {
        let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
        let node = lnd.beside(&state).await.unwrap();
        lnd.answer(opens(&[accepted(300_000)]));
        open(&node).await.unwrap();
        let (_, request) = lnd.asked("POST /v1/channels/stream").pop().unwrap();
        let memo =
            if mine { request["memo"].as_str().unwrap().to_owned() } else { "the operator's".to_owned() };
        let told = point.clone();
        lnd.answer(move |(call, body), _| match call.as_str() {
            "POST /v1/funding/step" if body["psbt_verify"].is_object() => {
                Some(Answer::Refuse("reserved wallet balance invalidated"))
            }
            "POST /v1/funding/step" => Some(Answer::Refuse("no funding intent found for pendingChannelID")),
            "GET /v1/channels/pending" => Some(Answer::Json(pending(&[(&memo, &told, height)]))),
            _ => None,
        });
        let deleted = lnd.asked("DELETE").len();
        assert!(matches!(node.funder().fund(NAME, &transaction(), 0).await, Err(FunderError::Refused(_))));
        node.funder().abandon(NAME).await;
        assert_eq!(lnd.asked("DELETE").len() - deleted, abandoned, "{mine} {point} {height}");
        assert!(node.funder().held().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_opening_has_a_name_of_its_own_in_lnds_note_and_a_cancelled_one_is_forgotten() {
    let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
    let node = lnd.beside(&state).await.unwrap();
    lnd.answer(opens(&[accepted(300_000)]));
    let mut names = Vec::new();
    for _ in 0..2 {
        open(&node).await.unwrap();
        let (_, request) = lnd.asked("POST /v1/channels/stream").pop().unwrap();
        let name = request["funding_shim"]["psbt_shim"]["pending_chan_id"].as_str().unwrap().to_owned();
        let bytes =
            bitcoin::base64::Engine::decode(&bitcoin::base64::prelude::BASE64_STANDARD, &name).unwrap();
        assert!(request["memo"].as_str().unwrap().ends_with(&bytes.to_lower_hex_string()), "{request}");
        assert_eq!(request["funding_shim"]["psbt_shim"]["no_publish"], true);
        names.push(name);
        node.funder().abandon(NAME).await;
        let (_, cancel) = lnd.asked("POST /v1/funding/step").pop().unwrap();
        assert_eq!(cancel["shim_cancel"]["pending_chan_id"].as_str(), names.last().map(String::as_str));
    }
    assert_ne!(names[0], names[1], "LND takes a name twice for two channels");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_not_good_never_leaves() {
    let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
    let node = lnd.beside(&state).await.unwrap();
    let parent = Transaction {
        output: vec![TxOut {
            value: AMOUNT,
            script_pubkey: ScriptBuf::from_hex(&format!("0014{}", "22".repeat(20))).unwrap(),
        }],
        ..transaction().unsigned_tx
    };
    let address = "bcrt1qyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3z6t0uv4";
    let address = Address::from_script(&parent.output[0].script_pubkey, bitcoin::Network::Regtest)
        .map_or(address.to_owned(), |address| address.to_string());
    for witness in [vec![], vec!["AA=="], vec!["AA==", "AQ=="]] {
        let (address, witness) = (address.clone(), witness.clone());
        lnd.answer(move |(call, _), _| match call.as_str() {
            "POST /v2/wallet/address/next" => Some(Answer::Json(json!({ "addr": address }))),
            "POST /v2/signer/inputscript" => {
                Some(Answer::Json(json!({ "input_scripts": [{ "witness": witness, "sig_script": "" }] })))
            }
            _ => None,
        });
        let child = node.child(&parent, 0, Amount::from_sat(1_000)).await;
        assert!(matches!(child, Err(WalletError::Refused(_))), "{child:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_macaroon_that_is_replaced_is_read_again() {
    let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
    let node = lnd.beside(&state).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    lnd.answer(move |(call, _), macaroon| {
        told.lock().unwrap().push(macaroon.to_owned());
        match (call.as_str(), macaroon == b"new".to_lower_hex_string()) {
            ("POST /v2/wallet/address/next", true) => Some(Answer::Json(json!({ "addr": FUNDING }))),
            (_, false) => {
                Some(Answer::Refuse("verification failed: signature mismatch after caveat verification"))
            }
            _ => None,
        }
    });
    let refused = node.new_address().await.unwrap_err().to_string();
    assert!(refused.contains("does not accept the macaroon"), "{refused}");
    lnd.set_macaroon(b"new");
    assert_eq!(node.new_address().await.unwrap().to_string(), FUNDING);
    assert_eq!(seen.lock().unwrap().last(), Some(&b"new".to_lower_hex_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_lnd_that_is_locked_starting_or_behind_is_waited_for() {
    for (message, words) in [
        ("wallet locked, unlock it to enable full RPC access", "lncli unlock"),
        ("the RPC server is in the process of starting up, but not yet ready to accept calls", "wait"),
    ] {
        let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
        lnd.answer(move |_, _| Some(Answer::Refuse(message)));
        let away = lnd.beside(&state).await.unwrap_err();
        let is_right = matches!(&away, payjoin_lightning::LightningError::Away(why) if why.contains(words));
        assert!(is_right, "{away}");
    }
    let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
    lnd.answer(|(call, _), _| {
        let behind = json!({
            "identity_pubkey": KEY, "block_height": 1, "synced_to_chain": false,
            "chains": [{ "chain": "bitcoin", "network": "regtest" }],
        });
        (call == "GET /v1/getinfo").then_some(Answer::Json(behind))
    });
    let away = lnd.beside(&state).await.unwrap_err().to_string();
    assert!(away.contains("caught up"), "{away}");
}

/// LND says nothing of a pending channel to a peer that connects again, and does not dial one that it was told to let go of.
#[tokio::test(flavor = "multi_thread")]
async fn the_peer_of_a_channel_that_stays_unusable_is_let_go_of_and_dialled_where_it_listens() {
    let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
    let channel = json!({
        "active": false, "remote_pubkey": KEY, "channel_point": OutPoint::null().to_string(), "capacity": "1",
        "local_balance": "1", "remote_balance": "0", "local_constraints": null, "remote_constraints": null,
    });
    lnd.answer(move |(call, _), _| match call.as_str() {
        "GET /v1/channels" => Some(Answer::Json(json!({ "channels": [channel] }))),
        "GET /v1/peers" => Some(Answer::Json(json!({
            "peers": [{ "pub_key": KEY, "address": "127.0.0.1:9735", "inbound": false }],
        }))),
        _ => None,
    });
    let _node = lnd.beside(&state).await.unwrap();
    let dialled = lnd.asked("POST /v1/peers").len();
    let begun = std::time::Instant::now();
    while lnd.asked("POST /v1/peers").len() == dialled {
        assert!(begun.elapsed().as_secs() < 90, "nobody dials the peer");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(lnd.asked("DELETE /v1/peers").len(), 1);
    let (_, dial) = lnd.asked("POST /v1/peers").pop().unwrap();
    assert_eq!(dial["addr"], json!({ "pubkey": KEY, "host": "127.0.0.1:9735" }));
}

/// Says of every payment whether it may be taken.
#[derive(Debug)]
struct Says(Result<bool, String>);

#[async_trait::async_trait]
impl PaidOnce for Says {
    async fn may_take(&self, _: [u8; 32]) -> Result<bool, String> {
        self.0.clone()
    }
}

/// As an LND whose invoice has a payment.
fn holds((call, _): &(String, Value), _: &str) -> Option<Answer> {
    match call.split('/').take(4).collect::<Vec<_>>().join("/").as_str() {
        "POST /v2/invoices/hodl" => Some(Answer::Json(json!({ "payment_request": "lnbcrt1" }))),
        "GET /v2/invoices/subscribe" => Some(Answer::Pieces(vec![json!({ "state": "ACCEPTED" })])),
        _ => None,
    }
}

async fn await_asked(lnd: &FakeLnd, call: &str) -> Option<Value> {
    for _ in 0..200 {
        if let Some((_, body)) = lnd.asked(call).pop() {
            return Some(body);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_lnd_holds_is_taken_or_given_back_as_the_ledger_says_also_after_a_crash() {
    const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);
    let (taken, given_back) = ("POST /v2/invoices/settle", "POST /v2/invoices/cancel");
    for (says, call, other) in [(true, taken, given_back), (false, given_back, taken)] {
        let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
        lnd.answer(holds);
        // The ledger cannot be read: nothing is said, and the process dies.
        let unsure: Arc<dyn PaidOnce> = Arc::new(Says(Err("the disk is away".to_owned())));
        let node = lnd.beside_with(&state, Some(unsure)).await.unwrap();
        let invoice = node.invoice_once(AMOUNT, HOUR).await.unwrap();
        assert_eq!(invoice.bolt11, "lnbcrt1");
        assert!(await_asked(&lnd, "GET /v2/invoices/subscribe").await.is_some());
        node.stop().await;
        assert!(lnd.asked(taken).is_empty() && lnd.asked(given_back).is_empty());

        let sure: Arc<dyn PaidOnce> = Arc::new(Says(Ok(says)));
        let _node = lnd.beside_with(&state, Some(sure)).await.unwrap();
        assert!(await_asked(&lnd, call).await.is_some(), "{call}");
        assert!(lnd.asked(other).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_invoice_is_made_whose_secret_cannot_be_kept() {
    let (lnd, state) = (FakeLnd::start().await, Arc::new(State::default()));
    let node = lnd.beside(&state).await.unwrap();
    lnd.answer(holds);
    state.is_full.store(true, Ordering::Relaxed);
    assert!(node.invoice_once(AMOUNT, std::time::Duration::from_secs(60)).await.is_err());
    assert!(lnd.asked("POST /v2/invoices/hodl").is_empty());
}
