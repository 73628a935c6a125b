//! The roles that answer an [`Exchange`](payjoin_core::Exchange): chain, wallet, Lightning funder. The fourth role,
//! the store, is [`Store`](crate::Store) itself.

use async_trait::async_trait;
use bitcoin::{OutPoint, Psbt, ScriptBuf, Transaction};
use payjoin_core::{
    CheckedProposal, Coin, ExchangeId, Inspection, PlannedChannel, Reserve, ResourceRequest, StableProposal,
};

use crate::KvWrite;

/// A role could not do its work. The text is for the operator's log; a payer never reads it (money rule 11).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

/// A Bitcoin node.
#[async_trait]
pub trait Chain: Send + Sync {
    /// `testmempoolaccept` and every real prevout, in one round trip.
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, HostError>;
    /// Sends a transaction to the network. `Ok` too when the node has it already.
    async fn broadcast(&self, transaction: &Transaction) -> Result<(), HostError>;
}

/// The wallet whose coins are offered.
#[async_trait]
pub trait Wallet: Send + Sync {
    /// Which scripts are ours, in order.
    fn owns(&self, scripts: &[ScriptBuf]) -> Vec<bool>;
    /// Confirmed, unlocked coins, best first, at most a bounded number; locks them in memory until
    /// [`Wallet::unlock`]. `prefer` names coins shown to an earlier unfinished attempt at the same invoice: they come
    /// first even though they are locked (money rule 8). Costs nothing that grows with the wallet.
    fn reserve(&self, request: &ResourceRequest, prefer: &[OutPoint]) -> Result<(Vec<Coin>, Reserve), HostError>;
    /// Gives coins back.
    fn unlock(&self, coins: &[OutPoint]);
    /// Signs and finalizes our inputs, and no others.
    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, HostError>;
}

/// A Lightning node that funds channels from somebody else's transaction.
#[async_trait]
pub trait Funder: Send + Sync {
    /// Opens all channels side by side and returns their funding scripts in order. On error every one is abandoned.
    async fn open(&self, exchange: ExchangeId, channels: &[PlannedChannel]) -> Result<Vec<ScriptBuf>, HostError>;
    /// Hands over the funding transaction and waits until the peer of every channel has signed and every monitor is
    /// durable. On error every channel of the exchange is abandoned.
    async fn fund(&self, exchange: ExchangeId, proposal: &StableProposal) -> Result<(), HostError>;
    /// Forgets every channel of the exchange.
    async fn abandon(&self, exchange: ExchangeId, reason: &str);
    /// The node's state, to be written in the same transaction as the release (money rule 1).
    fn state(&self) -> Result<Vec<KvWrite>, HostError>;
}
