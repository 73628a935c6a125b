//! Messages in a mailbox of ours, and what a directory says of it.

use bitcoin::{Address, Amount, Network};
use bitcoin_ohttp as ohttp;
use ohttp::hpke::{Aead, Kdf, Kem};
use payjoin::OhttpKeys;
use payjoin_core::{
    Delivery, Exchange, Policy, Session, SessionEvent, SessionInput, SessionOutput, SessionTerms,
};

use crate::kit::{Host, NOW, invoice};

pub(crate) const DIRECTORY: &str = "https://directory.example";
const RELAY: &str = "https://relay.example";
/// What a directory fills its answers up to. BIP 77, "OHTTP".
const ANSWER: usize = 8192 - 48;

/// A session that polls, and the directory's end of OHTTP.
pub(crate) fn session() -> (Session, ohttp::Server) {
    let suite = ohttp::SymmetricSuite::new(Kdf::HkdfSha256, Aead::ChaCha20Poly1305);
    let config = ohttp::KeyConfig::derive(1, Kem::K256Sha256, vec![suite], &[1; 32]).expect("a good key");
    let gateway = ohttp::Server::new(config).expect("a good configuration");
    let keys = gateway.config().encode().expect("it can be shown");
    let terms = SessionTerms {
        address: Address::from_script(&invoice().script, Network::Regtest).expect("it has an address"),
        amount: Some(Amount::from_sat(100_000)),
        directory: DIRECTORY.into(),
        keys: OhttpKeys::decode(&keys).expect("good keys"),
        lifetime: 3600,
    };
    let mut session = Session::create(NOW, terms).expect("a good directory");
    session.handle_input(NOW, SessionInput::Done).expect("it is on record");
    (session, gateway)
}

/// Two bytes of status, then what the mailbox holds: sent through OHTTP to a session. A message that it takes survives a
/// restart and leads to an exchange that ends.
pub fn mailbox(data: &[u8]) {
    let Some((status, content)) = data.split_first_chunk::<2>() else { return };
    let Ok(status) = bhttp::StatusCode::try_from(u16::from_be_bytes(*status) % 600) else { return };
    let (mut session, gateway) = session();
    let (request, context) = session.encapsulate(RELAY).expect("it polls");
    let (_, response) = gateway.decapsulate(&request.body).expect("it was made for us");
    let mut answer = bhttp::Message::response(status);
    answer.write_content(content);
    let mut bytes = Vec::new();
    if answer.write_bhttp(bhttp::Mode::KnownLength, &mut bytes).is_err() || bytes.len() > ANSWER {
        return;
    }
    bytes.resize(ANSWER, 0);
    let answer = response.encapsulate(&bytes).expect("it can be sealed");
    let taken = session.handle_input(NOW, SessionInput::Answer(answer, context));
    let SessionOutput::Record(SessionEvent::Received { message, at }) = session.poll_output() else {
        assert!(
            taken.is_err() || matches!(session.poll_output(), SessionOutput::Poll | SessionOutput::Record(_))
        );
        return;
    };
    let text = serde_json::to_string(&SessionEvent::Received { message, at }).expect("it can be kept");
    session.handle_input(NOW, SessionInput::Done).expect("it is on record");
    let SessionOutput::Exchange(request) = session.poll_output() else {
        panic!("a message is for an exchange")
    };
    serde_json::from_str::<SessionEvent>(&text).expect("what is kept can be read");
    assert_eq!(request.delivery, Delivery::DirectoryV1, "nobody encrypted it for us");
    let reply = Host::new(&[]).run(&mut Exchange::new(NOW, invoice(), request, Policy::default()));
    session.handle_input(NOW, SessionInput::Reply(reply)).expect("a reply is taken");
}
