//! The queue of channel intents.

use bitcoin::{OutPoint, Txid};
use payjoin_core::{
    ChannelEnd, ChannelLimits, ChannelSpec, EntryKind, ExchangeState, IntentId, IntentRecord, IntentState,
    LedgerError, Timestamp,
};

use super::{Data, Intent};
use crate::memory::told::Listed;

impl Intent {
    fn funding(&self) -> Option<OutPoint> {
        match self.record.state {
            IntentState::Released { txid, vout }
            | IntentState::Confirming { txid, vout }
            | IntentState::Open { txid, vout }
            | IntentState::Closed { txid, vout, .. } => Some(OutPoint { txid, vout }),
            IntentState::Queued { .. } | IntentState::Negotiating | IntentState::Cancelled => None,
        }
    }
}

impl Data {
    pub(in crate::memory) fn queue(
        &mut self,
        spec: ChannelSpec,
        limits: &ChannelLimits,
        open_by: Option<Timestamp>,
    ) -> IntentId {
        self.last_intent += 1;
        let id = IntentId(self.last_intent);
        let (wish, state) = (spec.wish(id, limits), IntentState::Queued { reason: None });
        let record = IntentRecord { id, spec, wish, state, open_by, ended: None, how: None };
        self.intents.insert(id, Intent { record, failures: 0, exchange: None, closing: None });
        id
    }

    pub(in crate::memory) fn due(&self, now: Timestamp) -> Vec<IntentId> {
        let due = |record: &&IntentRecord| {
            matches!(record.state, IntentState::Queued { .. }) && record.open_by.is_some_and(|by| by <= now)
        };
        self.intents.values().map(|intent| &intent.record).filter(due).map(|record| record.id).collect()
    }

    /// A payment was mined that opened no channel.
    pub(super) fn hurry(&mut self) {
        for record in self.intents.values_mut().map(|intent| &mut intent.record) {
            if let (IntentState::Queued { .. }, Some(by)) = (&record.state, &mut record.open_by) {
                *by = Timestamp(0);
            }
        }
    }

    pub(in crate::memory) fn explain(&mut self, id: IntentId, why: &str) {
        if let Some(IntentState::Queued { reason }) =
            self.intents.get_mut(&id).map(|one| &mut one.record.state)
        {
            *reason = Some(why.to_owned());
        }
    }

    pub(in crate::memory) fn cancel(&mut self, id: IntentId, now: Timestamp) -> Result<(), LedgerError> {
        let queued = |intent: &&mut Intent| matches!(intent.record.state, IntentState::Queued { .. });
        let intent = self.intents.get_mut(&id).filter(queued).ok_or(LedgerError::NotQueued(id))?;
        (intent.record.state, intent.record.ended) = (IntentState::Cancelled, Some(now));
        Ok(())
    }

    pub(in crate::memory) fn close(&mut self, funding: OutPoint, end: &ChannelEnd, now: Timestamp) -> bool {
        let buried = self.buried().into_iter().any(|(_, at)| at == funding);
        let Some(intent) = self.intents.values_mut().find(|intent| intent.funding() == Some(funding)) else {
            return true;
        };
        let may_end = buried || matches!(intent.record.state, IntentState::Open { .. });
        match intent.record.state {
            IntentState::Open { .. } | IntentState::Confirming { .. } if may_end => {
                let OutPoint { txid, vout } = funding;
                let (closing, reason) = (intent.closing, end.reason.clone());
                intent.record.state = IntentState::Closed { txid, vout, closing, reason };
                (intent.record.ended, intent.record.how) = (Some(now), Some(end.how));
                let id = intent.record.id;
                self.list(Listed::Close(id), now);
                self.tell_channel(EntryKind::ChannelClosed, id, Some(end.reason.clone()));
                true
            }
            IntentState::Closed { .. } => true,
            _ => false,
        }
    }

    pub(in crate::memory) fn record_closing(&mut self, funding: OutPoint, by: Txid) {
        for intent in self.intents.values_mut().filter(|intent| intent.funding() == Some(funding)) {
            intent.closing = Some(by);
            if let IntentState::Closed { closing, .. } = &mut intent.record.state {
                *closing = Some(by);
            }
        }
    }

    pub(in crate::memory) fn fundings(&self, since: Timestamp) -> Vec<OutPoint> {
        let young =
            |intent: &&Intent| intent.closing.is_none() || intent.record.ended.is_none_or(|at| at >= since);
        self.intents.values().filter(young).filter_map(Intent::funding).collect()
    }

    pub(in crate::memory) fn buried(&self) -> Vec<(IntentId, OutPoint)> {
        let buried = self.intents.iter().filter_map(|(id, intent)| {
            let exchange = self.exchanges.get(&intent.exchange?)?;
            match intent.record.state {
                IntentState::Confirming { txid, vout } if exchange.state == ExchangeState::Settled => {
                    Some((*id, OutPoint { txid, vout }))
                }
                _ => None,
            }
        });
        buried.collect()
    }

    pub(in crate::memory) fn open(&mut self, id: IntentId) {
        let buried = self.buried().into_iter().find(|(buried, _)| *buried == id);
        if let (Some((_, at)), Some(intent)) = (buried, self.intents.get_mut(&id)) {
            intent.record.state = IntentState::Open { txid: at.txid, vout: at.vout };
            self.tell_channel(EntryKind::ChannelUsable, id, None);
        }
    }
}
