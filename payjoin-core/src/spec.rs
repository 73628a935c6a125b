//! What a channel should be like.

use bitcoin::Amount;
use serde::{Deserialize, Serialize};

use crate::{ChannelAmount, ChannelWish, IntentId, PeerAddress};

/// A channel the operator asked for. [`ChannelSpec::validate`] before it is queued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSpec {
    /// The other end.
    pub peer: PeerAddress,
    /// The value of the funding output.
    pub amount: ChannelAmount,
    /// What the peer gets of it at once, in whole satoshis.
    #[serde(default)]
    pub push: Amount,
    /// Whether the network hears of the channel (`announce_channel`, BOLT 2).
    pub announced: bool,
}

/// Which channel values are worth opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelLimits {
    /// The least. LDK itself opens from 1,000 sat.
    pub min: Amount,
    /// The greatest. Above 16,777,215 sat both nodes must set `option_support_large_channel`.
    pub max: Amount,
}

impl Default for ChannelLimits {
    /// From 20,000 sat, below which LND peers refuse, to 16,777,215 sat, the greatest that every peer may take
    /// (BOLT 2, `open_channel`).
    fn default() -> Self {
        Self { min: Amount::from_sat(20_000), max: Amount::from_sat((1 << 24) - 1) }
    }
}

/// Why a [`ChannelSpec`] is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Less than the least value worth opening.
    #[error("a channel of {} sat is too small: at least {} sat", .amount.to_sat(), .min.to_sat())]
    TooSmall {
        /// The value asked for.
        amount: Amount,
        /// The least value.
        min: Amount,
    },
    /// More than the greatest value that may be opened.
    #[error("a channel of {} sat is too large: at most {} sat", .amount.to_sat(), .max.to_sat())]
    TooLarge {
        /// The value asked for.
        amount: Amount,
        /// The greatest value.
        max: Amount,
    },
    /// The push leaves nothing on our side.
    #[error("a push of {} sat leaves nothing of the channel", .push.to_sat())]
    Push {
        /// The push asked for.
        push: Amount,
    },
}

impl ChannelSpec {
    /// Checks the amounts.
    ///
    /// # Errors
    /// [`SpecError`] says which amount is out of bounds.
    pub fn validate(&self, limits: &ChannelLimits) -> Result<(), SpecError> {
        let ChannelLimits { min, max } = *limits;
        let push = self.push;
        match self.amount {
            ChannelAmount::Exact(amount) if amount < min => Err(SpecError::TooSmall { amount, min }),
            ChannelAmount::Exact(amount) if amount > max => Err(SpecError::TooLarge { amount, max }),
            ChannelAmount::Exact(amount) if push >= amount => Err(SpecError::Push { push }),
            ChannelAmount::Exact(_) => Ok(()),
            ChannelAmount::Rest | ChannelAmount::Absorb if self.least(limits) > max => {
                Err(SpecError::Push { push })
            }
            ChannelAmount::Rest | ChannelAmount::Absorb => Ok(()),
        }
    }

    /// The spec as the planner sees it.
    #[must_use]
    pub fn wish(&self, id: IntentId, limits: &ChannelLimits) -> ChannelWish {
        ChannelWish { id, amount: self.amount, min: self.least(limits), max: limits.max }
    }

    /// "The rest" must leave a channel worth opening on our side after the push; an exact amount was checked.
    #[must_use]
    pub fn least(&self, limits: &ChannelLimits) -> Amount {
        match self.amount {
            ChannelAmount::Exact(_) => limits.min,
            ChannelAmount::Rest | ChannelAmount::Absorb => {
                limits.min.checked_add(self.push).unwrap_or(Amount::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(amount: ChannelAmount, push: u64) -> ChannelSpec {
        ChannelSpec {
            peer: "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@[::1]:9735"
                .parse()
                .unwrap(),
            amount,
            push: Amount::from_sat(push),
            announced: true,
        }
    }

    fn exact(sat: u64) -> ChannelAmount {
        ChannelAmount::Exact(Amount::from_sat(sat))
    }

    #[test]
    fn amounts_out_of_bounds_are_refused() {
        let limits = ChannelLimits::default();
        let (min, max) = (limits.min, limits.max);
        let (small, large) = (Amount::from_sat(19_999), Amount::from_sat(16_777_216));
        for (amount, push, expected) in [
            (exact(20_000), 0, Ok(())),
            (exact(16_777_215), 16_777_214, Ok(())),
            (exact(19_999), 0, Err(SpecError::TooSmall { amount: small, min })),
            (exact(16_777_216), 0, Err(SpecError::TooLarge { amount: large, max })),
            (exact(20_000), 20_000, Err(SpecError::Push { push: Amount::from_sat(20_000) })),
            (exact(20_000), u64::MAX, Err(SpecError::Push { push: Amount::MAX })),
            (ChannelAmount::Rest, 16_757_215, Ok(())),
            (ChannelAmount::Rest, 16_757_216, Err(SpecError::Push { push: Amount::from_sat(16_757_216) })),
            (ChannelAmount::Rest, u64::MAX, Err(SpecError::Push { push: Amount::MAX })),
        ] {
            assert_eq!(spec(amount, push).validate(&limits), expected, "{amount:?} push {push}");
        }
    }

    #[test]
    fn a_wish_for_the_rest_asks_for_the_push_on_top_of_the_least() {
        let limits = ChannelLimits::default();
        let min = |amount, push| spec(amount, push).wish(IntentId(1), &limits).min.to_sat();
        assert_eq!(min(ChannelAmount::Rest, 5_000), 25_000);
        assert_eq!(min(exact(100_000), 5_000), 20_000);
    }

    #[test]
    fn a_spec_reads_back_from_json() {
        let spec = spec(exact(100_000), 7);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ChannelSpec>(&json).unwrap(), spec);
        assert!(json.contains("@[::1]:9735"), "{json}");
    }
}
