//! LDK's log lines as `tracing` events under the target `ldk`.

use std::sync::Arc;

use lightning::util::logger::{Level, Logger, Record};

use crate::unborn::Unborn;

/// Forwards to `tracing`. What LDK calls gossip is left out, and what it calls an error is none where it is about a channel that
/// nothing depends on.
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
            Level::Error if self.unborn.concerns(record.channel_id.as_ref(), text) => {
                tracing::info!(target: "ldk", module, "{text}");
            }
            Level::Error => tracing::error!(target: "ldk", module, "{text}"),
        }
    }
}
