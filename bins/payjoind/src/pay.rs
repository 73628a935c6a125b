//! Payments of ours: offered as payjoins, paid one way or the other, watched until a spend is buried.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{FeeRate, OutPoint, Psbt, Transaction};
use payjoin_io::{Paid, Payment, PaymentRecord, SendError, Sender, Sent, Store, StoreError};
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
    #[error(transparent)]
    Session(#[from] SendError),
    #[error("bitcoind: {0}")]
    Bitcoind(RpcError),
}

/// Why a payment was not begun. Its coins are free.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("the database: {0}")]
    Store(#[from] StoreError),
    #[error("bitcoind: {0}")]
    Bitcoind(#[from] RpcError),
    /// The Original could not be a fallback.
    #[error("the network would refuse this payment: {0}")]
    Refused(String),
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
    stop: watch::Receiver<bool>,
}

impl Payer {
    pub(crate) fn new(
        config: &Config,
        sender: Sender,
        node: Arc<Node>,
        store: Store,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let (news, _) = watch::channel(());
        let poll = Duration::from_millis(config.lightning.poll_ms);
        let (network, burial) = (config.network, config.policy.burial);
        Arc::new(Self { sender, node, store, network, burial, poll, news, stop })
    }

    /// Takes up the payments that an earlier process left.
    pub(crate) fn resume(self: &Arc<Self>) -> Result<(), StoreError> {
        self.store.unsettled_payments()?.into_iter().for_each(|payment| self.spawn(payment));
        Ok(())
    }

    fn spawn(self: &Arc<Self>, payment: PaymentRecord) {
        let (payer, mut stop) = (Arc::clone(self), self.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = payer.run(payment) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }

    /// Begins to pay this code with an Original whose coins are locked, and returns the payment's number.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        uri: String,
        original: Psbt,
        fee_rate: FeeRate,
    ) -> Result<u64, BeginError> {
        let kept = self.keep(&uri, &original, fee_rate).await;
        match &kept {
            Ok(id) => {
                self.spawn(PaymentRecord { id: *id, uri, original, fee_rate, paid: None, settled: false });
            }
            Err(_) => self.node.wallet().unlock(&coins(&original)),
        }
        kept
    }

    async fn keep(&self, uri: &str, original: &Psbt, fee_rate: FeeRate) -> Result<u64, BeginError> {
        let transaction = original.clone().extract_tx_unchecked_fee_rate();
        self.node.rpc().inspect(&transaction).await?.acceptable.map_err(BeginError::Refused)?;
        Ok(self.store.insert_payment(uri.to_owned(), original, fee_rate, now()).await?)
    }

    /// Waits until this payment is paid, one way or the other, but no longer than `patience`.
    pub(crate) async fn outcome(&self, id: u64, patience: Duration) -> Result<Option<Paid>, StoreError> {
        let mut news = self.news.subscribe();
        let paid = || Ok::<_, StoreError>(self.store.payment(id)?.and_then(|payment| payment.paid));
        let wait = async {
            while paid()?.is_none() && news.changed().await.is_ok() {}
            paid()
        };
        timeout(patience, wait).await.unwrap_or(Ok(None))
    }

    /// Sees a payment through, until a spend of its coins is buried.
    async fn run(&self, mut payment: PaymentRecord) {
        while let Err(trouble) = self.conclude(&mut payment).await {
            tracing::warn!(payment = payment.id, %trouble, "a payment of ours is tried again");
            sleep(PAUSE).await;
        }
        loop {
            let height = self.node.height();
            let followed = self.follow(&mut payment).await;
            if followed.is_ok() {
                self.news.send_replace(());
            }
            match followed {
                Ok(true) => return,
                Ok(false) => self.other_height(height).await,
                Err(trouble) => {
                    tracing::warn!(payment = payment.id, %trouble, "a payment of ours is tried again");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn other_height(&self, height: u32) {
        while self.node.height() == height {
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
            spend = self.spent(payment) => {
                self.sender.cancel(&payment.id.to_string()).await?;
                return self.record(payment, spent_by(payment, spend)).await;
            }
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
            Err(error @ SendError::Store(_)) => Err(error.into()),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Returns when a block has a spend of the payment's coins.
    async fn spent(&self, payment: &PaymentRecord) -> Transaction {
        loop {
            let height = self.node.height();
            if let Some((spend, _)) = self.spend_in_chain(payment) {
                return spend;
            }
            self.other_height(height).await;
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
            Err(error) if paid.fallback.is_some() => return Err(Trouble::Bitcoind(error)),
            Err(error) => refusal(error)?,
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

/// What bitcoind has against a transaction. A node that starts, or is otherwise not able to judge, refuses nothing.
fn refusal(error: RpcError) -> Result<String, Trouble> {
    /// `RPC_TRANSACTION_ERROR` and `RPC_TRANSACTION_REJECTED`.
    const REFUSALS: [i64; 2] = [-25, -26];
    match error {
        RpcError::Server { code, message } if REFUSALS.contains(&code) => Ok(message),
        error => Err(Trouble::Bitcoind(error)),
    }
}

fn coins(original: &Psbt) -> Vec<OutPoint> {
    original.unsigned_tx.input.iter().map(|input| input.previous_output).collect()
}

/// The Original is to be paid.
fn plain(payment: &PaymentRecord, reason: &str) -> Paid {
    let transaction = payment.original.clone().extract_tx_unchecked_fee_rate();
    Paid { transaction, fallback: Some(reason.to_owned()) }
}

/// What a spend in the chain means. The coins are locked, so only the Original and a payjoin were ever signed for them.
fn spent_by(payment: &PaymentRecord, spend: Transaction) -> Paid {
    if spend.compute_txid() == payment.original.unsigned_tx.compute_txid() {
        return plain(payment, "the receiver broadcast the Original");
    }
    Paid { transaction: spend, fallback: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_judges_a_payjoin_makes_it_give_way_to_the_original() {
        let answer = |code, message: &str| RpcError::Server { code, message: message.into() };
        assert_eq!(refusal(answer(-26, "txn-mempool-conflict")).unwrap(), "txn-mempool-conflict");
        assert_eq!(
            refusal(answer(-25, "bad-txns-inputs-missingorspent")).unwrap(),
            "bad-txns-inputs-missingorspent"
        );
        assert!(refusal(answer(-28, "Loading block index…")).is_err());
        assert!(refusal(RpcError::Unauthorized).is_err());
    }
}
