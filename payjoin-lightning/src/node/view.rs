//! The chain as a receiver sees it, whoever follows it.

use std::sync::Arc;

use bitcoin::FeeRate;
use lightning::chain::BestBlock;
use payjoin_core::Chain;

use super::chain_source::ChainSource;
use super::health::ChainHealth;

/// A source of the chain, and how far it was followed: by the embedded node, or by a [`Follower`](super::Follower) where the
/// Lightning node is another program.
pub trait ChainView: Chain {
    /// The chain, asked directly.
    fn source(&self) -> &Arc<dyn ChainSource>;

    /// What keeps blocks from us.
    fn health(&self) -> &Arc<ChainHealth>;

    /// The best block that was dealt with.
    fn best_block(&self) -> BestBlock;

    /// What a payment costs that is mined within six blocks. As it was a minute ago at most, while bitcoind answers.
    fn fee_rate(&self) -> FeeRate;

    /// That the source estimates no fees, and what is paid instead.
    fn fee_warning(&self) -> Option<String>;
}
