//! Payjoin over Tor, in process: no Tor daemon, no open port, no domain, no certificate.
//!
//! [`TorClient`] holds the one arti client of a process. [`TorClient::listen`] starts an onion service and gives an
//! [`OnionListener`], a [`Listener`](payjoin_io::Listener) like every other. [`TorClient::connect`] opens streams to
//! hosts and onion services, and [`TorHttp`] sends HTTP requests over them.
//!
//! An onion address is a promise to payers. It is never replaced in silence: when the key of an address that was used
//! before is missing or exposed, [`TorClient::listen`] refuses.

mod address;
mod apart;
mod circuit;
mod client;
mod config;
mod error;
mod http;
mod onion;
mod reachability;

pub use client::{Bootstrap, TorClient};
pub use config::{Flood, OnionConfig, TorConfig};
pub use error::{ConnectError, ListenError, StartError};
pub use http::TorHttp;
pub use onion::OnionListener;
pub use reachability::Reachability;
