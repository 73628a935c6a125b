//! The channels that the operator wants.

use async_trait::async_trait;
use bitcoin::{OutPoint, Txid};
use payjoin_core::{
    ChannelEnd, ChannelLimits, ChannelSpec, IntentId, IntentRecord, Intents, LedgerError, Timestamp,
};

use super::MemoryLedger;
use super::data::Data;

#[async_trait]
impl Intents for MemoryLedger {
    async fn due_intents(&self, now: Timestamp) -> Result<Vec<IntentId>, LedgerError> {
        self.read(|data| data.due(now))
    }

    async fn explain_intent(&self, intent: IntentId, reason: &str) -> Result<(), LedgerError> {
        self.change(|data| data.explain(intent, reason))
    }

    async fn queue_intent(
        &self,
        spec: ChannelSpec,
        limits: ChannelLimits,
        open_by: Option<Timestamp>,
    ) -> Result<IntentId, LedgerError> {
        self.write(|data| Ok(data.queue(spec, &limits, open_by)))
    }

    async fn cancel_intent(&self, intent: IntentId, now: Timestamp) -> Result<(), LedgerError> {
        self.write(|data| data.cancel(intent, now))
    }

    async fn intents(&self) -> Result<Vec<IntentRecord>, LedgerError> {
        self.read(|data| data.intents.values().map(|intent| intent.record.clone()).collect())
    }

    async fn intent(&self, intent: IntentId) -> Result<Option<IntentRecord>, LedgerError> {
        self.read(|data| data.intents.get(&intent).map(|intent| intent.record.clone()))
    }

    async fn buried_intents(&self) -> Result<Vec<(IntentId, OutPoint)>, LedgerError> {
        self.read(Data::buried)
    }

    async fn open_intent(&self, intent: IntentId) -> Result<(), LedgerError> {
        self.change(|data| data.open(intent))
    }

    async fn close_intent(
        &self,
        funding: OutPoint,
        end: &ChannelEnd,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        self.write(|data| Ok(data.close(funding, end, now)))
    }

    async fn record_closing(&self, funding: OutPoint, closing: Txid) -> Result<(), LedgerError> {
        self.change(|data| data.record_closing(funding, closing))
    }

    async fn fundings(&self, since: Timestamp) -> Result<Vec<OutPoint>, LedgerError> {
        self.read(|data| data.fundings(since))
    }
}
