//! The Lightning node behind the roles: the embedded one, or the operator's own.

mod embedded;
mod own;

#[cfg(feature = "cln")]
pub(crate) use own::cln_access;
#[cfg(feature = "lnd")]
pub(crate) use own::lnd_access;

use std::sync::Arc;

use payjoin_core::{ChainError, StateWrite};
use payjoin_lightning::LightningNode;
use payjoin_lightning::node::{Bitcoind, ChainSource, ChainView, Following, Rpc, RpcAuth};

use crate::builder::Builder;
use crate::keep::Store;
use crate::settings::{Kind, Settings};
use crate::start_error::StartError;
use crate::starting::Ground;
use crate::tor::Tor;
use crate::watch::Blocks;

/// What a start gives.
pub(crate) struct Backend {
    pub(crate) node: Arc<dyn LightningNode>,
    pub(crate) chain: Arc<dyn ChainView>,
    /// What follows the chain where the node does not.
    pub(crate) following: Option<Following>,
}

const NAMESPACE: &str = "payjoind";
const BACKEND: &str = "backend";

/// Starts the node that the settings name. `blocks` are told of the chain.
pub(crate) async fn start(
    builder: &Builder,
    store: &Store,
    tor: Option<&Tor>,
    blocks: Arc<Blocks>,
) -> Result<Backend, StartError> {
    let settings = &builder.settings;
    let kind = settings.lightning.backend;
    belongs_to(kind, settings, store)?;
    let url = settings.bitcoind_url();
    let failed = |error| StartError::node(error, &url, settings.datadir.join("seed"));
    let rpc = Rpc::new(&url, auth(settings)).map_err(|error| failed(ChainError::from(error).into()))?;
    let source: Arc<dyn ChainSource> = Arc::new(Bitcoind::new(rpc));
    let ground = Ground {
        store: store.clone(),
        source: source.clone(),
        chain: builder.chain.clone().unwrap_or_else(|| source.clone()),
        policy: settings.policy(),
        network: settings.network,
    };
    let starts = async {
        match kind {
            Kind::Embedded => embedded::start(builder, source, store, tor, blocks).await,
            Kind::Cln | Kind::Lnd => own::start(builder, source, store, blocks).await,
        }
    };
    tokio::select! {
        biased;
        started = starts => started,
        never = builder.starting.send_due(ground) => match never {},
    }
}

/// The coins, channels and obligations of a folder are one node's: another one knows nothing of them.
fn belongs_to(kind: Kind, settings: &Settings, store: &Store) -> Result<(), StartError> {
    let recorded = store.kv_read(NAMESPACE, "", BACKEND)?;
    let is_recorded = recorded.is_some();
    let known = match recorded {
        Some(name) => String::from_utf8_lossy(&name).into_owned(),
        // From before there was a choice.
        None if !store.wallet_changes()?.is_empty() || settings.datadir.join("seed").exists() => {
            Kind::Embedded.name().to_owned()
        }
        None => kind.name().to_owned(),
    };
    if known != kind.name() {
        return Err(StartError::OtherBackend { known, wanted: kind.name() });
    }
    if is_recorded {
        return Ok(());
    }
    let (primary, secondary, key) = (NAMESPACE.to_owned(), String::new(), BACKEND.to_owned());
    let value = kind.name().as_bytes().to_vec();
    Ok(store.kv_write(StateWrite { primary, secondary, key, value, generation: 0 })?)
}

/// What opens bitcoind.
pub(crate) fn auth(settings: &Settings) -> RpcAuth {
    match (&settings.bitcoind.user, &settings.bitcoind.password) {
        (Some(user), Some(password)) => {
            RpcAuth::UserPassword { user: user.clone(), password: password.clone() }
        }
        _ => RpcAuth::Cookie(settings.bitcoind_cookie()),
    }
}
