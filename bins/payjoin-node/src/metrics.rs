//! Numbers for Prometheus: <https://prometheus.io/docs/instrumenting/exposition_formats/>. None of them takes longer the more
//! lies in the past.

use std::fmt::{Display, Write as _};

use bitcoin::Amount;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::counts::{Logged, kind};
use crate::daemon::Daemon;
use crate::events::{Events, Heard};
use crate::requests::BITCOIND_PATIENCE;

/// Metrics as text.
#[derive(Default)]
struct Page(String);

impl Page {
    /// One number.
    fn one(&mut self, name: &str, kind: &str, about: &str, value: impl Display) {
        self.head(name, kind, about);
        self.line(name, "", value);
    }

    /// A number for each value of a label.
    fn each<T: Display>(
        &mut self,
        (name, kind, about): (&str, &str, &str),
        label: &str,
        values: impl IntoIterator<Item = (T, u64)>,
    ) {
        self.head(name, kind, about);
        for (value, number) in values {
            // Our own words: nothing in them is to be escaped.
            self.line(name, &format!("{{{label}=\"{value}\"}}"), number);
        }
    }

    fn head(&mut self, name: &str, kind: &str, about: &str) {
        // A string takes everything.
        let _ = writeln!(self.0, "# HELP payjoind_{name} {about}\n# TYPE payjoind_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "payjoind_{name}{labels} {value}");
    }
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// Of a node that is none yet.
pub(crate) fn not_ready() -> String {
    let mut page = Page::default();
    page.ready(false);
    page.logged();
    page.0
}

impl Page {
    fn ready(&mut self, ready: bool) {
        self.one("ready", GAUGE, "Whether a code would be given now.", u8::from(ready));
    }

    fn logged(&mut self) {
        let about = ("log_lines_total", COUNTER, "Lines of the log since the start, by level.");
        self.each(about, "level", Logged::counted());
    }
}

/// Counts every step until the stop.
pub(crate) async fn count_steps(events: Events, mut stop: watch::Receiver<bool>) {
    let (mut heard, counts) = (events.subscribe(), events.counts().clone());
    drop(events);
    loop {
        let next = tokio::select! {
            next = heard.next() => next,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match next {
            Some(Heard::Event(event)) => counts.add(kind(&event.step), 1),
            Some(Heard::Missed(missed)) => counts.add("missed", missed),
            None => return,
        }
    }
}

impl Daemon {
    pub(crate) async fn metrics(&self, ready: bool) -> String {
        let mut page = Page::default();
        page.ready(ready);
        self.chain_metrics(&mut page).await;
        self.wallet_metrics(&mut page);
        self.channel_metrics(&mut page).await;
        self.owed_metrics(&mut page).await;
        let steps = (
            "steps_total",
            COUNTER,
            "Steps since the start, by kind: what became of exchanges and payments.",
        );
        page.each(steps, "step", self.events.counts().counted());
        let replies = (
            "replies_total",
            COUNTER,
            "Replies to payers since the start, by HTTP status: 408, 413, 429 and 503 are limits.",
        );
        page.each(replies, "status", self.events.counts().replies());
        page.logged();
        page.0
    }

    async fn chain_metrics(&self, page: &mut Page) {
        let height = self.chain.best_block().height;
        page.one("chain_height", GAUGE, "The last block that was dealt with.", height);
        // Without an answer of bitcoind there is no such number.
        let asked = timeout(BITCOIND_PATIENCE, self.chain.source().status()).await;
        if let Some(status) = asked.ok().and_then(Result::ok) {
            let lag = status.tip.height.saturating_sub(height);
            page.one("bitcoind_height", GAUGE, "The best block of bitcoind.", status.tip.height);
            page.one("chain_lag_blocks", GAUGE, "Blocks of bitcoind that were not dealt with yet.", lag);
        }
        let rate = self.chain.fee_rate().to_sat_per_kwu() as f64 / 250.0;
        page.one("fee_rate_sat_per_vb", GAUGE, "What a payment costs that is mined within six blocks.", rate);
    }

    fn wallet_metrics(&self, page: &mut Page) {
        let balance = self.node.balance();
        let sat = |amount: Amount| amount.to_sat();
        let kinds = [
            ("confirmed", sat(balance.confirmed)),
            ("unconfirmed", sat(balance.unconfirmed)),
            ("immature", sat(balance.immature)),
            ("locked", sat(balance.locked)),
            ("reserve", sat(balance.reserve)),
            ("closing", sat(balance.closing)),
            ("spendable", sat(balance.spendable)),
        ];
        page.each(
            ("wallet_sat", GAUGE, "What the wallet holds; `payjoind wallet balance` says what each is."),
            "kind",
            kinds,
        );
    }

    /// Where the Lightning node does not answer, these are not there.
    async fn channel_metrics(&self, page: &mut Page) {
        if let Ok(channels) = self.node.channels().await {
            let count = |of: &dyn Fn(bool, bool) -> bool| {
                channels.iter().filter(|channel| of(channel.ready, channel.usable)).count() as u64
            };
            let states = [
                ("usable", count(&|_, usable| usable)),
                ("away", count(&|ready, usable| ready && !usable)),
                ("opening", count(&|ready, usable| !ready && !usable)),
            ];
            page.each(
                ("channels", GAUGE, "Channels, by state: away is ready with a peer who is not connected."),
                "state",
                states,
            );
            let liquidity = [
                ("outbound", channels.iter().map(|channel| channel.outbound_msat / 1_000).sum()),
                ("inbound", channels.iter().map(|channel| channel.inbound_msat / 1_000).sum()),
            ];
            page.each(
                ("liquidity_sat", GAUGE, "What channels can send and receive."),
                "direction",
                liquidity,
            );
        }
        if let Ok(closing) = self.node.closing_channels().await {
            page.one(
                "channels_closing",
                GAUGE,
                "Closed channels of which something is not in the wallet yet.",
                closing.len(),
            );
        }
        if let Ok(peers) = self.node.peers().await {
            page.one("peers", GAUGE, "Connected peers.", peers.len());
        }
    }

    /// What is not over yet. A ledger that cannot be read has none of these numbers, and says why in the log.
    async fn owed_metrics(&self, page: &mut Page) {
        if let Ok(queue) = self.store.waiting().await {
            page.one("queued_channels", GAUGE, "Channels that wait for a payment.", queue.len());
        }
        if let Ok(owed) = self.store.obligations().await {
            page.one("exchanges_unsettled", GAUGE, "Payments to us that are not buried yet.", owed.len());
        }
        if let Ok(payments) = self.store.unsettled_payments().await {
            page.one(
                "payments_unsettled",
                GAUGE,
                "Payments of ours that are not buried yet.",
                payments.len(),
            );
        }
        if let Some(poller) = &self.poller
            && let Ok(sessions) = poller.open_sessions().await
        {
            page.one("sessions_open", GAUGE, "Codes that wait at directories.", sessions.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use payjoin_core::Step;

    use super::*;

    #[tokio::test]
    async fn what_is_told_is_counted_by_its_kind_until_the_stop() {
        let (events, stop) = (Events::new(), watch::Sender::new(false));
        let counting = tokio::spawn(count_steps(events.clone(), stop.subscribe()));
        while events.is_unheard() {
            tokio::task::yield_now().await;
        }
        for channels in [0, 2, 1] {
            events.tell(Step::Proposal { txid: None, channels, reason: None });
        }
        events.tell(Step::Tor { percent: 1, blocked: None });
        while events.counts().counted().len() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(events.counts().counted(), [("proposal_channels", 2), ("proposal_plain", 1), ("tor", 1)]);
        stop.send_replace(true);
        counting.await.unwrap();
    }

    #[test]
    fn a_number_has_its_name_its_kind_and_a_label() {
        let mut page = Page::default();
        page.one("peers", GAUGE, "Connected peers.", 2);
        page.each(("replies_total", COUNTER, "Replies."), "status", [(200, 7), (429, 1)]);
        assert_eq!(
            page.0,
            "# HELP payjoind_peers Connected peers.\n# TYPE payjoind_peers gauge\npayjoind_peers 2\n\
             # HELP payjoind_replies_total Replies.\n# TYPE payjoind_replies_total counter\n\
             payjoind_replies_total{status=\"200\"} 7\npayjoind_replies_total{status=\"429\"} 1\n"
        );
        assert!(not_ready().contains("\npayjoind_ready 0\n"));
    }
}
