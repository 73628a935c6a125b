//! Fits the node to the roles that payjoin-io asks, and the store to what the node keeps.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{OutPoint, Psbt, ScriptBuf, Transaction};
use lightning::util::persist::KVStoreSync;
use payjoin_core::{
    CheckedProposal, Coin, ExchangeId, FundedChannel, Inspection, PlannedChannel, Reserve, ResourceRequest, StableProposal,
};
use payjoin_io::{Chain, Funder, HostError, KvWrite, Store, Wallet};
use payjoin_lightning::node::{ManagerState, Node, NodeStore};

/// The node in all its roles.
pub(crate) struct NodeRoles {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Store,
}
