//! One network for everybody in a run.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use tempfile::TempDir;

use super::{Programs, TorNetwork};

/// A network that is started when somebody first wants it, and stopped with this value.
pub(crate) struct Shared {
    programs: Programs,
    network: OnceLock<Result<(TorNetwork, TempDir), String>>,
}

impl Shared {
    /// Finds or provisions the programs. Starts nothing.
    pub(crate) fn provide() -> Result<Self> {
        Ok(Self { programs: Programs::provide()?, network: OnceLock::new() })
    }

    /// The running network; waits while somebody else starts it. A start that failed is not tried again.
    pub(crate) fn network(&self) -> Result<&TorNetwork> {
        let start = || {
            let dir = tempfile::Builder::new().prefix("tor-network-").tempdir()?;
            match TorNetwork::start(&self.programs, dir.path()) {
                Ok(network) => Ok((network, dir)),
                Err(error) => Err(error.context(format!("logs are kept in {}", dir.keep().display()))),
            }
        };
        let network =
            self.network.get_or_init(|| start().map_err(|error: anyhow::Error| format!("{error:#}")));
        network.as_ref().map(|(network, _)| network).map_err(|error| anyhow!("no Tor network: {error}"))
    }
}
