//! LND of the operator's: its coins and keys, its channels, over its REST server.
//!
//! The name of each opening is durable before LND hears of it (LND's `pending_chan_id`, and its note of the channel), and so is
//! the transaction before LND has it: what a crash leaves is found and cleared away, and no channel of anybody else is touched.
//! A proposal leaves after LND's `chan_pending`: the peer has signed, and LND has kept it.

mod calls;
mod channels;
mod client;
mod error;
mod funder;
mod held;
mod locks;
mod names;
mod node;
mod opening;
mod parts;
mod payments;
mod rights;
mod roles;
mod sign;
mod wallet;
mod wire;

pub use calls::{bake_line, rights};
pub use client::LndAccess;
pub use error::LndError;
pub use node::{Examined, Lnd, LndConfig, examine};
