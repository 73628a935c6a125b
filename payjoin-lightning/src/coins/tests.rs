use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, TxOut, Txid};
use payjoin_core::{ExchangeId, PaymentId};

use super::*;

const HOLDER: Holder = Holder::Exchange(ExchangeId(1));
const OTHER: Holder = Holder::Exchange(ExchangeId(2));

fn script(taproot: bool) -> ScriptBuf {
    let hex = match taproot {
        true => format!("5120{}", "11".repeat(32)),
        false => format!("0014{}", "22".repeat(20)),
    };
    ScriptBuf::from_hex(&hex).unwrap()
}

fn outpoint(n: u8) -> OutPoint {
    OutPoint::new(Txid::from_byte_array([n; 32]), 0)
}

fn coin(n: u8, sat: u64, taproot: bool) -> Confirmed {
    let txout = TxOut { value: Amount::from_sat(sat), script_pubkey: script(taproot) };
    Confirmed { coin: Coin { outpoint: outpoint(n), txout }, height: u32::from(n) }
}

/// As the embedded node asks for it by itself: about 34,000 satoshis a channel, and 1,365 to spend a coin.
fn kept_apart() -> Coins {
    Coins::new(Amount::from_sat(34_000), Amount::from_sat(1_365))
}

fn wallet() -> Coins {
    let mut coins = kept_apart();
    coins.replace([coin(1, 500, true), coin(2, 900, false), coin(3, 700, true), coin(4, 100, false)]);
    coins
}

fn numbers(coins: &[Coin]) -> Vec<u8> {
    coins.iter().map(|coin| coin.outpoint.txid.to_byte_array()[0]).collect()
}

#[test]
fn the_payers_script_type_comes_first_and_of_each_type_small_coins_and_large_ones() {
    assert_eq!(numbers(&wallet().offer(HOLDER, &script(true), &[])), [1, 3, 4, 2]);
    assert_eq!(numbers(&wallet().offer(HOLDER, &script(false), &[])), [4, 2, 1, 3]);
}

#[test]
fn money_rule_8_probing_coins_shown_before_are_offered_although_they_are_locked_and_no_others_are() {
    let mut coins = wallet();
    coins.hold(OTHER, &[outpoint(4)]);
    assert_eq!(numbers(&coins.offer(HOLDER, &script(true), &[outpoint(4)])), [4]);
}

#[test]
fn money_rule_7_locked_coins_are_never_offered_to_anyone_else() {
    let mut coins = wallet();
    coins.hold(OTHER, &[outpoint(2), outpoint(3)]);
    assert_eq!(numbers(&coins.offer(HOLDER, &script(true), &[])), [1, 4]);
    assert_eq!(numbers(&coins.offer(HOLDER, &script(true), &[])), [1, 4], "the same again");
    let third = Holder::Payment(PaymentId(1));
    assert_eq!(numbers(&coins.offer(third, &script(true), &[])), [] as [u8; 0], "now all are locked");
    assert_eq!(coins.free().value, Amount::ZERO);
}

#[test]
fn money_rule_7_a_lock_with_two_holders_ends_with_the_second() {
    let mut coins = wallet();
    coins.hold(OTHER, &[outpoint(2)]);
    coins.offer(HOLDER, &script(true), &[outpoint(2)]);
    coins.hold(HOLDER, &[outpoint(2), outpoint(4)]);
    assert_eq!(coins.free().value, Amount::from_sat(1200));
    for _ in 0..2 {
        coins.hold(HOLDER, &[]);
        assert!(coins.is_locked(&outpoint(2)), "the other holds it");
    }
    coins.hold(OTHER, &[]);
    assert!(!coins.is_locked(&outpoint(2)));
    assert_eq!(coins.free().value, Amount::from_sat(2200));
}

#[test]
fn money_rule_7_locks_outlive_a_new_picture_of_the_wallet() {
    let mut coins = kept_apart();
    coins.hold(OTHER, &[outpoint(2)]);
    coins.replace([coin(1, 500, true), coin(2, 900, false)]);
    assert_eq!((coins.total(), coins.free().value), (Amount::from_sat(1400), Amount::from_sat(500)));
    assert_eq!(numbers(&coins.offer(HOLDER, &script(false), &[])), [1]);
}

#[test]
fn coins_of_disconnected_blocks_are_forgotten() {
    let mut coins = wallet();
    coins.forget_above(2);
    assert_eq!((coins.total(), coins.free().value), (Amount::from_sat(1400), Amount::from_sat(1400)));
    assert_eq!(numbers(&coins.offer(HOLDER, &script(true), &[])), [1, 2]);
    assert_eq!(numbers(&coins.offer(HOLDER, &script(true), &[outpoint(3)])), [] as [u8; 0]);
}

#[test]
fn at_most_sixteen_coins_are_offered() {
    let mut coins = kept_apart();
    coins.replace((1..=40).map(|n| coin(n, u64::from(n), n % 2 == 0)));
    let offered = coins.offer(HOLDER, &script(true), &[]);
    assert_eq!(offered.len(), OFFERED);
    assert_eq!(numbers(&offered)[..6], [2, 8, 32, 40, 38, 36]);
    assert_eq!(coins.free().value, coins.total() - offered.iter().map(|coin| coin.txout.value).sum());
}

#[test]
fn a_payment_that_lacks_little_is_offered_a_small_coin_of_a_large_wallet() {
    // A hundred coins, each a tenth larger than the one before.
    let values = std::iter::successors(Some(1_000_u64), |value| Some(value + value / 10));
    let coins: Vec<_> = (0..100).zip(values).map(|(n, value)| coin(n, value, false)).collect();
    let mut wallet = kept_apart();
    wallet.replace(coins.clone());
    let offered = wallet.offer(HOLDER, &script(false), &[]);
    for lacks in [500, 5_000, 50_000, 500_000, 5_000_000] {
        let least = offered.iter().map(|coin| coin.txout.value.to_sat()).filter(|sat| *sat >= lacks).min();
        assert!(least.is_some_and(|least| least <= 5 * lacks), "{least:?} for {lacks}");
    }
    let largest = coins.iter().map(|coin| coin.coin.txout.value).max().unwrap();
    assert!(offered.iter().any(|coin| coin.txout.value == largest));
    assert_eq!(offered.len(), OFFERED);
}

#[test]
fn the_stock_lacks_a_taproot_coin_for_every_four_others() {
    let lacks = |segwit: u8, taproot: u8| {
        let mut coins = kept_apart();
        coins.replace((0..segwit + taproot).map(|n| coin(n, 1_000 + u64::from(n), n < taproot)));
        coins.lack_taproot()
    };
    assert!(!lacks(0, 0) && !lacks(1, 0) && !lacks(3, 0) && !lacks(0, 1));
    assert!(lacks(4, 0) && !lacks(4, 1) && !lacks(7, 1) && lacks(8, 1));
}
