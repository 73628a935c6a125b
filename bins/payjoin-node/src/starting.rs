//! A start that waits for blocks, or for the operator's own node: what it can be asked meanwhile, and what is owed all the same.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bitcoin::{Network, OutPoint, Transaction};
use lightning::chain::BestBlock;
use payjoin_core::{
    Broadcast, Chain, ChainError, LedgerError, Policy, Settlement, SettlementInput, SettlementOutput,
};
use payjoin_lightning::node::{ChainHealth, ChainSource};
use tokio::time::{sleep, timeout};

use crate::clock::now;
use crate::error::{ErrorKind, RequestError};
use crate::keep::Store;
use crate::requests::{BITCOIND_PATIENCE, Request, Response, Waiting};

/// How often one looks at what a start waits for.
const LOOK: Duration = Duration::from_millis(500);

/// A node that starts. It answers only while it has to wait, for blocks or for the operator's own node: see [`Starting::waits`].
#[derive(Clone, Debug, Default)]
pub struct Starting(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    health: Arc<ChainHealth>,
    /// What the operator's own node waits for.
    node: Mutex<Option<String>>,
    ground: OnceLock<Ground>,
}

/// What is there before the Lightning node.
pub(crate) struct Ground {
    pub(crate) store: Store,
    /// Follows the chain.
    pub(crate) source: Arc<dyn ChainSource>,
    /// Is asked about payments to us.
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) policy: Policy,
    pub(crate) network: Network,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("network", &self.network).finish_non_exhaustive()
    }
}

impl Starting {
    /// Returns once the start has to wait, and never when it does not have to. From then on nobody else uses
    /// the folder, and [`Starting::request`] answers.
    pub async fn waits(&self) {
        while self.trouble().is_none() {
            sleep(LOOK).await;
        }
    }

    /// Answers [`Request::Status`] with [`Response::Waiting`].
    ///
    /// # Errors
    /// To everything else, with what is waited for.
    pub async fn request(&self, request: Request) -> Result<Response, RequestError> {
        let trouble = self.trouble();
        match (request, self.0.ground.get()) {
            (Request::Status, Some(ground)) => {
                let asked = timeout(BITCOIND_PATIENCE, ground.source.status()).await;
                Ok(Response::Waiting(Waiting {
                    version: env!("CARGO_PKG_VERSION"),
                    network: ground.network.to_string(),
                    bitcoind_height: asked.ok().and_then(Result::ok).map(|status| status.tip.height),
                    chain_error: trouble,
                    payments: ground.store.unsettled_payments().await?.len(),
                    obligations: ground.store.obligations().await?.len(),
                }))
            }
            _ => Err(ErrorKind::Chain.error(format_args!(
                "the node starts, and waits: {}",
                trouble.as_deref().unwrap_or("it goes on now")
            ))),
        }
    }

    pub(crate) fn health(&self) -> Arc<ChainHealth> {
        Arc::clone(&self.0.health)
    }

    fn trouble(&self) -> Option<String> {
        let node = || self.0.node.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.health.trouble().or_else(node).filter(|_| self.0.ground.get().is_some())
    }

    /// Why the operator's own node does not answer; `None` once it does.
    pub(crate) fn waits_for_node(&self, why: Option<String>) {
        let mut node = self.0.node.lock().unwrap_or_else(PoisonError::into_inner);
        match &why {
            Some(reason) if node.as_ref() != Some(reason) => {
                tracing::error!(reason, "the start waits for the Lightning node");
            }
            None if node.is_some() => tracing::info!("the Lightning node answers"),
            _ => {}
        }
        *node = why;
    }

    /// Sends what is due as long as the start waits.
    pub(crate) async fn send_due(&self, ground: Ground) -> Infallible {
        let ground = self.0.ground.get_or_init(|| ground);
        self.waits().await;
        let mut due = Due::default();
        loop {
            match due.look(ground).await {
                Ok(()) => {}
                Err(NotSent::Chain(error)) => tracing::debug!(%error, "what is due waits for bitcoind"),
                Err(NotSent::Ledger(error)) => tracing::error!(%error, "what is owed cannot be read"),
            }
            sleep(LOOK).await;
        }
    }
}

/// Why nothing was sent this time.
#[derive(Debug, thiserror::Error)]
enum NotSent {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Everything that is owed, since the last block. What becomes of it is for the node that runs: here nothing is recorded.
#[derive(Default)]
struct Due {
    owed: Vec<(Settlement, Vec<OutPoint>)>,
    tip: Option<BestBlock>,
}

impl Due {
    /// Sends what is due, once per block, as later.
    async fn look(&mut self, ground: &Ground) -> Result<(), NotSent> {
        let tip = ground.source.status().await?.tip;
        if self.tip != Some(tip) {
            let owed = ground.store.obligations().await?.into_iter().map(|owed| {
                let inputs = owed.original.input.iter().map(|input| input.previous_output);
                let coins = inputs.chain(owed.coins.iter().copied()).collect();
                (Settlement::new(owed, ground.policy.clone()), coins)
            });
            (self.owed, self.tip) = (owed.collect(), Some(tip));
        }
        for (machine, coins) in &mut self.owed {
            let spenders = ground.source.spenders(coins).await?;
            let mut found: Vec<Transaction> = spenders.into_iter().flatten().collect();
            found.sort_unstable();
            found.dedup();
            machine.handle_input(now(), SettlementInput::Mempool(found));
            send(machine, &*ground.chain).await;
        }
        Ok(())
    }
}

/// Does what a settlement can do without wallet and blocks: see `Settler` of payjoin-io.
async fn send(machine: &mut Settlement, chain: &dyn Chain) {
    loop {
        match machine.poll_output() {
            SettlementOutput::Broadcast(transaction) => {
                let txid = transaction.compute_txid();
                match chain.broadcast(&transaction).await {
                    Ok(Broadcast::Taken) => tracing::info!(%txid, "broadcast"),
                    Ok(Broadcast::Refused(reason)) => {
                        tracing::warn!(%txid, reason, "the network refuses a transaction");
                        machine.handle_input(now(), SettlementInput::Refused);
                    }
                    Err(error) => tracing::warn!(%txid, %error, "not broadcast"),
                }
            }
            SettlementOutput::Weigh(_) => machine.handle_input(now(), SettlementInput::Weighed(None)),
            SettlementOutput::Defend { .. }
            | SettlementOutput::GiveUp(..)
            | SettlementOutput::RecordSigned(_)
            | SettlementOutput::RecordMined(_) => {}
            SettlementOutput::Done(_) | SettlementOutput::Wait(_) => return,
        }
    }
}
