//! What a payer was asked to pay.

use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};
use serde::{Deserialize, Serialize};

use crate::{Label, Timestamp};

/// Names an invoice: the last path segment of its `pj=` endpoint, 26 characters of lower-case base32.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InvoiceId(pub String);

/// One BIP 21 payment request. Its script is fixed when it is made, so that no exchange derives an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its name in the endpoint.
    pub id: InvoiceId,
    /// The address of the BIP 21 code. Our change goes there, too.
    pub script: ScriptBuf,
    /// The least the payment output must carry; `None` accepts any amount.
    pub amount: Option<Amount>,
    /// When it was made.
    pub created: Timestamp,
    /// After this moment no new exchange is begun for it. A payment on chain is still ours.
    pub expires: Timestamp,
    /// The operator's word that whoever pays this is himself. Lifts money rule 5 for its payments, and for no others.
    #[serde(default)]
    pub payer_is_me: bool,
    /// Coins of ours may make up for a payment smaller than the channels, whatever
    /// [`Policy::top_up`](crate::Policy::top_up) says.
    #[serde(default)]
    pub top_up: bool,
    /// The operator's words for it. No payer sees them.
    #[serde(default)]
    pub label: Option<Label>,
    /// The operator's own name for it. No payer sees it.
    #[serde(default)]
    pub own_id: Option<Label>,
}

impl Invoice {
    /// One over any amount, paid by somebody else.
    #[must_use]
    pub fn new(id: InvoiceId, script: ScriptBuf, created: Timestamp, expires: Timestamp) -> Self {
        Self {
            id,
            script,
            amount: None,
            created,
            expires,
            payer_is_me: false,
            top_up: false,
            label: None,
            own_id: None,
        }
    }

    /// Whether somebody can be asked to pay it. One that has expired when it is made only names the change of an opening of ours.
    #[must_use]
    pub fn is_code(&self) -> bool {
        self.created < self.expires
    }

    /// For so long after an invoice has expired, payments to it without payjoin are looked for: a year.
    pub const WATCHED_SECONDS: u64 = 366 * 24 * 3600;

    /// Since when invoices may have expired to which payments are still looked for.
    #[must_use]
    pub fn watched_since(now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_sub(Self::WATCHED_SECONDS))
    }

    /// What this Original owes its invoice: any spend of the payer's inputs that pays so much to the script has paid it.
    /// The amount of the invoice, or of an invoice without one what the Original pays.
    #[must_use]
    pub fn owed(script: ScriptBuf, amount: Option<Amount>, original: &Transaction) -> TxOut {
        let paid = paid_to(&script, original);
        TxOut { value: amount.map_or(paid, |amount| amount.min(paid)), script_pubkey: script }
    }
}

/// All that a transaction pays to a script.
#[must_use]
pub fn paid_to(script: &ScriptBuf, transaction: &Transaction) -> Amount {
    let paid = transaction.output.iter().filter(|output| output.script_pubkey == *script);
    paid.map(|output| output.value)
        .fold(Amount::ZERO, |sum, value| sum.checked_add(value).unwrap_or(Amount::MAX_MONEY))
}

/// What becomes of the output that pays us. Where it stays, it stays at its place: nothing new stands between it and
/// the payer's output before it, since some wallets take the first thing that stands there for the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentOutput {
    /// It stays, no smaller than it was: a plain payjoin, or channels beside it that coins of ours pay for.
    Kept,
    /// Its script stays and carries our change.
    Change,
    /// Channels take its place and all of its value; there is no change.
    Replaced,
}

impl InvoiceId {
    /// A name from 128 bits that nobody can guess.
    #[must_use]
    pub fn from_entropy(entropy: [u8; 16]) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let bits = u128::from_be_bytes(entropy);
        let digit = |i: u32| char::from(ALPHABET[(bits >> (5 * i) & 31) as usize]);
        Self((0..26).map(digit).collect())
    }
}

impl std::fmt::Display for InvoiceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_entropy_gives_different_names_of_26_characters() {
        let (low, high) = (InvoiceId::from_entropy([0; 16]), InvoiceId::from_entropy([255; 16]));
        assert_eq!(low.0, "a".repeat(26));
        assert_eq!((high.0.len(), high.0.ends_with('h')), (26, true));
    }
}
