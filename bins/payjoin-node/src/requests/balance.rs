//! `wallet address` and `wallet balance`.

use bitcoin::Amount;
use bitcoin::amount::serde::as_sat;
use schemars::JsonSchema;
use serde::Serialize;

use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, READ, RECEIVE};

/// Who may ask for `wallet address`.
pub(crate) const ADDRESS: Access = RECEIVE;

/// Who may ask for `wallet balance`.
pub(crate) const BALANCE: Access = READ;

/// A fresh address of the wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Address {
    /// Nobody was shown it before.
    #[schemars(with = "String")]
    pub address: bitcoin::Address,
}

/// What the wallet holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Balance {
    /// In the chain, spent by nothing we know.
    #[serde(rename = "confirmed_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub confirmed: Amount,
    /// In transactions that are not in the chain.
    #[serde(rename = "unconfirmed_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub unconfirmed: Amount,
    /// From new blocks: it cannot be spent before a hundred more.
    #[serde(rename = "immature_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub immature: Amount,
    /// The part of `confirmed` that is offered in payjoins or committed to payments.
    #[serde(rename = "locked_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub locked: Amount,
    /// Kept back to close channels when fees are high.
    #[serde(rename = "reserve_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub reserve: Amount,
    /// The part of `reserve` that is for channels that are closing now.
    #[serde(rename = "reserve_closing_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub reserve_closing: Amount,
    /// Channels for which `reserve` is kept, those included that are closing.
    pub channels: usize,
    /// How many channels the coins could close when fees are high: each needs coins of its own.
    pub closable: usize,
    /// In channels that are closing: ours, and not in the wallet yet.
    #[serde(rename = "closing_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub closing: Amount,
    /// What `locked` and `reserve` leave of `confirmed`.
    #[serde(rename = "spendable_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub spendable: Amount,
}

impl Daemon {
    pub(super) async fn address(&self) -> Result<Address, RequestError> {
        let address = self.node.new_address().await;
        Ok(Address { address: address.map_err(|error| ErrorKind::Wallet.error(error))? })
    }

    pub(super) fn balance(&self) -> Balance {
        let balance = self.node.balance();
        Balance {
            confirmed: balance.confirmed,
            unconfirmed: balance.unconfirmed,
            immature: balance.immature,
            locked: balance.locked,
            reserve: balance.reserve,
            reserve_closing: balance.reserve_closing,
            channels: balance.channels,
            closable: balance.closable,
            closing: balance.closing,
            spendable: balance.spendable,
        }
    }
}
