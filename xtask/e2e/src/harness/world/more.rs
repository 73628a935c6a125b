//! What only some cases ask of their world.

use anyhow::Result;
use bitcoin::Amount;

use super::{PAYER_COINS, World};
use crate::harness::Wallet;

impl World<'_> {
    /// One more payer, whose coins are all P2TR.
    pub(crate) fn taproot_payer(&self) -> Result<Wallet<'_>> {
        const NAME: &str = "taproot";
        let wallet = self.chain.wallet(NAME)?;
        self.wallets.borrow_mut().push(NAME);
        self.chain.give(&[(wallet.address("bech32m")?, Amount::from_sat(PAYER_COINS[0]))])?;
        Ok(wallet)
    }
}
