//! Payments of ours: the loop around [`Outgoing`], which offers them as payjoins and follows them until a spend is buried.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{FeeRate, OutPoint, Psbt, Transaction};
use payjoin_core::{
    Acceptance, Broadcast, Chain, ChainError, Holder, LedgerError, Outgoing, OutgoingInput, OutgoingOutput,
    Paid, PayingWallet, PaymentId, PaymentRecord, Step, WalletError,
};
use payjoin_io::{Payment, SendError, Sender, Sent};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::clock::now;
use crate::events::Events;
use crate::keep::Store;
use crate::settings::Settings;

/// Why a step of a payment must be taken again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the database: {0}")]
    Store(#[from] LedgerError),
    #[error(transparent)]
    Session(#[from] SendError),
    #[error("bitcoind: {0}")]
    Bitcoind(#[from] ChainError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// A conversation with a receiver.
type Talk<'a> = Pin<Box<dyn Future<Output = Result<OutgoingInput, Trouble>> + Send + 'a>>;

/// Why a payment was not begun. Its coins are free.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("the database: {0}")]
    Store(#[from] LedgerError),
    #[error("bitcoind: {0}")]
    Bitcoind(#[from] ChainError),
    /// Its coins may still be held.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The Original could not be a fallback.
    #[error("the network would refuse this payment: {0}")]
    Refused(String),
}

/// Sees payments through, also those that an earlier process began.
pub(crate) struct Payments {
    sender: Sender,
    chain: Arc<dyn Chain>,
    wallet: Arc<dyn PayingWallet>,
    store: Store,
    network: bitcoin::Network,
    burial: u32,
    poll: Duration,
    events: Events,
    /// Changes when a payment was paid.
    news: watch::Sender<()>,
    stop: watch::Receiver<bool>,
}

impl Payments {
    pub(crate) fn new(
        settings: &Settings,
        sender: Sender,
        chain: Arc<dyn Chain>,
        wallet: Arc<dyn PayingWallet>,
        store: Store,
        events: Events,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let (news, _) = watch::channel(());
        let poll = Duration::from_millis(settings.bitcoind.block_poll_ms);
        let (network, burial) = (settings.network, settings.policy.burial);
        Arc::new(Self { sender, chain, wallet, store, network, burial, poll, events, news, stop })
    }

    /// Takes up the payments that an earlier process left.
    pub(crate) async fn resume(self: &Arc<Self>) -> Result<(), LedgerError> {
        self.store.unsettled_payments().await?.into_iter().for_each(|payment| self.spawn(payment));
        Ok(())
    }

    fn spawn(self: &Arc<Self>, payment: PaymentRecord) {
        let (payments, mut stop) = (Arc::clone(self), self.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = payments.run(&payment) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }

    /// Begins to pay this code with an Original whose coins this payment holds.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        id: PaymentId,
        uri: String,
        original: Psbt,
        fee_rate: FeeRate,
    ) -> Result<(), BeginError> {
        let payment = PaymentRecord { id, uri, original, fee_rate, paid: None, settled: false };
        if let Err(error) = self.keep(&payment).await {
            self.wallet.hold(Holder::Payment(id), &[]).await?;
            return Err(error);
        }
        self.spawn(payment);
        Ok(())
    }

    async fn keep(&self, payment: &PaymentRecord) -> Result<(), BeginError> {
        let PaymentRecord { id, uri, original, fee_rate, .. } = payment;
        if let Acceptance::No(reason) = self.chain.inspect(&plain(original)).await?.acceptable {
            return Err(BeginError::Refused(reason));
        }
        Ok(self.store.insert_payment(*id, uri, original, *fee_rate, now()).await?)
    }

    /// Waits until this payment is paid, one way or the other, but no longer than `patience`.
    pub(crate) async fn outcome(
        &self,
        id: PaymentId,
        patience: Duration,
    ) -> Result<Option<Paid>, LedgerError> {
        let mut news = self.news.subscribe();
        let paid =
            async || Ok::<_, LedgerError>(self.store.payment(id).await?.and_then(|payment| payment.paid));
        let wait = async {
            while paid().await?.is_none() && news.changed().await.is_ok() {}
            paid().await
        };
        timeout(patience, wait).await.unwrap_or(Ok(None))
    }

    /// Sees a payment through, until a spend of its coins is buried.
    async fn run(&self, payment: &PaymentRecord) {
        let coins = coins(&payment.original);
        let mut outgoing = Outgoing::new(plain(&payment.original), payment.paid.clone(), self.burial);
        let (mut talk, mut input) = (None::<Talk<'_>>, self.look(&coins, None).await);
        loop {
            let before = outgoing.poll_output();
            if let Err(error) = outgoing.handle_input(now(), input) {
                tracing::error!(payment = payment.id.0, %error);
            }
            let output = outgoing.poll_output();
            if output != before && matches!(output, OutgoingOutput::Wait(None) | OutgoingOutput::Settle) {
                self.news.send_replace(());
            }
            let done = match output {
                OutgoingOutput::Done => return,
                OutgoingOutput::Wait(_) => Ok(self.look_later(&coins, outgoing.tip()).await),
                OutgoingOutput::Offer => tokio::select! {
                    answer = talk.get_or_insert_with(|| Box::pin(self.offer(payment))) => {
                        talk = None;
                        answer
                    }
                    seen = self.look_later(&coins, outgoing.tip()) => Ok(seen),
                },
                output => {
                    talk = None;
                    self.act(payment, output).await
                }
            };
            input = done.unwrap_or_else(|trouble| {
                tracing::warn!(payment = payment.id.0, %trouble, "a payment of ours is tried again");
                OutgoingInput::Failed
            });
        }
    }

    async fn look_later(&self, coins: &[OutPoint], known: Option<u32>) -> OutgoingInput {
        sleep(self.poll).await;
        self.look(coins, known).await
    }

    /// What the chain holds, unless it still has the height that is known.
    async fn look(&self, coins: &[OutPoint], known: Option<u32>) -> OutgoingInput {
        let look = async {
            let tip = self.wallet.height().await?;
            if known == Some(tip) {
                return Ok(OutgoingInput::Tick);
            }
            Ok::<_, WalletError>(OutgoingInput::Chain { tip, spend: self.wallet.spend(coins).await? })
        };
        look.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a payment of ours cannot be followed");
            OutgoingInput::Tick
        })
    }

    /// Does what is asked for, everything but the conversation.
    async fn act(&self, payment: &PaymentRecord, output: OutgoingOutput) -> Result<OutgoingInput, Trouble> {
        Ok(match output {
            OutgoingOutput::Withdraw => {
                self.sender.cancel(&payment.id.0.to_string()).await?;
                OutgoingInput::Done
            }
            OutgoingOutput::Sign(proposal) => {
                match self.wallet.complete(&payment.original, &proposal).await {
                    Err(WalletError::Refused(why)) => OutgoingInput::Signed(Err(why)),
                    signed => OutgoingInput::Signed(Ok(signed?)),
                }
            }
            OutgoingOutput::Record(paid) => {
                self.store.record_paid(payment.id, &paid).await?;
                let txid = paid.transaction.compute_txid();
                self.events.tell(Step::Paid { payment: payment.id.0, txid, fallback: paid.fallback });
                OutgoingInput::Done
            }
            OutgoingOutput::Broadcast(transaction) => {
                let sent = self.chain.broadcast(&transaction).await?;
                match &sent {
                    Broadcast::Taken => self.wallet.sent(&transaction).await,
                    Broadcast::Refused(why) => {
                        tracing::warn!(payment = payment.id.0, why, "the network refuses a payment of ours");
                    }
                }
                OutgoingInput::Sent(sent)
            }
            OutgoingOutput::Settle => {
                self.store.settle_payment(payment.id).await?;
                self.wallet.hold(Holder::Payment(payment.id), &[]).await?;
                OutgoingInput::Done
            }
            OutgoingOutput::Offer | OutgoingOutput::Wait(_) | OutgoingOutput::Done => OutgoingInput::Tick,
        })
    }

    /// The receiver's proposal, or why there is none.
    async fn offer(&self, payment: &PaymentRecord) -> Result<OutgoingInput, Trouble> {
        let name = payment.id.0.to_string();
        let offer = Payment {
            uri: payment.uri.clone(),
            network: self.network,
            original: payment.original.clone(),
            min_fee_rate: payment.fee_rate,
        };
        let sent = match self.sender.begin(&name, &offer).await {
            Ok(()) | Err(SendError::Known(_)) => self.sender.resume(&name).await,
            Err(error) => Err(error),
        };
        Ok(OutgoingInput::Answer(match sent {
            Ok(Sent::Payjoin(proposal)) => Ok(proposal),
            Ok(Sent::Original(fallback)) => Err(fallback.to_string()),
            Err(error @ SendError::Store(_)) => return Err(error.into()),
            Err(error) => Err(error.to_string()),
        }))
    }
}

fn coins(original: &Psbt) -> Vec<OutPoint> {
    original.unsigned_tx.input.iter().map(|input| input.previous_output).collect()
}

fn plain(original: &Psbt) -> Transaction {
    original.clone().extract_tx_unchecked_fee_rate()
}
