//! Puts database, Lightning node and roles together, with everything undone that a crash left half done.

use std::sync::Arc;

use bitcoin::OutPoint;
use payjoin_core::{ExchangeRecord, LedgerError, Policy, Settled};
use payjoin_io::{Host, Settler};
use payjoin_lightning::node::Following;
use payjoin_lightning::{Channels, LightningNode};

use crate::backend::{self, Backend};
use crate::builder::Builder;
use crate::certificate::Certificate;
use crate::clock::now;
use crate::daemon::{Daemon, Live};
use crate::keep::Store;
use crate::leftover::archive_dead;
use crate::outside::Outside;
use crate::pay::Payments;
use crate::start_error::StartError;
use crate::tor::Tor;
use crate::watch::{self, BlockNews, Blocks, Unrecorded};
use crate::webhook::Webhook;

/// Database, node and roles, with everything undone that a crash left half done.
pub(crate) struct Assembled {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) settler: Settler,
    pub(crate) news: BlockNews,
    /// Where no embedded node follows the chain.
    pub(crate) following: Option<Following>,
    pub(crate) webhook: Option<Webhook>,
}

pub(crate) async fn assemble(
    builder: Builder,
    store: Store,
    tor: Option<&Tor>,
    certificate: Option<Arc<Certificate>>,
) -> Result<Assembled, StartError> {
    clear_up(&store).await?;
    let outside = Outside::new(&builder.settings, tor)?;
    let (blocks, news) = Blocks::new(&store).await?;
    let blocks = Arc::new(blocks);
    let Backend { node, chain: view, following } =
        backend::start(&builder, &store, tor, blocks.clone()).await?;
    let Builder { settings, chain, wallet, funder, events, stop, .. } = builder;
    watch::begin(&store, &*view, &blocks)?;
    let policy = settings.policy();
    let channels = Arc::new(channels(&*node, &policy));
    forget_dead(&channels, &store).await?;
    end_forgotten(&*node, &store).await?;
    let (chain, wallet, funder) = (
        chain.unwrap_or_else(|| view.clone()),
        wallet.unwrap_or_else(|| node.clone()),
        funder.unwrap_or(channels),
    );
    let (host, owed) = Host::new(chain, wallet, funder, store.clone(), policy, now);
    let host = host.with_events(events.sender()).at_height(view.best_block().height);
    let settler = Settler::new(host.clone(), owed).await?;
    blocks.follow(host.watched().clone());
    let stopped = stop.subscribe();
    let (poller, webhook) = (outside.poller(&settings, &host), outside.webhook(&settings, &store)?);
    let payments = node.clone().paying().map(|wallet| {
        let sender = outside.sender(&settings, &store).with_events(events.sender());
        let (kept, told) = (store.clone(), events.clone());
        Payments::new(&settings, sender, view.clone(), wallet, kept, told, stopped)
    });
    node.meet_peers();
    let (chain, tor, live) = (view, tor.map(Tor::state), Live::default());
    let daemon =
        Daemon { settings, store, node, chain, host, payments, poller, tor, certificate, events, live, stop };
    Ok(Assembled { daemon: Arc::new(daemon), settler, news, following, webhook })
}

fn channels(node: &dyn LightningNode, policy: &Policy) -> Channels {
    let channels = Channels::new(node.funder(), policy.channel_seconds);
    channels.accepting_within(policy.accept_seconds).signing_within(policy.sign_seconds)
}

/// Ends exchanges that a crash interrupted, and puts away what is over.
async fn clear_up(store: &Store) -> Result<(), LedgerError> {
    let interrupted = store.recover().await?;
    if !interrupted.is_empty() {
        tracing::warn!(exchanges = interrupted.len(), "exchanges were interrupted; their Originals are kept");
    }
    archive_dead(store).await
}

/// Closes channels that can never exist: no proposal that funds them was released (we died between the two writes), or something
/// else than that proposal is buried, and we died before the node had saved that it knows.
async fn forget_dead(channels: &Channels, store: &Store) -> Result<(), LedgerError> {
    for (key, funding) in channels.held().await {
        let exchange = store.exchange(key.exchange).await?;
        if !exchange.is_some_and(|exchange| may_fund(&exchange, funding)) {
            channels.abandon_all(key.exchange, "its funding can never be mined").await;
        }
    }
    Ok(())
}

/// A node that does not answer now is asked at the next start.
async fn end_forgotten(node: &dyn LightningNode, store: &Store) -> Result<(), LedgerError> {
    match watch::end_forgotten(node, store).await {
        Err(Unrecorded::Ledger(error)) => Err(error),
        Err(Unrecorded::Lightning(error)) => {
            tracing::warn!(%error, "channels that closed meanwhile are not looked for");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn may_fund(exchange: &ExchangeRecord, funding: Option<OutPoint>) -> bool {
    let released = |at: OutPoint| {
        exchange.payjoin_txid == Some(at.txid) && exchange.channels.iter().any(|c| c.vout == at.vout)
    };
    matches!(exchange.settled, None | Some(Settled::Payjoin)) && funding.is_some_and(released)
}
