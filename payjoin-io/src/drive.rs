//! The loop around an [`Exchange`]: each question goes to the role that can answer it.

mod channels;
mod wishes;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::OutPoint;
use payjoin_core::{
    Acceptance, Admission, AdmitOutcome, Answer, ChainError, Exchange, ExchangeId, Holder, IntentId,
    Openable, OriginalId, Output, Question, Release, Reply, ResourceRequest, Resources, Step, Timestamp,
};
use tokio::time::timeout;

use crate::host::{Leftovers, Number};
use crate::watched::Watches;
use crate::{Host, HostError, Payer};

/// Takes an exchange to its reply. Whatever it reserved and did not release is given back. What it cannot give back, after
/// a panic too, the next [`Settler::tick`](crate::Settler::tick) does.
pub async fn drive(host: &Host, exchange: &mut Exchange) -> Reply {
    drive_for(host, exchange, &Timestamp(u64::MAX)).await
}

/// [`drive`] for a payer who may leave: from then on no channel is opened for him.
pub async fn drive_for(host: &Host, exchange: &mut Exchange, payer: &dyn Payer) -> Reply {
    let mut attempt = Attempt::new(host, payer, exchange.original_id().clone());
    let reply = loop {
        let question = match exchange.poll_output() {
            Output::Done(reply) => break reply,
            Output::Ask(question) => question,
        };
        let answer = attempt.answer(question, exchange.deadline()).await;
        if let Err(bug) = exchange.handle_input(host.now(), answer) {
            tracing::error!(%bug, "an exchange ended early");
            break Reply::TRY_LATER;
        }
    };
    if let Reply::Error { message, status, .. } = &reply {
        tracing::info!(status, message, reason = attempt.trouble, "an exchange was refused");
    }
    attempt.end().await;
    reply
}

/// What one exchange has in hand.
struct Attempt<'a> {
    host: &'a Host,
    payer: &'a dyn Payer,
    original: OriginalId,
    /// Its number, once it needs one.
    number: Option<Number>,
    /// Intents in hand, not taken in the store.
    intents: Vec<IntentId>,
    /// Intents taken in the store, whose peers have got no `funding_created`.
    slots: Vec<IntentId>,
    /// The coins that it holds according to the store.
    coins: Vec<OutPoint>,
    /// The wallet may think otherwise, or the store be in the middle of a write.
    unsure: bool,
    /// The payer's inputs and our coins: a block that spends one before the settler knows of us is kept for it.
    watches: Watches,
    /// Admitted and not released.
    admitted: bool,
    /// The Lightning node may have channels of it.
    channels: bool,
    /// Why the last question could not be answered.
    trouble: Option<String>,
}

impl<'a> Attempt<'a> {
    fn new(host: &'a Host, payer: &'a dyn Payer, original: OriginalId) -> Self {
        let (intents, slots, coins, watches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (number, unsure, admitted, channels, trouble) = (None, false, false, false, None);
        Self {
            host,
            payer,
            original,
            number,
            intents,
            slots,
            coins,
            unsure,
            watches,
            admitted,
            channels,
            trouble,
        }
    }

    async fn answer(&mut self, question: Question, deadline: Timestamp) -> Answer {
        let lightning = matches!(question, Question::OpenChannels(_) | Question::Fund(..));
        let error = match self.ask(question, deadline).await {
            Ok(answer) => return answer,
            Err(HostError(error)) => error,
        };
        tracing::warn!(%error, exchange = self.number.as_ref().map(|number| number.exchange.0), "a question was not answered");
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
            Question::Recall(original) => Answer::Recalled(host.store.recall(&original).await?),
            Question::Inspect(transaction) => {
                // From before the look: what is mined later must be told to the settler.
                self.watch(transaction.input.iter().map(|input| input.previous_output));
                let inspection = in_time(left, host.chain.inspect(&transaction)).await?;
                match &inspection.acceptable {
                    Acceptance::Yes => {}
                    Acceptance::No(reason) => {
                        tracing::info!(?reason, "the node would not take an Original");
                    }
                    Acceptance::Unknown(reason) => {
                        tracing::info!(?reason, "the node cannot judge an Original");
                    }
                }
                Answer::Inspected(inspection)
            }
            Question::Owns(scripts) => Answer::Owned(in_time(left, host.wallet.owns(&scripts)).await?),
            Question::Resources(request) => Answer::Resources(self.reserve(&request, left).await?),
            Question::Admit(admission) => self.admit(&admission).await?,
            Question::Offer(admission, release) => self.offer(&admission, &release).await?,
            Question::Scripts(count) => Answer::Scripts(in_time(left, host.wallet.scripts(count)).await?),
            Question::OpenChannels(channels) => Answer::Opened(self.open(channels, left).await?),
            Question::Fund(proposal, last) => self.fund(&proposal, &last, left).await?,
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

    /// That of an earlier attempt with the same Original which failed, or one that nobody had.
    async fn id(&mut self) -> Result<ExchangeId, HostError> {
        if let Some(number) = &self.number {
            return Ok(number.exchange);
        }
        let store = &self.host.store;
        let failed = store.failed_exchange(&self.original).await?;
        let number = self.host.take_number(failed.unwrap_or_else(|| store.new_exchange()));
        // Again: another attempt may have had it in hand until now.
        match (number, store.failed_exchange(&self.original).await? == failed) {
            (Some(number), true) => Ok(self.number.insert(number).exchange),
            _ => Err(HostError("the same Original is being served".into())),
        }
    }

    /// Past its share of offers an invoice gets neither coins nor channels, and while coins were shown to an attempt at it
    /// that is not over, those and no others, unless the mempool spends them already (money rule 8).
    async fn reserve(&mut self, request: &ResourceRequest, left: Duration) -> Result<Resources, HostError> {
        let host = self.host;
        host.tell(None, Step::Original { invoice: request.invoice.clone(), amount: request.payment });
        if host.store.offers(&request.invoice).await? >= host.policy().offers_per_invoice {
            return Ok(Resources::default());
        }
        let shown = host.store.offered_coins(&request.invoice).await?;
        let free = in_time(left, unspent(host, &shown)).await?;
        let holder = Holder::Exchange(self.id().await?);
        self.unsure = true;
        let (mut coins, reserve) = in_time(left, host.wallet.reserve(holder, request, &free)).await?;
        coins.retain(|coin| shown.is_empty() || free.contains(&coin.outpoint));
        self.watch(coins.iter().map(|coin| coin.outpoint));
        let openable = match self.may_open(&request.invoice).await? {
            true => self.wishes(request.channels).await?,
            false => Openable::default(),
        };
        let Openable { wishes, scarce, .. } = openable;
        Ok(Resources { wishes, scarce, coins, shown, reserve, height: host.height() })
    }

    async fn admit(&mut self, admission: &Admission) -> Result<Answer, HostError> {
        let (host, id) = (self.host, self.id().await?);
        self.unsure = true;
        if let Some(refusal) = refusal(host.store.admit(id, admission).await?) {
            return Ok(refusal);
        }
        self.admitted = true;
        self.slots.clone_from(&admission.intents);
        self.hold(&admission.coins).await;
        self.let_go_of_intents();
        // The payer may broadcast at any moment: the settler watches from here on.
        host.owes(id, self.watches.clone());
        Ok(Answer::Admitted(id))
    }

    async fn offer(&mut self, admission: &Admission, release: &Release) -> Result<Answer, HostError> {
        let (host, id) = (self.host, self.id().await?);
        self.unsure = true;
        if let Some(refusal) = refusal(host.store.offer(id, admission, release).await?) {
            return Ok(refusal);
        }
        self.hold(&release.coins).await;
        host.owes(id, self.watches.clone());
        host.tell(id, told(release));
        Ok(Answer::Released)
    }

    /// Tells the wallet what the store has.
    async fn hold(&mut self, coins: &[OutPoint]) {
        let Some(number) = &self.number else { return };
        self.coins = coins.to_vec();
        let held = self.host.hold(number.exchange, coins).await;
        if let Err(error) = &held {
            tracing::warn!(%error, exchange = number.exchange.0, "the wallet does not know what an exchange holds");
        }
        self.unsure = held.is_err();
    }

    async fn abandon(&mut self, reason: &str) {
        if let (true, Some(number)) = (self.channels, &self.number) {
            self.host.funder.abandon(number.exchange, reason).await;
        }
        self.channels = false;
    }

    async fn release(&mut self, exchange: ExchangeId, release: &Release) -> Result<Answer, HostError> {
        let host = self.host;
        let node = match release.channels.is_empty() {
            true => Vec::new(),
            false => host.funder.state(exchange, &release.channels).await?,
        };
        host.store.release(exchange, release, node).await?;
        (self.admitted, self.channels) = (false, false);
        self.hold(&release.coins).await;
        host.owes(exchange, self.watches.clone());
        host.tell(exchange, told(release));
        Ok(Answer::Released)
    }

    fn let_go_of_intents(&mut self) {
        let mut reserved = self.host.reserved();
        reserved.given_back += u64::from(!self.intents.is_empty());
        for intent in self.intents.drain(..) {
            reserved.intents.remove(&intent);
        }
    }

    fn watch(&mut self, coins: impl IntoIterator<Item = OutPoint>) {
        self.watches.push(Arc::new(self.host.watched().watch(coins)));
    }

    fn leftovers(&mut self) -> Option<Leftovers> {
        let exchange = self.number.as_ref().filter(|_| self.admitted || self.unsure)?.exchange;
        let reason = self.trouble.take();
        let reason = reason.unwrap_or_else(|| "the exchange ended without a proposal".to_owned());
        Some(Leftovers { exchange, channels: self.channels, reason, watches: self.watches.clone() })
    }

    /// Gives everything back that did not leave.
    async fn end(&mut self) {
        self.let_go_of_intents();
        self.free_slots().await;
        let Some(left) = self.leftovers() else { return };
        if self.admitted {
            if let Err(error) = self.host.give_up(&left).await {
                tracing::error!(%error, exchange = left.exchange.0, "an exchange stays locked for now");
                return self.host.leave(left);
            }
            (self.admitted, self.coins) = (false, Vec::new());
        }
        let coins = std::mem::take(&mut self.coins);
        self.hold(&coins).await;
        if std::mem::take(&mut self.unsure) {
            self.host.leave(left);
        }
    }
}

impl Drop for Attempt<'_> {
    /// After a panic or a cancellation something is left.
    fn drop(&mut self) {
        self.let_go_of_intents();
        if let Some(left) = self.leftovers() {
            self.host.leave(left);
        }
    }
}

/// Those of these coins that no transaction in the mempool spends.
async fn unspent(host: &Host, coins: &[OutPoint]) -> Result<Vec<OutPoint>, ChainError> {
    if coins.is_empty() {
        return Ok(Vec::new());
    }
    let spent = host.chain.spent(coins).await?;
    Ok(coins.iter().zip(spent).filter(|(_, spent)| !spent).map(|(coin, _)| *coin).collect())
}

/// Why nothing was admitted.
fn refusal(outcome: AdmitOutcome) -> Option<Answer> {
    match outcome {
        AdmitOutcome::Admitted => None,
        AdmitOutcome::Seen => Some(Answer::Seen),
        AdmitOutcome::Paid => Some(Answer::Paid),
    }
}

fn told(release: &Release) -> Step {
    let (channels, reason) = (release.channels.len(), release.reason.clone());
    Step::Proposal { txid: release.is_final.then_some(release.txid), channels, reason }
}

/// Why something that waits for others was not done.
enum Late<E> {
    Failed(E),
    OutOfTime,
}

impl<E: Into<HostError>> From<Late<E>> for HostError {
    fn from(late: Late<E>) -> Self {
        match late {
            Late::Failed(error) => error.into(),
            Late::OutOfTime => Self("out of time".into()),
        }
    }
}

async fn in_time<T, E>(left: Duration, work: impl Future<Output = Result<T, E>>) -> Result<T, Late<E>> {
    match timeout(left, work).await {
        Ok(done) => done.map_err(Late::Failed),
        Err(_) => Err(Late::OutOfTime),
    }
}

#[cfg(test)]
mod tests;
