//! From a request to its answer: who asks, for what, and whether he may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use payjoin_io::{Buckets, Clerk, Head, Look, Rate, Told};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::ANSWER;
use super::answers::{Answer, Code, failed, needs, no_path, not_allowed};
use super::document::document;
use super::holder::Holder;
use super::once::{call, key, once, unanswered};
use crate::asked::Asked;
use crate::clock::now;
use crate::keep::Store;
use crate::requests::Request;
use crate::requests::commands::Command;
use crate::rights::{Access, Right};

/// Longest body, in bytes.
const BODY: usize = 64 * 1024;
/// So much may be asked at once, that included for which nobody waits any more.
const AT_ONCE: usize = 32;
/// Before the words of every command.
const COMMANDS: &str = "/v1/";

/// Answers the operator's programs.
pub(super) struct ApiClerk {
    asked: watch::Receiver<Asked>,
    store: Store,
    rate: Rate,
    rates: Mutex<Buckets<String>>,
    at_once: Arc<Semaphore>,
}

impl ApiClerk {
    pub(super) fn new(asked: watch::Receiver<Asked>, store: Store, rate: Rate) -> Self {
        let (rates, at_once) = (Mutex::default(), Arc::new(Semaphore::new(AT_ONCE)));
        Self { asked, store, rate, rates, at_once }
    }

    fn asked(&self) -> Asked {
        self.asked.borrow().clone()
    }

    /// Where nobody needs a token.
    fn open_to_all(&self, head: &Head) -> Option<Told> {
        let status = match head.path.as_str() {
            "/healthz" => 200,
            "/readyz" if self.asked().is_ready() => 200,
            "/readyz" => 503,
            _ => return None,
        };
        match head.method.as_str() {
            "GET" | "HEAD" => Some(Told::bare(status)),
            _ => Some(Told::bare(405)),
        }
    }

    async fn holder(&self, head: &Head) -> Option<Holder> {
        Holder::of(head, &*self.store).await.unwrap_or_else(|error| {
            tracing::error!(%error, "tokens cannot be looked up");
            None
        })
    }

    fn may_ask_now(&self, holder: &Holder) -> bool {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(self.rate, holder.name.clone(), Instant::now())
    }

    /// What a head is worth that comes with a token.
    async fn look_at(&self, head: &Head, holder: &Holder) -> Result<Look, Answer> {
        if !self.may_ask_now(holder) {
            let why =
                format!("more than {} calls a minute with this token: wait a while", self.rate.per_minute);
            return Err(failed(429, Code::Rate, true, why));
        }
        match head.path.as_str() {
            "/metrics" => {
                only("GET", head)?;
                if !holder.has(Right::Read) {
                    return Err(needs(Right::Read));
                }
                Ok(Look::Answer(text(
                    "text/plain; version=0.0.4; charset=utf-8",
                    self.asked().metrics().await,
                )))
            }
            "/v1/openapi.json" => {
                only("GET", head)?;
                Ok(Look::Answer(text("application/json", document())))
            }
            path => {
                let command = path.strip_prefix(COMMANDS).and_then(Command::at).ok_or_else(no_path)?;
                only("POST", head)?;
                // A command may need more for some of its values, and never less.
                match command.access {
                    Access::Token(Right::Receive) if holder.has(Right::Spend) => Ok(Look::Body(BODY)),
                    access if holder.may(access) => Ok(Look::Body(BODY)),
                    access => Err(not_allowed(access)),
                }
            }
        }
    }

    /// The answer to a call; `None`: its token was revoked meanwhile.
    async fn answer_to(&self, head: &Head, body: &[u8]) -> Option<Answer> {
        let holder = self.holder(head).await?;
        let request = match read(head, body) {
            Ok(request) => request,
            Err(answer) => return Some(answer),
        };
        let access = request.access();
        if !holder.may(access) {
            return Some(not_allowed(access));
        }
        let Ok(place) = Arc::clone(&self.at_once).try_acquire_owned() else {
            return Some(failed(503, Code::Busy, true, format!("{AT_ONCE} calls run already: wait a while")));
        };
        tracing::info!(token = holder.name, path = head.path, "asked over the API");
        if access != Access::Token(Right::Spend) {
            let answer = timeout(ANSWER, make(self.asked(), request)).await;
            drop(place);
            return Some(answer.unwrap_or_else(|_| late()));
        }
        let key = match key(head) {
            Ok(key) => key,
            Err(answer) => return Some(answer),
        };
        self.spend(&holder, key, request, place).await
    }

    /// In a task of its own: it goes on when whoever asked leaves, and its answer is kept.
    async fn spend(
        &self,
        holder: &Holder,
        key: String,
        request: Request,
        place: tokio::sync::OwnedSemaphorePermit,
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

#[async_trait]
impl Clerk for ApiClerk {
    async fn look(&self, head: &Head) -> Look {
        if let Some(told) = self.open_to_all(head) {
            return Look::Answer(told);
        }
        let Some(holder) = self.holder(head).await else { return Look::Stranger };
        self.look_at(head, &holder).await.unwrap_or_else(|answer| Look::Answer(answer.told()))
    }

    async fn answer(&self, head: Head, body: Vec<u8>) -> Told {
        match self.answer_to(&head, &body).await {
            Some(answer) => answer.told(),
            None => Told::bare(401),
        }
    }
}

fn only(method: &str, head: &Head) -> Result<(), Answer> {
    match head.method == method {
        true => Ok(()),
        false => Err(failed(405, Code::Method, false, format!("this path takes {method}"))),
    }
}

fn text(kind: &str, body: String) -> Told {
    let headers = vec![("content-type", kind.to_owned()), ("cache-control", "no-store".to_owned())];
    Told { status: 200, headers, body: body.into_bytes() }
}

/// The request that a body makes. No body is `{}`.
fn read(head: &Head, body: &[u8]) -> Result<Request, Answer> {
    let wrong = |why: String| failed(400, Code::Request, false, why);
    let command = head.path.strip_prefix(COMMANDS).and_then(Command::at).ok_or_else(no_path)?;
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let args: Value =
        serde_json::from_slice(body).map_err(|error| wrong(format!("the body is no JSON: {error}")))?;
    command.request(args).map_err(wrong)
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
