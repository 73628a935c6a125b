//! Conversations through a directory in memory, with the reference sender at the other end.

use std::collections::HashMap;
use std::io::Cursor;

use bitcoin::{Address, FeeRate, Network, Psbt};
use bitcoin_ohttp as ohttp;
use ohttp::hpke::{Aead, Kdf, Kem};
use payjoin::persist::{InMemoryPersister, OptionalTransitionOutcome};
use payjoin::send::v2::{PollingForProposal, SenderBuilder};
use payjoin::{OhttpKeys, PjParam, Uri};
use payjoin_core::{
    Code, Delivery, Exchange, Policy, Reply, Request, Session, SessionEnd, SessionError, SessionEvent,
    SessionInput, SessionOutput, SessionTerms, Timestamp,
};

use crate::kit::*;

const RELAY: &str = "https://relay.example";
const HOUR: u64 = 3600;

/// Mailboxes behind an OHTTP gateway. BIP 77, "Client/Directory Interactions".
struct Directory {
    gateway: ohttp::Server,
    mailboxes: HashMap<String, Vec<u8>>,
    ciphertexts: Vec<Vec<u8>>,
    /// Status of the next answers; 0 for those of a directory that works.
    status: u16,
}

fn gateway(seed: u8) -> ohttp::Server {
    let suite = ohttp::SymmetricSuite::new(Kdf::HkdfSha256, Aead::ChaCha20Poly1305);
    let config = ohttp::KeyConfig::derive(1, Kem::K256Sha256, vec![suite], &[seed; 32]).unwrap();
    ohttp::Server::new(config).unwrap()
}

impl Directory {
    fn new() -> Self {
        Self { gateway: gateway(1), mailboxes: HashMap::new(), ciphertexts: Vec::new(), status: 0 }
    }

    fn keys(&self) -> OhttpKeys {
        OhttpKeys::decode(&self.gateway.config().encode().unwrap()).unwrap()
    }

    /// The answer to an encapsulated request; `None` when it cannot be opened.
    fn serve(&mut self, request: payjoin::Request) -> Option<Vec<u8>> {
        assert!(!self.ciphertexts.contains(&request.body), "a ciphertext was sent twice");
        self.ciphertexts.push(request.body.clone());
        let (inner, response) = self.gateway.decapsulate(&request.body).ok()?;
        let inner = bhttp::Message::read_bhttp(&mut Cursor::new(inner)).unwrap();
        let name = String::from_utf8(inner.control().path().unwrap().to_vec()).unwrap();
        let (status, content) = match inner.control().method().unwrap() {
            _ if self.status != 0 => (self.status, Vec::new()),
            b"GET" => match self.mailboxes.get(&name) {
                Some(content) => (200, content.clone()),
                None => (202, Vec::new()),
            },
            b"PUT" => {
                self.mailboxes.insert("v1 reply".into(), inner.content().to_vec());
                (200, Vec::new())
            }
            _ => {
                self.mailboxes.entry(name).or_insert_with(|| inner.content().to_vec());
                (200, Vec::new())
            }
        };
        let mut answer = bhttp::Message::response(bhttp::StatusCode::try_from(status).unwrap());
        answer.write_content(content);
        let mut bytes = Vec::new();
        answer.write_bhttp(bhttp::Mode::KnownLength, &mut bytes).unwrap();
        bytes.resize(8192 - 48, 0);
        Some(response.encapsulate(&bytes).unwrap())
    }
}

/// A session, its log, and the directory.
struct Stage {
    directory: Directory,
    session: Session,
    log: Vec<String>,
    now: Timestamp,
}

impl Stage {
    fn new() -> Self {
        let directory = Directory::new();
        let terms = SessionTerms {
            address: Address::from_script(&invoice().script, Network::Regtest).unwrap(),
            amount: Some(sats(PAID)),
            directory: "https://directory.example".into(),
            keys: directory.keys(),
            lifetime: HOUR,
        };
        let session = Session::create(NOW, terms).unwrap();
        Self { directory, session, log: Vec::new(), now: NOW }
    }

    /// As after a crash.
    fn restart(&mut self) {
        let events = self.log.iter().map(|event| serde_json::from_str::<SessionEvent>(event).unwrap());
        self.session = Session::resume(events).unwrap();
    }

    fn give(&mut self, input: SessionInput) -> Result<(), SessionError> {
        self.session.handle_input(self.now, input)
    }

    /// What is left to do once everything is on record.
    fn output(&mut self) -> SessionOutput {
        loop {
            match self.session.poll_output() {
                SessionOutput::Record(event) => {
                    self.log.push(serde_json::to_string(&event).unwrap());
                    self.give(SessionInput::Done).unwrap();
                }
                output => return output,
            }
        }
    }

    /// One round trip to the directory.
    fn travel(&mut self) -> Result<(), SessionError> {
        let (request, context) = self.session.encapsulate(RELAY).unwrap();
        let answer = self.directory.serve(request).unwrap_or_else(|| vec![0; 8192]);
        self.give(SessionInput::Answer(answer, context))
    }

    /// Polls until a message is here.
    fn receive(&mut self) -> Request {
        assert!(matches!(self.output(), SessionOutput::Poll));
        self.travel().unwrap();
        match self.output() {
            SessionOutput::Exchange(request) => request,
            output => panic!("{output:?}"),
        }
    }

    fn ended(&mut self) -> SessionEnd {
        match self.output() {
            SessionOutput::Ended(end) => end,
            output => panic!("{output:?}"),
        }
    }
}

type V2Payer = payjoin::send::v2::Sender<PollingForProposal>;

/// Posts the payment's Original as a v2 payer.
fn pay(stage: &mut Stage, payment: &Payment) -> V2Payer {
    let uri = Uri::try_from(stage.session.bip21()).unwrap().assume_checked().check_pj_supported().unwrap();
    let PjParam::V2(param) = uri.extras().pj_param() else { panic!("no v2 code") };
    let builder = SenderBuilder::from_parts(payment.psbt.clone(), param, uri.address(), uri.amount());
    let log = InMemoryPersister::default();
    let Ok(sender) = builder
        .build_with_additional_fee(sats(1_000), Some(0), FeeRate::BROADCAST_MIN, false)
        .unwrap()
        .save(&log);
    let (request, context) = sender.create_v2_post_request(RELAY).unwrap();
    let answer = stage.directory.serve(request).unwrap();
    sender.process_response(&answer, context).save(&log).unwrap()
}

/// What the payer finds in his mailbox, checked by the reference sender.
fn answer(stage: &mut Stage, payer: &V2Payer) -> Result<Psbt, String> {
    let (request, context) = payer.create_poll_request(RELAY).unwrap();
    let answer = stage.directory.serve(request).unwrap();
    match payer.clone().process_response(&answer, context).save(&InMemoryPersister::default()) {
        Ok(OptionalTransitionOutcome::Progress(psbt)) => Ok(psbt),
        Ok(OptionalTransitionOutcome::Stasis(_)) => panic!("no answer"),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts a plaintext message into the mailbox, as a directory does for v1 payers.
fn put(stage: &mut Stage, text: String) {
    let (request, _) = stage.session.encapsulate(RELAY).unwrap();
    let (inner, _) = stage.directory.gateway.decapsulate(&request.body).unwrap();
    let inner = bhttp::Message::read_bhttp(&mut Cursor::new(inner)).unwrap();
    let name = String::from_utf8(inner.control().path().unwrap().to_vec()).unwrap();
    stage.directory.mailboxes.insert(name, text.into_bytes());
}

fn pay_v1(stage: &mut Stage, payment: &Payment, query: &str) {
    put(stage, format!("{}\n{query}", payment.psbt));
}

fn channel_host(payment: &Payment) -> Host {
    Host::new(&payment.spends)
        .with_coins(&[our_coin(0, 100_000)])
        .with_wishes(&[exact(1, 400_000), exact(2, 150_000)])
}

#[test]
fn a_v2_payer_funds_channels() {
    let (mut stage, payment) = (Stage::new(), payment(&[Kind::P2wpkh]));
    let payer = pay(&mut stage, &payment);
    let request = stage.receive();
    assert!(request.authenticated);
    assert_eq!(request.delivery, Delivery::Mailbox);
    let mut host = channel_host(&payment);
    let reply = host.exchange(request);
    assert_eq!(host.opened.len(), 2);
    let complete = proposal(&reply).inputs.iter().all(|input| input.witness_utxo.is_some());
    assert!(complete, "BIP 77 wants complete UTXO data");
    stage.give(SessionInput::Reply(reply)).unwrap();
    assert!(matches!(stage.output(), SessionOutput::Post));
    stage.travel().unwrap();
    assert_eq!(stage.ended(), SessionEnd::Answered);
    let psbt = answer(&mut stage, &payer).unwrap();
    assert_eq!(psbt.unsigned_tx, host.checked.unwrap().psbt().unsigned_tx);
}

#[test]
fn codes_of_both_drafts_and_in_capitals_lead_to_the_same_mailbox() {
    let code = Stage::new().session.bip21();
    let (before, fragment) = code.split_once("%23").unwrap();
    let plus = fragment.replace('-', "+");
    let endpoint = |text: &str| {
        let read = Code::read(text, Network::Regtest).unwrap();
        assert_eq!((&read.unusable, read.amount), (&None, Some(sats(PAID))), "{text}");
        let uri = Uri::try_from(read.uri()).unwrap().assume_checked().check_pj_supported().unwrap();
        assert!(matches!(uri.extras().pj_param(), PjParam::V2(_)), "{text}");
        uri.extras().endpoint()
    };
    for text in [
        code.to_uppercase(),
        format!("{before}%23{plus}"),
        format!("{before}%23{}", plus.replace('+', "%2B")),
        format!("{before}%23{plus}&lightning=LNBCRT1ABC"),
        code.replace("pjos=0", "pjos=1"),
    ] {
        assert_eq!(endpoint(&text), endpoint(&code), "{text}");
    }
}

#[test]
fn a_refusal_reaches_a_v2_payer() {
    let (mut stage, payment) = (Stage::new(), payment(&[Kind::P2wpkh]));
    let payer = pay(&mut stage, &payment);
    let request = stage.receive();
    let reply = Host { seen: true, ..Host::new(&payment.spends) }.exchange(request);
    stage.give(SessionInput::Reply(reply)).unwrap();
    stage.travel().unwrap();
    assert_eq!(stage.ended(), SessionEnd::Refused);
    assert!(answer(&mut stage, &payer).unwrap_err().contains("rejected the original PSBT"));
}

#[test]
fn a_v1_payer_at_the_directory_keeps_his_payment_whole_whatever_he_claims() {
    for query in ["", "v=1", "v=2", "v=2&disableoutputsubstitution=false"] {
        let (mut stage, payment) = (Stage::new(), payment(&[Kind::P2wpkh]));
        pay_v1(&mut stage, &payment, query);
        let request = stage.receive();
        assert!(!request.authenticated && request.delivery == Delivery::DirectoryV1);
        let mut host = channel_host(&payment).with_coins(&[our_coin(0, 900_000)]);
        let reply = host.exchange(request);
        assert!(!host.opened.is_empty(), "{query}: our coin pays for it");
        let psbt = proposal(&reply);
        let mut outputs = psbt.unsigned_tx.output.iter();
        let paid = outputs.find(|output| output.script_pubkey == invoice().script).unwrap();
        assert!(paid.value >= sats(PAID), "{query}");
        assert!(psbt.inputs.iter().any(|input| input.witness_utxo.is_none()));
        let text = reply.body();
        stage.give(SessionInput::Reply(reply)).unwrap();
        stage.travel().unwrap();
        assert_eq!(stage.ended(), SessionEnd::Answered);
        assert_eq!(stage.directory.mailboxes["v1 reply"], text.into_bytes());
    }
}

#[test]
fn a_v1_payer_who_left_is_not_answered_and_not_refused() {
    let (mut stage, payment) = (Stage::new(), payment(&[Kind::P2wpkh]));
    pay_v1(&mut stage, &payment, "");
    let request = stage.receive();
    let reply = channel_host(&payment).exchange(request.clone());
    stage.give(SessionInput::Reply(reply)).unwrap();
    stage.now = NOW.plus(60);
    stage.give(SessionInput::Tick).unwrap();
    assert_eq!(stage.ended(), SessionEnd::Expired);

    let mut stage = Stage::new();
    pay_v1(&mut stage, &payment, "");
    stage.receive();
    stage.give(SessionInput::Reply(Reply::unavailable(""))).unwrap();
    stage.now = NOW.plus(60);
    stage.give(SessionInput::Tick).unwrap();
    assert_eq!(stage.ended(), SessionEnd::Expired);
}

#[test]
fn a_refusal_reaches_a_v1_payer_at_the_directory_as_json() {
    let (mut stage, payment) = (Stage::new(), payment(&[Kind::P2wpkh]));
    pay_v1(&mut stage, &payment, "");
    let request = stage.receive();
    let reply = Host { seen: true, ..Host::new(&payment.spends) }.exchange(request);
    let json = reply.body();
    stage.give(SessionInput::Reply(reply)).unwrap();
    stage.directory.status = 500;
    assert!(stage.travel().is_err());
    stage.directory.status = 0;
    let keys = stage.directory.keys();
    stage.give(SessionInput::Keys(keys)).unwrap();
    stage.output();
    stage.travel().unwrap();
    assert_eq!(stage.ended(), SessionEnd::Refused);
    assert_eq!(stage.directory.mailboxes["v1 reply"], json.into_bytes());
    let read = payment.payer().context.process_response(&stage.directory.mailboxes["v1 reply"]);
    assert!(read.unwrap_err().to_string().contains("rejected the original PSBT"));
}

#[test]
fn money_rule_12_a_reply_is_of_use_as_long_as_its_payer_looks_for_it() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut stage = Stage::new();
    pay(&mut stage, &payment);
    stage.receive();
    assert_eq!(stage.session.reply_by(), stage.session.expires());
    let mut stage = Stage::new();
    pay_v1(&mut stage, &payment, "");
    let request = stage.receive();
    assert_eq!(stage.session.reply_by(), NOW.plus(60));
    stage.give(SessionInput::Reply(channel_host(&payment).exchange(request))).unwrap();
    assert_eq!(stage.session.reply_by(), NOW.plus(60));
}

#[test]
fn a_restart_in_the_middle_begins_the_same_exchange_again() {
    let (mut stage, payment) = (Stage::new(), payment(&[Kind::P2tr]));
    stage.output();
    stage.restart();
    let payer = pay(&mut stage, &payment);
    let request = stage.receive();
    let id = |request: &Request| {
        Exchange::new(NOW, invoice(), request.clone(), Policy::default()).original_id().clone()
    };
    stage.restart();
    let SessionOutput::Exchange(again) = stage.output() else { panic!("no exchange") };
    assert_eq!(id(&again), id(&request));
    let released = channel_host(&payment).exchange(again);
    stage.give(SessionInput::Reply(released.clone())).unwrap();
    stage.travel().unwrap();
    // The directory has it, and the crash comes before we know.
    stage.restart();
    let SessionOutput::Exchange(again) = stage.output() else { panic!("no exchange") };
    let mut host = Host { recall: Some(released.body()), ..channel_host(&payment) };
    assert_eq!(host.exchange(again), released);
    stage.give(SessionInput::Reply(released)).unwrap();
    stage.travel().unwrap();
    assert_eq!(stage.ended(), SessionEnd::Answered);
    stage.restart();
    assert_eq!(stage.ended(), SessionEnd::Answered);
    answer(&mut stage, &payer).unwrap();
}

#[test]
fn what_cannot_be_opened_changes_nothing() {
    let (mut stage, payment) = (Stage::new(), payment(&[Kind::P2wpkh]));
    stage.output();
    for answer in [Vec::new(), vec![0; 8192], vec![7; 8193]] {
        let (_, context) = stage.session.encapsulate(RELAY).unwrap();
        assert!(matches!(stage.give(SessionInput::Answer(answer, context)), Err(SessionError::Answer(_))));
        assert!(matches!(stage.output(), SessionOutput::Poll));
    }
    for status in [404, 500] {
        stage.directory.status = status;
        assert!(stage.travel().is_err());
        assert!(matches!(stage.output(), SessionOutput::Poll));
    }
    stage.directory.status = 0;
    pay(&mut stage, &payment);
    let reply = channel_host(&payment).exchange(stage.receive());
    stage.give(SessionInput::Reply(reply)).unwrap();
    stage.directory.status = 500;
    assert!(stage.travel().is_err());
    stage.directory.status = 0;
    stage.travel().unwrap();
    assert_eq!(stage.ended(), SessionEnd::Answered);
}

#[test]
fn a_message_that_is_no_original_ends_the_session() {
    for text in ["", "nonsense", "cHNidP8B\nv=1"] {
        let mut stage = Stage::new();
        stage.output();
        put(&mut stage, text.to_owned());
        stage.travel().unwrap();
        assert_eq!(stage.ended(), SessionEnd::Unreadable, "{text}");
    }
}

#[test]
fn new_keys_of_the_directory_serve_a_session_at_every_stage() {
    let (mut stage, payment) = (Stage::new(), payment(&[Kind::P2wpkh]));
    let payer = pay(&mut stage, &payment);
    stage.output();
    stage.directory.gateway = gateway(2);
    assert!(stage.travel().is_err());
    let keys = stage.directory.keys();
    stage.give(SessionInput::Keys(keys)).unwrap();
    let request = stage.receive();
    stage.restart();
    let reply = channel_host(&payment).exchange(request);
    stage.output();
    stage.give(SessionInput::Reply(reply)).unwrap();
    stage.directory.gateway = gateway(3);
    assert!(stage.travel().is_err());
    let keys = stage.directory.keys();
    stage.give(SessionInput::Keys(keys)).unwrap();
    assert!(matches!(stage.output(), SessionOutput::Post));
    stage.travel().unwrap();
    assert_eq!(stage.ended(), SessionEnd::Answered);
    // The payer's code carries the first key: he can read once that one is back.
    stage.directory.gateway = gateway(1);
    answer(&mut stage, &payer).unwrap();
}

#[test]
fn an_original_without_reply_is_left_to_broadcast_at_the_end() {
    let payment = payment(&[Kind::P2wpkh]);
    for (input, end) in
        [(SessionInput::Tick, SessionEnd::Expired), (SessionInput::Cancel, SessionEnd::Cancelled)]
    {
        let mut stage = Stage::new();
        pay(&mut stage, &payment);
        stage.receive();
        if end == SessionEnd::Expired {
            stage.now = NOW.plus(HOUR);
        }
        stage.give(input).unwrap();
        let SessionOutput::Fallback(_, original) = stage.output() else { panic!("no fallback") };
        assert_eq!(original, payment.psbt.clone().extract_tx().unwrap());
        assert_eq!(stage.log.len(), 2, "the end is on record only when the Original is out");
        stage.give(SessionInput::Done).unwrap();
        assert_eq!(stage.ended(), end);
    }
}

#[test]
fn a_session_that_nobody_paid_expires_in_peace() {
    let mut stage = Stage::new();
    stage.now = NOW.plus(HOUR - 1);
    stage.give(SessionInput::Tick).unwrap();
    assert!(matches!(stage.output(), SessionOutput::Poll));
    stage.now = NOW.plus(HOUR);
    stage.give(SessionInput::Tick).unwrap();
    assert_eq!(stage.ended(), SessionEnd::Expired);
    stage.restart();
    assert_eq!(stage.ended(), SessionEnd::Expired);
    assert!(stage.session.encapsulate(RELAY).is_err_and(|error| error == SessionError::Unexpected));
}

#[test]
fn channels_are_left_out_until_the_proposal_fits_into_a_mailbox() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut request = payment.request();
    let wishes: Vec<_> = (1..=170).map(|id| exact(id, 10_000)).collect();
    let host = || Host::new(&payment.spends).with_coins(&[our_coin(0, 5_000_000)]).with_wishes(&wishes);
    for (delivery, range) in [(Delivery::Http, 170..=170), (Delivery::Mailbox, 140..=160)] {
        request.delivery = delivery;
        let mut host = host();
        let reply = host.exchange(request.clone());
        assert!(range.contains(&host.opened.len()), "{delivery:?}: {}", host.opened.len());
        let size = proposal(&reply).serialize().len();
        assert!(delivery == Delivery::Http || (7_000..=7_088).contains(&size), "{size}");
    }
}

#[test]
fn a_mailbox_without_room_for_a_channel_is_the_reason_for_none() {
    let mut spend = Spend::new(Kind::P2wpkh, 100, 1_000_000);
    spend.parent.output.resize(216, txout(1, script(Kind::P2wpkh, 3)));
    spend.outpoint.txid = spend.parent.compute_txid();
    let outputs = vec![txout(399_000, script(Kind::P2wpkh, 500)), txout(PAID, invoice().script)];
    let mut psbt = original(std::slice::from_ref(&spend), outputs, true);
    psbt.inputs[0].non_witness_utxo = Some(spend.parent.clone());
    let mut request = request("v=1", psbt.to_string().as_bytes());
    request.delivery = Delivery::Mailbox;
    let mut host = Host::new(&[spend]).with_coins(&[our_coin(0, 500_000)]).with_wishes(&[exact(1, 400_000)]);
    let reply = host.exchange(request);
    assert_eq!((reply.status(), host.opened.len()), (200, 0));
    assert!(host.release.unwrap().reason.unwrap().contains("mailbox"));
}

#[test]
fn a_log_that_makes_no_sense_is_refused() {
    let mut stage = Stage::new();
    stage.output();
    let created: SessionEvent = serde_json::from_str(&stage.log[0]).unwrap();
    let resume = |events: Vec<SessionEvent>| Session::resume(events).unwrap_err();
    assert_eq!(resume(Vec::new()), SessionError::Log);
    assert_eq!(resume(vec![SessionEvent::Ended(SessionEnd::Expired)]), SessionError::Log);
    assert_eq!(resume(vec![created.clone(), created]), SessionError::Log);
}

#[test]
fn a_directory_needs_an_address() {
    let address = Address::from_script(&invoice().script, Network::Regtest).unwrap();
    let keys = Directory::new().keys();
    let terms = SessionTerms { address, amount: None, directory: "nowhere".into(), keys, lifetime: u64::MAX };
    let error = Session::create(NOW, terms.clone()).unwrap_err();
    assert_eq!(error, SessionError::Directory("nowhere".into()));
    let session = Session::create(NOW, SessionTerms { directory: "https://d.example".into(), ..terms });
    assert_eq!(session.unwrap().expires(), NOW.plus(366 * 24 * HOUR));
}
