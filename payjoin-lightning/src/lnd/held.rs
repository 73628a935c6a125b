//! Invoices whose payment LND holds until it is told to take it, or to give it back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::Amount;
use bitcoin::base64::Engine as _;
use bitcoin::base64::prelude::BASE64_URL_SAFE;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use bitcoin::key::rand::{RngCore as _, thread_rng};
use futures_util::future::pending;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use payjoin_core::{LedgerError, NodeState, StateWrite};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::calls::{CANCEL_INVOICE, HEAR_INVOICE, HOLD_INVOICE, SETTLE_INVOICE};
use super::client::Client;
use super::error::LndError;
use super::names::blocking;
use super::wire::{Done, HeldInvoice, HoldInvoice, base64};
use crate::lock::lock;
use crate::{Invoice, LightningError, PaidOnce};

const NAMESPACE: &str = "lnd_held";
/// Between two attempts to hear of an invoice, or to decide about its payment.
const AGAIN: Duration = Duration::from_secs(2);

/// A payment hash, and what it is the hash of.
type Hash = [u8; 32];

/// Those that are not over. Each is on record from before LND has it.
pub(super) struct HeldInvoices {
    client: Arc<Client>,
    state: Arc<dyn NodeState>,
    once: Option<Arc<dyn PaidOnce>>,
    known: Mutex<HashMap<Hash, Hash>>,
    /// There is a new one.
    news: Notify,
}

impl HeldInvoices {
    /// Those that an earlier process left. `once` decides about their payments; without it all are taken.
    pub(super) fn new(
        client: Arc<Client>,
        state: Arc<dyn NodeState>,
        once: Option<Arc<dyn PaidOnce>>,
        known: HashMap<Hash, Hash>,
    ) -> Self {
        Self { client, state, once, known: Mutex::new(known), news: Notify::new() }
    }

    /// Reads those of an earlier process.
    pub(super) fn read(state: &dyn NodeState) -> Result<HashMap<Hash, Hash>, LedgerError> {
        let damaged = |name: &str| LedgerError::Damaged(format!("the invoice {name}"));
        let read = |name: String| {
            let hash = Hash::from_hex(&name).map_err(|_| damaged(&name))?;
            let preimage = state.kv_read(NAMESPACE, "", &name)?.and_then(|value| value.try_into().ok());
            Ok((hash, preimage.ok_or_else(|| damaged(&name))?))
        };
        state.kv_list(NAMESPACE, "")?.into_iter().map(read).collect()
    }

    /// A BOLT 11 invoice whose payment waits for [`PaidOnce::may_take`].
    pub(super) async fn invoice(
        &self,
        amount: Amount,
        description: &str,
        expiry: Duration,
    ) -> Result<Invoice, LightningError> {
        let mut preimage = Hash::default();
        thread_rng().fill_bytes(&mut preimage);
        let hash = sha256::Hash::hash(&preimage).to_byte_array();
        let (state, write) = (Arc::clone(&self.state), record(hash, preimage));
        let kept = blocking(move || state.kv_write(write)).await;
        kept.map_err(|error| LightningError::Refused(error.to_string()))?;
        let request = json!({
            "hash": base64(&hash),
            "memo": description,
            "value": amount.to_sat().to_string(),
            "expiry": expiry.as_secs().to_string(),
        });
        let told = self.client.post::<HoldInvoice>(&HOLD_INVOICE, &request).await;
        if told.is_err() {
            self.forget(hash).await;
        }
        let bolt11 = told?.payment_request;
        lock(&self.known).insert(hash, preimage);
        self.news.notify_one();
        Ok(Invoice { bolt11, payment_hash: hash.to_lower_hex_string() })
    }

    /// Follows each to its end, and decides about payments.
    pub(super) async fn follow_all(&self) {
        let (mut following, mut running) = (HashSet::new(), FuturesUnordered::new());
        loop {
            let known: Vec<Hash> = lock(&self.known).keys().copied().collect();
            running.extend(
                known.into_iter().filter(|hash| following.insert(*hash)).map(|hash| self.follow(hash)),
            );
            let ended = async {
                match running.next().await {
                    Some(hash) => hash,
                    None => pending().await,
                }
            };
            tokio::select! {
                hash = ended => {
                    following.remove(&hash);
                }
                () = self.news.notified() => {}
            }
        }
    }

    async fn follow(&self, hash: Hash) -> Hash {
        while let Err(error) = self.to_its_end(hash).await {
            tracing::debug!(%error, "an invoice is not heard of");
            sleep(AGAIN).await;
        }
        self.forget(hash).await;
        hash
    }

    /// Returns when the invoice is paid, cancelled, or unknown to LND.
    async fn to_its_end(&self, hash: Hash) -> Result<(), LndError> {
        let unknown = |error: &LndError| {
            error.says("unable to locate invoice") || error.says("there are no existing invoices")
        };
        let rest = format!("/{}", BASE64_URL_SAFE.encode(hash));
        let mut told = match self.client.stream(&HEAR_INVOICE, &rest, None).await {
            Err(error) if unknown(&error) => return Ok(()),
            told => told?,
        };
        loop {
            match told.next::<HeldInvoice>().await {
                Ok(Some(invoice)) => match invoice.state.as_str() {
                    "ACCEPTED" => self.decide(hash).await?,
                    "SETTLED" | "CANCELED" => return Ok(()),
                    _ => {}
                },
                Ok(None) => return Err(LndError::Refused("LND tells no more of it".to_owned())),
                Err(error) if unknown(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The payment is here. What is said of it is durable before LND hears it.
    async fn decide(&self, hash: Hash) -> Result<(), LndError> {
        let may_take = match &self.once {
            Some(once) => once.may_take(hash).await.map_err(LndError::Refused)?,
            None => true,
        };
        let preimage = lock(&self.known).get(&hash).copied();
        let (call, answer) = match preimage.filter(|_| may_take) {
            Some(preimage) => (SETTLE_INVOICE, json!({ "preimage": base64(&preimage) })),
            None => (CANCEL_INVOICE, json!({ "payment_hash": base64(&hash) })),
        };
        self.client.post::<Done>(&call, &answer).await.map(drop)
    }

    async fn forget(&self, hash: Hash) {
        let state = Arc::clone(&self.state);
        let removed = blocking(move || state.kv_remove(NAMESPACE, "", &hash.to_lower_hex_string())).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "an invoice that is over stays on record for now");
        }
        lock(&self.known).remove(&hash);
    }
}

fn record(hash: Hash, preimage: Hash) -> StateWrite {
    let (primary, secondary, key) = (NAMESPACE.to_owned(), String::new(), hash.to_lower_hex_string());
    StateWrite { primary, secondary, key, value: preimage.to_vec(), generation: 0 }
}
