//! The coins an exchange may be offered, kept ready so that a request costs nothing that grows with the wallet.

use std::collections::{BTreeSet, HashMap};

use bitcoin::{Amount, OutPoint, Script};
use payjoin_core::Coin;

/// Most coins one exchange is offered.
pub(super) const OFFERED: usize = 16;

/// A confirmed, unspent coin.
#[derive(Clone, Debug)]
pub(super) struct Confirmed {
    pub(super) coin: Coin,
    pub(super) height: u32,
}

/// Coins that are not locked, of one script type, smallest first.
type Sorted = BTreeSet<(Amount, OutPoint)>;

/// All confirmed coins, and which of them are locked.
#[derive(Debug, Default)]
pub(super) struct Coins {
    confirmed: HashMap<OutPoint, Confirmed>,
    /// How many holders each locked coin has. A coin that is shown to a second attempt at the same invoice must stay
    /// locked when only one of the two attempts ends (money rule 7).
    locks: HashMap<OutPoint, usize>,
    free_taproot: Sorted,
    free_segwit: Sorted,
    free: Amount,
    total: Amount,
}

impl Coins {
    /// Takes over a new picture of the wallet. Locks stay, also on coins that it does not show.
    pub(super) fn replace(&mut self, coins: impl IntoIterator<Item = Confirmed>) {
        let locks = std::mem::take(&mut self.locks);
        *self = Self { locks, ..Self::default() };
        for confirmed in coins {
            self.total += confirmed.coin.txout.value;
            if !self.locks.contains_key(&confirmed.coin.outpoint) {
                self.set_free(&confirmed.coin);
            }
            self.confirmed.insert(confirmed.coin.outpoint, confirmed);
        }
    }

    /// Forgets coins of blocks above `height`, which are no longer in the best chain.
    pub(super) fn forget_above(&mut self, height: u32) {
        let kept: Vec<_> = self.confirmed.values().filter(|coin| coin.height <= height).cloned().collect();
        self.replace(kept);
    }

    /// Locks and returns at most [`OFFERED`] coins, best first: those in `prefer` even if they are locked, then coins of
    /// the payer's script type, then the others; larger ones first.
    pub(super) fn offer(&mut self, payer_script: &Script, prefer: &[OutPoint]) -> Vec<Coin> {
        let (first, second) = match payer_script.is_p2tr() {
            true => (&self.free_taproot, &self.free_segwit),
            false => (&self.free_segwit, &self.free_taproot),
        };
        let mut seen = BTreeSet::new();
        let rest = first.iter().rev().chain(second.iter().rev()).map(|(_, outpoint)| outpoint);
        let offered: Vec<Coin> = prefer
            .iter()
            .chain(rest)
            .filter(|outpoint| seen.insert(**outpoint))
            .filter_map(|outpoint| self.confirmed.get(outpoint))
            .map(|confirmed| confirmed.coin.clone())
            .take(OFFERED)
            .collect();
        for coin in &offered {
            self.lock(coin.outpoint);
        }
        offered
    }

    /// Coins that are not locked, of one script type, smallest first.
    pub(super) fn sorted(&self, taproot: bool) -> Vec<&Coin> {
        let sorted = if taproot { &self.free_taproot } else { &self.free_segwit };
        let coin = |(_, outpoint): &(Amount, OutPoint)| Some(&self.confirmed.get(outpoint)?.coin);
        sorted.iter().filter_map(coin).collect()
    }

    /// Adds a holder to a coin's lock. The coin need not be known (yet).
    pub(super) fn lock(&mut self, outpoint: OutPoint) {
        let holders = self.locks.entry(outpoint).or_default();
        *holders += 1;
        if *holders == 1
            && let Some(confirmed) = self.confirmed.get(&outpoint)
        {
            let entry = (confirmed.coin.txout.value, outpoint);
            let script = &confirmed.coin.txout.script_pubkey;
            let free = if script.is_p2tr() { &mut self.free_taproot } else { &mut self.free_segwit };
            free.remove(&entry);
            self.free -= entry.0;
        }
    }

    /// Takes a holder from a coin's lock; the last one frees the coin.
    pub(super) fn unlock(&mut self, outpoint: OutPoint) {
        let Some(holders) = self.locks.get_mut(&outpoint) else { return };
        *holders -= 1;
        if *holders == 0 {
            self.locks.remove(&outpoint);
            if let Some(confirmed) = self.confirmed.get(&outpoint) {
                let coin = confirmed.coin.clone();
                self.set_free(&coin);
            }
        }
    }

    fn set_free(&mut self, coin: &Coin) {
        let script = &coin.txout.script_pubkey;
        let free = if script.is_p2tr() { &mut self.free_taproot } else { &mut self.free_segwit };
        free.insert((coin.txout.value, coin.outpoint));
        self.free += coin.txout.value;
    }

    /// Whether a coin is locked.
    pub(super) fn is_locked(&self, outpoint: &OutPoint) -> bool {
        self.locks.contains_key(outpoint)
    }

    /// Every confirmed coin.
    pub(super) fn confirmed(&self) -> impl Iterator<Item = &Confirmed> {
        self.confirmed.values()
    }

    /// Value of the confirmed coins that are not locked.
    pub(super) fn free(&self) -> Amount {
        self.free
    }

    /// Value of all confirmed coins.
    pub(super) fn total(&self) -> Amount {
        self.total
    }
}

#[cfg(test)]
mod tests;
