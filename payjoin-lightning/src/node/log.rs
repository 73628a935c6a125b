//! LDK's log lines as `tracing` events under the target `ldk`.

use lightning::util::logger::{Level, Logger, Record};

/// Forwards to `tracing`. What LDK calls gossip is left out.
pub(super) struct Log;

impl Logger for Log {
    fn log(&self, record: Record) {
        let (module, text) = (record.module_path, record.args);
        match record.level {
            Level::Gossip => {}
            Level::Trace => tracing::trace!(target: "ldk", module, "{text}"),
            Level::Debug => tracing::debug!(target: "ldk", module, "{text}"),
            Level::Info => tracing::info!(target: "ldk", module, "{text}"),
            Level::Warn => tracing::warn!(target: "ldk", module, "{text}"),
            Level::Error => tracing::error!(target: "ldk", module, "{text}"),
        }
    }
}
