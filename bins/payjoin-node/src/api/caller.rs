//! Makes calls for whoever may ask for them: those that spend once, in tasks of their own.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::ANSWER;
use super::answers::{Answer, Code, failed, not_allowed};
use super::holder::Holder;
use super::once::{call, once, unanswered};
use crate::asked::Asked;
use crate::clock::now;
use crate::keep::Store;
use crate::requests::Request;
use crate::rights::{Access, Right};

/// So much may be asked at once, that included for which nobody waits any more.
const AT_ONCE: usize = 32;

/// Makes calls.
pub(super) struct Caller {
    asked: watch::Receiver<Asked>,
    pub(super) store: Store,
    at_once: Arc<Semaphore>,
}

impl Caller {
    pub(super) fn new(asked: watch::Receiver<Asked>, store: Store) -> Self {
        Self { asked, store, at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Who answers now.
    pub(super) fn asked(&self) -> Asked {
        self.asked.borrow().clone()
    }

    /// Asks for this, if the holder may. `key` is wanted where it spends. `None`: his token was revoked meanwhile.
    pub(super) async fn call(
        &self,
        holder: &Holder,
        request: Request,
        key: impl FnOnce() -> Result<String, Answer>,
    ) -> Option<Answer> {
        let access = request.access();
        if !holder.may(access) {
            return Some(not_allowed(access));
        }
        let Ok(place) = Arc::clone(&self.at_once).try_acquire_owned() else {
            return Some(failed(503, Code::Busy, true, format!("{AT_ONCE} calls run already: wait a while")));
        };
        if access != Access::Token(Right::Spend) {
            let answer = timeout(ANSWER, make(self.asked(), request)).await;
            drop(place);
            return Some(answer.unwrap_or_else(|_| late()));
        }
        match key() {
            Ok(key) => self.spend(holder, key, request, place).await,
            Err(answer) => Some(answer),
        }
    }

    /// In a task of its own: it goes on when whoever asked leaves, and its answer is kept.
    async fn spend(
        &self,
        holder: &Holder,
        key: String,
        request: Request,
        place: OwnedSemaphorePermit,
    ) -> Option<Answer> {
        let asked_for = match serde_json::to_string(&request) {
            Ok(asked_for) => asked_for,
            Err(error) => return Some(failed(400, Code::Request, false, error.to_string())),
        };
        let call = call(holder.hash, key, &asked_for, now());
        let (store, asked) = (Store::clone(&self.store), self.asked());
        let running = tokio::spawn(async move {
            let _place = place;
            once(&*store, call, make(asked, request)).await
        });
        match timeout(ANSWER, running).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                tracing::error!("a call to the API panicked");
                Some(unanswered())
            }
            Err(_) => Some(late()),
        }
    }
}

async fn make(asked: Asked, request: Request) -> Answer {
    match asked.request(request).await {
        Ok(response) => Answer::good(&response),
        Err(error) => Answer::of(&error),
    }
}

fn late() -> Answer {
    let why = format!(
        "no answer within {} s; it goes on: repeat the call, with the same Idempotency-Key",
        ANSWER.as_secs()
    );
    failed(504, Code::Late, true, why)
}
