//! One Original PSBT in, one reply out.

mod delivery;
mod facts;
mod negotiation;
mod params;
mod proposal;
mod reasons;
mod repeat;
mod request;
mod state;

use bitcoin::Psbt;

pub use self::delivery::Delivery;
use self::facts::{Facts, Inspected, Vetted};
use self::proposal::{Drafter, dummy_scripts};
use self::reasons::passed_over;
use self::request::Original;
use self::state::{Admitted, OnRecord, Ready, Signing, State, funded_channels, outpoints, sign_plain};
use crate::{
    Admission, Answer, Coin, ExchangeId, FundedChannel, Invoice, OriginalId, Plan, PlanRequest, Policy,
    Question, Release, Reply, ResourceRequest, Resources, Timestamp, plan,
};

/// Kept back of the time, so that a plain payjoin can be signed and stored after channels failed.
const MARGIN_SECONDS: u64 = 5;
/// A request as it came over the wire, body already read and bounded. One from a mailbox has the same shape; its
/// `v` is not a parameter of BIP 77.
#[derive(Clone, Debug)]
pub struct Request {
    /// The part of the target after `?`, without it.
    pub query: String,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The `Content-Length` header.
    pub content_length: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// TLS, onion or end-to-end encryption: money rule 10 allows substitution only then.
    pub authenticated: bool,
    /// How the reply travels.
    pub delivery: Delivery,
}

/// What the exchange wants.
#[derive(Clone, Debug)]
pub enum Output {
    /// Ask the host and bring the answer.
    Ask(Question),
    /// The reply; the exchange is over.
    Done(Reply),
}

/// The caller broke the protocol of the machine. A bug of the caller, never of the payer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// An answer that does not fit the outstanding question.
    #[error("the answer does not fit the outstanding question")]
    UnexpectedAnswer,
}

/// The receiver's machine.
///
/// Every check that can refuse comes before [`Question::Admit`], and so does a dry run of the proposals: a refused
/// request leaves nothing behind, and no peer is bothered for a proposal that cannot be built. A plain payjoin needs no
/// peer: it is signed first, and [`Question::Offer`] is the only write. What the host reserved for
/// [`Question::Resources`] and the exchange did not admit is the host's to free, as is everything of an admitted
/// exchange that ends without [`Question::Release`].
#[derive(Debug)]
pub struct Exchange {
    id: OriginalId,
    invoice: Invoice,
    policy: Policy,
    delivery: Delivery,
    begun: Timestamp,
    state: State,
}

impl Exchange {
    /// Begins with a request for `invoice`. A bad request shows as [`Output::Done`].
    #[must_use]
    pub fn new(now: Timestamp, invoice: Invoice, request: Request, mut policy: Policy) -> Self {
        policy.top_up |= invoice.top_up;
        let (id, state) = match Original::parse(&request, &invoice) {
            Ok(original) => {
                (OriginalId::of(&invoice.id, &original.transaction), State::Recall(Box::new(original)))
            }
            Err(reply) => (OriginalId::of_bytes(&invoice.id, &request.body), State::Done(reply)),
        };
        Self { id, invoice, policy, delivery: request.delivery, begun: now, state }
    }

    /// Identity of the Original.
    #[must_use]
    pub fn original_id(&self) -> &OriginalId {
        &self.id
    }

    /// Brings the answer to the outstanding question.
    ///
    /// # Errors
    /// [`ExchangeError::UnexpectedAnswer`] when the answer is not one of those the question names. The question stays
    /// outstanding.
    pub fn handle_input(&mut self, now: Timestamp, answer: Answer) -> Result<(), ExchangeError> {
        let state = std::mem::replace(&mut self.state, State::Done(Reply::NO_PAYJOIN));
        let (state, outcome) = match self.step(now, state, answer) {
            Ok(next) => (next, Ok(())),
            Err(same) => (*same, Err(ExchangeError::UnexpectedAnswer)),
        };
        self.state = state;
        outcome
    }

    /// The outstanding question, or the reply.
    #[must_use]
    pub fn poll_output(&mut self) -> Output {
        Output::Ask(match &self.state {
            State::Recall(_) => Question::Recall(self.id.clone()),
            State::Inspect(original) => Question::Inspect(original.transaction.clone()),
            State::Owns(inspected) => Question::Owns(inspected.facts.spent_scripts()),
            State::Resources(vetted) => Question::Resources(self.resource_request(vetted)),
            State::Admit(ready) => Question::Admit(ready.admission.clone()),
            State::Keep(admission) => Question::Admit(*admission.clone()),
            State::Offer(admission, release) => Question::Offer(admission.clone(), release.clone()),
            State::Scripts(admitted) => Question::Scripts(admitted.plan.splits.len()),
            State::Open(admitted) => Question::OpenChannels(admitted.wanted.clone()),
            State::Fund(admitted, _, stable) => Question::Fund(stable.clone(), admitted.scarce.clone()),
            State::Sign(signing) => Question::Sign(signing.draft.checked.clone()),
            State::Release(exchange, release) => Question::Release(*exchange, release.clone()),
            State::Abandon(reason, _) => Question::Abandon(reason),
            State::Done(reply) => return Output::Done(reply.clone()),
        })
    }

    /// When the host must have answered the outstanding question. Past it the caller brings
    /// [`Answer::ChannelsFailed`] (every channel abandoned) for a channel question and [`Answer::Failed`] for any
    /// other. A durable write has no deadline (`u64::MAX`): its outcome must be known, never guessed.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        match &self.state {
            State::Open(admitted) | State::Fund(admitted, _, _) => self.channel_deadline(admitted.begun),
            State::Admit(_) | State::Offer(..) | State::Keep(_) | State::Release(..) | State::Abandon(..) => {
                Timestamp(u64::MAX)
            }
            _ => self.begun.plus(self.policy.exchange_seconds),
        }
    }

    fn channel_deadline(&self, begun: Timestamp) -> Timestamp {
        let exchange = self.begun.plus(self.policy.exchange_seconds.saturating_sub(MARGIN_SECONDS));
        begun.plus(self.policy.channel_seconds).min(exchange)
    }

    /// The next state, or the same one when the answer does not fit. First half: nothing is on record yet.
    fn step(&self, now: Timestamp, state: State, answer: Answer) -> Result<State, Box<State>> {
        Ok(match (state, answer) {
            (state @ State::Done(_), _) => return Err(Box::new(state)),
            (state, Answer::Failed(_)) => self.failed(state),
            (State::Recall(original), Answer::Recalled(Some(proposal))) => {
                State::Done(repeat::answer(&original, proposal, self.delivery))
            }
            (State::Recall(original), Answer::Recalled(None)) => self.recalled(original),
            (State::Inspect(original), Answer::Inspected(inspection))
                if inspection.prevouts.len() == original.transaction.input.len() =>
            {
                match Inspected::new(*original, inspection, &self.policy) {
                    Ok(inspected) => State::Owns(Box::new(inspected)),
                    Err(reply) => State::Done(reply),
                }
            }
            (State::Owns(inspected), Answer::Owned(owned))
                if owned.len() == inspected.facts.prevouts.len() =>
            {
                match inspected.vet(&owned) {
                    Ok(vetted) => State::Resources(Box::new(vetted)),
                    Err(reply) => State::Done(reply),
                }
            }
            (State::Resources(vetted), Answer::Resources(resources)) => self.ready(now, *vetted, resources),
            (State::Admit(_) | State::Offer(..) | State::Keep(_), Answer::Seen) => {
                State::Done(Reply::OFFERED_BEFORE)
            }
            (State::Admit(_) | State::Offer(..) | State::Keep(_), Answer::Paid) => State::Done(Reply::PAID),
            (State::Admit(ready), Answer::Admitted(exchange)) => self.admitted(now, *ready, exchange),
            (State::Keep(_), Answer::Admitted(_)) => State::Done(Reply::NO_PAYJOIN),
            (State::Offer(_, release), Answer::Released) => State::Done(Reply::Proposal(release.proposal)),
            (state, answer) => return self.step_admitted(now, state, answer),
        })
    }

    /// Second half: the Original is kept, coins are locked, intents are taken. A plain payjoin gets there in one leap,
    /// once it is signed.
    fn step_admitted(&self, now: Timestamp, state: State, answer: Answer) -> Result<State, Box<State>> {
        Ok(match (state, answer) {
            (State::Scripts(mut admitted), Answer::Scripts(own))
                if own.len() == admitted.plan.splits.len() =>
            {
                admitted.own = own;
                State::Open(admitted)
            }
            (State::Open(admitted), Answer::Opened(answers)) => self.opened(admitted, answers),
            (State::Open(admitted) | State::Fund(admitted, _, _), Answer::ChannelsFailed(reason)) => {
                plain(*admitted, Some(reason))
            }
            (State::Fund(admitted, _, _), Answer::Short(left)) if left.len() == admitted.open.len() => {
                self.short(now, admitted, left)
            }
            (State::Fund(admitted, draft, stable), Answer::Funded) => State::Sign(Box::new(Signing {
                on_record: OnRecord::Yes(admitted.exchange),
                draft: *draft,
                channels: funded_channels(&stable),
                reason: admitted.reason,
            })),
            (State::Sign(signing), Answer::Signed(psbt)) => self.signed(now, *signing, &psbt),
            (State::Release(_, release), Answer::Released) => State::Done(Reply::Proposal(release.proposal)),
            (State::Abandon(_, next), Answer::Abandoned) => abandoned(next),
            (state, _) => return Err(Box::new(state)),
        })
    }

    /// The host could not do it. What was opened is abandoned; the payer reads `unavailable`.
    fn failed(&self, state: State) -> State {
        match state {
            State::Scripts(admitted) => {
                plain(*admitted, Some("the wallet has no scripts for its change".into()))
            }
            State::Open(_) | State::Fund(..) => State::Abandon("the Lightning node failed", None),
            State::Sign(signing) => unsigned(signing.on_record, &signing.channels),
            State::Release(_, release) if !release.channels.is_empty() => {
                State::Abandon("the proposal could not be stored", None)
            }
            State::Abandon(_, next) => abandoned(next),
            _ => State::Done(Reply::NO_PAYJOIN),
        }
    }

    fn recalled(&self, original: Box<Original>) -> State {
        if self.begun > self.invoice.expires {
            return State::Done(Reply::EXPIRED);
        }
        State::Inspect(original)
    }

    fn resource_request(&self, vetted: &Vetted) -> ResourceRequest {
        let facts = &vetted.facts;
        ResourceRequest {
            invoice: self.invoice.id.clone(),
            payment: facts.payment().map(|payment| payment.value).unwrap_or_default(),
            payer_script: facts.spent_scripts().into_iter().next().unwrap_or_default(),
            channels: facts.hindrance().is_none(),
        }
    }

    /// Plans, and proves by a dry run that the plan and its plain substitute can be carried out.
    fn ready(&self, now: Timestamp, vetted: Vetted, mut resources: Resources) -> State {
        let facts = &vetted.facts;
        if !facts.allows_coins() {
            resources.coins.clear();
        }
        // Money rule 8: as long as an attempt at this invoice may still be mined, no other coin is shown to it.
        if !resources.shown.is_empty() {
            resources.coins.retain(|coin| resources.shown.contains(&coin.outpoint));
        }
        let (plan, reason) = match facts.hindrance() {
            Some(hindrance) => (None, (!resources.wishes.is_empty()).then(|| hindrance.to_owned())),
            None => self.planned(&vetted, &resources),
        };
        let Some(request) = self.plan_request(facts, &resources) else {
            return State::Done(Reply::NO_PAYJOIN);
        };
        let mut coins = request.plain_coins();
        if let Some(plan) = &plan {
            coins.retain(|coin| plan.coins.contains(coin));
        }
        let drafter = self.drafter(&vetted);
        let fitting = |coins: &[Coin]| drafter.plain(coins).ok().filter(|draft| draft.fits(self.delivery));
        let Some(plain) = fitting(&coins).or_else(|| fitting(&[])) else {
            return State::Done(Reply::NO_PAYJOIN);
        };
        let mut admission = self.admission(now, &vetted, plan.as_ref(), plain.coins());
        admission.height = resources.height;
        match plan {
            Some(plan) => {
                let scarce = resources.scarce;
                State::Admit(Box::new(Ready { vetted, plan, scarce, plain, admission }))
            }
            None => sign_plain(OnRecord::No(Box::new(admission)), plain, reason),
        }
    }

    fn plan_request<'a>(&'a self, facts: &'a Facts, resources: &'a Resources) -> Option<PlanRequest<'a>> {
        let (output, types, fees) = (facts.output, facts.types(), facts.fees);
        let (payer_is_me, policy) = (self.invoice.payer_is_me, &self.policy);
        let (payment, outputs) = (facts.payment()?, &*facts.transaction.output);
        Some(PlanRequest { payment, outputs, output, resources, types, fees, payer_is_me, policy })
    }

    fn drafter<'a>(&'a self, vetted: &'a Vetted) -> Drafter<'a> {
        Drafter::new(vetted, &self.policy, self.invoice.payer_is_me)
    }

    /// The channels to open, as many as the reply has room for; otherwise why there are none though some are queued.
    fn planned(&self, vetted: &Vetted, resources: &Resources) -> (Option<Plan>, Option<String>) {
        let mut resources = resources.clone();
        let mut too_long = false;
        while let Some(plan) = self.plan_request(&vetted.facts, &resources).and_then(|request| plan(&request))
        {
            let scripts = dummy_scripts(plan.channels.len() + plan.splits.len());
            let (funding, own) = scripts.split_at(plan.channels.len());
            let draft = self.drafter(vetted).channels(&plan, funding, own);
            match draft.ok().filter(|draft| draft.stable().is_ok()) {
                Some(draft) if draft.fits(self.delivery) => return (Some(plan), None),
                Some(_) => too_long = true,
                None => break,
            }
            let last = plan.channels.last().map(|channel| channel.intent);
            resources.wishes.retain(|wish| Some(wish.id) != last);
        }
        let reason = match too_long {
            true => Some("no channel: the reply would be longer than the payer's mailbox holds".to_owned()),
            false => self
                .plan_request(&vetted.facts, &resources)
                .and_then(|request| passed_over(&vetted.facts, &request)),
        };
        (None, reason)
    }

    fn admission(&self, now: Timestamp, vetted: &Vetted, plan: Option<&Plan>, coins: &[Coin]) -> Admission {
        Admission {
            invoice: self.invoice.id.clone(),
            original_id: self.id.clone(),
            original: vetted.facts.transaction.clone(),
            fee: vetted.facts.fees.fee,
            coins: outpoints(plan.map_or(coins, |plan| &plan.coins)),
            intents: plan
                .map_or_else(Vec::new, |plan| plan.channels.iter().map(|channel| channel.intent).collect()),
            now,
            height: 0,
            fallback_at: now.plus(self.policy.fallback_seconds),
        }
    }

    fn admitted(&self, now: Timestamp, ready: Ready, exchange: ExchangeId) -> State {
        let admitted = Admitted::new(exchange, ready, now);
        match now >= self.channel_deadline(now) {
            true => plain(admitted, Some("no time was left to open channels".into())),
            false if admitted.plan.splits.is_empty() => State::Open(Box::new(admitted)),
            false => State::Scripts(Box::new(admitted)),
        }
    }

    fn signed(&self, now: Timestamp, signing: Signing, psbt: &Psbt) -> State {
        let Signing { on_record, draft, channels, reason } = signing;
        let txid = draft.checked.psbt().unsigned_tx.compute_txid();
        let (coins, fee, is_final) = (outpoints(draft.coins()), draft.fee(), draft.has_final_txid());
        let (partitions, fallback_at) = (draft.partitions(), now.plus(self.policy.fallback_seconds));
        let Ok(proposal) = draft.sign(psbt, self.delivery) else { return unsigned(on_record, &channels) };
        let release = Release {
            proposal,
            txid,
            is_final,
            fee,
            channels,
            reason,
            coins,
            partitions,
            fallback_at,
            signed: None,
        };
        match on_record {
            OnRecord::No(admission) => State::Offer(admission, release),
            OnRecord::Yes(exchange) => State::Release(exchange, release),
        }
    }
}

fn abandoned(next: Option<Box<Admitted>>) -> State {
    match next {
        Some(mut admitted) => {
            let reason = admitted.reason.take();
            plain(*admitted, reason)
        }
        None => State::Done(Reply::NO_PAYJOIN),
    }
}

/// A plain payjoin: the same output, raised by a coin of ours if there is one.
fn plain(admitted: Admitted, reason: Option<String>) -> State {
    sign_plain(OnRecord::Yes(admitted.exchange), admitted.plain, reason)
}

/// The wallet did not sign. Channels are forgotten; the Original is kept.
fn unsigned(on_record: OnRecord, channels: &[FundedChannel]) -> State {
    match on_record {
        OnRecord::No(admission) => State::Keep(admission),
        OnRecord::Yes(_) if !channels.is_empty() => State::Abandon("the wallet did not sign", None),
        OnRecord::Yes(_) => State::Done(Reply::NO_PAYJOIN),
    }
}
