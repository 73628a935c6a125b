//! The onion-service transport of the payjoin receiver.
//!
//! This crate has the place and not yet the code: an onion listener, in process through arti, will implement
//! [`Listener`], and everything behind that trait (the server, its limits, the exchange) will serve it unchanged. Its
//! connections will be [`authenticated`](payjoin_io::Connection::authenticated), because an onion address is the key
//! that the payer's circuit ends at, and come from a [`Peer::Circuit`].

pub use payjoin_io::{Connection, Listener, Peer, Stream};
