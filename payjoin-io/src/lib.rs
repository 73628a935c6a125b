//! Around the machines of `payjoin-core`: the roles that answer their questions, the durable store, byte-stream
//! listeners and the HTTP server of BIP 78.
//!
//! A [`Host`] joins four roles: [`Chain`], [`Wallet`], [`Funder`] and the [`Store`]. [`drive`] takes one exchange
//! through it. [`Server`] accepts payers on any [`Listener`] and drives one exchange for each. [`Settler`] sees to what
//! admitted exchanges owe until an outcome is buried.

mod drive;
mod host;
mod http;
mod listener;
#[cfg(test)]
mod mailroom;
mod ohttp;
mod server;
mod settler;
mod store;

pub use drive::drive;
pub use host::{Chain, Funder, Host, HostError, NoChannels, Wallet};
pub use http::{DirectClient, DirectSettings, HttpClient, HttpError, HttpRequest, HttpResponse};
pub use listener::{Connection, Listener, Memory, MemoryConnector, Peer, Stream, Tcp, Tls};
pub use ohttp::{Ohttp, OhttpError};
pub use server::{Limits, Rate, Server};
pub use settler::Settler;
pub use store::{
    AdmitOutcome, ExchangeRecord, ExchangeState, IntentRecord, KvWrite, NewIntent, Store, StoreError,
};
