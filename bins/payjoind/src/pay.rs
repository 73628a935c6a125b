//! Payments of ours: offered as payjoins, paid one way or the other, watched until a spend is buried.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{FeeRate, OutPoint, Psbt, Transaction};
use payjoin_io::{Fallback, HostError, Paid, Payment, PaymentRecord, SendError, Sender, Sent, Store, StoreError};
use payjoin_lightning::node::{Node, RpcError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::daemon::now;

/// Pause after a failure of the store or of bitcoind.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a step of a payment must be taken again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the database: {0}")]
    Store(#[from] StoreError),
    #[error("the database: {0}")]
    Session(HostError),
    #[error("bitcoind: {0}")]
    Bitcoind(RpcError),
}

/// Sees payments through, also those that an earlier process began.
pub(crate) struct Payer {
    sender: Sender,
    node: Arc<Node>,
    store: Store,
    network: bitcoin::Network,
    burial: u32,
    poll: Duration,
    /// Changes when a payment was paid.
    news: watch::Sender<()>,
}

impl Payer {
    pub(crate) fn new(config: &Config, sender: Sender, node: Arc<Node>, store: Store) -> Self {
        let (news, _) = watch::channel(());
        let poll = Duration::from_millis(config.lightning.poll_ms);
        Self { sender, node, store, network: config.network, burial: config.policy.burial, poll, news }
    }

    /// Keeps a payment whose Original locks its coins, and gives its record.
    pub(crate) async fn begin(
        &self,
        uri: String,
        original: &Psbt,
        fee_rate: FeeRate,
    ) -> Result<PaymentRecord, StoreError> {
        let kept = self.store.insert_payment(uri.clone(), original, fee_rate, now()).await;
        match kept.and_then(|id| self.store.payment(id)) {
            Ok(Some(payment)) => Ok(payment),
            Ok(None) => Err(StoreError::Corrupt("a payment is gone".into())),
            Err(error) => {
                self.node.wallet().unlock(&coins(original));
                Err(error)
            }
        }
    }

    /// Waits until this payment is paid, one way or the other, but no longer than `patience`.
    pub(crate) async fn outcome(&self, id: u64, patience: Duration) -> Result<Option<Paid>, StoreError> {
        let mut news = self.news.subscribe();
        let paid = || Ok(self.store.payment(id)?.and_then(|payment| payment.paid));
        let wait = async {
            loop {
                news.mark_unchanged();
                if let Some(paid) = paid()? {
                    return Ok(Some(paid));
                }
                if news.changed().await.is_err() {
                    return Ok(None);
                }
            }
        };
        match timeout(patience, wait).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(None),
        }
    }

    /// Sees a payment through, until a spend of its coins is buried.
    pub(crate) async fn run(self: Arc<Self>, mut payment: PaymentRecord) {
        while let Err(trouble) = self.conclude(&mut payment).await {
            tracing::warn!(payment = payment.id, %trouble, "a payment waits");
            sleep(PAUSE).await;
        }
        let mut height = 0;
        loop {
            if height < self.node.height() {
                height = self.node.height();
                match self.follow(&mut payment).await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(trouble) => tracing::warn!(payment = payment.id, %trouble, "a payment waits"),
                }
            }
            sleep(self.poll).await;
        }
    }

    /// Takes the conversation with the receiver to its end and records what is to be paid.
    async fn conclude(&self, payment: &mut PaymentRecord) -> Result<(), Trouble> {
        if payment.paid.is_some() {
            return Ok(());
        }
        let sent = tokio::select! {
            sent = self.offer(payment) => sent?,
            // The receiver broadcast it himself: nothing is left to talk about.
            (spend, _) = self.spent(payment) => return self.record(payment, spent_by(payment, spend)).await,
        };
        let paid = match sent {
            Ok(proposal) => match self.node.wallet().sign_payjoin(&payment.original, &proposal) {
                Ok(transaction) => Paid { transaction, fallback: None },
                Err(error) => plain(payment, &format!("the proposal is not acceptable: {error}")),
            },
            Err(reason) => plain(payment, &reason),
        };
        self.record(payment, paid).await
    }

    /// The receiver's proposal, or why there is none.
    async fn offer(&self, payment: &PaymentRecord) -> Result<Result<Psbt, String>, Trouble> {
        let name = payment.id.to_string();
        let offer = Payment {
            uri: payment.uri.clone(),
            network: self.network,
            original: payment.original.clone(),
            min_fee_rate: payment.fee_rate,
        };
        let begun = match self.sender.begin(&name, &offer).await {
            Err(SendError::Known(_)) => Ok(()),
            begun => begun,
        };
        let sent = match begun {
            Ok(()) => self.sender.resume(&name).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(Sent::Payjoin(proposal)) => Ok(Ok(*proposal)),
            Ok(Sent::Original(fallback)) => Ok(Err(fallback.to_string())),
            Err(SendError::Store(error)) => Err(Trouble::Session(error)),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Returns when a block has a spend of the payment's coins.
    async fn spent(&self, payment: &PaymentRecord) -> (Transaction, u32) {
        loop {
            if let Some(spent) = self.spend_in_chain(payment) {
                return spent;
            }
            sleep(self.poll).await;
        }
    }

    fn spend_in_chain(&self, payment: &PaymentRecord) -> Option<(Transaction, u32)> {
        coins(&payment.original).into_iter().find_map(|coin| self.node.wallet().spent_by(coin))
    }

    /// Once a block: sends the payment again, until a spend of its coins is buried. Returns whether one is.
    async fn follow(&self, payment: &mut PaymentRecord) -> Result<bool, Trouble> {
        let Some((spend, height)) = self.spend_in_chain(payment) else {
            self.broadcast(payment).await?;
            return Ok(false);
        };
        if payment.paid.as_ref().is_none_or(|paid| paid.transaction.compute_txid() != spend.compute_txid()) {
            self.record(payment, spent_by(payment, spend)).await?;
        }
        if self.node.height() + 1 < height + self.burial {
            return Ok(false);
        }
        self.store.settle_payment(payment.id).await?;
        self.node.wallet().unlock(&coins(&payment.original));
        Ok(true)
    }

    /// Sends what is to be paid. A payjoin that the network refuses, for example because the receiver spent his coin
    /// elsewhere, gives way to the Original.
    async fn broadcast(&self, payment: &mut PaymentRecord) -> Result<(), Trouble> {
        let Some(paid) = &payment.paid else { return Ok(()) };
        let refusal = match self.node.rpc().broadcast(&paid.transaction).await {
            Ok(()) => {
                self.node.wallet().saw(&paid.transaction);
                return Ok(());
            }
            Err(RpcError::Server { message, .. }) if paid.fallback.is_none() => message,
            Err(error) => return Err(Trouble::Bitcoind(error)),
        };
        let instead = plain(payment, &format!("the network refuses the payjoin: {refusal}"));
        self.record(payment, instead).await?;
        Box::pin(self.broadcast(payment)).await
    }

    /// Keeps what is to be paid, then tells of it.
    async fn record(&self, payment: &mut PaymentRecord, paid: Paid) -> Result<(), Trouble> {
        self.store.record_paid(payment.id, &paid).await?;
        let (txid, fallback) = (paid.transaction.compute_txid(), paid.fallback.as_deref());
        tracing::info!(target: "step", step = "paid", payment = payment.id, %txid, fallback);
        payment.paid = Some(paid);
        Ok(())
    }
}
