//! A bitcoind that keeps few blocks.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::chain::Chain;
use super::wait;
use xtask_programs::ports;

/// bitcoind prunes none of its last blocks.
const KEPT: u64 = 288;
const PATIENCE: Duration = Duration::from_secs(30);

/// It has its blocks from another one, as long as the two are connected.
pub(crate) struct Pruned {
    pub(crate) chain: Chain,
    /// Where others reach it.
    address: String,
}

impl Pruned {
    /// Starts one below `dir` and waits until it has all blocks of `full`.
    pub(super) fn start(program: &Path, dir: &Path, full: &Chain) -> Result<Self> {
        let address = format!("127.0.0.1:{}", ports::free()?);
        let bind = format!("-bind={address}");
        // Small files of blocks, which are pruned whole; and transactions go on at once.
        let arguments = ["-prune=1", "-fastprune", "-listen=1", &bind, "-whitelist=noban@127.0.0.1"];
        let pruned = Self { chain: Chain::run(program, &dir.join("pruned"), &arguments)?, address };
        pruned.connect(full)?;
        Ok(pruned)
    }

    /// Connects it to `full` and waits until it has all blocks.
    pub(crate) fn connect(&self, full: &Chain) -> Result<()> {
        self.chain.call("setnetworkactive", json!([true]))?;
        full.call("addnode", json!([self.address, "onetry"]))?;
        self.follow(full)
    }

    /// Waits until it has all blocks of `full`.
    pub(crate) fn follow(&self, full: &Chain) -> Result<()> {
        let height = full.height()?;
        wait::until("the pruned bitcoind has all blocks", PATIENCE, || {
            Ok((self.chain.height()? >= height).then_some(()))
        })
    }

    pub(crate) fn disconnect(&self) -> Result<()> {
        self.chain.call("setnetworkactive", json!([false]))?;
        wait::until("the pruned bitcoind has no peer", PATIENCE, || {
            let peers = self.chain.call("getconnectioncount", json!([]))?;
            Ok((peers == json!(0)).then_some(()))
        })
    }

    /// Forgets all the blocks that it may, the one at this height among them.
    pub(crate) fn forget(&self, height: u64) -> Result<()> {
        let last = self.chain.height()? - KEPT - 1;
        self.chain.call("pruneblockchain", json!([last]))?;
        let hash = self.chain.call("getblockhash", json!([height]))?;
        let kept = self.chain.call("getblock", json!([hash])).is_ok();
        ensure!(!kept, "block {height} is still there after pruning to {last}");
        Ok(())
    }
}
