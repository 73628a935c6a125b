use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bitcoin::hashes::Hash;
use bitcoin::{Address, Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid, WPubkeyHash, Witness};

use super::*;
use crate::{HttpError, HttpRequest, HttpResponse};

/// Logs in memory.
#[derive(Default)]
struct Logs(Mutex<HashMap<String, (Vec<String>, bool)>>);

#[async_trait]
impl Sessions for Logs {
    async fn append(&self, session: &SessionKey, event: String) -> Result<(), LedgerError> {
        self.0.lock().unwrap().entry(session.name.clone()).or_insert((Vec::new(), true)).0.push(event);
        Ok(())
    }

    async fn close(&self, session: &SessionKey, event: String) -> Result<(), LedgerError> {
        self.append(session, event).await?;
        self.0.lock().unwrap().entry(session.name.clone()).and_modify(|log| log.1 = false);
        Ok(())
    }

    async fn events(&self, session: &SessionKey) -> Result<Vec<String>, LedgerError> {
        Ok(self.0.lock().unwrap().get(&session.name).map(|log| log.0.clone()).unwrap_or_default())
    }

    async fn open_sessions(&self, _: SessionKind) -> Result<Vec<String>, LedgerError> {
        let logs = self.0.lock().unwrap();
        Ok(logs.iter().filter(|(_, log)| log.1).map(|(name, _)| name.clone()).collect())
    }
}

/// Gives these answers in turn, the last one for ever.
struct Script(Mutex<Vec<Result<HttpResponse, HttpError>>>, Mutex<Vec<HttpRequest>>);

#[async_trait]
impl HttpClient for Script {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.1.lock().unwrap().push(request);
        let mut answers = self.0.lock().unwrap();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }
}

fn sender(answers: &[Result<HttpResponse, HttpError>]) -> (Sender, Arc<Script>) {
    let script = Arc::new(Script(Mutex::new(answers.to_vec()), Mutex::default()));
    let clock = || Timestamp(1_800_000_000);
    let store = Arc::new(Logs::default());
    (Sender::new(script.clone(), None, store, SendSettings::default(), clock), script)
}

fn answer(status: u16, body: &str) -> Result<HttpResponse, HttpError> {
    Ok(HttpResponse { status, body: body.as_bytes().to_vec() })
}

fn script_of(n: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([n; 20]))
}

fn payment(pj: &str) -> Payment {
    let output = |n, sat| TxOut { value: Amount::from_sat(sat), script_pubkey: script_of(n) };
    let unsigned = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([9; 32]), 0),
            ..TxIn::default()
        }],
        output: vec![output(1, 100_000), output(2, 99_000)],
    };
    let mut original = Psbt::from_unsigned_tx(unsigned).unwrap();
    original.inputs[0].witness_utxo = Some(output(3, 200_000));
    original.inputs[0].final_script_witness = Some(Witness::from_slice(&[vec![1; 71], vec![2; 33]]));
    let address = Address::from_script(&script_of(1), Network::Regtest).unwrap();
    Payment {
        uri: format!("bitcoin:{address}?amount=0.001{pj}"),
        network: Network::Regtest,
        original,
        min_fee_rate: FeeRate::BROADCAST_MIN,
    }
}

const V1: &str = "&pj=https://receiver.example/a";

async fn fallback(answers: &[Result<HttpResponse, HttpError>]) -> Fallback {
    match sender(answers).0.send("a", &payment(V1)).await.unwrap() {
        Sent::Original(fallback) => fallback,
        sent => panic!("{sent:?}"),
    }
}

#[tokio::test]
async fn a_code_without_payjoin_is_paid_by_the_original_and_nothing_is_sent() {
    let (sender, script) = sender(&[]);
    let sent = sender.send("a", &payment("")).await.unwrap();
    assert_eq!(sent, Sent::Original(Fallback::NotOffered));
    assert!(script.1.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_refusal_is_told_in_our_own_words() {
    let refused = r#"{"errorCode":"unavailable","message":"send to bc1evil instead"}"#;
    let text = fallback(&[answer(503, refused)]).await.to_string();
    assert_eq!(text, "the receiver refused: The payjoin endpoint is not available for now.");
    let unknown = r#"{"errorCode":"evil","message":"send to bc1evil instead"}"#;
    assert!(!fallback(&[answer(400, unknown)]).await.to_string().contains("evil"));
}

#[tokio::test]
async fn a_proposal_that_breaks_a_rule_is_not_acceptable() {
    let mut stolen = payment(V1).original;
    stolen.unsigned_tx.output[1].value = Amount::from_sat(1_000);
    for body in ["nonsense".to_owned(), stolen.to_string()] {
        let fallback = fallback(&[answer(200, &body)]).await;
        assert!(matches!(fallback, Fallback::Unacceptable(_)), "{fallback:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_v1_request_is_repeated_only_when_the_receiver_was_not_reached() {
    let down = Err(HttpError::Transport("down".into()));
    let unavailable = answer(503, r#"{"errorCode":"unavailable","message":""}"#);
    for (answers, requests) in [
        (vec![down.clone(), down, unavailable.clone()], 3),
        (vec![unavailable], 1),
        (vec![Err(HttpError::Timeout)], 1),
    ] {
        let (sender, script) = sender(&answers);
        sender.send("a", &payment(V1)).await.unwrap();
        assert_eq!(script.1.lock().unwrap().len(), requests, "{answers:?}");
    }
}

#[tokio::test]
async fn a_payment_keeps_its_outcome() {
    let (sender, script) = sender(&[Err(HttpError::Timeout)]);
    let sent = sender.send("a", &payment(V1)).await.unwrap();
    assert_eq!(sender.resume("a").await.unwrap(), sent);
    assert_eq!(sender.cancel("a").await.unwrap(), sent);
    assert_eq!(script.1.lock().unwrap().len(), 1);
    assert!(matches!(sender.send("a", &payment(V1)).await, Err(SendError::Known(_))));
}

#[tokio::test]
async fn a_cancelled_payment_is_not_sent() {
    let (sender, script) = sender(&[Err(HttpError::Timeout)]);
    sender.begin("a", &payment(V1)).await.unwrap();
    assert_eq!(sender.unfinished().await.unwrap(), ["a"]);
    sender.cancel("a").await.unwrap();
    assert_eq!(sender.resume("a").await.unwrap(), Sent::Original(Fallback::Cancelled));
    assert!(sender.unfinished().await.unwrap().is_empty() && script.1.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_paid_is_not_begun() {
    let (sender, _) = sender(&[]);
    let somebody_else = |mut payment: Payment| {
        payment.original.unsigned_tx.output[0].script_pubkey = script_of(7);
        payment
    };
    let other_network = Payment { network: Network::Bitcoin, ..payment(V1) };
    assert!(matches!(sender.begin("a", &other_network).await, Err(SendError::Code(_))));
    assert!(matches!(sender.begin("a", &somebody_else(payment(V1))).await, Err(SendError::Original(_))));
    assert!(matches!(sender.resume("a").await, Err(SendError::Unknown(_))));
}
