//! Around the machines of `payjoin-core`: the roles that answer their questions, the durable store, byte-stream
//! listeners and the HTTP server of BIP 78.
//!
//! A [`Host`] joins four roles: [`Chain`], [`Wallet`], [`Funder`] and the [`Store`]. [`drive()`] takes one exchange
//! through it. [`Server`] accepts payers on any [`Listener`] and drives one exchange for each; [`Poller`] does so for
//! payers at BIP 77 directories, which it reaches by [`Ohttp`]. [`Sender`] is the other side. [`Settler`] takes care of
//! what admitted exchanges owe until an outcome is buried.

/// The test support is shared with the tests in `tests/`.
#[cfg(test)]
extern crate self as payjoin_io;

mod backoff;
mod drive;
mod host;
mod http;
mod listener;
mod ohttp;
mod poller;
mod sender;
mod server;
mod session_store;
mod settler;
mod store;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
#[cfg(test)]
mod testing;
mod watched;

pub use drive::drive;
pub use host::{Chain, Funder, Host, HostError, NoChannels, Owed, Wallet};
pub use http::{DirectClient, DirectSettings, HttpClient, HttpError, HttpRequest, HttpResponse};
pub use listener::{Connection, Listener, Memory, MemoryConnector, Peer, Stream, Tcp, Tls, Unix};
pub use ohttp::{Ohttp, OhttpError};
pub use poller::{PollError, PollSettings, Poller, SessionInfo};
pub use sender::{Fallback, Payment, SendError, SendSettings, Sender, Sent};
pub use server::{Limits, Rate, Server};
pub use session_store::{SessionKey, SessionKind, SessionStore};
pub use settler::Settler;
pub use store::{
    AdmitOutcome, ExchangeRecord, ExchangeState, IntentRecord, KvWrite, NewIntent, Paid, PaymentRecord,
    Rescued, Store, StoreError, rescue,
};
pub use watched::Watched;
