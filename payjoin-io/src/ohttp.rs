//! The way to BIP 77 directories: through relays, with the directories' OHTTP keys at hand. BIP 77, "OHTTP";
//! RFC 9458; RFC 9540.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bitcoin::key::rand::seq::SliceRandom;
use bitcoin::key::rand::thread_rng;
use payjoin::{OhttpKeys, Url, receive, send};
use tokio::time::Instant;

use crate::{HttpClient, HttpError, HttpRequest, HttpResponse};

/// After this long keys are fetched again. A code for a directory that is dead, or with a key that it has given up, is of no
/// use: who asked a moment ago knows.
const KEYS_FRESH: Duration = Duration::from_secs(30);
const KEYS_TIMEOUT: Duration = Duration::from_secs(20);
/// The greatest key configuration that can be: a suite list of 65,532 bytes. RFC 9458, section 3.1.
const KEYS_LIMIT: usize = 1 + 2 + 65 + 2 + 65_532;
/// Every encapsulated message has this size, answers of a relay in words of its own are shorter. BIP 77, "OHTTP".
const MESSAGE: usize = 8192;
/// A relay that failed is tried last for this long.
const RELAY_REST: Duration = Duration::from_secs(60);
/// Marks the refusal of a key. RFC 9458, section 5.3.
const KEY_PROBLEM: &[u8] = b"iana.org/assignments/http-problem-types#ohttp-key";

/// Why a directory was not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OhttpError {
    /// An address in the settings cannot be used.
    #[error("{0} is not a usable address")]
    Address(String),
    /// No relay is configured.
    #[error("no OHTTP relay is configured")]
    NoRelay,
    /// No relay brought an answer. The text is about the last one that was tried.
    #[error("no relay reached the directory: {0}")]
    Unreachable(String),
    /// The directory's answer is no key configuration.
    #[error("the directory offers no usable OHTTP key")]
    NoKeys,
    /// The directory does not know the key any more that the request was encapsulated with.
    #[error("the directory changed its OHTTP key")]
    KeyRejected,
    /// The session has expired.
    #[error("the session has expired")]
    Expired,
    /// The message cannot be encapsulated, for example because it is too long.
    #[error("no request can be made: {0}")]
    Message(String),
}

impl From<send::v2::CreateRequestError> for OhttpError {
    fn from(error: send::v2::CreateRequestError) -> Self {
        if error.is_expired() { Self::Expired } else { Self::Message(error.to_string()) }
    }
}

impl From<receive::v2::CreateRequestError> for OhttpError {
    fn from(error: receive::v2::CreateRequestError) -> Self {
        if error.is_expired() { Self::Expired } else { Self::Message(error.to_string()) }
    }
}

/// Relays and the keys of directories. One for a process.
pub struct Ohttp {
    client: Arc<dyn HttpClient>,
    relays: Vec<String>,
    /// When each relay last failed, in the order of `relays`.
    failed: Mutex<Vec<Option<Instant>>>,
    keys: Mutex<HashMap<String, Slot>>,
}

/// The keys of one directory, and when they were fetched. Locked while they are fetched: many who need the same keys
/// cause one request.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, OhttpKeys)>>>;

impl Ohttp {
    /// Takes the addresses of relays, `https://relay.example`. With more than one, each request takes one at random.
    ///
    /// # Errors
    /// [`OhttpError::NoRelay`] or [`OhttpError::Address`].
    pub fn new(client: Arc<dyn HttpClient>, relays: Vec<String>) -> Result<Self, OhttpError> {
        if relays.is_empty() {
            return Err(OhttpError::NoRelay);
        }
        relays.iter().try_for_each(|relay| parse(relay).map(drop))?;
        let failed = Mutex::new(vec![None; relays.len()]);
        Ok(Self { client, relays, failed, keys: Mutex::default() })
    }

    /// The keys of a directory, from memory or through a relay, so that the directory does not learn our address.
    ///
    /// # Errors
    /// [`OhttpError::Address`], [`OhttpError::Unreachable`] or [`OhttpError::NoKeys`].
    pub async fn keys(&self, directory: &str) -> Result<OhttpKeys, OhttpError> {
        let slot = self.slot(directory);
        let mut known = slot.lock().await;
        if let Some((fetched, keys)) = &*known
            && fetched.elapsed() < KEYS_FRESH
        {
            return Ok(keys.clone());
        }
        let keys = self.fetch_keys(directory).await?;
        *known = Some((Instant::now(), keys.clone()));
        Ok(keys)
    }

    /// The keys to use in place of `stale`, after [`OhttpError::KeyRejected`].
    ///
    /// # Errors
    /// As for [`Ohttp::keys`].
    pub async fn keys_after(&self, directory: &str, stale: &OhttpKeys) -> Result<OhttpKeys, OhttpError> {
        let slot = self.slot(directory);
        let mut known = slot.lock().await;
        known.take_if(|(_, keys)| keys == stale);
        drop(known);
        self.keys(directory).await
    }

    fn slot(&self, directory: &str) -> Slot {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.entry(directory.to_owned()).or_default().clone()
    }

    /// Picks a directory at random among those that answer.
    ///
    /// # Errors
    /// What the last one failed with; [`OhttpError::Unreachable`] when there is none.
    pub async fn directory(&self, directories: &[String]) -> Result<(String, OhttpKeys), OhttpError> {
        let mut order: Vec<_> = directories.iter().collect();
        order.shuffle(&mut thread_rng());
        let mut outcome = Err(OhttpError::Unreachable("no directory is configured".into()));
        for directory in order {
            match self.keys(directory).await {
                Ok(keys) => return Ok((directory.clone(), keys)),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Sends a request through one relay after the other until one brings the directory's answer, still encapsulated.
    /// `encapsulate` makes the request for a relay, and is called anew for every attempt: no two of them share a
    /// ciphertext. It also gives what opens the answer. A relay can make up that the key is rejected, so the others are
    /// asked before it counts.
    ///
    /// # Errors
    /// What `encapsulate` fails with, [`OhttpError::KeyRejected`] or [`OhttpError::Unreachable`].
    pub async fn send<C, E: Into<OhttpError>>(
        &self,
        timeout: Duration,
        mut encapsulate: impl FnMut(&str) -> Result<(payjoin::Request, C), E>,
    ) -> Result<(Vec<u8>, C), OhttpError> {
        let (mut last, mut rejected) = (String::new(), false);
        for index in self.order() {
            let Some(relay) = self.relays.get(index) else { continue };
            let (answer, context) = self.carry(relay, timeout, &mut encapsulate).await.map_err(Into::into)?;
            match answer {
                Ok(answer) if answer.status == 200 && answer.body.len() == MESSAGE => {
                    self.worked(index);
                    return Ok((answer.body, context));
                }
                Ok(answer) if rejects_key(&answer) => {
                    rejected = true;
                    continue;
                }
                Ok(answer) => last = format!("{relay} answered with status {}", answer.status),
                Err(error) => last = format!("{relay}: {error}"),
            }
            self.failed(index, &last);
        }
        Err(if rejected { OhttpError::KeyRejected } else { OhttpError::Unreachable(last) })
    }

    /// Asks one relay. That it closed its connection meanwhile says nothing about it: a message that is made anew takes
    /// another one.
    async fn carry<C, E>(
        &self,
        relay: &str,
        timeout: Duration,
        encapsulate: &mut impl FnMut(&str) -> Result<(payjoin::Request, C), E>,
    ) -> Result<(Result<HttpResponse, HttpError>, C), E> {
        let (request, context) = encapsulate(relay)?;
        let answer = self.post(request, timeout, false).await;
        if answer != Err(HttpError::Closed) {
            return Ok((answer, context));
        }
        let (request, context) = encapsulate(relay)?;
        Ok((self.post(request, timeout, true).await, context))
    }

    async fn post(
        &self,
        request: payjoin::Request,
        timeout: Duration,
        fresh: bool,
    ) -> Result<HttpResponse, HttpError> {
        let (url, body) = (request.url, Some((request.content_type, request.body)));
        let (accept, headers, tunnel, limit) = (None, Vec::new(), None, MESSAGE);
        self.client.send(HttpRequest { url, accept, headers, body, timeout, limit, tunnel, fresh }).await
    }

    async fn fetch_keys(&self, directory: &str) -> Result<OhttpKeys, OhttpError> {
        let tunnelled = wants_tunnel(directory)?;
        let url = format!("{}/.well-known/ohttp-gateway", directory.trim_end_matches('/'));
        let mut last = String::new();
        for index in self.order() {
            let tunnel = self.relays.get(index).filter(|_| tunnelled).cloned();
            let request = HttpRequest {
                url: url.clone(),
                accept: Some("application/ohttp-keys"),
                headers: Vec::new(),
                body: None,
                timeout: KEYS_TIMEOUT,
                limit: KEYS_LIMIT,
                tunnel,
                fresh: false,
            };
            match self.client.send_again(request).await {
                Ok(HttpResponse { status: 200, body }) => {
                    return OhttpKeys::decode(&body).map_err(|_| OhttpError::NoKeys);
                }
                Ok(answer) => last = format!("status {}", answer.status),
                Err(error) => last = error.to_string(),
            }
            if !tunnelled {
                break;
            }
            self.failed(index, &last);
        }
        Err(OhttpError::Unreachable(last))
    }

    /// Relays at random, those that failed a short while ago last.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.relays.len()).collect();
        order.shuffle(&mut thread_rng());
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = |when: &Option<Instant>| when.is_some_and(|when| when.elapsed() < RELAY_REST);
        order.sort_by_key(|index| failed.get(*index).is_some_and(rests));
        order
    }

    fn worked(&self, relay: usize) {
        if self.note(relay, None).is_some() {
            tracing::info!(relay = self.relays.get(relay), "a relay works again");
        }
    }

    /// Logged once until it works again: thousands of sessions may hear of it.
    fn failed(&self, relay: usize, reason: &str) {
        if self.note(relay, Some(Instant::now())).is_none() {
            tracing::warn!(reason, "a relay, or the directory behind it, does not answer");
        }
    }

    /// Returns what was noted before.
    fn note(&self, relay: usize, failed: Option<Instant>) -> Option<Instant> {
        let mut all = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(relay).and_then(|entry| std::mem::replace(entry, failed))
    }
}

impl std::fmt::Debug for Ohttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ohttp").field("relays", &self.relays).finish_non_exhaustive()
    }
}

fn parse(url: &str) -> Result<Url, OhttpError> {
    Url::parse(url).map_err(|_| OhttpError::Address(url.to_owned()))
}

/// Without TLS a relay could put its own key in the place of the directory's. Only where there is nobody between, on
/// this machine or in an onion service, TLS and the relay are not needed to fetch keys.
fn wants_tunnel(directory: &str) -> Result<bool, OhttpError> {
    let url = parse(directory)?;
    let host = url.host_str();
    let local = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(true),
        "http" if local || payjoin_core::is_onion(&host) => Ok(false),
        _ => Err(OhttpError::Address(directory.to_owned())),
    }
}

fn rejects_key(answer: &HttpResponse) -> bool {
    (400..500).contains(&answer.status)
        && answer.body.windows(KEY_PROBLEM.len()).any(|part| part == KEY_PROBLEM)
}

#[cfg(test)]
mod tests;
