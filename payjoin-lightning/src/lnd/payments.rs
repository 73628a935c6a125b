//! Invoices and Lightning payments, which LND keeps.

use std::time::Duration;

use bitcoin::Amount;
use bitcoin::base64::Engine as _;
use bitcoin::base64::prelude::BASE64_URL_SAFE;
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use serde_json::json;

use super::calls::{DECODE, INVOICE, PAY, TRACK};
use super::client::{Client, Pieces};
use super::error::LndError;
use super::wire::{self, PayRequest, Payment};
use crate::{Invoice, PaymentOutcome};

/// LND looks for a way so long.
const SECONDS: u32 = 60;
/// Most for fees, in millisatoshis, where it is more than a twentieth of what is paid.
const FEE_MSAT: u64 = 50_000;

/// A BOLT 11 invoice.
pub(super) async fn invoice(
    client: &Client,
    amount: Amount,
    description: &str,
    expiry: Duration,
) -> Result<Invoice, LndError> {
    let request = json!({
        "memo": description,
        "value": amount.to_sat().to_string(),
        "expiry": expiry.as_secs().to_string(),
    });
    let told = client.post::<wire::Invoice>(&INVOICE, &request).await?;
    Ok(Invoice { bolt11: told.payment_request, payment_hash: told.r_hash.to_lower_hex_string() })
}

/// Pays an invoice, and waits for the outcome. LND pays an invoice once: of one that is paid or under way the same outcome
/// is given.
pub(super) async fn pay(
    client: &Client,
    invoice: &str,
    amount: Option<Amount>,
) -> Result<PaymentOutcome, LndError> {
    // It becomes part of a path.
    if invoice.is_empty() || !invoice.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(LndError::Refused("that is no BOLT 11 invoice".to_owned()));
    }
    let asked: PayRequest = client.ask(&DECODE, &format!("/{invoice}")).await?;
    let msat = amount.map(|amount| amount.to_sat().saturating_mul(1_000));
    let mut request = json!({
        "payment_request": invoice,
        "timeout_seconds": SECONDS,
        "fee_limit_msat": FEE_MSAT.max(msat.unwrap_or(asked.num_msat) / 20).to_string(),
        "no_inflight_updates": true,
    });
    if let Some(msat) = msat {
        request["amt_msat"] = json!(msat.to_string());
    }
    match client.stream(&PAY, "", Some(&request)).await {
        Err(error) if error.says("already paid") || error.says("in transition") => {
            let form =
                |_| LndError::Form { call: DECODE.right, why: "a payment hash that is none".to_owned() };
            let hash = Vec::from_hex(&asked.payment_hash).map_err(form)?;
            let rest = format!("/{}?no_inflight_updates=true", BASE64_URL_SAFE.encode(hash));
            outcome(client.stream(&TRACK, &rest, None).await?).await
        }
        pieces => outcome(pieces?).await,
    }
}

async fn outcome(mut pieces: Pieces) -> Result<PaymentOutcome, LndError> {
    while let Some(payment) = pieces.next::<Payment>().await? {
        match payment.status.as_str() {
            "SUCCEEDED" => {
                return Ok(PaymentOutcome { preimage: payment.payment_preimage, fee_msat: payment.fee_msat });
            }
            "FAILED" => return Err(LndError::Refused(failure(&payment.failure_reason))),
            _ => {}
        }
    }
    Err(LndError::Refused("the payment is under way: ask again, it is paid once".to_owned()))
}

/// `lnrpc.PaymentFailureReason`.
fn failure(reason: &str) -> String {
    let text = match reason {
        "FAILURE_REASON_TIMEOUT" => "no way was found in a minute",
        "FAILURE_REASON_NO_ROUTE" => "there is no way to the payee that costs no more than 5 per cent",
        "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS" => {
            "the payee does not know the invoice, or does not take its amount"
        }
        "FAILURE_REASON_INSUFFICIENT_BALANCE" => "the channels do not hold enough",
        other => return format!("the payment failed: {other}"),
    };
    format!("the payment failed: {text}")
}
