//! `wallet coins`: every confirmed coin.

use bitcoin::amount::serde::as_sat;
use bitcoin::{Amount, OutPoint};
use schemars::JsonSchema;
use serde::Serialize;

use crate::daemon::Daemon;
use crate::rights::{Access, READ};

/// Who may ask for `wallet coins`.
pub(crate) const LIST: Access = READ;

/// Every confirmed coin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Coins {
    /// In no order.
    pub coins: Vec<Coin>,
}

/// A confirmed coin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Coin {
    /// Where it is.
    #[schemars(with = "String")]
    pub outpoint: OutPoint,
    /// Its value.
    #[serde(rename = "amount_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub amount: Amount,
    /// Its address.
    pub address: String,
    /// How deep it is in the chain.
    pub confirmations: u32,
    /// Whether it is offered in a payjoin or committed to a payment.
    pub locked: bool,
}

impl Daemon {
    pub(super) fn coins(&self) -> Coins {
        let next = self.chain.best_block().height + 1;
        let coins = self.node.coins().into_iter().map(|coin| Coin {
            outpoint: coin.outpoint,
            amount: coin.amount,
            address: coin.address,
            confirmations: next.saturating_sub(coin.height),
            locked: coin.locked,
        });
        Coins { coins: coins.collect() }
    }
}
