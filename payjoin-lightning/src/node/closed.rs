//! Channels of ours that closed, and why, until whoever keeps their history has heard of it.

use std::sync::Arc;

use bitcoin::OutPoint;
use lightning::events::ClosureReason;
use lightning::io;
use payjoin_core::{ChannelEnd, Closure};

use super::store::NodeStore;
use crate::ldk::REASON_CHARS;

/// How and why by funding output, as JSON. Before it was the reason alone.
const NAMESPACE: &str = "closed_channels";

pub(super) struct Closed(pub(super) Arc<dyn NodeStore>);

impl Closed {
    /// Durable when it returns. LDK says it once.
    pub(super) fn note(&self, funding: &OutPoint, end: &ChannelEnd) -> Result<(), io::Error> {
        let end = serde_json::to_vec(end)
            .map_err(|error| io::Error::new(io::ErrorKind::Other, error.to_string()))?;
        self.0.write(NAMESPACE, "", &funding.to_string(), end)
    }

    pub(super) fn list(&self) -> Result<Vec<(OutPoint, ChannelEnd)>, io::Error> {
        let read = |key: String| {
            let end = read(&self.0.read(NAMESPACE, "", &key)?);
            let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, "a closed channel is damaged");
            Ok((key.parse().map_err(damaged)?, end))
        };
        self.0.list(NAMESPACE, "")?.into_iter().map(read).collect()
    }

    pub(super) fn forget(&self, funding: &OutPoint) -> Result<(), io::Error> {
        self.0.remove(NAMESPACE, "", &funding.to_string(), false)
    }
}

fn read(bytes: &[u8]) -> ChannelEnd {
    let reason_alone =
        |_| ChannelEnd { how: Closure::Unknown, reason: String::from_utf8_lossy(bytes).into_owned() };
    serde_json::from_slice(bytes).unwrap_or_else(reason_alone)
}

/// What LDK says of the end of a channel.
pub(super) fn end(reason: &ClosureReason) -> ChannelEnd {
    use ClosureReason as Why;
    let how = match reason {
        Why::LegacyCooperativeClosure
        | Why::CounterpartyInitiatedCooperativeClosure
        | Why::LocallyInitiatedCooperativeClosure => Closure::Cooperative,
        Why::CounterpartyForceClosed { .. } | Why::CommitmentTxConfirmed => Closure::ForcedByPeer,
        Why::HolderForceClosed { .. } | Why::HTLCsTimedOut { .. } | Why::ProcessingError { .. } => {
            Closure::ForcedByUs
        }
        Why::FundingTimedOut | Why::DisconnectedPeer | Why::CounterpartyCoopClosedUnfundedChannel => {
            Closure::NotFunded
        }
        _ => Closure::Unknown,
    };
    ChannelEnd { how, reason: reason.to_string().chars().take(REASON_CHARS).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_an_earlier_version_noted_is_its_reason() {
        let end = end(&ClosureReason::LocallyInitiatedCooperativeClosure);
        assert_eq!(end.how, Closure::Cooperative);
        assert_eq!(read(&serde_json::to_vec(&end).unwrap()), end);
        let old = ChannelEnd { how: Closure::Unknown, reason: "the peer went away".into() };
        assert_eq!(read(b"the peer went away"), old);
    }
}
