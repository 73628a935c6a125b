//! Channels that nothing depends on.

use std::collections::VecDeque;
use std::sync::Mutex;

use lightning::ln::types::ChannelId;

use crate::lock::lock;

/// So many are known, the latest.
const KNOWN: usize = 256;

/// Channels that are being opened and not safe, and such as were abandoned. Whatever becomes of one is told to who opens it,
/// and is no error of the node.
#[derive(Debug, Default)]
pub(crate) struct Unborn(Mutex<VecDeque<ChannelId>>);

impl Unborn {
    pub(crate) fn add(&self, channel: ChannelId) {
        let mut known = lock(&self.0);
        if known.contains(&channel) {
            return;
        }
        if known.len() == KNOWN {
            known.pop_front();
        }
        known.push_back(channel);
    }

    /// It is safe now.
    pub(crate) fn remove(&self, channel: &ChannelId) {
        lock(&self.0).retain(|known| known != channel);
    }

    /// Whether something that LDK says is about one of them: it names the channel, or has its id in the text.
    #[cfg(feature = "node")]
    pub(crate) fn concerns(&self, channel: Option<&ChannelId>, text: std::fmt::Arguments<'_>) -> bool {
        let known = lock(&self.0);
        if known.is_empty() || channel.is_some() {
            return channel.is_some_and(|channel| known.contains(channel));
        }
        let text = text.to_string();
        known.iter().any(|known| text.contains(&known.to_string()))
    }
}

#[cfg(all(test, feature = "node"))]
mod tests {
    use super::*;

    fn id(n: u8) -> ChannelId {
        ChannelId([n; 32])
    }

    #[test]
    fn what_is_said_of_a_channel_that_is_abandoned_is_known_by_its_id_or_by_the_text() {
        let unborn = Unborn::default();
        let about = |channel: Option<u8>, text: &str| {
            unborn.concerns(channel.map(id).as_ref(), format_args!("{text}"))
        };
        assert!(!about(Some(1), "") && !about(None, &id(1).to_string()));
        unborn.add(id(1));
        assert!(about(Some(1), "") && about(None, &format!("No such channel_id {}", id(1))));
        assert!(!about(Some(2), &id(1).to_string()) && !about(None, "something else"));
        unborn.remove(&id(1));
        assert!(!about(Some(1), ""));
        (0..=u8::MAX).for_each(|n| unborn.add(id(n)));
        unborn.add(ChannelId([0xff; 32]));
        assert_eq!(lock(&unborn.0).len(), KNOWN);
        unborn.add(ChannelId::from_bytes([1; 32].map(|n| n * 3)));
        assert_eq!(lock(&unborn.0).len(), KNOWN);
    }
}
