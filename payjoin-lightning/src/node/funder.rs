//! Channels of the embedded node.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf};
use payjoin_core::{ChannelSpec, ChannelTerms, ExchangeId, StateWrite};

use super::broadcast::Broadcaster;
use super::manager_store::ManagerStore;
use super::types::ChannelManager;
use crate::{ChannelFunder, ChannelKey, FunderError, LdkFunder};

/// [`LdkFunder`] with the node's order of states, and its queue of broadcasts.
pub(super) struct NodeFunder {
    pub(super) ldk: LdkFunder<Arc<ChannelManager>>,
    pub(super) manager_store: Arc<ManagerStore>,
    pub(super) broadcaster: Arc<Broadcaster>,
}

#[async_trait]
impl ChannelFunder for NodeFunder {
    async fn open(
        &self,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Result<ScriptBuf, FunderError> {
        self.ldk.open(key, spec, amount).await
    }

    async fn fund(&self, key: ChannelKey, transaction: &Psbt, vout: u32) -> Result<(), FunderError> {
        self.ldk.fund(key, transaction, vout).await
    }

    async fn terms(&self, key: ChannelKey) -> Option<ChannelTerms> {
        self.ldk.terms(key).await
    }

    async fn abandon(&self, key: ChannelKey) {
        self.ldk.abandon(key).await;
    }

    async fn discard(&self, exchange: ExchangeId) {
        self.broadcaster.discard(exchange);
    }

    async fn state(&self) -> Option<StateWrite> {
        Some(self.manager_store.state().into())
    }

    async fn held(&self) -> Vec<(ChannelKey, Option<OutPoint>)> {
        self.ldk.held().await
    }
}
