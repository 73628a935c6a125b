//! BIP 77, "Sender": post the Original to the receiver's mailbox, then poll one's own.

use std::time::Duration;

use payjoin::persist::{InMemoryPersister, OptionalTransitionOutcome};
use payjoin::send::v2::{self, PollingForProposal, WithReplyKey};
use payjoin_core::Timestamp;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::log::Event;
use super::{Fallback, SendError, Sender, Sent, refusal};
use crate::backoff::Backoff;
use crate::{Ohttp, OhttpError, SessionKey};

/// A directory answers a poll after about 30 s.
const POLL: Duration = Duration::from_secs(60);
/// Answers that cannot be opened or are no proposal before the last of them counts. Any relay can make one.
const BAD_ANSWERS: u32 = 5;
/// A directory that does not hold polls is not asked more often than this.
const PACE: Duration = Duration::from_secs(1);

/// What to do about an attempt.
enum Attempt<T> {
    Done(T),
    /// Ask again at once: nothing has come.
    Again,
    /// Ask again after a pause; the reason counts when time is up.
    Pause(Fallback),
    GiveUp(Fallback),
}

impl Sender {
    pub(super) async fn post_v2(
        &self,
        ohttp: &Ohttp,
        key: &SessionKey,
        sender: &v2::Sender<WithReplyKey>,
        give_up: Timestamp,
    ) -> Result<Sent, SendError> {
        let mut patience = Patience::default();
        let posted = loop {
            let Some(left) = self.left(give_up) else { break Err(patience.fallback) };
            let begun = Instant::now();
            let Ok(attempt) = timeout(left, post(ohttp, sender)).await else { continue };
            if let Some(outcome) = patience.judge(begun, attempt).await {
                break outcome;
            }
        };
        match posted {
            Ok(polling) => {
                let posted = Event::Posted { sender: Box::new(polling.clone()), give_up };
                self.record(key, &posted).await?;
                tracing::info!(target: "step", step = "posted", payment = key.name);
                Ok(self.poll_v2(ohttp, &polling, give_up).await)
            }
            Err(fallback) => Ok(Sent::Original(fallback)),
        }
    }

    pub(super) async fn poll_v2(
        &self,
        ohttp: &Ohttp,
        sender: &v2::Sender<PollingForProposal>,
        give_up: Timestamp,
    ) -> Sent {
        let mut patience = Patience::default();
        while let Some(left) = self.left(give_up) {
            let begun = Instant::now();
            let Ok(attempt) = timeout(left, poll(ohttp, sender)).await else { continue };
            match patience.judge(begun, attempt).await {
                None => {}
                Some(Ok(proposal)) => return Sent::Payjoin(Box::new(proposal)),
                Some(Err(fallback)) => return Sent::Original(fallback),
            }
        }
        Sent::Original(patience.fallback)
    }
}

/// How often to ask, and when it is hopeless.
struct Patience {
    backoff: Backoff,
    bad: u32,
    /// What to say when time is up.
    fallback: Fallback,
}

impl Default for Patience {
    fn default() -> Self {
        Self { backoff: Backoff::default(), bad: 0, fallback: Fallback::NoAnswer }
    }
}

impl Patience {
    /// The outcome, or a pause before the next attempt.
    async fn judge<T>(&mut self, begun: Instant, attempt: Attempt<T>) -> Option<Result<T, Fallback>> {
        match attempt {
            Attempt::Done(value) => return Some(Ok(value)),
            // What stood in the way says more than the clock.
            Attempt::GiveUp(Fallback::Expired) if self.fallback != Fallback::NoAnswer => {
                return Some(Err(self.fallback.clone()));
            }
            Attempt::GiveUp(reason) => return Some(Err(reason)),
            Attempt::Again => {
                *self = Self::default();
                sleep_until(begun + PACE).await;
            }
            Attempt::Pause(reason) => {
                self.bad += u32::from(matches!(reason, Fallback::Unacceptable(_)));
                if self.bad == BAD_ANSWERS {
                    return Some(Err(reason));
                }
                self.fallback = reason;
                sleep(self.backoff.pause()).await;
            }
        }
        None
    }
}

async fn post(ohttp: &Ohttp, sender: &v2::Sender<WithReplyKey>) -> Attempt<v2::Sender<PollingForProposal>> {
    let (answer, context) = match ohttp.send(POLL, |relay| sender.create_v2_post_request(relay)).await {
        Ok(answer) => answer,
        Err(error) => return trouble(error),
    };
    match sender.clone().process_response(&answer, context).save(&InMemoryPersister::default()) {
        Ok(polling) => Attempt::Done(polling),
        Err(error) => Attempt::Pause(Fallback::Unacceptable(error.to_string())),
    }
}

async fn poll(ohttp: &Ohttp, sender: &v2::Sender<PollingForProposal>) -> Attempt<bitcoin::Psbt> {
    let (answer, context) = match ohttp.send(POLL, |relay| sender.create_poll_request(relay)).await {
        Ok(answer) => answer,
        Err(error) => return trouble(error),
    };
    match sender.clone().process_response(&answer, context).save(&InMemoryPersister::default()) {
        Ok(OptionalTransitionOutcome::Progress(proposal)) => Attempt::Done(proposal),
        Ok(OptionalTransitionOutcome::Stasis(_)) => Attempt::Again,
        Err(error) => match error.api_error_ref().map(refusal) {
            Some(refused @ Fallback::Refused(_)) => Attempt::GiveUp(refused),
            Some(reason) => Attempt::Pause(reason),
            None => Attempt::Pause(Fallback::NoAnswer),
        },
    }
}

/// The code carries the directory's key: when that is gone, the receiver must make a new code.
fn trouble<T>(error: OhttpError) -> Attempt<T> {
    match error {
        OhttpError::Expired => Attempt::GiveUp(Fallback::Expired),
        OhttpError::Unreachable(_) => Attempt::Pause(Fallback::Unreachable(error.to_string())),
        error => Attempt::GiveUp(Fallback::Unreachable(error.to_string())),
    }
}
