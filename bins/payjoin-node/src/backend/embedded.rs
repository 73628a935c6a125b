//! The embedded node.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Amount;
use payjoin_lightning::node::{ChainSource, Node, NodeConfig};

use super::Backend;
use crate::builder::Builder;
use crate::keep::{Codes, Keep, QueuedPeers, Store};
use crate::start_error::StartError;
use crate::tor::Tor;
use crate::watch::Blocks;

pub(super) async fn start(
    builder: &Builder,
    source: Arc<dyn ChainSource>,
    store: &Store,
    tor: Option<&Tor>,
    blocks: Arc<Blocks>,
) -> Result<Backend, StartError> {
    let settings = &builder.settings;
    let config = node_config(builder, store, tor).await?;
    let started = Node::start(config, source, Arc::new(Keep(store.clone())), Some(blocks)).await;
    let node = started
        .map_err(|error| StartError::node(error, &settings.bitcoind_url(), settings.datadir.join("seed")))?;
    Ok(Backend { node: node.clone(), chain: node, following: None })
}

async fn node_config(builder: &Builder, store: &Store, tor: Option<&Tor>) -> Result<NodeConfig, StartError> {
    let settings = &builder.settings;
    let dialer = tor.map(|tor| tor.dialer(settings.tor.only));
    let config = NodeConfig {
        held: store.holds().await?,
        dialer,
        wanted: Some(Arc::new(QueuedPeers(store.clone()))),
        once: Some(Arc::new(Codes { store: store.clone(), events: builder.events.clone() })),
        events: Some(builder.events.sender()),
        health: builder.starting.health(),
        listen: settings.lightning.listen,
        min_depth: settings.lightning.min_depth,
        poll: Duration::from_millis(settings.bitcoind.block_poll_ms),
        inbound_min: Amount::from_sat(settings.lightning.min_inbound),
        inbound_per_peer: settings.lightning.inbound_per_peer,
        inbound_total: settings.lightning.max_inbound,
        inbound_without_coins: settings.lightning.inbound_without_coins,
        birthday: settings.lightning.birthday,
        lookahead: settings.lightning.lookahead,
        older_copy: builder.recover.is_some(),
        fee_fallback: settings.fee_fallback(),
        ..NodeConfig::new(settings.network, settings.datadir.join("seed"))
    };
    if config.birthday.is_none() && config.seed.exists() && store.wallet_changes()?.is_empty() {
        return Err(StartError::EmptyDatabase(config.seed));
    }
    Ok(config)
}
