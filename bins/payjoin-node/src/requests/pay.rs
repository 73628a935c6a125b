//! `pay`: a Lightning payment.

use bitcoin::Amount;
use bitcoin::Network;
use bitcoin::amount::serde::as_sat;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::PublicKey;
use lightning::bolt11_invoice::{Bolt11Invoice, Currency, ParseOrSemanticError};
use payjoin_core::{LightningEnd, LightningPayment, tame};
use payjoin_lightning::LightningError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, SPEND};

/// What to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PayArgs {
    /// The invoice.
    pub bolt11: String,
    /// How much, where the invoice leaves it to the payer.
    #[serde(default, with = "as_sat::opt")]
    #[schemars(with = "Option<u64>")]
    pub amount: Option<Amount>,
}

/// An invoice that was paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PaidInvoice {
    /// The proof of payment, in hex.
    pub preimage: String,
    /// Fees paid on the way, in millisatoshis.
    pub fee_msat: u64,
    /// Always `succeeded`: what failed is an error.
    pub status: &'static str,
}

/// Why an invoice is not given to the Lightning node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unpayable {
    #[error("not a valid invoice: {0}")]
    Invoice(ParseOrSemanticError),
    #[error("the invoice is for another network")]
    Network,
    #[error("that is an invoice of this node itself: somebody else has to pay it")]
    Ours,
    #[error("the invoice leaves the amount to the payer: say how much with --amount SAT")]
    NoAmount,
    #[error("the invoice asks for {0} sat: leave out --amount")]
    HasAmount(u64),
    #[error("nobody can pay 0 sat")]
    Nothing,
}

impl Guarded for PayArgs {
    const ACCESS: Access = SPEND;
}

impl Daemon {
    pub(super) async fn pay(&self, args: &PayArgs) -> Result<PaidInvoice, RequestError> {
        let checked = check(args, self.settings.network, self.node.node_id());
        let payment = checked.map_err(|error| ErrorKind::Request.error(error))?;
        let hash = payment.hash;
        self.store.begin_lightning(&payment, now()).await?;
        let paid = self.node.pay(&args.bolt11, args.amount).await;
        match &paid {
            Ok(paid) => self.store.end_lightning(hash, LightningEnd::Sent(paid.fee_msat), now()).await?,
            // Nobody knows what became of it.
            Err(LightningError::Away(_)) => {}
            Err(error) => {
                let why = LightningEnd::Failed(tame(&error.to_string()));
                self.store.end_lightning(hash, why, now()).await?;
            }
        }
        let paid = paid?;
        Ok(PaidInvoice { preimage: paid.preimage, fee_msat: paid.fee_msat, status: "succeeded" })
    }
}

/// Whatever the node is, it gets only what can be paid.
fn check(args: &PayArgs, network: Network, ours: PublicKey) -> Result<LightningPayment, Unpayable> {
    let invoice: Bolt11Invoice = args.bolt11.parse().map_err(Unpayable::Invoice)?;
    if invoice.currency() != Currency::from(network) {
        return Err(Unpayable::Network);
    }
    if invoice.get_payee_pub_key() == ours {
        return Err(Unpayable::Ours);
    }
    match (invoice.amount_milli_satoshis(), args.amount) {
        (None, None) => Err(Unpayable::NoAmount),
        (Some(msat), Some(_)) => Err(Unpayable::HasAmount(msat.div_ceil(1_000))),
        (None, Some(Amount::ZERO)) => Err(Unpayable::Nothing),
        (msat, amount) => {
            let amount = msat.map(|msat| Amount::from_sat(msat.div_ceil(1_000))).or(amount);
            let about = tame(&invoice.description().to_string());
            let about = Some(about).filter(|about| !about.is_empty());
            let hash = invoice.payment_hash().to_byte_array();
            Ok(LightningPayment { hash, outgoing: true, amount, about })
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::sha256;
    use bitcoin::secp256k1::{SECP256K1, SecretKey};
    use lightning::bolt11_invoice::{InvoiceBuilder, PaymentSecret};

    use super::*;

    fn key(id: u8) -> SecretKey {
        SecretKey::from_slice(&[id; 32]).unwrap()
    }

    /// An invoice of node 1 on regtest.
    fn invoice(msat: Option<u64>) -> String {
        let built = InvoiceBuilder::new(Currency::Regtest)
            .description("test".into())
            .payment_hash(sha256::Hash::hash(b"preimage"))
            .payment_secret(PaymentSecret([7; 32]))
            .duration_since_epoch(std::time::Duration::from_secs(1_800_000_000))
            .min_final_cltv_expiry_delta(144);
        let built = match msat {
            Some(msat) => built.amount_milli_satoshis(msat),
            None => built,
        };
        let sign = |hash: &bitcoin::secp256k1::Message| SECP256K1.sign_ecdsa_recoverable(hash, &key(1));
        built.build_signed(sign).unwrap().to_string()
    }

    #[test]
    fn only_what_can_be_paid_reaches_the_lightning_node() {
        let (open, asks) = (invoice(None), invoice(Some(1_500)));
        for (bolt11, amount, network, node, expected) in [
            (&open, Some(7), Network::Regtest, 2, Ok(())),
            (&asks, None, Network::Regtest, 2, Ok(())),
            (&open, None, Network::Regtest, 2, Err(Unpayable::NoAmount)),
            (&open, Some(0), Network::Regtest, 2, Err(Unpayable::Nothing)),
            (&asks, Some(2), Network::Regtest, 2, Err(Unpayable::HasAmount(2))),
            (&asks, None, Network::Bitcoin, 2, Err(Unpayable::Network)),
            (&asks, None, Network::Regtest, 1, Err(Unpayable::Ours)),
        ] {
            let args = PayArgs { bolt11: bolt11.clone(), amount: amount.map(Amount::from_sat) };
            let node = PublicKey::from_secret_key(SECP256K1, &key(node));
            assert_eq!(check(&args, network, node).map(drop), expected, "{amount:?}");
        }
        let nonsense = PayArgs { bolt11: "lnbc1".into(), amount: None };
        let node = PublicKey::from_secret_key(SECP256K1, &key(2));
        let refused = check(&nonsense, Network::Regtest, node);
        assert!(matches!(refused, Err(Unpayable::Invoice(_))), "{refused:?}");
    }
}
