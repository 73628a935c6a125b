//! Channels that the wallet alone opens: at once, or when no payment came in time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::FeeRate;
use bitcoin::secp256k1::rand::random;
use payjoin_core::{IntentId, Invoice, InvoiceId, LedgerError};
use payjoin_io::{OpenedChannel, OpeningError, OwnOpening, open_own};
use tokio::sync::watch;

use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};

impl From<OpeningError> for RequestError {
    fn from(error: OpeningError) -> Self {
        let kind = match &error {
            OpeningError::Held(_) => ErrorKind::State,
            OpeningError::Coins(_) => ErrorKind::Wallet,
            OpeningError::Failed(_) => ErrorKind::Lightning,
        };
        kind.error(format_args!("not opened: {error}"))
    }
}

impl Daemon {
    /// Opens a queued channel. `change` is what [`Live::opening`](crate::daemon::Live::opening) holds.
    pub(crate) async fn open_from_wallet(
        &self,
        intent: IntentId,
        rate: FeeRate,
        change: &mut Option<Invoice>,
    ) -> Result<OpenedChannel, RequestError> {
        let change = self.change(change).await?;
        // Whoever asked may leave: it goes on without him.
        let (host, opening) = (self.host.clone(), OwnOpening { intent, rate, change });
        let opened = tokio::spawn(async move { open_own(&host, &opening).await }).await;
        let opened =
            opened.map_err(|error| ErrorKind::Lightning.error(format_args!("not opened: {error}")))?;
        Ok(opened?)
    }

    /// A script that nothing was paid to, under a name that is not on record: what an opening left unused serves the next, so
    /// that none is wasted.
    async fn change(&self, spare: &mut Option<Invoice>) -> Result<Invoice, RequestError> {
        if let Some(change) = &*spare
            && self.store.invoice(&change.id).await?.is_none()
        {
            return Ok(change.clone());
        }
        let address = self.node.new_address().await.map_err(|error| ErrorKind::Wallet.error(error))?;
        let (id, script, created) = (InvoiceId::from_entropy(random()), address.script_pubkey(), now());
        let fresh = Invoice::new(id, script, created, created);
        Ok(spare.insert(fresh).clone())
    }

    /// Opens what is due. `tried`: at which height each was tried last; before the next block nothing is different.
    async fn open_due(&self, tried: &mut HashMap<IntentId, u32>) -> Result<(), LedgerError> {
        let due = self.store.due_intents(now()).await?;
        tried.retain(|intent, _| due.contains(intent));
        if due.is_empty() || self.trouble().is_some() {
            return Ok(());
        }
        let height = self.host.height();
        for intent in due {
            if tried.get(&intent) == Some(&height) {
                continue;
            }
            let mut change = self.live.opening.lock().await;
            // Somebody may have opened or cancelled it while we waited.
            if !self.store.due_intents(now()).await?.contains(&intent) {
                continue;
            }
            let held = self.host.openable().await?.held;
            if let Some((_, why)) = held.iter().find(|(held, why)| *held == intent && why.is_peers()) {
                tracing::debug!(intent = intent.0, %why, "a channel is due, and waits");
                continue;
            }
            let Err(error) = self.open_from_wallet(intent, self.chain.fee_rate(), &mut change).await else {
                continue;
            };
            // Who has it in hand gives it back within seconds.
            if error.kind() != ErrorKind::State {
                tried.insert(intent, height);
                tracing::warn!(intent = intent.0, %error, "a channel that is due waits for the next block");
                self.store.explain_intent(intent, &error.to_string()).await?;
            }
        }
        Ok(())
    }
}

/// Opens what is due, until the daemon stops.
pub(crate) async fn run(daemon: Arc<Daemon>, every: Duration, mut stop: watch::Receiver<bool>) {
    let mut look = tokio::time::interval(every);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tried = HashMap::new();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
        }
        // What was begun is brought to its end, as an exchange with a payer is.
        if let Err(error) = daemon.open_due(&mut tried).await {
            tracing::error!(%error, "nobody knows which channels are due");
        }
    }
}
