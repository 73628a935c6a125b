//! Which coins are locked for whom, and LND's leases that keep everybody else off them.
//!
//! A coin is locked here from the moment it is shown to an exchange. It is leased at LND once the exchange is on record, and
//! at the latest before it is signed for: no call is made for coins that come to nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bitcoin::{Amount, OutPoint, Script};
use payjoin_core::{Coin, Holder};

use crate::coins::{Coins, Confirmed};

/// What the wallet has, and what is promised of it.
#[derive(Debug, Default)]
pub(super) struct Locks {
    coins: Coins,
    pub(super) unconfirmed: Amount,
    /// What is on record for each holder.
    kept: BTreeMap<Holder, BTreeSet<OutPoint>>,
    /// Our leases, and when they end.
    leased: HashMap<OutPoint, Instant>,
}

/// What LND is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// To be leased, or leased for longer.
    pub(super) lease: Vec<OutPoint>,
    /// Nobody needs these leases.
    pub(super) release: Vec<OutPoint>,
}

impl Locks {
    /// Takes over a new picture of the wallet. Locks stay.
    pub(super) fn replace(&mut self, confirmed: Vec<Confirmed>, unconfirmed: Amount) {
        self.coins.replace(confirmed);
        self.unconfirmed = unconfirmed;
    }

    pub(super) fn coins(&self) -> &Coins {
        &self.coins
    }

    /// Shows coins to an exchange: see [`Coins::offer`].
    pub(super) fn offer(&mut self, holder: Holder, payer_script: &Script, shown: &[OutPoint]) -> Vec<Coin> {
        self.kept.remove(&holder);
        self.coins.offer(holder, payer_script, shown)
    }

    /// What is on record: from now on the holder holds exactly these.
    pub(super) fn hold(&mut self, holder: Holder, coins: &[OutPoint]) {
        self.coins.hold(holder, coins);
        match coins.is_empty() {
            true => self.kept.remove(&holder),
            false => self.kept.insert(holder, coins.iter().copied().collect()),
        };
    }

    /// A lease that an earlier process took. When it ends is not known to our clock.
    pub(super) fn found(&mut self, coin: OutPoint, now: Instant) {
        self.leased.entry(coin).or_insert(now);
    }

    pub(super) fn leased(&mut self, coin: OutPoint, until: Instant) {
        self.leased.insert(coin, until);
    }

    pub(super) fn released(&mut self, coin: OutPoint) {
        self.leased.remove(&coin);
    }

    /// Leased for so long at least.
    pub(super) fn is_leased(&self, coin: &OutPoint, now: Instant, rest: Duration) -> bool {
        self.leased.get(coin).is_some_and(|until| *until >= now + rest)
    }

    /// What must be leased so that each coin on record has half a lease left, and which leases nobody needs.
    pub(super) fn due(&self, now: Instant, lease: Duration) -> Due {
        let kept: BTreeSet<_> = self.kept.values().flatten().copied().collect();
        let idle = |coin: &&OutPoint| !kept.contains(*coin) && !self.coins.is_locked(coin);
        let mut release: Vec<_> = self.leased.keys().filter(idle).copied().collect();
        release.sort_unstable();
        let lease = kept.iter().filter(|coin| !self.is_leased(coin, now, lease / 2)).copied().collect();
        Due { lease, release }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;
    use bitcoin::{ScriptBuf, TxOut, Txid, WPubkeyHash};
    use payjoin_core::ExchangeId;

    use super::*;

    const LEASE: Duration = Duration::from_secs(100);

    fn at(vout: u32) -> OutPoint {
        OutPoint { txid: Txid::all_zeros(), vout }
    }

    fn script() -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros())
    }

    fn wallet(coins: u32) -> Locks {
        let coin = |vout| {
            let txout = TxOut { value: Amount::from_sat(1_000), script_pubkey: script() };
            Confirmed { coin: Coin { outpoint: at(vout), txout }, height: 1 }
        };
        let mut locks = Locks::default();
        locks.replace((0..coins).map(coin).collect(), Amount::ZERO);
        locks
    }

    fn holder(exchange: u64) -> Holder {
        Holder::Exchange(ExchangeId(exchange))
    }

    fn due(lease: &[u32], release: &[u32]) -> Due {
        let points = |vouts: &[u32]| vouts.iter().map(|vout| at(*vout)).collect();
        Due { lease: points(lease), release: points(release) }
    }

    #[test]
    fn only_what_is_on_record_is_leased() {
        let (mut locks, now) = (wallet(3), Instant::now());
        assert_eq!(locks.offer(holder(1), &script(), &[]).len(), 3);
        assert_eq!(locks.due(now, LEASE), Due::default(), "shown, and not on record");
        assert!(locks.offer(holder(2), &script(), &[]).is_empty(), "they are locked for the first");
        locks.hold(holder(1), &[at(1)]);
        assert_eq!(locks.due(now, LEASE), due(&[1], &[]));
        assert_eq!(locks.offer(holder(2), &script(), &[]).len(), 2, "the others are free again");
    }

    #[test]
    fn a_lease_is_renewed_at_half_its_time_and_ends_with_the_last_holder() {
        let (mut locks, now) = (wallet(2), Instant::now());
        locks.hold(holder(1), &[at(0)]);
        locks.hold(holder(2), &[at(0)]);
        locks.leased(at(0), now + LEASE);
        assert_eq!(locks.due(now + LEASE / 2, LEASE), Due::default());
        assert_eq!(locks.due(now + LEASE / 2 + Duration::from_secs(1), LEASE), due(&[0], &[]));
        locks.hold(holder(1), &[]);
        assert_eq!(locks.due(now, LEASE), Due::default(), "another holds it");
        locks.hold(holder(2), &[]);
        assert_eq!(locks.due(now, LEASE), due(&[], &[0]));
        locks.released(at(0));
        assert_eq!(locks.due(now, LEASE), Due::default());
    }

    #[test]
    fn leases_that_a_crash_left_are_renewed_or_given_back() {
        let (mut locks, now) = (wallet(2), Instant::now());
        locks.hold(holder(1), &[at(0)]);
        locks.found(at(0), now);
        locks.found(at(1), now);
        assert_eq!(locks.due(now, LEASE), due(&[0], &[1]));
    }

    #[test]
    fn a_coin_that_is_being_signed_for_stays_leased_until_the_exchange_ends() {
        let (mut locks, now) = (wallet(1), Instant::now());
        locks.offer(holder(1), &script(), &[]);
        locks.leased(at(0), now + LEASE);
        assert_eq!(locks.due(now, LEASE), Due::default());
        locks.hold(holder(1), &[]);
        assert_eq!(locks.due(now, LEASE), due(&[], &[0]));
    }
}
