//! What was measured, as a table and as JSON.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde_json::{Value, json};

use super::usage::Usage;
use crate::bench::report::{machine, percentile};

/// So many open sessions.
pub(super) struct Level {
    pub(super) sessions: usize,
    pub(super) idle: Usage,
    /// CPU seconds in a minute while nobody pays.
    pub(super) cpu: f64,
    pub(super) latencies: Vec<Duration>,
}

pub(super) struct Report {
    /// Without a session.
    pub(super) before: Usage,
    pub(super) levels: Vec<Level>,
}

impl Report {
    /// KiB for each session.
    fn growth(&self, level: &Level) -> f64 {
        level.idle.memory.saturating_sub(self.before.memory) as f64 / level.sessions as f64
    }

    pub(super) fn json(&self) -> Value {
        let levels = self.levels.iter().map(|level| {
            json!({
                "sessions": level.sessions,
                "memory_kib": level.idle.memory,
                "kib_per_session": self.growth(level),
                "files": level.idle.files,
                "cpu_seconds_per_minute": level.cpu,
                "payers": level.latencies.len(),
                "p50_ms": percentile(&level.latencies, 50),
                "p99_ms": percentile(&level.latencies, 99),
            })
        });
        json!({
            "machine": machine(),
            "memory_kib": self.before.memory,
            "files": self.before.files,
            "levels": levels.collect::<Vec<_>>(),
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "machine: {}", machine())?;
        let Usage { memory, files, .. } = self.before;
        writeln!(f, "without a session: {} MiB, {files} files\n", memory / 1024)?;
        writeln!(
            f,
            "{:>8} {:>7} {:>11} {:>7} {:>9} {:>7} {:>8} {:>8}",
            "sessions", "MiB", "KiB/session", "files", "CPU s/min", "payers", "p50 ms", "p99 ms"
        )?;
        for level in &self.levels {
            writeln!(
                f,
                "{:>8} {:>7} {:>11.1} {:>7} {:>9.2} {:>7} {:>8.1} {:>8.1}",
                level.sessions,
                level.idle.memory / 1024,
                self.growth(level),
                level.idle.files,
                level.cpu,
                level.latencies.len(),
                percentile(&level.latencies, 50),
                percentile(&level.latencies, 99),
            )?;
        }
        write!(f, "\n{NOTES}")
    }
}

const NOTES: &str = "\
Memory is the whole process with its invoices, addresses and database. CPU is counted while nobody pays; the directory
holds each poll for 30 s. The times are from the directory's receipt of an Original to the proposal in the payer's
hands, with a coin of ours in it, through a relay both ways. Relays, directory, bitcoind, payers and payjoind share
this machine; connections to relays are without TLS.";
