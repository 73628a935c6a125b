//! What cases are made of: a chain, daemons, payers, and the ledger that is checked after each.

pub(crate) mod cell;
mod chain;
pub(crate) mod clnrest;
mod closing;
pub(crate) mod daemon;
mod foreign;
mod foreign_payer;
mod house;
pub(crate) mod json;
pub(crate) mod ledger;
pub(crate) mod mailroom;
mod mempool;
pub(crate) mod onion;
pub(crate) mod payer;
mod places;
mod programs;
mod pruned;
mod queue;
pub(crate) mod raw;
mod receiver;
pub(crate) mod stranger;
pub(crate) mod tls;
pub(crate) mod wait;
pub(crate) mod world;

pub(crate) use cell::keep;
pub(crate) use chain::{Chain, Wallet};
pub(crate) use daemon::{Daemon, Options, Own};
pub(crate) use foreign::{Cln, Foreign, Lnd};
pub(crate) use json::Fields;
pub(crate) use mailroom::Mailroom;
pub(crate) use payer::FEE_RATE;
pub(crate) use programs::{Need, Programs};
pub(crate) use pruned::Pruned;
pub(crate) use tls::Certificate;
pub(crate) use world::{Invoice, World};
