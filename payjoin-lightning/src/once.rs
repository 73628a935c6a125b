//! Payments over Lightning that somebody else may have to refuse.

use std::fmt::Debug;

use async_trait::async_trait;
use bitcoin::Amount;

/// Says whether a payment over Lightning may be taken: what it pays may have been paid another way. It hears, too, how
/// payments end.
#[async_trait]
pub trait PaidOnce: Debug + Send + Sync {
    /// Whether the payment with this hash, which is here, may be taken. What was said is durable, and the answer to the same
    /// question is always the same: it is asked again after a crash. After an error it is asked again soon.
    async fn may_take(&self, hash: [u8; 32]) -> Result<bool, String>;

    /// The payment with this hash was received. After an error this is told again, and it may be told twice in any case. So it
    /// is with the next two. The embedded node tells them; other nodes keep their own history.
    async fn received(&self, _hash: [u8; 32], _amount: Amount) -> Result<(), String> {
        Ok(())
    }

    /// The payment of ours with this hash arrived. Its way cost so much, in millisatoshis.
    async fn sent(&self, _hash: [u8; 32], _fee_msat: u64) -> Result<(), String> {
        Ok(())
    }

    /// The payment of ours with this hash failed.
    async fn failed(&self, _hash: [u8; 32], _reason: &str) -> Result<(), String> {
        Ok(())
    }
}
