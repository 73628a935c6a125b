//! BIP 77, "Sender": post the Original to the receiver's mailbox, then poll one's own.

use std::time::Duration;

use payjoin::persist::{InMemoryPersister, OptionalTransitionOutcome};
use payjoin::send::v2::{self, PollingForProposal, WithReplyKey};
use payjoin_core::{SessionKey, Step, Timestamp};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::log::Event;
use super::{Fallback, SendError, Sender, Sent, refusal};
use crate::backoff::Backoff;
use crate::{Ohttp, OhttpError};

/// A directory answers a poll after about 30 s.
const POLL: Duration = Duration::from_secs(60);
/// Answers that cannot be opened or are no proposal before the last of them counts. Any relay can make one.
const BAD_ANSWERS: u32 = 5;
/// Faults in a row after which they, and not the receiver's silence, are why there is no proposal.
const LASTING: u32 = 3;
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
            let Some(left) = self.left(give_up) else { break Err(patience.outcome()) };
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
                self.tell(Step::Posted { payment: key.name.clone() });
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
        let mut patience = Patience::after_an_answer();
        while let Some(left) = self.left(give_up) {
            let begun = Instant::now();
            let Ok(attempt) = timeout(left, poll(ohttp, sender)).await else { continue };
            match patience.judge(begun, attempt).await {
                None => {}
                Some(Ok(proposal)) => return Sent::Payjoin(Box::new(proposal)),
                Some(Err(fallback)) => return Sent::Original(fallback),
            }
        }
        Sent::Original(patience.outcome())
    }
}

/// How often to ask, and when it is hopeless.
struct Patience {
    backoff: Backoff,
    bad: u32,
    /// The directory was reached in this wait.
    reached: bool,
    /// Attempts that failed since it was, and how the last one did.
    faults: u32,
    fault: Fallback,
}

impl Default for Patience {
    fn default() -> Self {
        Self { backoff: Backoff::default(), bad: 0, reached: false, faults: 0, fault: Fallback::NoAnswer }
    }
}

impl Patience {
    fn after_an_answer() -> Self {
        Self { reached: true, ..Self::default() }
    }

    /// What to say when time is up. What stood in the way says more than the clock, but one passing fault does not.
    fn outcome(&self) -> Fallback {
        if self.reached && self.faults < LASTING { Fallback::NoAnswer } else { self.fault.clone() }
    }

    /// The outcome, or a pause before the next attempt.
    async fn judge<T>(&mut self, begun: Instant, attempt: Attempt<T>) -> Option<Result<T, Fallback>> {
        match attempt {
            Attempt::Done(value) => return Some(Ok(value)),
            Attempt::GiveUp(Fallback::Expired) if self.outcome() != Fallback::NoAnswer => {
                return Some(Err(self.outcome()));
            }
            Attempt::GiveUp(reason) => return Some(Err(reason)),
            Attempt::Again => {
                *self = Self::after_an_answer();
                sleep_until(begun + PACE).await;
            }
            Attempt::Pause(reason) => {
                self.bad += u32::from(matches!(reason, Fallback::Unacceptable(_)));
                if self.bad == BAD_ANSWERS {
                    return Some(Err(reason));
                }
                self.faults += 1;
                self.fault = reason;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn down<T>() -> Attempt<T> {
        Attempt::Pause(Fallback::Unreachable("down".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_fault_does_not_name_the_outcome_of_a_wait_and_a_lasting_one_does() {
        let lost = Fallback::Unreachable("down".into());
        for (attempts, outcome) in [
            (vec![down()], &lost),
            (vec![Attempt::Again, down(), down()], &Fallback::NoAnswer),
            (vec![down(), down(), Attempt::Again, down()], &Fallback::NoAnswer),
            (vec![Attempt::Again, down(), down(), down()], &lost),
        ] {
            let mut patience = Patience::default();
            for attempt in attempts {
                let judged: Option<Result<(), _>> = patience.judge(Instant::now(), attempt).await;
                assert_eq!(judged, None);
            }
            assert_eq!(patience.outcome(), *outcome);
            let expired: Attempt<()> = Attempt::GiveUp(Fallback::Expired);
            let said = patience.judge(Instant::now(), expired).await.unwrap().unwrap_err();
            assert_eq!(said == lost, *outcome == lost, "{said}");
        }
    }
}
