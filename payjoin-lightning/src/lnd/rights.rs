//! Whether the macaroon allows what a payment needs: better known at the start than in the middle of one.

use futures_util::future::join_all;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::calls::{ABANDON, ADDRESS, CONNECT, Call, FUNDING_STEP, LEASE, OPEN, RELEASE, SIGN};
use super::client::Client;
use super::error::LndError;
use super::wire::base64;

/// Calls that change something, each so that LND refuses it whatever it may: only that it is allowed is asked.
fn questions() -> [(Call, &'static str, Option<Value>); 8] {
    let nothing =
        json!({ "id": base64(&[1; 32]), "outpoint": { "txid_str": "00".repeat(32), "output_index": 0 } });
    [
        (CONNECT, "", Some(json!({ "addr": { "pubkey": "", "host": "" } }))),
        (OPEN, "", Some(json!({ "local_funding_amount": "0" }))),
        (FUNDING_STEP, "", Some(json!({ "shim_cancel": { "pending_chan_id": base64(&[0; 32]) } }))),
        // Without the words that it takes.
        (ABANDON, NOWHERE, None),
        (LEASE, "", Some(nothing.clone())),
        (RELEASE, "", Some(nothing)),
        // A type that no address has.
        (ADDRESS, "", Some(json!({ "type": "HYBRID_NESTED_WITNESS_PUBKEY_HASH" }))),
        (SIGN, "", Some(json!({}))),
    ]
}

const NOWHERE: &str = "/0000000000000000000000000000000000000000000000000000000000000000/0";

/// # Errors
/// [`LndError::Denied`] for the first right that is lacking.
pub(super) async fn check(client: &Client) -> Result<(), LndError> {
    let asked = questions().map(|(call, rest, body)| async move {
        let mut answer = client.stream(&call, rest, body.as_ref()).await?;
        answer.next::<IgnoredAny>().await.map(drop)
    });
    let denied =
        |answer: Result<(), LndError>| answer.err().filter(|error| matches!(error, LndError::Denied(_)));
    match join_all(asked).await.into_iter().find_map(denied) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
