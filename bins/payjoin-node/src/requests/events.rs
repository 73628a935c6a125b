//! `events` and `wait`: what happened, from any place on, and what became of a code.

use std::time::Duration;

use payjoin_core::{Entry, EntryId, ExchangeRecord, ExchangeState, InvoiceId, Settled};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, READ};

/// Most events in one answer.
const PAGE: u32 = 500;
/// No answer takes longer, in seconds.
const LONGEST: u64 = 60;
/// What is waited for beside the journal, a code that expires, is looked for so often.
const LOOK: Duration = Duration::from_secs(1);

/// Which events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventsArgs {
    /// Those after this one: the `cursor` of the answer before. Default: only what happens from now on.
    #[serde(default)]
    pub since: Option<EntryId>,
    /// So many at most, and 500 in any case.
    pub limit: u32,
    /// Where there is none yet, the answer waits so long for one; 60 seconds at most.
    #[serde(default)]
    pub wait_seconds: u64,
}

/// Some events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EventPage {
    /// Oldest first.
    pub events: Vec<Entry>,
    /// The place after them: ask on from here.
    pub cursor: EntryId,
    /// So many between the place that was asked for and the first of them are not kept any more.
    pub lost: u64,
}

/// Which code, and for what of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitArgs {
    /// The code.
    pub invoice: InvoiceId,
    /// What is waited for.
    #[serde(default)]
    pub until: Until,
    /// The answer comes after so long in any case; 60 seconds at most.
    #[serde(default)]
    pub wait_seconds: u64,
}

/// When a code counts as paid. A payment over Lightning is all of it at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// The payer's Original is here, which we could broadcast ourselves, or a payment is in the mempool. He may still spend
    /// his coins elsewhere.
    Seen,
    /// A payment is in a block.
    #[default]
    Confirmed,
    /// A payment is buried.
    Settled,
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Standing {
    /// The code.
    pub invoice: InvoiceId,
    /// In one word.
    pub state: CodeState,
    /// The payments on chain, newest first.
    pub exchanges: Vec<ExchangeRecord>,
}

/// What became of a code, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CodeState {
    /// Nobody has paid it as far as was asked for.
    Waiting,
    /// It is paid.
    Paid,
    /// It can no longer be paid by payjoin, and no payment of it is known. One on chain would still be ours.
    Expired,
}

impl Guarded for EventsArgs {
    const ACCESS: Access = READ;
}

impl Guarded for WaitArgs {
    const ACCESS: Access = READ;
}

impl Daemon {
    pub(super) async fn events(&self, args: EventsArgs) -> Result<EventPage, RequestError> {
        let last = self.store.last_entry().await?;
        let since = args.since.unwrap_or(last);
        if since > last {
            return Err(ErrorKind::Request.error(format_args!(
                "no event has the number {} yet, the last one is {}: the cursor is of another database; begin with 0",
                since.0, last.0
            )));
        }
        let until = Instant::now() + Duration::from_secs(args.wait_seconds.min(LONGEST));
        let mut stop = self.stop.subscribe();
        tokio::select! {
            // Woken or not: what is there is told.
            _ = timeout_at(until, self.store.grown(since)) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        let events = self.store.entries(since, args.limit.min(PAGE)).await?;
        let lost = match events.first() {
            Some(first) => first.id.0.saturating_sub(since.0 + 1),
            None if args.limit == 0 => 0,
            None => last.0 - since.0,
        };
        let cursor = match events.last() {
            Some(last) => last.id,
            None => EntryId(since.0 + lost),
        };
        Ok(EventPage { events, cursor, lost })
    }

    pub(super) async fn wait(&self, args: WaitArgs) -> Result<Standing, RequestError> {
        let until = Instant::now() + Duration::from_secs(args.wait_seconds.min(LONGEST));
        let mut stop = self.stop.subscribe();
        loop {
            let last = self.store.last_entry().await?;
            let standing = self.standing(&args).await?;
            if standing.state != CodeState::Waiting || Instant::now() >= until || *stop.borrow() {
                return Ok(standing);
            }
            let look = until.min(Instant::now() + LOOK);
            tokio::select! {
                _ = timeout_at(look, self.store.grown(last)) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    async fn standing(&self, args: &WaitArgs) -> Result<Standing, RequestError> {
        let id = &args.invoice;
        let Some(invoice) = self.store.invoice(id).await? else {
            return Err(ErrorKind::Missing.error(format_args!("no code {id}: `receive` tells its `invoice`")));
        };
        let exchanges = self.store.exchanges_at(id).await?;
        let over_lightning = self.store.paid_over_lightning(id).await?;
        let reached = exchanges.iter().filter_map(reached).max();
        let state = match reached >= Some(args.until) || over_lightning {
            true => CodeState::Paid,
            false if invoice.expires < now() && reached.is_none() => CodeState::Expired,
            false => CodeState::Waiting,
        };
        Ok(Standing { invoice: args.invoice.clone(), state, exchanges })
    }
}

/// How far a payment has come; `None` for one that will not arrive.
fn reached(exchange: &ExchangeRecord) -> Option<Until> {
    match (exchange.state, exchange.settled) {
        (_, Some(Settled::Gone)) => None,
        (_, Some(Settled::Conflict)) => None,
        (ExchangeState::Settled, _) => Some(Until::Settled),
        _ if exchange.mined_txid.is_some() => Some(Until::Confirmed),
        _ => Some(Until::Seen),
    }
}
