//! Channels that are closing on chain and still need coins of the wallet for it.

use std::collections::HashMap;
use std::sync::Mutex;

use lightning::events::bump_transaction::BumpTransactionEvent;
use lightning::ln::types::ChannelId;

use super::lock;

/// LDK asks for a fee every minute or so while it wants one. After so many blocks of silence it needs none.
const SILENCE: u32 = 6;

/// Closed channels for which LDK asks for a fee, and the height at which it asked last. A closed channel is in no list of
/// channels any more, but this is the very time for which its reserve was kept.
#[derive(Default)]
pub(super) struct Closing(Mutex<HashMap<ChannelId, u32>>);

impl Closing {
    pub(super) fn note(&self, event: &BumpTransactionEvent, height: u32) {
        let (BumpTransactionEvent::ChannelClose { channel_id, .. }
        | BumpTransactionEvent::HTLCResolution { channel_id, .. }) = event;
        lock(&self.0).insert(*channel_id, height);
    }

    /// How many there are at this height.
    pub(super) fn count(&self, height: u32) -> usize {
        let mut asked = lock(&self.0);
        asked.retain(|_, last| last.saturating_add(SILENCE) > height);
        asked.len()
    }
}
