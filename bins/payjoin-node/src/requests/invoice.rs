//! `invoice`: a BOLT 11 invoice.

use std::time::Duration;

use bitcoin::Amount;
use bitcoin::amount::serde::as_sat;
use bitcoin::hex::FromHex as _;
use payjoin_core::{LightningPayment, tame};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, RECEIVE};

/// How long it can be paid.
const EXPIRY: Duration = Duration::from_secs(3600);

/// What is to be paid over Lightning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceArgs {
    /// How much.
    #[serde(with = "as_sat")]
    #[schemars(with = "u64")]
    pub amount: Amount,
    /// What for; the payer sees it.
    pub description: String,
}

/// A BOLT 11 invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Bolt11 {
    /// The invoice.
    pub bolt11: String,
    /// Its payment hash, in hex.
    pub payment_hash: String,
}

impl Guarded for InvoiceArgs {
    const ACCESS: Access = RECEIVE;
}

impl Daemon {
    pub(super) async fn invoice(&self, args: &InvoiceArgs) -> Result<Bolt11, RequestError> {
        if args.amount == Amount::ZERO {
            return Err(ErrorKind::Request.error("an invoice over 0 sat cannot be paid"));
        }
        let invoice = self.node.invoice(args.amount, &args.description, EXPIRY).await?;
        let hash = <[u8; 32]>::from_hex(&invoice.payment_hash);
        let hash = hash.map_err(|error| ErrorKind::Lightning.error(error))?;
        let about = Some(tame(&args.description)).filter(|about| !about.is_empty());
        let payment = LightningPayment { hash, outgoing: false, amount: Some(args.amount), about };
        self.store.begin_lightning(&payment, now()).await?;
        Ok(Bolt11 { bolt11: invoice.bolt11, payment_hash: invoice.payment_hash })
    }
}
