//! Where things are in a world.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bitcoin::Amount;

use super::world::World;

impl World<'_> {
    /// A folder for something that is no daemon yet.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.join(name);
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// This case pays more in fees than others.
    pub(crate) fn allow_fees(&self, most: u64) {
        self.fee_cap.set(Amount::from_sat(most));
    }

    /// The program of the daemons.
    pub(crate) fn payjoind(&self) -> &Path {
        &self.programs.payjoind
    }

    /// The program of our chain.
    pub(crate) fn bitcoind(&self) -> &Path {
        &self.programs.bitcoind
    }
}
