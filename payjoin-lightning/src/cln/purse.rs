//! The coins of lightningd's wallet: one list, refreshed beside the requests, and what of it is whose.

use std::collections::{HashMap, HashSet};

use bitcoin::{
    Address, Amount, Network, OutPoint, Psbt, ScriptBuf, Transaction, TxIn, TxOut, absolute, transaction,
};

use super::reply::Output;
use crate::coins::{Coins, Confirmed};
use crate::{Balance, CoinInfo};

/// Blocks for which lightningd gives a coin of ours to nobody else. Its own default is half of it.
pub(super) const RESERVED: u32 = 144;
/// With fewer left it is reserved anew.
pub(super) const RENEWED: u32 = RESERVED / 2;

/// What is known of the wallet.
#[derive(Default)]
pub(super) struct Purse {
    pub(super) coins: Coins,
    /// Confirmed ones, and until which block each is reserved, by whomever.
    pub(super) reserved: HashMap<OutPoint, Option<u32>>,
    /// Those that lightningd keeps for us.
    pub(super) taken: HashSet<OutPoint>,
    scripts: HashSet<ScriptBuf>,
    /// The last key that has an address.
    pub(super) last_key: u64,
    confirmed: Amount,
    unconfirmed: Amount,
    immature: Amount,
    pub(super) height: u32,
}

impl Purse {
    /// Takes over what `listfunds` shows. A coin that somebody else reserved is not for us.
    pub(super) fn replace(&mut self, outputs: Vec<Output>) {
        (self.confirmed, self.unconfirmed, self.immature) = (Amount::ZERO, Amount::ZERO, Amount::ZERO);
        self.reserved.clear();
        let mut confirmed = Vec::new();
        for output in outputs {
            let (TxOut { value, script_pubkey }, outpoint) = (&output.coin.txout, output.coin.outpoint);
            self.scripts.insert(script_pubkey.clone());
            let Some(height) = output.height else {
                self.unconfirmed += *value;
                continue;
            };
            if output.immature {
                self.immature += *value;
                continue;
            }
            self.confirmed += *value;
            // Others, such as what a forced close leaves, are lightningd's to spend.
            if !(script_pubkey.is_p2wpkh() || script_pubkey.is_p2tr()) {
                continue;
            }
            self.reserved.insert(outpoint, output.reserved);
            if output.reserved.is_none() || self.taken.contains(&outpoint) {
                confirmed.push(Confirmed { coin: output.coin, height });
            }
        }
        self.taken.retain(|coin| self.reserved.get(coin).is_some_and(Option::is_some));
        self.coins.replace(confirmed);
    }

    pub(super) fn owns(&self, script: &ScriptBuf) -> bool {
        self.scripts.contains(script)
    }

    pub(super) fn add_script(&mut self, script: ScriptBuf) {
        self.scripts.insert(script);
    }

    /// Coins to reserve now: held by somebody, and either reserved by nobody, or ours for too few blocks.
    pub(super) fn to_take(&self) -> (Vec<OutPoint>, Vec<OutPoint>) {
        let (mut new, mut again) = (Vec::new(), Vec::new());
        for coin in self.coins.locked() {
            match self.reserved.get(coin) {
                Some(None) => new.push(*coin),
                Some(Some(until)) if self.taken.contains(coin) && *until < self.height + RENEWED => {
                    again.push(*coin);
                }
                _ => {}
            }
        }
        (new, again)
    }

    /// Coins that nobody holds any more and that lightningd still keeps for us.
    pub(super) fn to_free(&self) -> Vec<OutPoint> {
        self.taken.iter().filter(|coin| !self.coins.is_locked(coin)).copied().collect()
    }

    /// What lightningd itself keeps back: `reserve` now, and `more` with one channel more.
    pub(super) fn balance(&self, reserve: Amount, more: Amount, channels: usize) -> Balance {
        let free = self.coins.free().value;
        Balance {
            confirmed: self.confirmed,
            unconfirmed: self.unconfirmed,
            immature: self.immature,
            locked: self.confirmed.checked_sub(free).unwrap_or_default(),
            reserve,
            channels,
            // One sum closes them all, and the next one.
            closable: if free >= reserve + more { channels.saturating_add(1) } else { 0 },
            spendable: free.checked_sub(reserve).unwrap_or_default(),
            ..Balance::default()
        }
    }

    pub(super) fn list(&self, network: Network) -> Vec<CoinInfo> {
        let info = |Confirmed { coin, height }: &Confirmed| CoinInfo {
            outpoint: coin.outpoint,
            amount: coin.txout.value,
            address: Address::from_script(&coin.txout.script_pubkey, network)
                .map_or_else(|_| coin.txout.script_pubkey.to_hex_string(), |address| address.to_string()),
            height: *height,
            locked: self.coins.is_locked(&coin.outpoint),
        };
        let mut coins: Vec<_> = self.coins.confirmed().map(info).collect();
        coins.sort_by_key(|coin| (coin.height, coin.outpoint));
        coins
    }
}

/// `reserveinputs` and `unreserveinputs` name coins by a PSBT that spends them; it needs an output to be one.
pub(super) fn naming(coins: &[OutPoint]) -> Option<Psbt> {
    let input = |coin: &OutPoint| TxIn { previous_output: *coin, ..TxIn::default() };
    let output = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return([]) };
    Psbt::from_unsigned_tx(Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: vec![output],
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use bitcoin::Txid;
    use bitcoin::hashes::Hash as _;
    use payjoin_core::{Coin, ExchangeId, Holder};

    use super::*;

    const HOLDER: Holder = Holder::Exchange(ExchangeId(1));

    fn outpoint(n: u8) -> OutPoint {
        OutPoint::new(Txid::from_byte_array([n; 32]), 0)
    }

    fn output(n: u8, reserved: Option<u32>) -> Output {
        let script_pubkey = ScriptBuf::from_hex(&format!("0014{}", "22".repeat(20))).unwrap();
        let txout = TxOut { value: Amount::from_sat(1_000), script_pubkey };
        Output { coin: Coin { outpoint: outpoint(n), txout }, height: Some(5), immature: false, reserved }
    }

    fn purse() -> Purse {
        let mut purse = Purse { height: 10, ..Purse::default() };
        purse.replace(vec![output(1, None), output(2, None), output(3, Some(90))]);
        purse
    }

    #[test]
    fn money_rule_7_a_coin_that_somebody_else_reserved_is_not_offered() {
        let mut purse = purse();
        let offered = purse.coins.offer(HOLDER, &ScriptBuf::new(), &[]);
        let offered: HashSet<_> = offered.into_iter().map(|coin| coin.outpoint).collect();
        assert_eq!(offered, HashSet::from([outpoint(1), outpoint(2)]));
        assert_eq!(purse.balance(Amount::ZERO, Amount::ZERO, 0).locked, Amount::from_sat(3_000));
    }

    #[test]
    fn money_rule_7_locks_are_taken_renewed_before_they_end_and_given_back() {
        let mut purse = purse();
        purse.coins.hold(HOLDER, &[outpoint(1)]);
        assert_eq!(purse.to_take(), (vec![outpoint(1)], vec![]));
        purse.taken.insert(outpoint(1));
        let shown = |until| vec![output(1, Some(until)), output(2, None)];
        purse.replace(shown(10 + RESERVED));
        assert_eq!(purse.to_take(), (vec![], vec![]));
        purse.height += RENEWED + 1;
        assert_eq!(purse.to_take(), (vec![], vec![outpoint(1)]), "before lightningd gives it away");
        // Somebody else freed it, or the time was up.
        purse.replace(vec![output(1, None)]);
        assert_eq!(purse.to_take(), (vec![outpoint(1)], vec![]));
        purse.taken.insert(outpoint(1));
        purse.replace(shown(400));
        assert!(purse.to_free().is_empty());
        purse.coins.hold(HOLDER, &[]);
        assert_eq!(purse.to_free(), [outpoint(1)]);
        purse.replace(vec![output(2, None)]);
        assert!(purse.to_free().is_empty(), "a coin that is spent needs no lock");
    }

    #[test]
    fn one_sum_closes_every_channel_and_the_next_one() {
        let sat = Amount::from_sat;
        // Two coins that nobody has reserved, of 1,000 sat each.
        for (reserve, more, channels, closable) in
            [(0, 2_000, 0, 1), (0, 2_001, 0, 0), (2_000, 0, 3, 4), (2_001, 0, 3, 0)]
        {
            assert_eq!(
                purse().balance(sat(reserve), sat(more), channels).closable,
                closable,
                "{reserve} {more}"
            );
        }
    }

    #[test]
    fn coins_are_named_by_a_psbt_that_spends_them() {
        let named = naming(&[outpoint(1), outpoint(2)]).unwrap();
        let back: Psbt = named.to_string().parse().unwrap();
        assert_eq!(back.unsigned_tx.input.len(), 2);
    }
}
