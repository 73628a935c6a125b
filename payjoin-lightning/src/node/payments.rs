//! BOLT 11 invoices and payments.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::hashes::Hash as _;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, Network};
use lightning::events::Event;
use lightning::ln::channelmanager::{Bolt11InvoiceParameters, Bolt11PaymentError, PaymentId, Retry};
use lightning::routing::router::RouteParametersConfig;
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescription, Currency, Description, ParseOrSemanticError,
};
use serde::Serialize;
use tokio::sync::oneshot;

use super::lock;
use super::parts::ChannelManager;

/// How long a payment tries other routes.
const RETRY: Duration = Duration::from_secs(30);

/// A payment that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PaymentOutcome {
    /// The proof of payment, in hex.
    pub preimage: String,
    /// Fees paid on the way, in millisatoshis.
    pub fee_msat: u64,
}

/// Why a payment was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayError {
    /// Not a BOLT 11 invoice, or its signature is wrong.
    #[error("not a valid invoice: {0}")]
    Invoice(String),
    /// The invoice is for another network.
    #[error("the invoice is for another network")]
    Network,
    /// The invoice names no amount.
    #[error("the invoice names no amount")]
    NoAmount,
    /// The invoice can no longer be paid.
    #[error("the invoice has expired")]
    Expired,
    /// This invoice was paid, or its payment is on its way.
    #[error("this invoice was paid before, or its payment is still under way")]
    Duplicate,
    /// Our channels have too little on our side, or do not lead to the payee.
    #[error("no route: our channels have too little outbound, or none leads to the payee")]
    NoRoute,
    /// LDK refuses for another reason.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It was sent and failed on the way.
    #[error("the payment failed: {0}")]
    Failed(String),
    /// The node stopped while the payment was on its way. It may still arrive.
    #[error("the node stopped; the payment may still arrive")]
    Stopped,
}

/// Why there is no invoice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// More than 639 bytes.
    #[error("the description is too long")]
    Description,
    /// LDK refuses.
    #[error("no invoice: {0}")]
    Refused(String),
}

/// LDK does not export the type of the failure, so its name tells which it is.
fn not_sent(error: &Bolt11PaymentError) -> PayError {
    let reason = match error {
        Bolt11PaymentError::SendingFailed(failure) => format!("{failure:?}"),
        Bolt11PaymentError::InvalidAmount => format!("{error:?}"),
    };
    match reason.as_str() {
        "PaymentExpired" => PayError::Expired,
        "DuplicatePayment" => PayError::Duplicate,
        "RouteNotFound" => PayError::NoRoute,
        _ => PayError::NotSent(reason),
    }
}

type Waiter = oneshot::Sender<Result<PaymentOutcome, PayError>>;

/// Payments that somebody waits for.
pub(super) struct Payments {
    manager: Arc<ChannelManager>,
    network: Network,
    waiting: Mutex<HashMap<PaymentId, Waiter>>,
}

impl Payments {
    pub(super) fn new(manager: Arc<ChannelManager>, network: Network) -> Self {
        Self { manager, network, waiting: Mutex::default() }
    }

    pub(super) fn invoice(
        &self,
        amount: Option<Amount>,
        description: &str,
        expiry: Duration,
    ) -> Result<Bolt11Invoice, InvoiceError> {
        let description = Description::new(description.to_owned()).map_err(|_| InvoiceError::Description)?;
        let parameters = Bolt11InvoiceParameters {
            amount_msats: amount.map(|amount| amount.to_sat().saturating_mul(1_000)),
            description: Bolt11InvoiceDescription::Direct(description),
            invoice_expiry_delta_secs: Some(u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX)),
            ..Bolt11InvoiceParameters::default()
        };
        self.manager
            .create_bolt11_invoice(parameters)
            .map_err(|error| InvoiceError::Refused(error.to_string()))
    }

    pub(super) async fn pay(&self, invoice: &str) -> Result<PaymentOutcome, PayError> {
        let invoice: Bolt11Invoice =
            invoice.parse().map_err(|error: ParseOrSemanticError| PayError::Invoice(error.to_string()))?;
        if invoice.currency() != Currency::from(self.network) {
            return Err(PayError::Network);
        }
        if invoice.amount_milli_satoshis().is_none() {
            return Err(PayError::NoAmount);
        }
        let id = PaymentId(invoice.payment_hash().to_byte_array());
        let done = self.send(&invoice, id)?;
        done.await.unwrap_or(Err(PayError::Stopped))
    }

    fn send(
        &self,
        invoice: &Bolt11Invoice,
        id: PaymentId,
    ) -> Result<oneshot::Receiver<Result<PaymentOutcome, PayError>>, PayError> {
        let (waiter, done) = oneshot::channel();
        // Locked until the waiter is in place: the outcome may come before the call returns.
        let mut waiting = lock(&self.waiting);
        let route = RouteParametersConfig::default();
        self.manager
            .pay_for_bolt11_invoice(invoice, id, None, route, Retry::Timeout(RETRY))
            .map_err(|error| not_sent(&error))?;
        waiting.insert(id, waiter);
        Ok(done)
    }

    /// Tells whoever waits for the payment that this event ends.
    pub(super) fn handle_event(&self, event: &Event) {
        let (id, outcome) = match event {
            Event::PaymentSent { payment_id: Some(id), payment_preimage, fee_paid_msat, .. } => {
                let preimage = payment_preimage.0.to_lower_hex_string();
                (id, Ok(PaymentOutcome { preimage, fee_msat: fee_paid_msat.unwrap_or(0) }))
            }
            Event::PaymentFailed { payment_id, reason, .. } => {
                let reason = reason.map_or_else(|| "unknown".to_owned(), |reason| format!("{reason:?}"));
                (payment_id, Err(PayError::Failed(reason)))
            }
            _ => return,
        };
        tracing::info!(payment = %id, paid = outcome.is_ok(), "payment ended");
        if let Some(waiter) = lock(&self.waiting).remove(id) {
            // The caller may have stopped waiting.
            let _ = waiter.send(outcome);
        }
    }
}
