//! What happens, counted: steps since the start, and lines of the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use payjoin_core::Step;
use tokio::sync::watch;

use crate::events::{EventStream, Heard};

/// Steps by their kind, since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    /// Counts every event until the stop.
    pub(crate) async fn listen(self: Arc<Self>, mut events: EventStream, mut stop: watch::Receiver<bool>) {
        loop {
            let heard = tokio::select! {
                heard = events.next() => heard,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match heard {
                Some(Heard::Event(event)) => self.add(kind(&event.step), 1),
                Some(Heard::Missed(missed)) => self.add("missed", missed),
                None => return,
            }
        }
    }

    fn add(&self, kind: &'static str, count: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += count;
    }

    /// Kinds, and how often each was told.
    pub(crate) fn counted(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(kind, count)| (*kind, *count)).collect()
    }
}

/// The name of a step where names have no spaces.
fn kind(step: &Step) -> &'static str {
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
    use crate::events::Events;

    #[tokio::test]
    async fn what_is_told_is_counted_by_its_kind_until_the_stop() {
        let (events, counts, stop) = (Events::new(), Arc::new(Counts::default()), watch::Sender::new(false));
        let counting = tokio::spawn(counts.clone().listen(events.subscribe(), stop.subscribe()));
        for channels in [0, 2, 1] {
            events.tell(Step::Proposal { txid: None, channels, reason: None });
        }
        events.tell(Step::Tor { percent: 1, blocked: None });
        while counts.counted().len() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(counts.counted(), [("proposal_channels", 2), ("proposal_plain", 1), ("tor", 1)]);
        stop.send_replace(true);
        counting.await.unwrap();
    }

    #[test]
    fn lines_of_the_log_are_counted_by_level() {
        let before = Logged::counted()[0].1;
        Logged::count(tracing::Level::ERROR);
        Logged::count(tracing::Level::INFO);
        assert!(Logged::counted()[0].1 > before);
    }
}
