//! What only some cases ask of their world.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

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

    /// The program of the daemons.
    pub(crate) fn payjoind(&self) -> &Path {
        &self.programs.payjoind
    }

    /// A folder that goes with the world.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.join(name);
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(folder)
    }
}
