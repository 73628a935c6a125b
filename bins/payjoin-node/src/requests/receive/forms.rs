//! A code in its forms: for each way to us, and with a Lightning invoice in it.

use bitcoin::Address;
use payjoin_core::{Invoice, bip21_v1};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{ErrorKind, RequestError};
use crate::ways::{Endpoint, Via};

/// A code by another way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Alternative {
    /// How the payer reaches us.
    pub via: Via,
    /// The code.
    pub uri: String,
    /// Where the payer reaches us.
    pub endpoint: String,
}

/// The code that can be paid either way. BIP 321, "Payment instructions".
pub(super) fn unified(code: Alternative, lightning: Option<&str>) -> Alternative {
    match lightning {
        Some(bolt11) => Alternative { uri: format!("{}&lightning={bolt11}", code.uri), ..code },
        None => code,
    }
}

/// Where we answer ourselves.
pub(super) fn code_of_ours(
    ours: &Endpoint,
    address: &Address,
    invoice: &Invoice,
) -> Result<Alternative, RequestError> {
    let endpoint = format!("{}/{}", ours.url.trim_end_matches('/'), invoice.id);
    let uri = bip21_v1(address, invoice.amount, &endpoint);
    Ok(Alternative { via: ours.via, uri: uri.map_err(|error| ErrorKind::Settings.error(error))?, endpoint })
}
