//! What amounts alone tell an observer of a transaction.

use bitcoin::Amount;

/// Most inputs, and most outputs, that are looked at.
const MOST: usize = 12;

/// In how many ways a transaction can be split into two parts that each pay for themselves: every part has inputs and
/// outputs, its inputs cover its outputs, and what is over is no more than the fee of the whole.
///
/// A payjoin that can be split in one way tells an observer whose is what. In several ways, it is one of them; in none, it
/// looks like the payment of one wallet. `None` when it is not counted: more than twelve inputs or outputs, or amounts of
/// no transaction.
#[must_use]
pub fn partitions(inputs: &[Amount], outputs: &[Amount]) -> Option<u32> {
    if inputs.len() > MOST || outputs.len() > MOST {
        return None;
    }
    let total = |amounts: &[Amount]| amounts.iter().try_fold(0_u64, |sum, one| sum.checked_add(one.to_sat()));
    let (all, fee) = (total(inputs)?, total(inputs)?.checked_sub(total(outputs)?)?);
    // The first input is in the first part: the same split the other way round is no other one.
    let (first, others) = inputs.split_first()?;
    let mut parts: Vec<u64> = sums(outputs);
    // Without any output, and with all of them.
    parts.pop();
    parts.drain(..1.min(parts.len()));
    parts.sort_unstable();
    let mut found = 0_usize;
    for sum in sums(others).into_iter().map(|sum| sum + first.to_sat()).filter(|sum| *sum < all) {
        let until = parts.partition_point(|part| *part <= sum);
        let from = parts.partition_point(|part| *part < sum.saturating_sub(fee));
        found += until - from;
    }
    u32::try_from(found).ok()
}

/// The sums of all subsets: of the empty one first, of the whole last.
fn sums(amounts: &[Amount]) -> Vec<u64> {
    let mut sums = vec![0];
    for amount in amounts {
        let with = sums.iter().map(|sum| sum + amount.to_sat()).collect::<Vec<_>>();
        sums.extend(with);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(inputs: &[u64], outputs: &[u64], ways: Option<u32>) {
        let sats = |amounts: &[u64]| amounts.iter().copied().map(Amount::from_sat).collect::<Vec<_>>();
        assert_eq!(partitions(&sats(inputs), &sats(outputs)), ways, "{inputs:?} {outputs:?}");
    }

    #[test]
    fn a_coin_that_comes_back_as_change_gives_the_payjoin_away() {
        // The payer's 1,000,000 pay the channel, ours come back.
        check(&[1_000_000, 300_000], &[499_000, 500_000, 299_500], Some(1));
    }

    #[test]
    fn a_channel_that_takes_payment_and_coin_cannot_be_split_off() {
        check(&[1_000_000, 300_000], &[499_000, 799_500], Some(0));
        check(&[1_000_000], &[499_000, 500_000], Some(0));
    }

    #[test]
    fn coins_of_equal_amounts_hide_each_other() {
        check(&[500_000, 500_000], &[499_500, 499_500], Some(2));
        check(&[100, 200, 300], &[100, 200, 300], Some(4));
    }

    #[test]
    fn what_is_no_part_of_the_fee_is_no_split() {
        check(&[1_000, 2_000], &[1_000, 1_990], Some(1));
        check(&[1_000, 2_000], &[1_011, 1_979], Some(0));
        check(&[1_000, 2_000], &[989, 2_001], Some(0));
    }

    #[test]
    fn large_transactions_and_impossible_ones_are_not_counted() {
        check(&[1; 13], &[1], None);
        check(&[100], &[1; 13], None);
        check(&[100], &[101], None);
        check(&[], &[], None);
        check(&[u64::MAX, 1], &[1], None);
        check(&[1_000; 12], &[1_000; 12], Some(1_352_077));
    }
}
