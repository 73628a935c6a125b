//! A refusal for a v1 payer who waits at the directory: the JSON of BIP 78, which the directory hands on as it is, like a
//! proposal. The `payjoin` crate has no call for it.

use std::io::Cursor;

use bhttp::{Message, Mode};
use bitcoin_ohttp::{ClientRequest, ClientResponse, KeyConfig};
use payjoin::OhttpKeys;

use super::crate_gaps::{Key, Sealed, Timeless};
use super::{AnswerKey, SessionError};

/// Length of every request before it is sealed, in bytes: 8,192 less 65 for a key, 16 for a tag and 7 of a header.
const PLAIN: usize = 8_104;
const DELIVERED: u16 = 200;

/// What the payer is to read.
#[derive(Clone, Debug)]
pub(super) struct Refusal(pub(super) String);

impl Refusal {
    pub(super) fn post(&self, mailbox: &Timeless, keys: &OhttpKeys, relay: &str) -> Sealed {
        // Relay, directory and headers are those of a poll.
        let (mut request, _) = mailbox.poll(relay)?;
        let endpoint = mailbox.endpoint();
        let (body, key) = seal(keys, &endpoint, &self.0).ok_or(SessionError::Message(endpoint))?;
        request.body = body;
        Ok((request, AnswerKey(Key::Ours(key))))
    }
}

fn seal(keys: &OhttpKeys, endpoint: &str, content: &str) -> Option<(Vec<u8>, ClientResponse)> {
    let (scheme, rest) = endpoint.split_once("://")?;
    let (authority, path) = rest.split_once('/')?;
    let mut message =
        Message::request("PUT".into(), scheme.into(), authority.into(), format!("/{path}").into());
    message.write_content(content);
    let mut plain = Vec::with_capacity(PLAIN);
    message.write_bhttp(Mode::KnownLength, &mut plain).ok()?;
    // RFC 9292, section 3.8: zeros may follow.
    plain.resize(PLAIN.max(plain.len()), 0);
    let config = KeyConfig::decode(&keys.encode().ok()?).ok()?;
    ClientRequest::from_config(&config).ok()?.encapsulate(&plain).ok()
}

/// Whether the directory took it.
pub(super) fn delivered(answer: &[u8], key: ClientResponse) -> Result<(), SessionError> {
    let unreadable = |error: &dyn std::fmt::Display| SessionError::Answer(error.to_string());
    let plain = key.decapsulate(answer).map_err(|error| unreadable(&error))?;
    let answer = Message::read_bhttp(&mut Cursor::new(plain)).map_err(|error| unreadable(&error))?;
    match answer.control().status().map(|status| status.code()) {
        Some(DELIVERED) => Ok(()),
        status => Err(SessionError::Answer(format!("status {status:?}"))),
    }
}
