//! `status`: what the node is doing.

use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::RequestError;
use crate::rights::{Access, READ};
use crate::tor::TorState;

/// Who may ask for `status`.
pub(crate) const STATUS: Access = READ;

/// `status` is wanted most when bitcoind does not answer.
pub(crate) const BITCOIND_PATIENCE: Duration = Duration::from_secs(3);

/// What the node is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Status {
    /// Of this library.
    pub version: &'static str,
    /// Our Lightning key.
    #[schemars(with = "String")]
    pub node_id: PublicKey,
    /// Which chain.
    pub network: String,
    /// The last block that was dealt with.
    pub height: u32,
    /// bitcoind's best block; `None` when it does not answer.
    pub bitcoind_height: Option<u32>,
    /// Why no block has arrived for a minute although bitcoind has one, and what to do. Nothing new is offered then.
    pub chain_error: Option<String>,
    /// Why the Lightning node that is a program of its own does not answer, and what to do. Nothing new is offered then.
    pub lightning_error: Option<String>,
    /// What to do, where the database is an older copy. Nothing new is offered then.
    pub database_error: Option<&'static str>,
    /// What looks as if another node ran with the same seed since the start, and what to do. Nothing else comes of it.
    pub seed_warning: Option<String>,
    /// That the TLS certificate ends in two weeks, or has ended, and what to do.
    pub certificate_warning: Option<String>,
    /// That bitcoind estimates no fees, and what is paid instead.
    pub fee_warning: Option<String>,
    /// Where our server listens.
    pub http: Option<String>,
    /// What payers see of it.
    pub endpoint: Option<String>,
    /// Where the operator's programs ask.
    #[schemars(with = "Option<String>")]
    pub api: Option<SocketAddr>,
    /// Tor, where it is enabled.
    pub tor: Option<TorState>,
    /// Where Lightning peers can connect to us.
    #[schemars(with = "Option<String>")]
    pub lightning: Option<SocketAddr>,
    /// Connected peers; 0, too, while the Lightning node does not answer.
    pub peers: usize,
    /// Channels that exist; 0, too, while the Lightning node does not answer.
    pub channels: usize,
    /// Payments of ours that are not buried yet.
    pub payments: usize,
    /// Payments to us that are not buried yet.
    pub obligations: usize,
}

/// What a node is doing whose start waits for blocks. The names are those of [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Waiting {
    /// Of this library.
    pub version: &'static str,
    /// Which chain.
    pub network: String,
    /// bitcoind's best block; `None` when it does not answer.
    pub bitcoind_height: Option<u32>,
    /// What the start waits for, and what to do.
    pub chain_error: Option<String>,
    /// Payments of ours that are not buried yet.
    pub payments: usize,
    /// Payments to us that are not buried yet. What is due of them is sent.
    pub obligations: usize,
}

impl Daemon {
    pub(super) async fn status(&self) -> Result<Status, RequestError> {
        let asked = timeout(BITCOIND_PATIENCE, self.chain.source().status()).await;
        let http = &self.settings.http;
        let tls = http.listen.map(|address| address.to_string());
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            node_id: self.node.node_id(),
            network: self.settings.network.to_string(),
            height: self.chain.best_block().height,
            bitcoind_height: asked.ok().and_then(Result::ok).map(|status| status.tip.height),
            chain_error: self.chain.health().trouble(),
            lightning_error: self.node.trouble(),
            database_error: self.node.older_copy(),
            seed_warning: self.node.seed_elsewhere(),
            certificate_warning: self.certificate.as_ref().and_then(|shown| shown.warning(now())),
            fee_warning: self.chain.fee_warning(),
            http: tls.or(http.plain_listen.as_ref().map(ToString::to_string)),
            endpoint: http.public_endpoint.clone(),
            api: self.settings.api.listen,
            tor: self.tor.as_ref().map(|state| state.borrow().clone()),
            lightning: self.node.listening(),
            peers: self.node.peers().await.map_or(0, |peers| peers.len()),
            channels: self.node.channels().await.map_or(0, |channels| channels.len()),
            payments: self.store.unsettled_payments().await?.len(),
            obligations: self.store.obligations().await?.len(),
        })
    }
}
