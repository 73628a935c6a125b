//! The embedded default node: LDK for channels, BDK for coins, bitcoind for the chain.
//!
//! [`Node::start`] reads everything back from a [`NodeStore`], catches up with bitcoind and runs until [`Node::stop`].
//! It is chain and wallet of an exchange; [`Channels`](crate::Channels) over [`Node::funder`] are its funder.

mod bitcoind;
mod broadcast;
mod census;
mod chain;
mod chain_source;
mod closed;
mod closing;
mod config;
mod dial;
mod error;
mod events;
mod fallen;
mod fees;
mod follower;
mod fork;
mod funder;
mod gate;
mod health;
mod hearsay;
mod inbound;
mod lightning;
mod limits;
mod log;
mod manager_store;
mod parts;
mod payments;
mod peers;
mod raise;
mod redial;
mod roles;
mod running;
mod seed;
mod start;
mod stop;
mod store;
mod stuck;
mod types;
mod view;
mod wallet;

pub use bitcoind::{Bitcoind, Rpc, RpcAuth, RpcError};
pub use chain::BlockListener;
pub use chain_source::{ChainSource, ChainStatus, FeeRates, Readiness};
pub use config::{NodeConfig, ReserveConfig};
pub use dial::{Dialer, PeerSocket};
pub use error::NodeError;
pub use follower::{Follower, Following};
pub use health::ChainHealth;
pub use payments::{InvoiceError, PayError};
pub use raise::{RaiseError, raise};
pub use running::{CloseError, Node};
pub use seed::{Seed, SeedError};
pub use store::{ManagerState, NodeStore};
pub use view::ChainView;
pub use wallet::{NodeWallet, SignError, SpendError, WalletError};
