//! What the Original pays, what the payer demands, and what he adds for inputs of ours.

use bitcoin::{Amount, FeeRate, Transaction, TxOut, Weight};

use crate::Coin;

/// A least fee rate as payers write it: decimal. Kept in billionths of a satoshi per virtual byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MinFeeRate(u64);

impl MinFeeRate {
    /// Nothing is demanded.
    pub const ZERO: Self = Self(0);
    /// In sat/vB. More is absurd.
    const MOST: f64 = 25_000.0;

    /// From sat/vB; `None` for what is no fee rate. Nine decimals count: what is behind them comes from computers that
    /// count in binary fractions.
    #[must_use]
    pub fn from_sat_per_vb(rate: f64) -> Option<Self> {
        (0.0..=Self::MOST).contains(&rate).then(|| Self((rate * 1e9).round() as u64))
    }

    /// The least fee of a transaction of this weight, as the strictest payers count: in whole virtual bytes.
    #[must_use]
    pub fn fee(self, weight: Weight) -> Amount {
        self.exact_fee(Weight::from_wu(weight.to_vbytes_ceil().saturating_mul(4)))
    }

    /// The same by the weight itself: the rate times a quarter of it, rounded up to a satoshi. BIP 78 leaves it open.
    fn exact_fee(self, weight: Weight) -> Amount {
        let billionths = u128::from(self.0) * u128::from(weight.to_wu());
        Amount::from_sat(u64::try_from(billionths.div_ceil(4_000_000_000)).unwrap_or(u64::MAX))
    }
}

impl From<FeeRate> for MinFeeRate {
    fn from(rate: FeeRate) -> Self {
        Self(rate.to_sat_per_kwu().saturating_mul(4_000_000))
    }
}

/// On which terms weight is added to an Original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeTerms {
    /// What the Original pays.
    pub fee: Amount,
    /// Its weight, signed.
    pub weight: Weight,
    /// What the payjoin must pay at least: what the payer demands, or what the mempool takes.
    pub minimum: MinFeeRate,
    /// Most that the payer adds.
    pub offer: Amount,
    /// Most of it for one input, in whole virtual bytes: of the size that an input of the payer's own type has. BIP 78
    /// leaves open how the payer counts; this is the least that any wallet in use allows.
    pub input_vbytes: u64,
}

/// Virtual bytes of an input with a key-path spend, and of every other that we know, the witness of the shortest.
const P2TR_VBYTES: u64 = 57;
const OTHER_VBYTES: u64 = 68;

impl FeeTerms {
    /// Of a signed Original and what it really spends; `None` when it spends more than it has.
    pub(crate) fn new(
        original: &Transaction,
        prevouts: &[TxOut],
        minimum: MinFeeRate,
        offer: Amount,
    ) -> Option<Self> {
        let fee = paid(prevouts, original)?;
        let taproot = prevouts.iter().any(|prevout| prevout.script_pubkey.is_p2tr());
        let input_vbytes = if taproot { P2TR_VBYTES } else { OTHER_VBYTES };
        Some(Self { fee, weight: original.weight(), minimum, offer, input_vbytes })
    }

    /// The Original's fee rate, rounded down.
    #[must_use]
    pub fn rate(&self) -> FeeRate {
        self.fee.div_by_weight_floor(self.weight).unwrap_or(FeeRate::ZERO)
    }

    /// Whether the Original itself pays what is demanded, by its weight: payers who set the minimum at their own rate
    /// count so. What is lacking to whole virtual bytes is added with the weight.
    pub(crate) fn is_met(&self) -> bool {
        self.fee >= self.minimum.exact_fee(self.weight)
    }

    /// What added weight pays: the Original's rate, or the little more that rounding takes to reach the minimum. Where there
    /// is none, what is lacking is another's to pay.
    pub(crate) fn rate_with(&self, added: Weight) -> Option<FeeRate> {
        let lacking = self.lacking(added)?.to_sat().checked_mul(1_000)?;
        let least = if added == Weight::ZERO { 0 } else { lacking.div_ceil(added.to_wu()) };
        Some(self.rate().max(FeeRate::from_sat_per_kwu(least)))
    }

    /// What the Original's fee lacks of the minimum, once this weight is added.
    pub(crate) fn lacking(&self, added: Weight) -> Option<Amount> {
        let demanded = self.minimum.fee(self.weight.checked_add(added)?);
        Some(demanded.checked_sub(self.fee).unwrap_or_default())
    }

    /// What the payer adds for these coins: his offer, within what each of them would cost him at whole sat/vB, and
    /// within what they weigh. `None` for coins that cannot be weighed.
    pub(crate) fn contribution(&self, coins: &[Coin]) -> Option<Amount> {
        let each =
            (self.fee.to_sat() / self.weight.to_vbytes_ceil().max(1)).checked_mul(self.input_vbytes)?;
        let weight = coins.iter().map(Coin::weight).sum::<Option<Weight>>()?;
        let by_weight = self.rate().to_sat_per_kwu().checked_mul(weight.to_wu())? / 1_000;
        let most = each.checked_mul(coins.len() as u64)?.min(by_weight);
        Some(self.offer.min(Amount::from_sat(most)))
    }
}

/// What a transaction that spends these outputs pays the miners; `None` when it spends more than it has.
pub(crate) fn paid<'a>(
    spent: impl IntoIterator<Item = &'a TxOut>,
    transaction: &Transaction,
) -> Option<Amount> {
    fn sum<'a>(outputs: impl IntoIterator<Item = &'a TxOut>) -> Option<Amount> {
        outputs.into_iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value))
    }
    sum(spent)?.checked_sub(sum(&transaction.output)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_rate_is_compared_without_rounding_it() {
        let fee = |rate: f64, vbytes: u64| {
            MinFeeRate::from_sat_per_vb(rate).unwrap().fee(Weight::from_vb_unchecked(vbytes)).to_sat()
        };
        assert_eq!(fee(1.01, 252), 255);
        assert_eq!((fee(1.1, 250), fee(0.1 + 0.2, 10)), (275, 3), "binary fractions");
        assert_eq!((fee(0.0, 252), fee(25_000.0, 252)), (0, 6_300_000));
        assert_eq!(MinFeeRate::from_sat_per_vb(1.0).unwrap().fee(Weight::from_wu(401)).to_sat(), 101);
        for absurd in [-1.0, 25_000.1, f64::NAN, f64::INFINITY] {
            assert_eq!(MinFeeRate::from_sat_per_vb(absurd), None, "{absurd}");
        }
    }

    #[test]
    fn added_weight_pays_a_satoshi_more_where_rounding_would_miss_the_minimum() {
        let minimum = MinFeeRate::from_sat_per_vb(1.01).unwrap();
        let terms = |fee| FeeTerms {
            fee: Amount::from_sat(fee),
            weight: Weight::from_wu(1_008),
            minimum,
            offer: Amount::ZERO,
            input_vbytes: OTHER_VBYTES,
        };
        assert!(terms(255).is_met() && !terms(254).is_met());
        for added in (4..4_000).step_by(4) {
            let added = Weight::from_wu(added);
            let rate = terms(255).rate_with(added).unwrap();
            let fee = terms(255).fee + rate * added;
            assert!(fee >= minimum.fee(terms(255).weight + added), "{added}");
            // The rate is rounded down to a thousandth for each weight unit, the size is rounded up.
            let more = Amount::from_sat(2 + added.to_wu() / 1_000);
            assert!(rate * added <= terms(255).rate() * added + more, "{added}");
        }
    }
}
