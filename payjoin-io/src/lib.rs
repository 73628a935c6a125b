//! Around the machines of `payjoin-core`: the loop that takes their questions to the roles that answer, the durable
//! store, byte-stream listeners and the HTTP server of BIP 78.
//!
//! A [`Host`] joins four roles: [`Chain`](payjoin_core::Chain), [`Wallet`](payjoin_core::Wallet),
//! [`Funder`](payjoin_core::Funder) and the [`Store`]. [`drive()`] takes one exchange
//! through it. [`Server`] accepts payers on any [`Listener`] and drives one exchange for each; [`Poller`] does so for
//! payers at BIP 77 directories, which it reaches by [`Ohttp`]. [`Desk`] serves the operator's own programs, and no payer. [`Sender`] is the other side. [`Settler`] takes care of
//! what admitted exchanges owe until an outcome is buried.
//!
//! Features choose adapters: `v1` ([`Server`], listeners), `v2` ([`Poller`]), `sender` ([`Sender`]), `sqlite` ([`Store`]).

/// The test support is shared with the tests in `tests/`.
#[cfg(test)]
extern crate self as payjoin_io;

#[cfg(any(feature = "v2", feature = "sender"))]
mod backoff;
#[cfg(feature = "v1")]
mod desk;
mod drive;
mod host;
#[cfg(any(feature = "v2", feature = "sender"))]
mod http;
#[cfg(any(test, feature = "testing"))]
pub mod ledger_contract;
mod leftovers;
#[cfg(feature = "v1")]
mod listener;
#[cfg(any(test, feature = "testing"))]
mod memory;
#[cfg(any(feature = "v2", feature = "sender"))]
mod ohttp;
mod payer;
#[cfg(feature = "v1")]
mod peer;
#[cfg(feature = "v2")]
mod poller;
mod probe;
#[cfg(feature = "v1")]
mod room;
#[cfg(feature = "sender")]
mod sender;
#[cfg(feature = "v1")]
mod server;
mod settler;
#[cfg(feature = "sqlite")]
mod store;
#[cfg(all(test, any(feature = "v2", feature = "sender")))]
#[path = "../tests/support/mod.rs"]
mod support;
#[cfg(test)]
mod testing;
mod watched;

#[cfg(feature = "v1")]
pub use desk::{Clerk, Desk, Head, Look, Told};
pub use drive::{OpenedChannel, OpeningError, OwnOpening, drive, drive_for, open_own};
pub use host::{Claim, Host, HostError, Owed};
#[cfg(any(feature = "v2", feature = "sender"))]
pub use http::{DirectClient, DirectSettings, HttpClient, HttpError, HttpRequest, HttpResponse};
#[cfg(feature = "v1")]
pub use listener::{Connection, Listener, Memory, MemoryConnector, Stream, Tcp, Tls, Unix};
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryLedger;
#[cfg(any(feature = "v2", feature = "sender"))]
pub use ohttp::{Ohttp, OhttpError};
pub use payer::Payer;
#[cfg(feature = "v1")]
pub use peer::Peer;
#[cfg(feature = "v2")]
pub use poller::{PollError, PollSettings, Poller, SessionInfo};
#[cfg(feature = "sender")]
pub use sender::{Fallback, Payment, SendError, SendSettings, Sender, Sent};
#[cfg(feature = "v1")]
pub use server::{Buckets, Limits, Rate, Replies, Server};
pub use settler::Settler;
#[cfg(feature = "sqlite")]
pub use store::{Rescued, Store, StoreError, rescue, schema_version};
pub use watched::Watched;
