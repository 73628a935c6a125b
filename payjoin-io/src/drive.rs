//! The loop around an [`Exchange`]: each question goes to the role that can answer it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::OutPoint;
use payjoin_core::{
    Admission, Answer, Exchange, ExchangeId, IntentId, MOST_CHANNELS, Output, Question, Release, Reply,
    ResourceRequest, Resources, Timestamp,
};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::host::Watches;
use crate::{AdmitOutcome, Host, HostError, StoreError};

/// A funder keeps the time of its channels itself, and says which were late. It is cut when it does not.
const GRACE: Duration = Duration::from_secs(2);

/// Takes an exchange to its reply. Whatever it reserved and did not release is given back, after a panic too.
///
/// Run it in a task of its own and let it end: when the future is dropped in the middle of a durable write, what that
/// write locked stays locked, and what it made us owe is seen to from the next start on, after
/// [`Store::recover`](crate::Store::recover).
pub async fn drive(host: &Host, exchange: &mut Exchange) -> Reply {
    let mut attempt = Attempt::new(host);
    let reply = loop {
        let question = match exchange.poll_output() {
            Output::Done(reply) => break reply,
            Output::Ask(question) => question,
        };
        let answer = attempt.answer(question, exchange.deadline()).await;
        if let Err(bug) = exchange.handle_input(host.now(), answer) {
            tracing::error!(%bug, "an exchange ended early");
            break Reply::unavailable("Try again later.");
        }
    };
    if let Reply::Error { message, status, .. } = &reply {
        tracing::info!(status, message, reason = attempt.trouble, "an exchange was refused");
    }
    attempt.end().await;
    reply
}

/// What one exchange holds.
struct Attempt<'a> {
    host: &'a Host,
    /// Intents in hand, not taken in the store.
    intents: Vec<IntentId>,
    /// Coins reserved in the wallet, not locked in the store.
    coins: Vec<OutPoint>,
    /// The payer's inputs and our coins: a block that spends one before the settler knows of us is kept for it.
    watches: Watches,
    /// Admitted and not released.
    admitted: Option<ExchangeId>,
    /// The Lightning node may have channels of it.
    channels: bool,
    /// Why the last question could not be answered.
    trouble: Option<String>,
}

impl<'a> Attempt<'a> {
    fn new(host: &'a Host) -> Self {
        let (intents, coins, watches) = (Vec::new(), Vec::new(), Vec::new());
        Self { host, intents, coins, watches, admitted: None, channels: false, trouble: None }
    }

    async fn answer(&mut self, question: Question, deadline: Timestamp) -> Answer {
        let lightning = matches!(question, Question::OpenChannels(_) | Question::Fund(_));
        let error = match self.ask(question, deadline).await {
            Ok(answer) => return answer,
            Err(HostError(error)) => error,
        };
        tracing::warn!(%error, exchange = self.admitted.map(|id| id.0), "a question was not answered");
        self.trouble = Some(error.clone());
        if !lightning {
            return Answer::Failed(error);
        }
        self.abandon(&error).await;
        Answer::ChannelsFailed(error)
    }

    /// Only what waits for others is cut at the deadline. A durable write is not: its outcome must be known.
    async fn ask(&mut self, question: Question, deadline: Timestamp) -> Result<Answer, HostError> {
        let host = self.host;
        let left = Duration::from_secs(deadline.0.saturating_sub(host.now().0));
        Ok(match question {
            Question::Recall(original) => Answer::Recalled(host.store.recall(&original)?),
            Question::Inspect(transaction) => {
                // From before the look: what is mined later must be told to the settler.
                self.watch(transaction.input.iter().map(|input| input.previous_output));
                let inspection = in_time(left, host.chain.inspect(&transaction)).await?;
                if let Err(reason) = &inspection.acceptable {
                    tracing::info!(?reason, "the node would not take an Original");
                }
                Answer::Inspected(inspection)
            }
            Question::Owns(scripts) => Answer::Owned(host.wallet.owns(&scripts)),
            Question::Resources(request) => Answer::Resources(self.reserve(&request)?),
            Question::Admit(admission) => self.admit(&admission).await?,
            Question::Offer(admission, release) => self.offer(&admission, &release).await?,
            Question::OpenChannels(channels) => {
                let id = self.id()?;
                self.channels = true;
                Answer::Opened(in_time(left + GRACE, host.funder.open(id, &channels)).await?)
            }
            Question::Fund(proposal) => {
                in_time(left + GRACE, host.funder.fund(self.id()?, &proposal)).await?;
                Answer::Funded
            }
            Question::Abandon(reason) => {
                self.abandon(reason).await;
                Answer::Abandoned
            }
            Question::Sign(proposal) => {
                Answer::Signed(Box::new(in_time(left, host.wallet.sign(&proposal)).await?))
            }
            Question::Release(exchange, release) => self.release(exchange, &release).await?,
        })
    }

    fn id(&self) -> Result<ExchangeId, HostError> {
        self.admitted.ok_or_else(|| HostError("the exchange is not admitted".into()))
    }

    /// Past its share of offers an invoice gets neither coins nor channels (money rule 8).
    fn reserve(&mut self, request: &ResourceRequest) -> Result<Resources, HostError> {
        let host = self.host;
        let (invoice, amount_sat) = (&request.invoice.0, request.payment.to_sat());
        tracing::info!(target: "step", step = "Original PSBT", %invoice, amount_sat);
        if host.store.offers(&request.invoice)? >= host.policy.offers_per_invoice {
            return Ok(Resources::default());
        }
        let shown = host.store.offered_coins(&request.invoice)?;
        let (coins, reserve) = host.wallet.reserve(request, &shown)?;
        self.coins = coins.iter().map(|coin| coin.outpoint).collect();
        self.watch(self.coins.clone());
        // Before the look at the queue: what another exchange takes from there leaves the reserved ones only then.
        let mut reserved = host.reserved();
        let mut wishes = host.store.queued_wishes(MOST_CHANNELS)?;
        if request.channels {
            wishes.retain(|wish| reserved.insert(wish.id));
            self.intents = wishes.iter().map(|wish| wish.id).collect();
        }
        Ok(Resources { wishes, coins, shown, reserve })
    }

    async fn admit(&mut self, admission: &Admission) -> Result<Answer, HostError> {
        let write = self.host.store.admit(admission);
        let Some(id) = self.record(admission, write).await? else { return Ok(Answer::Seen) };
        self.admitted = Some(id);
        self.give_back();
        // The payer may broadcast at any moment: the settler watches from here on.
        self.host.owes(id, self.watches.clone());
        Ok(Answer::Admitted(id))
    }

    async fn offer(&mut self, admission: &Admission, release: &Release) -> Result<Answer, HostError> {
        let write = self.host.store.offer(admission, release);
        let Some(id) = self.record(admission, write).await? else { return Ok(Answer::Seen) };
        self.give_back();
        self.host.owes(id, self.watches.clone());
        tell(release);
        Ok(Answer::Released)
    }

    /// Puts the exchange on record: from then on the store says who holds its coins. `None`: an input was seen.
    async fn record(
        &mut self,
        admission: &Admission,
        write: impl Future<Output = Result<AdmitOutcome, StoreError>>,
    ) -> Result<Option<ExchangeId>, HostError> {
        // Not ours to give back while it is not known whether the store has them.
        let taken: Vec<_> = self.coins.extract_if(.., |coin| admission.coins.contains(coin)).collect();
        let outcome = write.await;
        if let Ok(AdmitOutcome::Admitted(id)) = outcome {
            return Ok(Some(id));
        }
        self.coins.extend(taken);
        outcome?;
        Ok(None)
    }

    async fn abandon(&mut self, reason: &str) {
        if let (true, Some(id)) = (self.channels, self.admitted) {
            self.host.funder.abandon(id, reason).await;
        }
        self.channels = false;
    }

    async fn release(&mut self, exchange: ExchangeId, release: &Release) -> Result<Answer, HostError> {
        let host = self.host;
        let node = match release.channels.is_empty() {
            true => Vec::new(),
            false => host.funder.state(exchange, &release.channels).await?,
        };
        // Nothing may be undone while it is not known whether the proposal is out.
        let id = self.admitted.take();
        match host.store.release(exchange, release, node).await {
            Ok(freed) => host.wallet.unlock(&freed),
            Err(error) => {
                self.admitted = id;
                return Err(error.into());
            }
        }
        host.owes(exchange, self.watches.clone());
        tell(release);
        Ok(Answer::Released)
    }

    /// Gives back what was reserved in memory.
    fn give_back(&mut self) {
        let mut reserved = self.host.reserved();
        for intent in self.intents.drain(..) {
            reserved.remove(&intent);
        }
        drop(reserved);
        self.host.wallet.unlock(&std::mem::take(&mut self.coins));
    }

    fn watch(&mut self, coins: impl IntoIterator<Item = OutPoint>) {
        self.watches.push(Arc::new(self.host.watched().watch(coins)));
    }

    fn undo(&mut self, id: ExchangeId) -> impl Future<Output = ()> + use<> {
        undo(self.host.clone(), id, self.channels, self.trouble.take(), self.watches.clone())
    }

    async fn end(&mut self) {
        if let Some(id) = self.admitted {
            self.undo(id).await;
            self.admitted = None;
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.give_back();
        // Here after a panic or a cancellation only.
        if let (Some(id), Ok(runtime)) = (self.admitted, Handle::try_current()) {
            runtime.spawn(self.undo(id));
        }
    }
}

fn tell(release: &Release) {
    let (txid, channels, reason) = (release.txid, release.channels.len(), release.reason.as_deref());
    tracing::info!(target: "step", step = "Proposal PSBT", %txid, channels, reason);
}

/// Ends an exchange that was admitted and not released. Its channels go first: until then its intents are taken.
async fn undo(host: Host, id: ExchangeId, channels: bool, trouble: Option<String>, watches: Watches) {
    let reason = trouble.as_deref().unwrap_or("the exchange ended without a proposal");
    if channels {
        host.funder.abandon(id, reason).await;
    }
    match host.store.fail(id, reason).await {
        Ok(freed) => host.wallet.unlock(&freed),
        Err(error) => {
            tracing::error!(%error, exchange = id.0, "an exchange stays locked until the next start")
        }
    }
    host.owes(id, watches);
}

async fn in_time<T>(
    left: Duration,
    work: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    timeout(left, work).await.unwrap_or_else(|_| Err(HostError("out of time".into())))
}

#[cfg(test)]
mod tests;
