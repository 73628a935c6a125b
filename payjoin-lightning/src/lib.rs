//! Lightning channels funded by a payjoin.
//!
//! - [`shortfall`] says what the queued channels cost.
//! - [`Funding`] is the machine for N channels from one transaction, all or none, without I/O. Channels that cannot open
//!   are left out before.
//! - [`ChannelFunder`] is the seam to a node, and [`Channels`] drives the machine over it.
//! - [`LdkFunder`] is that seam for any wallet built with LDK.
//! - [`LightningNode`] is what a receiver asks of a node besides.
//! - `cln` (feature `cln`) is the operator's own Core Lightning.
//! - `node` (feature `node`) is the embedded default: LDK, a BDK wallet, bitcoind.
//! - `lnd` (feature `lnd`) is the operator's own LND.

#[cfg(any(feature = "node", feature = "cln", feature = "lnd"))]
mod addresses;
mod channels;
#[cfg(feature = "cln")]
pub mod cln;
#[cfg(any(feature = "node", feature = "cln", feature = "lnd"))]
mod coins;
mod funder;
mod funding;
#[cfg(feature = "ldk")]
mod ldk;
mod lightning_node;
#[cfg(feature = "lnd")]
pub mod lnd;
mod lock;
#[cfg(feature = "node")]
pub mod node;
mod once;
mod own_node;
#[cfg(any(feature = "cln", feature = "lnd"))]
mod pin;
mod probe;
mod queue;
mod refusal;
#[cfg(any(feature = "node", feature = "lnd"))]
mod revive;
#[cfg(any(feature = "ldk", feature = "cln", feature = "lnd"))]
mod steps;
#[cfg(feature = "ldk")]
mod unborn;
#[cfg(any(feature = "cln", feature = "lnd"))]
mod witness;

pub use channels::{Channels, ChannelsError};
pub use funder::{ChannelFunder, ChannelKey, FunderError};
pub use funding::{Funding, FundingError, FundingInput, FundingOutput, FundingTerms};
#[cfg(feature = "ldk")]
pub use ldk::{Connector, LdkFunder};
pub use lightning_node::{
    Balance, ChannelInfo, ChildFee, ClosingChannel, CoinInfo, Invoice, LightningError, LightningNode,
    PaymentOutcome, PeerInfo, Reached, Wanted,
};
pub use once::PaidOnce;
pub use own_node::OwnNodeConfig;
pub use queue::shortfall;
