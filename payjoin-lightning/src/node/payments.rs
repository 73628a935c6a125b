//! BOLT 11 invoices and payments.

mod records;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::hashes::Hash as _;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, Network};
use lightning::events::Event;
use lightning::io;
use lightning::ln::channelmanager::{
    Bolt11InvoiceParameters, Bolt11PaymentError, PaymentId, RecentPaymentDetails, Retry,
};
use lightning::routing::router::RouteParametersConfig;
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescription, Currency, Description, ParseOrSemanticError,
};
use tokio::sync::oneshot;

use super::parts::now;
use super::store::NodeStore;
use super::types::ChannelManager;
use crate::PaymentOutcome;
use crate::lock::lock;
use records::{Fate, Record, Records};

/// How long a payment tries other routes.
const RETRY: Duration = Duration::from_secs(30);

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
    /// The invoice names an amount, and so does the payer.
    #[error("the invoice names an amount itself")]
    HasAmount,
    /// The invoice can no longer be paid.
    #[error("the invoice has expired")]
    Expired,
    /// This invoice was paid minutes ago by a version of this program that kept no record of it.
    #[error("this invoice was paid before")]
    Duplicate,
    /// Nothing was sent: a payment that is not on record could be made twice.
    #[error("not sent, because it cannot be recorded: {0}")]
    Store(String),
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

type Outcome = Result<PaymentOutcome, PayError>;

/// Payments, and who waits for them.
pub(super) struct Payments {
    manager: Arc<ChannelManager>,
    network: Network,
    state: Mutex<State>,
}

struct State {
    records: Records,
    waiting: HashMap<PaymentId, Vec<oneshot::Sender<Outcome>>>,
}

impl Payments {
    /// Reads the records back and compares those under way with what LDK knows: it finds every payment of which anything
    /// left, in its own state or in that of the channels.
    pub(super) fn load(
        manager: Arc<ChannelManager>,
        network: Network,
        store: Arc<dyn NodeStore>,
    ) -> Result<Self, io::Error> {
        let mut records = Records::load(store, now())?;
        let known = recent(&manager);
        for id in records.under_way() {
            if !known.contains_key(&id) {
                tracing::info!(payment = %id, "a payment never left");
                records.end(id, Fate::Failed { reason: "it never left this node".to_owned() }, now())?;
            }
        }
        Ok(Self { manager, network, state: Mutex::new(State { records, waiting: HashMap::new() }) })
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

    pub(super) async fn pay(
        &self,
        invoice: &str,
        amount: Option<Amount>,
    ) -> Result<PaymentOutcome, PayError> {
        let invoice: Bolt11Invoice =
            invoice.parse().map_err(|error: ParseOrSemanticError| PayError::Invoice(error.to_string()))?;
        if invoice.currency() != Currency::from(self.network) {
            return Err(PayError::Network);
        }
        let amount_msat = match (invoice.amount_milli_satoshis(), amount) {
            (Some(_), None) => None,
            (None, Some(amount)) => Some(amount.to_sat().saturating_mul(1_000)),
            (None, None) => return Err(PayError::NoAmount),
            (Some(_), Some(_)) => return Err(PayError::HasAmount),
        };
        let id = PaymentId(invoice.payment_hash().to_byte_array());
        let done = self.send(&invoice, amount_msat, id)?;
        done.await.unwrap_or(Err(PayError::Stopped))
    }

    /// Sends a payment, unless it was paid or is under way: a hash is paid once.
    fn send(
        &self,
        invoice: &Bolt11Invoice,
        amount_msat: Option<u64>,
        id: PaymentId,
    ) -> Result<oneshot::Receiver<Outcome>, PayError> {
        let (waiter, done) = oneshot::channel();
        // Locked until the waiter is in place: the outcome may come before the call returns.
        let mut state = lock(&self.state);
        match state.records.get(&id).map(|record| &record.fate) {
            Some(Fate::Paid { preimage, fee_msat }) => {
                let outcome = PaymentOutcome { preimage: preimage.clone(), fee_msat: *fee_msat };
                // We hold the other end.
                let _ = waiter.send(Ok(outcome));
                return Ok(done);
            }
            Some(Fate::UnderWay) => {}
            Some(Fate::Failed { .. }) | None => {
                self.begin(&mut state.records, invoice, amount_msat, id)?;
            }
        }
        state.waiting.entry(id).or_default().push(waiter);
        Ok(done)
    }

    /// Records a payment, then hands it to LDK.
    fn begin(
        &self,
        records: &mut Records,
        invoice: &Bolt11Invoice,
        amount_msat: Option<u64>,
        id: PaymentId,
    ) -> Result<(), PayError> {
        let record = Record {
            amount_msat: invoice.amount_milli_satoshis().or(amount_msat).unwrap_or_default(),
            began: now().as_secs(),
            expires: invoice.expires_at().map_or(u64::MAX, |at| at.as_secs()),
            fate: Fate::UnderWay,
        };
        records.put(id, record).map_err(|error| PayError::Store(error.to_string()))?;
        let route = RouteParametersConfig::default();
        let retry = Retry::Timeout(RETRY);
        let Err(error) = self.manager.pay_for_bolt11_invoice(invoice, id, amount_msat, route, retry) else {
            return Ok(());
        };
        let error = not_sent(&error);
        // Sent by a version that kept no records.
        if error == PayError::Duplicate && recent(&self.manager).get(&id) == Some(&false) {
            return Ok(());
        }
        let ended = records.end(id, Fate::Failed { reason: error.to_string() }, now());
        ended.map_err(|error| PayError::Store(error.to_string()))?;
        Err(error)
    }

    /// Notes how the payment of this event ended, and tells whoever waits for it. An error when it could not be kept.
    pub(super) fn handle_event(&self, event: &Event) -> Result<(), io::Error> {
        let (id, fate, outcome) = match event {
            Event::PaymentSent { payment_id: Some(id), payment_preimage, fee_paid_msat, .. } => {
                let preimage = payment_preimage.0.to_lower_hex_string();
                let fee_msat = fee_paid_msat.unwrap_or(0);
                let fate = Fate::Paid { preimage: preimage.clone(), fee_msat };
                (*id, fate, Ok(PaymentOutcome { preimage, fee_msat }))
            }
            Event::PaymentFailed { payment_id, reason, .. } => {
                let reason = reason.map_or_else(|| "unknown".to_owned(), |reason| format!("{reason:?}"));
                (*payment_id, Fate::Failed { reason: reason.clone() }, Err(PayError::Failed(reason)))
            }
            _ => return Ok(()),
        };
        let mut state = lock(&self.state);
        state.records.end(id, fate, now())?;
        tracing::info!(payment = %id, paid = outcome.is_ok(), "payment ended");
        for waiter in state.waiting.remove(&id).into_iter().flatten() {
            // The caller may have stopped waiting.
            let _ = waiter.send(outcome.clone());
        }
        Ok(())
    }
}

/// The payments that LDK knows, and whether each has arrived.
fn recent(manager: &ChannelManager) -> HashMap<PaymentId, bool> {
    let known = manager.list_recent_payments().into_iter().map(|payment| match payment {
        RecentPaymentDetails::Fulfilled { payment_id, .. } => (payment_id, true),
        RecentPaymentDetails::AwaitingInvoice { payment_id }
        | RecentPaymentDetails::Pending { payment_id, .. }
        | RecentPaymentDetails::Abandoned { payment_id, .. } => (payment_id, false),
    });
    known.collect()
}
