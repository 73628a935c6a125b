//! LDK's log lines as `tracing` events under the target `ldk`.

use std::fmt::Arguments;
use std::sync::Arc;

use lightning::util::logger::{Level, Logger, Record};

use crate::unborn::Unborn;

/// Forwards to `tracing`. What LDK calls gossip is left out, and what it calls an error is none where it is about a channel that
/// nothing depends on, or where nothing ended by it.
#[derive(Default)]
pub(super) struct Log {
    /// Channels that nothing depends on.
    pub(super) unborn: Arc<Unborn>,
}

impl Logger for Log {
    fn log(&self, record: Record) {
        let (module, text) = (record.module_path, record.args);
        match record.level {
            Level::Gossip => {}
            Level::Trace => tracing::trace!(target: "ldk", module, "{text}"),
            Level::Debug => tracing::debug!(target: "ldk", module, "{text}"),
            Level::Info => tracing::info!(target: "ldk", module, "{text}"),
            Level::Warn => tracing::warn!(target: "ldk", module, "{text}"),
            Level::Error if self.unborn.concerns(record.channel_id.as_ref(), text) || ends_nothing(text) => {
                tracing::info!(target: "ldk", module, "{text}");
            }
            Level::Error => tracing::error!(target: "ldk", module, "{text}"),
        }
    }
}

/// Whether LDK says this of a message that ends no channel: one that came early, for example, because the peer has seen a block
/// before us.
fn ends_nothing(text: Arguments<'_>) -> bool {
    text.to_string().starts_with("Got non-closing error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_comes_a_block_too_early_is_no_error_and_a_channel_that_ends_is_one() {
        for (text, expected) in [
            (
                "Got non-closing error: Got announcement_signatures prior to the required six confirmations",
                true,
            ),
            ("Closing channel: peer sent a bad signature. Got non-closing error: none", false),
            ("Failed to write the manager", false),
        ] {
            assert_eq!(ends_nothing(format_args!("{text}")), expected, "{text}");
        }
    }
}
