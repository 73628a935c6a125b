//! Lightning channels funded by a payjoin.
//!
//! - [`ChannelSpec`] says what channel the operator wants; [`shortfall`] what the queued ones cost.
//! - [`Funding`] is the machine for N channels from one transaction, all or nothing, without I/O.
//! - [`ChannelFunder`] is the seam to a node, and [`Channels`] drives the machine over it.
//! - [`LdkFunder`] is that seam for any wallet built with LDK.
//! - `node` (feature `node`) is the embedded default: LDK, a BDK wallet, bitcoind.

mod channels;
mod funder;
mod funding;
mod ldk;
#[cfg(feature = "node")]
pub mod node;
mod peer;
mod queue;
mod spec;

pub use channels::{Channels, ChannelsError};
pub use funder::{ChannelFunder, ChannelKey, FunderError};
pub use funding::{Funding, FundingError, FundingInput, FundingOutput};
pub use ldk::{Connector, LdkFunder};
pub use peer::{PeerAddress, PeerAddressError};
pub use queue::shortfall;
pub use spec::{ChannelLimits, ChannelSpec, SpecError};
