//! The operator's own node, with a follower of the chain beside it.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "lnd")]
use payjoin_lightning::lnd::{Lnd, LndAccess, LndConfig};
use payjoin_lightning::node::{ChainSource, Follower};
use payjoin_lightning::{LightningError, LightningNode, OwnNodeConfig};

use super::Backend;
use crate::builder::Builder;
use crate::keep::{Codes, QueuedPeers, Store};
#[cfg(any(feature = "cln", feature = "lnd"))]
use crate::settings::Kind;
use crate::settings::Settings;
use crate::start_error::StartError;
use crate::watch::Blocks;

/// Pause of a start that waits for the node.
const AGAIN: Duration = Duration::from_secs(1);

/// Waits for a node that does not answer yet; what is due goes out meanwhile.
pub(super) async fn start(
    builder: &Builder,
    source: Arc<dyn ChainSource>,
    store: &Store,
    blocks: Arc<Blocks>,
) -> Result<Backend, StartError> {
    let (settings, starting) = (&builder.settings, &builder.starting);
    let following =
        Follower::start(settings.network, source, starting.health(), blocks, settings.fee_fallback()).await;
    let following = following
        .map_err(|error| StartError::node(error, &settings.bitcoind_url(), settings.datadir.join("seed")))?;
    let config = OwnNodeConfig {
        network: settings.network,
        held: store.holds().await?,
        state: store.clone(),
        wanted: Some(Arc::new(QueuedPeers(store.clone()))),
        once: Some(Arc::new(Codes { store: store.clone(), events: builder.events.clone() })),
        events: Some(builder.events.sender()),
    };
    let node = loop {
        match connect(settings, config.clone()).await {
            Ok(node) => break node,
            Err(LightningError::Away(why)) => starting.waits_for_node(Some(why)),
            Err(error) => return Err(StartError::OwnNode(error)),
        }
        tokio::time::sleep(AGAIN).await;
    };
    starting.waits_for_node(None);
    Ok(Backend { node, chain: following.follower(), following: Some(following) })
}

async fn connect(
    settings: &Settings,
    config: OwnNodeConfig,
) -> Result<Arc<dyn LightningNode>, LightningError> {
    match settings.lightning.backend {
        #[cfg(feature = "cln")]
        Kind::Cln => Ok(payjoin_lightning::cln::Cln::start(cln_access(settings), config).await?),
        #[cfg(feature = "lnd")]
        Kind::Lnd => Ok(Lnd::start(lnd(settings), config).await?),
        // The settings were checked: none of these comes here.
        kind => {
            Err(LightningError::Refused(format!("{} is not part of this build: {config:?}", kind.name())))
        }
    }
}

/// The way to Core Lightning.
#[cfg(feature = "cln")]
pub(crate) fn cln_access(settings: &Settings) -> payjoin_lightning::cln::ClnAccess {
    use payjoin_lightning::cln::{ClnAccess, RestAccess};

    match settings.cln_rest() {
        Some((url, certificate, rune)) => ClnAccess::Rest(RestAccess { url, certificate, rune }),
        None => ClnAccess::Socket(settings.cln_socket()),
    }
}

#[cfg(feature = "lnd")]
fn lnd(settings: &Settings) -> LndConfig {
    LndConfig { access: lnd_access(settings), lease: Duration::from_secs(settings.lnd.lease_seconds) }
}

/// Where LND is, and what opens it.
#[cfg(feature = "lnd")]
pub(crate) fn lnd_access(settings: &Settings) -> LndAccess {
    LndAccess {
        address: settings.lnd.address.clone(),
        certificate: settings.lnd_certificate(),
        macaroon: settings.lnd_macaroon(),
    }
}
