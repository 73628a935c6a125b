//! Posts the events of the journal to a URL of the operator's: each at least once, in their order, signed.
//!
//! How far it has come is kept in the store. Nothing waits for it: an event that is not kept any more when its turn comes is
//! passed over.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};
use bitcoin::hex::DisplayHex as _;
use payjoin_core::{Entry, EntryId, LedgerError, Timestamp};
use payjoin_io::{HttpClient, HttpRequest};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::now;
use crate::keep::Store;

/// Its name among the readers of the journal.
const READER: &str = "webhook";
/// Events that are read at once. So many at most are posted again after a crash.
const AT_ONCE: u32 = 20;
/// The receiver has so long for an answer, of which so much is read.
const PATIENCE: Duration = Duration::from_secs(30);
const ANSWER: usize = 1024 * 1024;
/// Between tries: the first pause, which doubles up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// Posts events.
pub(crate) struct Webhook {
    url: String,
    secret: String,
    client: Arc<dyn HttpClient>,
    store: Store,
}

/// Why an event is not delivered yet.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error("{0}")]
    Http(#[from] payjoin_io::HttpError),
    #[error("it answers {0}: only 200 to 299 takes an event")]
    Status(u16),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

impl Webhook {
    pub(crate) fn new(url: String, secret: String, client: Arc<dyn HttpClient>, store: Store) -> Self {
        Self { url, secret, client, store }
    }

    /// Posts what happens, until the daemon stops.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.deliver() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn deliver(&self) {
        let mut pause = FIRST;
        loop {
            match self.next().await {
                Ok(()) if pause > FIRST => {
                    tracing::info!("the webhook takes events again");
                    pause = FIRST;
                }
                Ok(()) => {}
                Err(error) => {
                    if pause == FIRST {
                        tracing::warn!(%error, "the webhook takes no event; it is tried again and again");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
    }

    /// Posts the events that wait, or else waits for one. The first time only what happens from now on counts.
    async fn next(&self) -> Result<(), Undelivered> {
        let since = match self.store.read_until(READER).await? {
            Some(since) => since,
            None => {
                let last = self.store.last_entry().await?;
                self.store.keep_read(READER, last).await?;
                last
            }
        };
        self.store.grown(since).await;
        let (mut done, mut failed) = (since, None);
        for event in self.store.entries(since, AT_ONCE).await? {
            if let Err(error) = self.post(&event).await {
                failed = Some(error);
                break;
            }
            done = event.id;
        }
        if done > since {
            self.store.keep_read(READER, done).await?;
        } else if failed.is_none() {
            // All that was there is not kept any more.
            self.store.keep_read(READER, self.store.last_entry().await?).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    async fn post(&self, event: &Entry) -> Result<(), Undelivered> {
        // Plain data: it is always written.
        let body = serde_json::to_string(event).unwrap_or_default();
        let time = now();
        let signature = sign(&self.secret, event.id, time, &body);
        let headers = vec![
            ("Payjoind-Event", event.id.0.to_string()),
            ("Payjoind-Time", time.0.to_string()),
            ("Payjoind-Signature", signature),
        ];
        let body = Some(("application/json", body.into_bytes()));
        let (url, timeout, limit) = (self.url.clone(), PATIENCE, ANSWER);
        let request =
            HttpRequest { url, accept: None, headers, body, timeout, limit, tunnel: None, fresh: false };
        match self.client.send_again(request).await?.status {
            200..=299 => Ok(()),
            status => Err(Undelivered::Status(status)),
        }
    }
}

/// HMAC-SHA256 in hex over `ID.TIME.BODY`, with the secret's bytes as key.
fn sign(secret: &str, id: EntryId, time: Timestamp, body: &str) -> String {
    let mut engine = HmacEngine::<sha256::Hash>::new(secret.as_bytes());
    engine.input(format!("{}.{}.{body}", id.0, time.0).as_bytes());
    Hmac::from_engine(engine).to_byte_array().to_lower_hex_string()
}

#[cfg(test)]
mod tests;
