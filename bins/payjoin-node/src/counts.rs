//! What happens, counted: steps since the start, and lines of the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use payjoin_core::Step;
use payjoin_io::Replies;
/// Steps by their kind and replies by their status, since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    steps: Mutex<BTreeMap<&'static str, u64>>,
    replies: OnceLock<Replies>,
}

impl Counts {
    /// Payers are answered from now on, and that is counted here.
    pub(crate) fn serving(&self, replies: Replies) {
        // There is one server, and so one call.
        let _ = self.replies.set(replies);
    }

    /// Statuses, and how often payers were answered with each.
    pub(crate) fn replies(&self) -> Vec<(u16, u64)> {
        self.replies.get().map(Replies::counted).unwrap_or_default()
    }

    pub(crate) fn add(&self, kind: &'static str, count: u64) {
        *self.steps.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += count;
    }

    /// Kinds, and how often each was told.
    pub(crate) fn counted(&self) -> Vec<(&'static str, u64)> {
        let counts = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(kind, count)| (*kind, *count)).collect()
    }
}

/// The name of a step where names have no spaces.
pub(crate) fn kind(step: &Step) -> &'static str {
    match step {
        Step::Ready { .. } => "ready",
        Step::Code { .. } => "code",
        Step::Original { .. } => "original",
        Step::OpenChannel { .. } => "open_channel",
        Step::AcceptChannel { .. } => "accept_channel",
        Step::FundingCreated { .. } => "funding_created",
        Step::FundingSigned { .. } => "funding_signed",
        Step::Proposal { channels: 0, .. } => "proposal_plain",
        Step::Proposal { .. } => "proposal_channels",
        Step::PlainPayment { .. } => "plain_payment",
        Step::PaidOverLightning { .. } => "paid_over_lightning",
        Step::Broadcast { .. } => "broadcast",
        Step::Opening { .. } => "opening",
        Step::Confirmed { .. } => "confirmed",
        Step::ChannelReady { .. } => "channel_ready",
        Step::ChannelClosed { .. } => "channel_closed",
        Step::InboundRefused { .. } => "channel_refused",
        Step::Posted { .. } => "posted",
        Step::Paid { .. } => "paid",
        Step::Onion { .. } => "onion",
        Step::Tor { .. } => "tor",
    }
}

/// Lines of this process's log by their level, told by whoever writes it.
#[derive(Debug, Default)]
pub struct Logged {
    errors: AtomicU64,
    warnings: AtomicU64,
}

static LOGGED: Logged = Logged { errors: AtomicU64::new(0), warnings: AtomicU64::new(0) };

impl Logged {
    /// Counts a line of this level.
    pub fn count(level: tracing::Level) {
        let counter = match level {
            tracing::Level::ERROR => &LOGGED.errors,
            tracing::Level::WARN => &LOGGED.warnings,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Errors and warnings so far.
    pub(crate) fn counted() -> [(&'static str, u64); 2] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("error", count(&LOGGED.errors)), ("warning", count(&LOGGED.warnings))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_counted_by_level() {
        let before = Logged::counted()[0].1;
        Logged::count(tracing::Level::ERROR);
        Logged::count(tracing::Level::INFO);
        assert!(Logged::counted()[0].1 > before);
    }
}
