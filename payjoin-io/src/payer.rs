//! Whether somebody still waits for the reply.

use payjoin_core::Timestamp;

/// Who waits for the reply of an exchange. A peer is asked to sign a channel only while somebody does: what a payer never
/// hears of he never signs, and the peer keeps the channel for two weeks (money rule 12).
pub trait Payer: Send + Sync {
    /// `false` once it is certain that nobody reads a reply. Never blocks.
    fn waits(&self, now: Timestamp) -> bool;
}

/// One who waits until this moment.
impl Payer for Timestamp {
    fn waits(&self, now: Timestamp) -> bool {
        now < *self
    }
}
