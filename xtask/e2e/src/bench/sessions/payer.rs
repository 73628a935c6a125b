//! A BIP 77 payer.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use payjoin::PjParam;
use payjoin::persist::{InMemoryPersister, OptionalTransitionOutcome};
use payjoin::send::v2::{SenderBuilder, SessionEvent};
use reqwest::blocking::Client;

use crate::bench::coins::Coin;
use crate::bench::key::Key;
use crate::bench::originals::{self, CONTRIBUTION, FEE_RATE};

/// Longer than a directory holds a poll.
const PATIENCE: Duration = Duration::from_secs(60);

/// Posts an Original from this coin through a relay and waits for the proposal. Returns the time from the directory's
/// receipt of the one to the payer's of the other.
pub(crate) fn pay(key: &Key, coin: Coin, code: &str, relay: &str) -> Result<Duration> {
    let uri = originals::parse(code)?;
    let psbt = originals::original(key, coin, vec![uri.address().script_pubkey()])?;
    let client = Client::builder().no_proxy().http1_only().timeout(PATIENCE).build()?;
    let log = InMemoryPersister::<SessionEvent>::default();
    let PjParam::V2(endpoint) = uri.extras().pj_param() else { bail!("not a code of BIP 77: {code}") };
    let sender = SenderBuilder::from_parts(psbt, endpoint, uri.address(), uri.amount())
        .build_with_additional_fee(CONTRIBUTION, Some(1), FEE_RATE, false)?
        .save(&log)?;
    let (request, context) = sender.create_v2_post_request(relay)?;
    let answer = post(&client, request)?;
    let begun = Instant::now();
    let mut sender =
        sender.process_response(&answer, context).save(&log).map_err(|error| anyhow!("{error}"))?;
    while begun.elapsed() < PATIENCE {
        let (request, context) = sender.create_poll_request(relay)?;
        let answer = post(&client, request)?;
        let took = begun.elapsed();
        match sender.process_response(&answer, context).save(&log).map_err(|error| anyhow!("{error}"))? {
            OptionalTransitionOutcome::Progress(_) => return Ok(took),
            OptionalTransitionOutcome::Stasis(same) => sender = same,
        }
    }
    Err(anyhow!("no proposal came"))
}

fn post(client: &Client, request: payjoin::Request) -> Result<Vec<u8>> {
    let reply =
        client.post(request.url).header("Content-Type", request.content_type).body(request.body).send()?;
    ensure!(reply.status().is_success(), "the relay answers {}", reply.status());
    Ok(reply.bytes()?.to_vec())
}
