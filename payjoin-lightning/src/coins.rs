//! The coins an exchange may be offered, kept ready so that a request costs nothing that grows with the wallet.

use std::collections::{BTreeSet, HashMap};

use bitcoin::{Amount, OutPoint, Script};
use payjoin_core::{Coin, Holder};

/// Most coins one exchange is offered.
pub(crate) const OFFERED: usize = 16;

/// Free P2WPKH coins for each free P2TR coin: of the wallets that refuse inputs of another type, most are P2WPKH.
const SEGWIT_FOR_EACH_TAPROOT: usize = 4;

/// A confirmed, unspent coin.
#[derive(Clone, Debug)]
pub(crate) struct Confirmed {
    pub(crate) coin: Coin,
    pub(crate) height: u32,
}

/// Coins that are not locked, of one script type, smallest first.
type Sorted = BTreeSet<(Amount, OutPoint)>;

/// What coins are worth that are not locked.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(feature = "node"), allow(dead_code, reason = "only the embedded node keeps coins apart"))]
pub(crate) struct Free {
    /// What closing a channel takes when fees are high, and what it costs then to spend a coin.
    per_channel: Amount,
    cost: Amount,
    /// Their sum.
    pub(crate) value: Amount,
    /// How many could close a channel each when fees are high.
    pub(crate) whole: usize,
    /// The others, less what it costs to spend them then.
    pub(crate) parts: Amount,
}

impl Free {
    fn left_of(&self, coin: &Coin) -> Amount {
        coin.txout.value.checked_sub(self.cost).unwrap_or_default()
    }

    /// Counts this coin too.
    pub(crate) fn add(&mut self, coin: &Coin) {
        let value = coin.txout.value;
        self.value += value;
        match value >= self.per_channel {
            true => self.whole += 1,
            false => self.parts += self.left_of(coin),
        }
    }

    /// Counts this coin no more.
    pub(crate) fn remove(&mut self, coin: &Coin) {
        let value = coin.txout.value;
        self.value -= value;
        match value >= self.per_channel {
            true => self.whole -= 1,
            false => self.parts -= self.left_of(coin),
        }
    }

    /// How many channels they could close: each needs coins of its own, and whoever chooses among small ones takes up to
    /// twice what is needed.
    #[cfg(feature = "node")]
    pub(crate) fn closable(&self) -> usize {
        let pairs = self.parts.to_sat() / self.per_channel.to_sat().max(1) / 2;
        usize::try_from(pairs).unwrap_or(usize::MAX).saturating_add(self.whole)
    }

    /// What of them is kept for `channels` channels, should all else be spent in one payment whose change is kept too.
    #[cfg(feature = "node")]
    fn kept<'c>(&self, channels: usize, smallest_first: impl Iterator<Item = &'c Coin>) -> Amount {
        let Some(others) = channels.min(self.closable()).checked_sub(1) else { return Amount::ZERO };
        let whole = smallest_first.map(|coin| coin.txout.value).filter(|value| *value >= self.per_channel);
        let whole: Vec<_> = whole.take(others).collect();
        let pairs = self.per_channel * 2 * (others - whole.len()) as u64;
        self.per_channel + whole.into_iter().sum::<Amount>() + pairs
    }
}

/// All confirmed coins, and which of them are locked.
#[derive(Debug, Default)]
pub(crate) struct Coins {
    confirmed: HashMap<OutPoint, Confirmed>,
    /// What each holder holds.
    held: HashMap<Holder, BTreeSet<OutPoint>>,
    /// How many holders each locked coin has. A coin that is shown to a second attempt at the same invoice must stay
    /// locked when only one of the two attempts ends (money rule 7).
    locks: HashMap<OutPoint, usize>,
    free_taproot: Sorted,
    free_segwit: Sorted,
    free: Free,
    total: Amount,
}

impl Coins {
    /// None yet, where channels may have to be closed: with so much each, from coins that cost so much to spend.
    #[cfg(feature = "node")]
    pub(crate) fn new(per_channel: Amount, cost: Amount) -> Self {
        Self { free: Free { per_channel, cost, ..Free::default() }, ..Self::default() }
    }

    /// Takes over a new picture of the wallet. Locks stay, also on coins that it does not show.
    pub(crate) fn replace(&mut self, coins: impl IntoIterator<Item = Confirmed>) {
        let (held, locks) = (std::mem::take(&mut self.held), std::mem::take(&mut self.locks));
        let free = Free { per_channel: self.free.per_channel, cost: self.free.cost, ..Free::default() };
        *self = Self { held, locks, free, ..Self::default() };
        for confirmed in coins {
            self.total += confirmed.coin.txout.value;
            if !self.locks.contains_key(&confirmed.coin.outpoint) {
                self.set_free(&confirmed.coin);
            }
            self.confirmed.insert(confirmed.coin.outpoint, confirmed);
        }
    }

    /// Every coin that somebody holds, known or not.
    #[cfg(feature = "cln")]
    pub(crate) fn locked(&self) -> impl Iterator<Item = &OutPoint> {
        self.locks.keys()
    }

    /// Forgets coins of blocks above `height`, which are no longer in the best chain.
    #[cfg(feature = "node")]
    pub(crate) fn forget_above(&mut self, height: u32) {
        let kept: Vec<_> = self.confirmed.values().filter(|coin| coin.height <= height).cloned().collect();
        self.replace(kept);
    }

    /// Gives the holder at most [`OFFERED`] coins: those in `shown` and no others, if there are any, although they are
    /// locked; otherwise free coins of the payer's script type, then the others, of each type small and large ones.
    pub(crate) fn offer(&mut self, holder: Holder, payer_script: &Script, shown: &[OutPoint]) -> Vec<Coin> {
        self.hold(holder, &[]);
        let (first, second) = match payer_script.is_p2tr() {
            true => (&self.free_taproot, &self.free_segwit),
            false => (&self.free_segwit, &self.free_taproot),
        };
        let free = shown.is_empty().then(|| spread(first).chain(spread(second)));
        let mut seen = BTreeSet::new();
        let offered: Vec<Coin> = shown
            .iter()
            .chain(free.into_iter().flatten())
            .filter(|outpoint| seen.insert(**outpoint))
            .filter_map(|outpoint| self.confirmed.get(outpoint))
            .map(|confirmed| confirmed.coin.clone())
            .take(OFFERED)
            .collect();
        let coins: Vec<_> = offered.iter().map(|coin| coin.outpoint).collect();
        self.hold(holder, &coins);
        offered
    }

    /// From now on the holder holds exactly these coins. They need not be known (yet).
    pub(crate) fn hold(&mut self, holder: Holder, coins: &[OutPoint]) {
        let coins: BTreeSet<_> = coins.iter().copied().collect();
        let before = self.held.remove(&holder).unwrap_or_default();
        coins.difference(&before).for_each(|coin| self.lock(*coin));
        before.difference(&coins).for_each(|coin| self.unlock(*coin));
        if !coins.is_empty() {
            self.held.insert(holder, coins);
        }
    }

    /// Whether the next coin should be P2TR.
    pub(crate) fn lack_taproot(&self) -> bool {
        self.free_taproot.len() < self.free_segwit.len() / SEGWIT_FOR_EACH_TAPROOT
    }

    /// Coins that are not locked, of one script type, smallest first.
    #[cfg(feature = "node")]
    pub(crate) fn sorted(&self, taproot: bool) -> Vec<&Coin> {
        let sorted = if taproot { &self.free_taproot } else { &self.free_segwit };
        let coin = |(_, outpoint): &(Amount, OutPoint)| Some(&self.confirmed.get(outpoint)?.coin);
        sorted.iter().filter_map(coin).collect()
    }

    /// Adds a holder to a coin's lock.
    fn lock(&mut self, outpoint: OutPoint) {
        let holders = self.locks.entry(outpoint).or_default();
        *holders += 1;
        if *holders == 1
            && let Some(confirmed) = self.confirmed.get(&outpoint)
        {
            let entry = (confirmed.coin.txout.value, outpoint);
            let script = &confirmed.coin.txout.script_pubkey;
            let free = if script.is_p2tr() { &mut self.free_taproot } else { &mut self.free_segwit };
            free.remove(&entry);
            self.free.remove(&confirmed.coin);
        }
    }

    /// Takes a holder from a coin's lock; the last one frees the coin.
    fn unlock(&mut self, outpoint: OutPoint) {
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
        self.free.add(coin);
    }

    /// Whether a coin is locked.
    pub(crate) fn is_locked(&self, outpoint: &OutPoint) -> bool {
        self.locks.contains_key(outpoint)
    }

    /// Whether it is a confirmed coin of ours.
    #[cfg(feature = "node")]
    pub(crate) fn is_confirmed(&self, outpoint: &OutPoint) -> bool {
        self.confirmed.contains_key(outpoint)
    }

    /// Every confirmed coin.
    pub(crate) fn confirmed(&self) -> impl Iterator<Item = &Confirmed> {
        self.confirmed.values()
    }

    /// What the confirmed coins are worth that are not locked.
    pub(crate) fn free(&self) -> Free {
        self.free
    }

    /// What of the coins that are not locked may be spent beside this many channels, fees included.
    #[cfg(feature = "node")]
    pub(crate) fn spendable(&self, channels: usize) -> Amount {
        let mut coins = [self.sorted(true), self.sorted(false)].concat();
        coins.sort_by_key(|coin| coin.txout.value);
        let kept = self.free.kept(channels, coins.into_iter()).max(self.free.per_channel * channels as u64);
        self.free.value.checked_sub(kept).unwrap_or_default()
    }

    /// Value of all confirmed coins.
    #[cfg(any(feature = "node", feature = "lnd"))]
    pub(crate) fn total(&self) -> Amount {
        self.total
    }
}

/// Half of what is offered from the smallest on, each worth four times the one before at least, so that what lacks little
/// is served with little; then the largest. Looks at no more than it gives.
fn spread(sorted: &Sorted) -> impl Iterator<Item = &OutPoint> {
    let next = move |(value, _): &&(Amount, OutPoint)| sorted.range((*value * 4, OutPoint::null())..).next();
    let small = std::iter::successors(sorted.first(), next).take(OFFERED / 2);
    small.chain(sorted.iter().rev().take(OFFERED)).map(|(_, outpoint)| outpoint)
}

#[cfg(test)]
#[cfg(feature = "node")]
mod tests;
