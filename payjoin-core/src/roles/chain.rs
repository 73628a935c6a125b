//! What a receiver asks of the chain.

use async_trait::async_trait;
use bitcoin::{FeeRate, OutPoint, Transaction, TxOut, Txid};

use crate::Prices;

/// A Bitcoin node.
#[async_trait]
pub trait Chain: Send + Sync {
    /// Would the mempool take this transaction, and what do its inputs really spend? One round trip.
    ///
    /// # Errors
    /// [`ChainError::Away`] when the prevouts cannot be told.
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, ChainError>;

    /// Which of these coins a transaction in the mempool spends, in order: they are offered to nobody. Asked only where a
    /// second attempt is made at an invoice. A source that cannot tell need not: what it offers then, miners may refuse.
    ///
    /// # Errors
    /// As for [`Chain::broadcast`].
    async fn spent(&self, coins: &[OutPoint]) -> Result<Vec<bool>, ChainError> {
        Ok(vec![false; coins.len()])
    }

    /// Sends a transaction to the network. One that is in the mempool or in the chain already is taken.
    ///
    /// # Errors
    /// [`ChainError::Away`] when the node said nothing about the transaction; it may have it nevertheless.
    async fn broadcast(&self, transaction: &Transaction) -> Result<Broadcast, ChainError>;

    /// Sends transactions that the mempool may take only together, parents first.
    ///
    /// # Errors
    /// As for [`Chain::broadcast`].
    async fn submit_package(&self, package: &[Transaction]) -> Result<Broadcast, ChainError>;

    /// What the mempool asks for a package that replaces these transactions. A source that cannot tell need not: payments
    /// are then not defended with a child.
    ///
    /// # Errors
    /// As for [`Chain::broadcast`].
    async fn prices(&self, rivals: &[Txid]) -> Result<Prices, ChainError> {
        Err(ChainError::Away(format!("what {} transactions in the mempool pay is not known", rivals.len())))
    }
}

/// The node said nothing about the transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It is off, starts, or gave an answer that makes no sense. Ask again later.
    #[error("the Bitcoin node did not answer: {0}")]
    Away(String),
}

/// What the chain knows about an Original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Would the mempool take it?
    pub acceptable: Acceptance,
    /// The real output each input spends, in input order; `None` when it is not in the chain or is spent. Of an output
    /// that is only in the mempool say `None`: its parent can be replaced, and then nothing ever settles the exchange.
    pub prevouts: Vec<Option<TxOut>>,
    /// The least fee rate at which the mempool takes anything now, rounded up: a payjoin below it would not be relayed.
    pub floor: FeeRate,
}

/// Whether the mempool would take a transaction. The texts are for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It would.
    Yes,
    /// It would not, and why.
    No(String),
    /// This source of the chain cannot tell, and why. [`Policy::unjudged`](crate::Policy::unjudged) says what is done.
    Unknown(String),
}

/// What the network made of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// The node has it.
    Taken,
    /// The node judged it and does not take it, and why.
    Refused(String),
}
