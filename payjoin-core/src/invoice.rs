//! What a payer was asked to pay.

use bitcoin::{Amount, ScriptBuf};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Names an invoice: the last path segment of its `pj=` endpoint, 26 characters of lower-case base32.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InvoiceId(pub String);

/// One BIP 21 payment request. Both scripts are fixed when it is made, so that no exchange derives an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its name in the endpoint.
    pub id: InvoiceId,
    /// The address of the BIP 21 code. P2TR in the embedded node: a P2WSH output in its place weighs the same.
    pub script: ScriptBuf,
    /// Where our change goes when the payment output is replaced.
    pub change: ScriptBuf,
    /// The least the payment output must carry; `None` accepts any amount.
    pub amount: Option<Amount>,
    /// When it was made.
    pub created: Timestamp,
    /// After this moment no new exchange is begun for it. A payment on chain is still ours.
    pub expires: Timestamp,
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
