//! Slots, peers and failures, as the ledger tells of them.

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use payjoin_core::{
    ChannelFailure, ExchangeId, ExchangeState, IntentId, IntentState, InvoiceId, LedgerError, PeerBook,
    PeerRecord, Settled, Timestamp, Waiting, pause_after,
};

use super::MemoryLedger;
use super::data::Data;

fn peer_of(data: &Data, intent: IntentId) -> Option<PublicKey> {
    data.intents.get(&intent).map(|intent| intent.record.spec.peer.node_id())
}

fn failed(data: &mut Data, exchange: ExchangeId, failure: &ChannelFailure, now: Timestamp, height: u32) {
    let Some(peer) = peer_of(data, failure.intent) else { return };
    let Some(intent) = data.intents.get_mut(&failure.intent) else { return };
    intent.failures += 1;
    let until = pause_after(intent.failures).map(|pause| now.plus(pause));
    data.peers.fail(peer, (exchange, failure.intent), failure, until, height);
}

fn waiting(data: &Data) -> Vec<Waiting> {
    let queued =
        data.intents.values().filter(|intent| matches!(intent.record.state, IntentState::Queued { .. }));
    let waiting = queued.map(|intent| Waiting {
        wish: intent.record.wish.clone(),
        peer: intent.record.spec.peer.clone(),
        failures: intent.failures,
        trouble: data.peers.trouble(intent.record.id),
    });
    let mut waiting: Vec<_> = waiting.collect();
    waiting.sort_by_key(|waiting| (waiting.failures, waiting.wish.id));
    waiting
}

#[async_trait]
impl PeerBook for MemoryLedger {
    async fn waiting(&self) -> Result<Vec<Waiting>, LedgerError> {
        self.read(waiting)
    }

    async fn peer_records(&self, height: u32) -> Result<Vec<PeerRecord>, LedgerError> {
        self.read(|data| {
            let busy = |peer| {
                data.intents.values().any(|intent| {
                    intent.record.state == IntentState::Negotiating
                        && intent.record.spec.peer.node_id() == peer
                })
            };
            let record = |record: PeerRecord| PeerRecord { busy: busy(record.peer), ..record };
            data.peers.records(height).into_iter().map(record).collect()
        })
    }

    async fn record_failures(
        &self,
        exchange: ExchangeId,
        failures: &[ChannelFailure],
        now: Timestamp,
        height: u32,
    ) -> Result<(), LedgerError> {
        self.change(|data| failures.iter().for_each(|failure| failed(data, exchange, failure, now, height)))
    }

    async fn take_slots(
        &self,
        exchange: ExchangeId,
        intents: &[IntentId],
        height: u32,
    ) -> Result<Vec<IntentId>, LedgerError> {
        self.write(|data| {
            let mut taken = intents.to_vec();
            taken.retain(|intent| {
                let peer = peer_of(data, *intent);
                peer.is_some_and(|peer| data.peers.take_again(peer, (exchange, *intent), height))
            });
            Ok(taken)
        })
    }

    async fn free_slots(&self, exchange: ExchangeId, intents: &[IntentId]) -> Result<(), LedgerError> {
        self.change(|data| intents.iter().for_each(|intent| data.peers.free((exchange, *intent))))
    }

    async fn record_answer(
        &self,
        peer: PublicKey,
        side_by_side: u32,
        height: u32,
    ) -> Result<(), LedgerError> {
        self.change(|data| match side_by_side {
            0 => data.peers.full(peer, height),
            accepted => data.peers.took(peer, accepted, height),
        })
    }

    async fn resume(&self, peers: &[PublicKey]) -> Result<(), LedgerError> {
        self.change(|data| {
            let intents = &data.intents;
            let of = |intent: IntentId| intents.get(&intent).map(|one| one.record.spec.peer.node_id());
            data.peers.resume(|intent| of(intent).is_some_and(|peer| peers.contains(&peer)));
        })
    }

    async fn channel_offers(&self, invoice: &InvoiceId) -> Result<u32, LedgerError> {
        let offers = |data: &Data| data.at(invoice).filter(|exchange| !exchange.channels.is_empty()).count();
        self.read(|data| u32::try_from(offers(data)).unwrap_or(u32::MAX))
    }

    async fn wasted_offers(&self, since: Timestamp, now: Timestamp) -> Result<u32, LedgerError> {
        self.read(|data| {
            let wasted = data.exchanges.values().filter(|exchange| {
                let unseen = exchange.signed.is_none() && exchange.mined.is_none();
                let lost = match exchange.settled {
                    Some(outcome) => outcome != Settled::Payjoin,
                    None => {
                        exchange.state == ExchangeState::Released && unseen && exchange.fallback_at <= now
                    }
                };
                !exchange.channels.is_empty() && !exchange.is_own() && exchange.created >= since && lost
            });
            u32::try_from(wasted.count()).unwrap_or(u32::MAX)
        })
    }
}
