//! Why a node does not start.

use std::net::SocketAddr;

use bitcoin::Network;
use lightning::{io, ln::msgs::DecodeError};
use payjoin_core::ChainError;

use super::seed::SeedError;
use super::wallet::WalletError;

/// Why the node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The chain source does not answer.
    #[error(transparent)]
    Source(#[from] ChainError),
    /// bitcoind is on another network.
    #[error("bitcoind is on {found}, not on {expected}")]
    Network {
        /// The configured network.
        expected: Network,
        /// What bitcoind says, in its own words.
        found: String,
    },
    /// The seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The on-chain wallet.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The store.
    #[error("the node's store: {0}")]
    Store(#[from] io::Error),
    /// A stored part cannot be read.
    #[error("{what} cannot be read back: {error}")]
    Damaged {
        /// Which part.
        what: &'static str,
        /// Why.
        error: DecodeError,
    },
    /// Something that must be stored is not, while other things are.
    #[error("the store is incomplete: {0}")]
    Incomplete(&'static str),
    /// The chain could not be followed from where the node left it.
    #[error("cannot catch up with bitcoind: {0}")]
    Chain(Box<dyn std::error::Error + Send + Sync>),
    /// bitcoind has fewer blocks than the node has seen: it is catching up, or it was restored from an old copy.
    #[error(
        "bitcoind has block {bitcoind} and this node has seen block {node}: wait until bitcoind has caught up"
    )]
    Behind {
        /// bitcoind's best height.
        bitcoind: u32,
        /// The node's.
        node: u32,
    },
    /// The chain of this bitcoind is not the one the node knows.
    #[error(
        "bitcoind knows none of the blocks before {height} that this node has seen: is it another chain?"
    )]
    Stranger {
        /// Where the node stands.
        height: u32,
    },
    /// Peers cannot connect.
    #[error("cannot listen for peers on {address}: {error}")]
    Listen {
        /// Where peers should connect to.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
}

impl NodeError {
    pub(super) fn damaged(what: &'static str, error: DecodeError) -> Self {
        Self::Damaged { what, error }
    }
}
