//! What the queued channel intents cost.
//!
//! There is no queue type here on purpose. The queue is a table of the store, because whatever changes an intent must
//! change in the same transaction as the exchange it belongs to; a copy in memory could only disagree with it. The
//! states are [`payjoin_core::IntentState`], and the store moves an intent only from the state that allows the move.

use bitcoin::Amount;
use payjoin_core::{ChannelWish, Reserve};

/// The payment that the queued channels need: their sum ("the rest" counts with its least value), what the wallet
/// lacks of the reserve, and our share of the fees.
#[must_use]
pub fn shortfall<'a>(
    wishes: impl IntoIterator<Item = &'a ChannelWish>,
    reserve: &Reserve,
    fees: Amount,
) -> Amount {
    let mut needed = reserve.existing;
    let mut total = fees;
    for wish in wishes {
        needed = sum(needed, reserve.per_channel);
        total = sum(total, wish.least());
    }
    sum(total, needed.checked_sub(reserve.balance).unwrap_or(Amount::ZERO))
}

fn sum(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).unwrap_or(Amount::MAX)
}

#[cfg(test)]
mod tests {
    use payjoin_core::{ChannelAmount, IntentId};

    use super::*;

    #[test]
    fn an_invoice_asks_for_the_channels_the_missing_reserve_and_the_fees() {
        let sat = Amount::from_sat;
        let wish = |amount| ChannelWish { id: IntentId(1), amount, min: sat(20_000), max: sat(16_777_215) };
        let exact = |amount| wish(ChannelAmount::Exact(sat(amount)));
        let rest = || wish(ChannelAmount::Rest);
        let reserve = |balance| Reserve {
            balance: sat(balance),
            existing: sat(1_000),
            per_channel: sat(25_000),
            stock: None,
        };
        for (wishes, balance, expected) in [
            (vec![], 1_000, 700),
            (vec![], 0, 1_700),
            (vec![exact(100_000)], 26_000, 100_700),
            (vec![exact(100_000)], 6_000, 120_700),
            (vec![exact(100_000), exact(50_000)], 0, 201_700),
            (vec![exact(100_000), rest()], 99_000, 120_700),
            (vec![exact(u64::MAX), rest()], 0, u64::MAX),
        ] {
            assert_eq!(shortfall(&wishes, &reserve(balance), sat(700)), sat(expected), "{wishes:?}");
        }
    }
}
