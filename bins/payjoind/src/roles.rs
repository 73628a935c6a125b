//! Adapts the node to the roles that payjoin-io asks.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{OutPoint, Psbt, ScriptBuf, Transaction};
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
};
use payjoin_core::{
    CheckedProposal, Coin, ExchangeId, FundedChannel, Inspection, PlannedChannel, Reserve, ResourceRequest,
    StableProposal,
};
use payjoin_io::{Chain, Funder, HostError, KvWrite, Store, Wallet};
use payjoin_lightning::node::{ManagerState, Node};
use payjoin_lightning::{ChannelSpec, Channels, ChannelsError};

/// The node as chain, wallet and funder.
pub(crate) struct Roles {
    pub(crate) node: Arc<Node>,
    pub(crate) channels: Channels,
    pub(crate) store: Store,
}

fn text(error: impl std::fmt::Display) -> HostError {
    HostError(error.to_string())
}

impl Roles {
    /// The next payment tries the others first.
    async fn blame(&self, error: &ChannelsError) -> HostError {
        if let Err(error) = self.store.put_behind(error.culprits()).await {
            tracing::warn!(%error, "intents that failed keep their place in the queue");
        }
        text(error)
    }
}

#[async_trait]
impl Chain for Roles {
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, HostError> {
        let inspected = self.node.rpc().inspect(transaction).await.map_err(text)?;
        Ok(Inspection { acceptable: inspected.acceptable, prevouts: inspected.prevouts })
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<(), HostError> {
        self.node.rpc().broadcast(transaction).await.map_err(text)
    }
}

#[async_trait]
impl Wallet for Roles {
    fn owns(&self, scripts: &[ScriptBuf]) -> Vec<bool> {
        self.node.wallet().owns(scripts)
    }

    fn reserve(
        &self,
        request: &ResourceRequest,
        prefer: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), HostError> {
        Ok(self.node.reserve(&request.payer_script, prefer))
    }

    fn unlock(&self, coins: &[OutPoint]) {
        self.node.wallet().unlock(coins);
    }

    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, HostError> {
        self.node.wallet().sign(proposal.psbt(), proposal.our_inputs()).map_err(text)
    }
}

#[async_trait]
impl Funder for Roles {
    async fn open(
        &self,
        exchange: ExchangeId,
        channels: &[PlannedChannel],
    ) -> Result<Vec<ScriptBuf>, HostError> {
        let with_specs = channels.iter().map(|channel| {
            let intent = self.store.intent(channel.intent)?;
            let intent = intent.ok_or_else(|| HostError(format!("no intent {}", channel.intent.0)))?;
            let spec: ChannelSpec = serde_json::from_value(intent.spec).map_err(text)?;
            Ok((channel.clone(), spec))
        });
        let with_specs: Vec<_> = with_specs.collect::<Result<_, HostError>>()?;
        match self.channels.open_all(exchange, &with_specs).await {
            Ok(scripts) => Ok(scripts),
            Err(error) => Err(self.blame(&error).await),
        }
    }

    async fn fund(&self, exchange: ExchangeId, proposal: &StableProposal) -> Result<(), HostError> {
        match self.channels.fund_all(exchange, proposal.transaction(), proposal.funding()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.blame(&error).await),
        }
    }

    async fn abandon(&self, exchange: ExchangeId, reason: &str) {
        self.channels.abandon_all(exchange, reason).await;
    }

    async fn forget(&self, exchange: ExchangeId, _: &[FundedChannel]) {
        self.channels.abandon_all(exchange, "its payjoin can never be mined").await;
    }

    async fn state(
        &self,
        exchange: ExchangeId,
        channels: &[FundedChannel],
    ) -> Result<Vec<KvWrite>, HostError> {
        let state = self.node.manager_state();
        // Afterwards: what is there now was there then.
        if !self.channels.are_live(exchange, channels.len()).await {
            return Err(HostError("a channel closed after its peer had signed".into()));
        }
        Ok(vec![manager_write(state)])
    }
}

/// A ChannelManager state as the store takes it, with its generation.
pub(crate) fn manager_write(state: ManagerState) -> KvWrite {
    KvWrite {
        primary: CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE.to_owned(),
        secondary: CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE.to_owned(),
        key: CHANNEL_MANAGER_PERSISTENCE_KEY.to_owned(),
        value: state.bytes,
        generation: state.generation,
    }
}
