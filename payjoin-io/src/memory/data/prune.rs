//! What is over for good.

use bitcoin::Txid;
use payjoin_core::{ExchangeState, IntentId, IntentState, Settled, Timestamp};

use super::Data;

impl Data {
    pub(in crate::memory) fn is_lost(&self, payjoin: Txid, until: u32) -> bool {
        let lost = |settled| matches!(settled, Some(Settled::Original | Settled::Conflict));
        let mut exchanges = self.exchanges.values().filter(|exchange| exchange.payjoin == Some(payjoin));
        exchanges.any(|exchange| {
            lost(exchange.settled) && exchange.mined.as_ref().is_some_and(|(_, height)| *height <= until)
        })
    }

    pub(in crate::memory) fn prune(&mut self, before: Timestamp, most: usize) -> u32 {
        let is_over = |at: Option<Timestamp>| at.is_some_and(|at| at < before);
        let settled = self.exchanges.values_mut().filter(|exchange| {
            exchange.state == ExchangeState::Settled && !exchange.is_pruned && is_over(exchange.settled_at)
        });
        let mut pruned = 0;
        for exchange in settled.take(most) {
            (exchange.is_pruned, exchange.proposal) = (true, None);
            pruned += 1;
        }
        let cancelled = self.intents.iter().filter(|(_, intent)| {
            intent.record.state == IntentState::Cancelled && is_over(intent.record.ended)
        });
        let cancelled: Vec<IntentId> = cancelled.map(|(id, _)| *id).take(most).collect();
        for id in &cancelled {
            self.intents.remove(id);
        }
        pruned + u32::try_from(cancelled.len()).unwrap_or(u32::MAX)
    }
}
