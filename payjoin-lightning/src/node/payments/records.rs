//! The durable table of payments that we make. LDK forgets one seven minutes after it arrived; nothing here is forgotten
//! as long as its invoice could be paid again.
//!
//! One value of the node's store for each: they are found by their hash, one at a time, and that is the whole query.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::{DisplayHex, FromHex};
use lightning::io;
use lightning::ln::channelmanager::PaymentId;
use serde::{Deserialize, Serialize};

use super::super::store::NodeStore;

/// Where the records are, by payment hash in hex.
const NAMESPACE: &str = "outgoing_payments";
/// How long a payment is remembered at least: a year.
const KEPT: Duration = Duration::from_secs(366 * 24 * 3600);

/// Where a payment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum Fate {
    /// It was, or is about to be, handed to LDK.
    UnderWay,
    /// It arrived.
    Paid {
        /// In hex.
        preimage: String,
        fee_msat: u64,
    },
    /// Nothing of it is on its way any more.
    Failed { reason: String },
}

/// One payment. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) amount_msat: u64,
    pub(super) began: u64,
    /// When its invoice can no longer be paid.
    pub(super) expires: u64,
    #[serde(flatten)]
    pub(super) fate: Fate,
}

impl Record {
    fn is_forgotten(&self, now: Duration) -> bool {
        let until = self.expires.max(self.began.saturating_add(KEPT.as_secs()));
        self.fate != Fate::UnderWay && until < now.as_secs()
    }
}

/// All records. What is changed is durable when the call returns.
pub(super) struct Records {
    store: Arc<dyn NodeStore>,
    all: HashMap<PaymentId, Record>,
}

impl Records {
    /// Reads them all, but for those that are old enough to be removed.
    pub(super) fn load(store: Arc<dyn NodeStore>, now: Duration) -> Result<Self, io::Error> {
        let mut all = HashMap::new();
        for key in store.list(NAMESPACE, "")? {
            let record: Record =
                serde_json::from_slice(&store.read(NAMESPACE, "", &key)?).map_err(unreadable)?;
            if record.is_forgotten(now) {
                store.remove(NAMESPACE, "", &key, true)?;
            } else if let Ok(hash) = FromHex::from_hex(&key) {
                all.insert(PaymentId(hash), record);
            }
        }
        Ok(Self { store, all })
    }

    pub(super) fn get(&self, id: &PaymentId) -> Option<&Record> {
        self.all.get(id)
    }

    pub(super) fn under_way(&self) -> Vec<PaymentId> {
        let waits = self.all.iter().filter(|(_, record)| record.fate == Fate::UnderWay);
        waits.map(|(id, _)| *id).collect()
    }

    pub(super) fn put(&mut self, id: PaymentId, record: Record) -> Result<(), io::Error> {
        let bytes = serde_json::to_vec(&record).map_err(unreadable)?;
        self.store.write(NAMESPACE, "", &id.0.to_lower_hex_string(), bytes)?;
        self.all.insert(id, record);
        Ok(())
    }

    /// Notes how a payment ended. One that arrived stays so; one without a record began before there were any.
    pub(super) fn end(&mut self, id: PaymentId, fate: Fate, now: Duration) -> Result<(), io::Error> {
        let old = self.all.get(&id).cloned();
        let none = Record { amount_msat: 0, began: now.as_secs(), expires: 0, fate: Fate::UnderWay };
        let record = old.unwrap_or(none);
        match record.fate {
            Fate::Paid { .. } => Ok(()),
            _ => self.put(id, Record { fate, ..record }),
        }
    }
}

fn unreadable(error: serde_json::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
