//! From a request to its answer: who asks, for what, and whether he may.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use payjoin_io::{Buckets, Clerk, Head, Look, Rate, Told};
use serde_json::Value;
use tokio::sync::watch;

use super::answers::{Answer, Code, failed, needs, no_path, not_allowed};
use super::caller::Caller;
use super::document::document;
use super::holder::Holder;
use super::once::key;
use crate::asked::Asked;
use crate::keep::Store;
use crate::requests::Request;
use crate::requests::commands::Command;
use crate::rights::{Access, Right};

/// Longest body, in bytes.
const BODY: usize = 64 * 1024;
/// Before the words of every command.
const COMMANDS: &str = "/v1/";

/// Answers the operator's programs.
pub(super) struct ApiClerk {
    caller: Caller,
    rate: Rate,
    rates: Mutex<Buckets<String>>,
}

impl ApiClerk {
    pub(super) fn new(asked: watch::Receiver<Asked>, store: Store, rate: Rate) -> Self {
        Self { caller: Caller::new(asked, store), rate, rates: Mutex::default() }
    }

    /// Where nobody needs a token.
    fn open_to_all(&self, head: &Head) -> Option<Told> {
        let status = match head.path.as_str() {
            "/healthz" => 200,
            "/readyz" if self.caller.asked().is_ready() => 200,
            "/readyz" => 503,
            _ => return None,
        };
        match head.method.as_str() {
            "GET" | "HEAD" => Some(Told::bare(status)),
            _ => Some(Told::bare(405)),
        }
    }

    async fn holder(&self, head: &Head) -> Option<Holder> {
        Holder::of(head, &*self.caller.store).await.unwrap_or_else(|error| {
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
                    self.caller.asked().metrics().await,
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
        tracing::info!(token = holder.name, path = head.path, "asked over the API");
        self.caller.call(&holder, request, || key(head)).await
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
