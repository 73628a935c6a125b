//! Channels that end, and what comes back from them.

use std::time::Duration;

use anyhow::{Result, bail};
use bitcoin::{OutPoint, Transaction};

use super::daemon::Daemon;
use super::json::Fields;
use super::wait;
use super::world::World;

/// Blocks after which the longest delay of a forced close is over, and how many are mined at a time.
const DELAY: u32 = 300;
const STEP: u32 = 6;

impl World<'_> {
    /// Waits for the transaction that closes a channel, mines it, and counts each side's output as a gift.
    pub(crate) fn closed(&self, funding: OutPoint, sides: &[&Daemon]) -> Result<()> {
        let closing = self.closing(funding)?;
        self.mine(1)?;
        let txid = closing.compute_txid();
        for side in sides {
            let coins = side.call(&["wallet", "coins"])?;
            for coin in coins.list("coins")? {
                if coin.outpoint("outpoint")?.txid == txid {
                    self.gifts.borrow_mut().push((side.name, coin.sat("amount_sat")?));
                }
            }
        }
        Ok(())
    }

    /// Waits for the transaction by which one side alone closes a channel once `close` has made it do so, mines until all
    /// that is this daemon's in it has come back to its wallet, and counts that, less what it cost, as a gift.
    pub(crate) fn forced(
        &self,
        funding: OutPoint,
        daemon: &Daemon,
        close: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let confirmed = || daemon.call(&["wallet", "balance"])?.sat("confirmed_sat");
        let before = confirmed()?;
        close()?;
        self.closing(funding)?;
        for _ in 0..DELAY / STEP {
            self.mine(STEP)?;
            if confirmed()? > before && !daemon.is_closing(funding)? {
                // Whatever is swept after it.
                self.mine(STEP)?;
                self.gifts.borrow_mut().push((daemon.name, confirmed()? - before));
                return Ok(());
            }
        }
        bail!("nothing came back from {funding} in {DELAY} blocks")
    }

    /// The transaction that waits to close a channel. From now on the channel may end.
    fn closing(&self, funding: OutPoint) -> Result<Transaction> {
        let closing = wait::until(&format!("a spend of {funding}"), Duration::from_secs(40), || {
            self.chain.spender(|spent| spent == funding)
        })?;
        self.closed.borrow_mut().push(funding);
        Ok(closing)
    }

    /// Did somebody want any channel closed?
    pub(crate) fn has_closed(&self) -> bool {
        !self.closed.borrow().is_empty()
    }

    /// Did somebody want this channel closed?
    pub(crate) fn is_closed(&self, funding: OutPoint) -> bool {
        self.closed.borrow().contains(&funding)
    }
}
