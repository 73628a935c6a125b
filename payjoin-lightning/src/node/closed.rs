//! Channels of ours that closed, and why, until whoever keeps their history has heard of it.

use std::sync::Arc;

use bitcoin::OutPoint;
use lightning::io;

use super::store::NodeStore;

/// Reasons by funding output, in words for the operator.
const NAMESPACE: &str = "closed_channels";

pub(super) struct Closed(pub(super) Arc<dyn NodeStore>);

impl Closed {
    /// Durable when it returns. LDK says it once.
    pub(super) fn note(&self, funding: &OutPoint, reason: &str) -> Result<(), io::Error> {
        self.0.write(NAMESPACE, "", &funding.to_string(), reason.as_bytes().to_vec())
    }

    pub(super) fn list(&self) -> Result<Vec<(OutPoint, String)>, io::Error> {
        let read = |key: String| {
            let reason = self.0.read(NAMESPACE, "", &key)?;
            let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, "a closed channel is damaged");
            Ok((key.parse().map_err(damaged)?, String::from_utf8_lossy(&reason).into_owned()))
        };
        self.0.list(NAMESPACE, "")?.into_iter().map(read).collect()
    }

    pub(super) fn forget(&self, funding: &OutPoint) -> Result<(), io::Error> {
        self.0.remove(NAMESPACE, "", &funding.to_string(), false)
    }
}
