//! What a relay says: the keys of a directory, and its answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use payjoin_core::{SessionInput, SessionOutput};
use payjoin_io::{HttpClient, HttpError, HttpRequest, HttpResponse, Ohttp, OhttpError};

use crate::kit::NOW;
use crate::mailbox::{DIRECTORY, session};

const RELAY: &str = "https://relay.example";

/// Every relay and directory answers the same.
struct Always(HttpResponse);

#[async_trait]
impl HttpClient for Always {
    async fn send(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        Ok(self.0.clone())
    }
}

/// The first two bytes are the status. An answer that nobody encapsulated is never a message.
pub fn ohttp(data: &[u8]) {
    let Some((status, body)) = data.split_first_chunk::<2>() else { return };
    let answer = HttpResponse { status: u16::from_be_bytes(*status), body: body.to_vec() };
    let status = answer.status;
    let ohttp = Ohttp::new(Arc::new(Always(answer)), vec![RELAY.to_owned()]).expect("a good address");
    crate::request::block_on(async {
        let keys = ohttp.keys(DIRECTORY).await;
        assert!(status == 200 || keys.is_err());
        let (mut session, _gateway) = session();
        let sent = ohttp.send(Duration::from_secs(1), |relay| {
            session.encapsulate(relay).map_err(|error| OhttpError::Message(error.to_string()))
        });
        if let Ok((body, context)) = sent.await {
            assert!(session.handle_input(NOW, SessionInput::Answer(body, context)).is_err());
        }
        assert!(matches!(session.poll_output(), SessionOutput::Poll), "it still waits");
        if let Ok(keys) = keys {
            // Keys that can be read can be used.
            session.handle_input(NOW, SessionInput::Keys(keys)).expect("a session takes new keys");
            session.handle_input(NOW, SessionInput::Done).expect("they are on record");
            drop(session.encapsulate(RELAY));
        }
    });
}
