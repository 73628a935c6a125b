//! A payjoin receiver with a Lightning node inside, as a library.
//!
//! [`Settings`] say what it should be, [`Node::builder`] starts it, [`Node::request`] asks it, [`Node::events`] tells
//! what it does, [`Node::stop`] ends it. Each role of `payjoin-core` can be replaced: see [`Builder`].

mod api;
mod asked;
mod assemble;
mod away;
mod backend;
mod builder;
mod certificate;
mod clock;
pub mod control;
mod counts;
mod daemon;
pub mod doctor;
mod due;
mod error;
mod events;
mod fresh;
pub mod init;
mod journal;
mod keep;
mod leftover;
mod mempool;
mod metrics;
mod node;
mod output;
mod outside;
mod pay;
#[cfg(feature = "cln")]
pub mod plugin;
pub mod requests;
mod rescue;
mod rights;
pub mod settings;
mod start;
mod start_error;
mod starting;
mod tor;
mod values;
mod watch;
mod ways;
mod webhook;

pub use asked::Asked;
pub use builder::{Builder, Recover};
pub use counts::Logged;
pub use error::{ErrorKind, RequestError};
pub use events::{EventStream, Heard};
pub use node::Node;
pub use output::Output;
pub use payjoin_core::{
    ChannelAmount, Entry, EntryId, EntryKind, Event, ExchangeId, Fact, IntentId, InvoiceId, Label,
    MovementId, PeerAddress, Step, Timestamp,
};
pub use requests::{Request, Response};
pub use rescue::{Owed, RescueError, Rescued, rescue};
pub use rights::{Access, Right};
pub use settings::Settings;
pub use start_error::StartError;
pub use starting::Starting;
pub use tor::{TorError, TorState};
pub use values::{AmountOrRest, Lifetime, SatPerVb};
