//! Payments over Lightning that somebody else may have to refuse.

use std::fmt::Debug;

use async_trait::async_trait;

/// Says whether a payment over Lightning may be taken: what it pays may have been paid another way.
#[async_trait]
pub trait PaidOnce: Debug + Send + Sync {
    /// Whether the payment with this hash, which is here, may be taken. What was said is durable, and the answer to the same
    /// question is always the same: it is asked again after a crash. After an error it is asked again soon.
    async fn may_take(&self, hash: [u8; 32]) -> Result<bool, String>;
}
