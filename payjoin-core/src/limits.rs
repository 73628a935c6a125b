//! The operator's limits that may keep a payment from opening channels, and what is said of them.

use bitcoin::{Amount, FeeRate, Psbt, Weight};

use crate::Policy;

/// Some of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifted {
    max_fee: bool,
    max_fee_rate: bool,
    top_up: bool,
}

/// Every choice of at least one of them, the smallest first.
pub(crate) fn combinations() -> impl Iterator<Item = Lifted> {
    const SMALLEST_FIRST: [u8; 7] = [0b001, 0b010, 0b100, 0b011, 0b101, 0b110, 0b111];
    SMALLEST_FIRST.into_iter().map(|bits| Lifted {
        max_fee: bits & 1 > 0,
        max_fee_rate: bits & 2 > 0,
        top_up: bits & 4 > 0,
    })
}

impl Lifted {
    /// The policy without them.
    pub(crate) fn lift(self, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        if self.max_fee {
            policy.max_fee = Amount::MAX_MONEY;
        }
        if self.max_fee_rate {
            policy.max_fee_rate = Psbt::DEFAULT_MAX_FEE_RATE;
        }
        policy.top_up |= self.top_up;
        policy
    }

    /// Names them, with the values that would do for a share of the fee of `fee` for this weight, and for channels that
    /// need so much beside the payment.
    pub(crate) fn tell(self, policy: &Policy, fee: Amount, weight: Weight, lacking: Amount) -> String {
        let mut told = Vec::new();
        if self.max_fee {
            told.push(max_fee(policy, fee));
        }
        if self.max_fee_rate {
            told.push(max_fee_rate(policy, fee.div_by_weight_ceil(weight).unwrap_or(FeeRate::MAX)));
        }
        if self.top_up {
            told.push(top_up(lacking));
        }
        told.join(", and ")
    }
}

/// What the operator's limits say of a payment to come: at this fee rate, for which our share of the fee is `fee` where the
/// payer adds nothing to it, and that leaves `lacking` of the smallest channel to our coins. `None`: nothing against it.
#[must_use]
pub fn forewarning(policy: &Policy, rate: FeeRate, fee: Amount, lacking: Amount) -> Option<String> {
    let mut told = Vec::new();
    if rate > policy.max_fee_rate {
        told.push(max_fee_rate(policy, rate));
    }
    if fee > policy.max_fee {
        told.push(max_fee(policy, fee));
    }
    if !policy.top_up && lacking > Amount::ZERO {
        told.push(top_up(lacking));
    }
    (!told.is_empty()).then(|| format!("a payment may open no channel now: {}", told.join(", and ")))
}

fn max_fee(policy: &Policy, fee: Amount) -> String {
    let (most, fee) = (policy.max_fee.to_sat(), fee.to_sat());
    format!(
        "our share of the fee is {fee} sat, and `max_fee` under [policy] is {most}: it would have to be {fee}"
    )
}

fn max_fee_rate(policy: &Policy, rate: FeeRate) -> String {
    let (most, rate) = (shown(policy.max_fee_rate), shown(rate));
    format!(
        "our share costs {rate} sat/vB, and `max_fee_rate` under [policy] is {most}: it would have to be {rate}"
    )
}

/// In sat/vB, exactly.
fn shown(rate: FeeRate) -> String {
    let thousandths = u128::from(rate.to_sat_per_kwu()) * 4;
    let text = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn top_up(lacking: Amount) -> String {
    format!(
        "the channel needs {} sat more than the payment, and `top_up` under [policy] is false: make the code with `receive \
         --top-up`, set it to true, or let the payment be larger by that",
        lacking.to_sat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_each_limit_that_is_in_the_way_and_what_would_do() {
        let policy = Policy {
            max_fee: Amount::from_sat(5_000),
            max_fee_rate: FeeRate::from_sat_per_vb_u32(100),
            top_up: false,
            ..Policy::default()
        };
        let warn = |rate, fee, lacking| {
            forewarning(
                &policy,
                FeeRate::from_sat_per_vb_u32(rate),
                Amount::from_sat(fee),
                Amount::from_sat(lacking),
            )
        };
        assert_eq!(warn(100, 5_000, 0), None);
        for ((rate, fee, lacking), parts) in [
            ((101, 5_000, 0), &["`max_fee_rate` under [policy] is 100: it would have to be 101"][..]),
            ((100, 5_001, 0), &["`max_fee` under [policy] is 5000: it would have to be 5001"]),
            ((100, 5_000, 7), &["needs 7 sat more", "`top_up` under [policy] is false"]),
            ((200, 9_000, 7), &["`max_fee_rate`", "`max_fee`", "`top_up`"]),
        ] {
            let told = warn(rate, fee, lacking).unwrap();
            assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        }
    }

    #[test]
    fn a_rate_is_shown_to_its_last_digit() {
        for (sat_per_kwu, text) in [(25_000, "100"), (250, "1"), (251, "1.004"), (25, "0.1"), (0, "0")] {
            assert_eq!(shown(FeeRate::from_sat_per_kwu(sat_per_kwu)), text);
        }
    }

    #[test]
    fn limits_are_lifted_one_by_one_before_several_together() {
        let all: Vec<_> = combinations().collect();
        let count = |lifted: &Lifted| {
            usize::from(lifted.max_fee) + usize::from(lifted.max_fee_rate) + usize::from(lifted.top_up)
        };
        assert_eq!(all.iter().map(count).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 3]);
        assert!(all.iter().enumerate().all(|(at, lifted)| !all[..at].contains(lifted)));
    }
}
