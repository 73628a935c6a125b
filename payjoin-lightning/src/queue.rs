//! What may happen to a channel intent, and what the queued intents cost.
//!
//! There is no queue type here on purpose. The queue is a table of the store, because whatever changes an intent
//! must change in the same transaction as the exchange it belongs to; a copy in memory could only disagree with it.
//! This module holds the rules that do not depend on how the queue is kept.

use bitcoin::{Amount, Txid};
use payjoin_core::{ChannelAmount, ChannelWish, IntentState, Reserve};

/// Something that happens to an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntentMove {
    /// An exchange takes it.
    Take,
    /// The exchange that took it ends without a released proposal.
    GiveBack {
        /// Why, for the operator.
        reason: String,
    },
    /// A signed proposal leaves.
    Release {
        /// The payjoin's transaction id.
        txid: Txid,
        /// Index of the funding output.
        vout: u32,
    },
    /// The payjoin is in a block.
    Mine,
    /// That block was reorganised out.
    Unmine,
    /// The payjoin is buried and the channel usable.
    Bury,
    /// The Original or another conflict with the payjoin is buried: the channel can never be.
    Lose {
        /// What took its place, for the operator.
        reason: String,
    },
    /// The operator withdraws it.
    Cancel,
}

/// A move that an intent in this state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an intent in state {state:?} does not allow {refused:?}")]
pub struct IllegalMove {
    /// The state, unchanged.
    pub state: IntentState,
    /// The move that was refused.
    pub refused: IntentMove,
}

/// The state after a move. Money rule 9: an intent is taken only from the queue, and it returns there only when no
/// channel of it was released, or when the released one can never be funded.
///
/// # Errors
/// [`IllegalMove`] when the state does not allow the move.
pub fn advance(state: IntentState, event: IntentMove) -> Result<IntentState, IllegalMove> {
    use IntentMove as Move;
    use IntentState as State;
    match (state, event) {
        (State::Queued { .. }, Move::Take) => Ok(State::Negotiating),
        (State::Queued { .. }, Move::Cancel) => Ok(State::Cancelled),
        (State::Negotiating, Move::GiveBack { reason })
        | (State::Released { .. } | State::Confirming { .. }, Move::Lose { reason }) => {
            Ok(State::Queued { reason: Some(reason) })
        }
        (State::Negotiating, Move::Release { txid, vout })
        | (State::Confirming { txid, vout }, Move::Unmine) => Ok(State::Released { txid, vout }),
        (State::Released { txid, vout }, Move::Mine) => Ok(State::Confirming { txid, vout }),
        (State::Released { txid, vout } | State::Confirming { txid, vout }, Move::Bury) => {
            Ok(State::Open { txid, vout })
        }
        (state, refused) => Err(IllegalMove { state, refused }),
    }
}

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
        total = sum(
            total,
            match wish.amount {
                ChannelAmount::Exact(amount) => amount,
                ChannelAmount::Rest => wish.min,
            },
        );
    }
    sum(total, needed.checked_sub(reserve.balance).unwrap_or(Amount::ZERO))
}

fn sum(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).unwrap_or(Amount::MAX)
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use payjoin_core::IntentId;

    use super::*;

    fn states() -> [IntentState; 6] {
        let (txid, vout) = (Txid::all_zeros(), 3);
        [
            IntentState::Queued { reason: None },
            IntentState::Negotiating,
            IntentState::Released { txid, vout },
            IntentState::Confirming { txid, vout },
            IntentState::Open { txid, vout },
            IntentState::Cancelled,
        ]
    }

    #[test]
    fn money_rule_9_an_intent_is_taken_only_from_the_queue() {
        for state in states() {
            let taken = advance(state.clone(), IntentMove::Take);
            assert_eq!(taken.is_ok(), matches!(state, IntentState::Queued { .. }), "{state:?}");
        }
    }

    #[test]
    fn money_rule_9_a_released_channel_returns_to_the_queue_only_when_it_can_never_be() {
        let [_, negotiating, released, confirming, open, _] = states();
        let give_back = IntentMove::GiveBack { reason: "peer offline".into() };
        let lose = IntentMove::Lose { reason: "Original buried".into() };
        for (state, event, returns) in [
            (&negotiating, &give_back, true),
            (&released, &give_back, false),
            (&confirming, &give_back, false),
            (&released, &lose, true),
            (&confirming, &lose, true),
            (&open, &lose, false),
        ] {
            let after = advance(state.clone(), event.clone());
            assert_eq!(matches!(after, Ok(IntentState::Queued { .. })), returns, "{state:?} {event:?}");
        }
    }

    #[test]
    fn every_state_allows_its_moves_and_no_others() {
        let moves = [
            IntentMove::Take,
            IntentMove::GiveBack { reason: String::new() },
            IntentMove::Release { txid: Txid::all_zeros(), vout: 3 },
            IntentMove::Mine,
            IntentMove::Unmine,
            IntentMove::Bury,
            IntentMove::Lose { reason: String::new() },
            IntentMove::Cancel,
        ];
        // One row per state, one column per move: the index of the state that follows, or a dot.
        let table = ["1......5", ".02.....", "...3.40.", "....240.", "........", "........"];
        for (state, row) in states().iter().zip(table) {
            for (event, cell) in moves.iter().zip(row.chars()) {
                let expected = cell.to_digit(10).map(|i| std::mem::discriminant(&states()[i as usize]));
                let after = advance(state.clone(), event.clone()).ok();
                assert_eq!(after.as_ref().map(std::mem::discriminant), expected, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn an_invoice_asks_for_the_channels_the_missing_reserve_and_the_fees() {
        let sat = Amount::from_sat;
        let wish = |amount| ChannelWish {
            id: IntentId(1),
            amount,
            min: sat(20_000),
            max: sat(16_777_215),
            payer_is_me: false,
        };
        let exact = |amount| wish(ChannelAmount::Exact(sat(amount)));
        let rest = || wish(ChannelAmount::Rest);
        let reserve =
            |balance| Reserve { balance: sat(balance), existing: sat(1_000), per_channel: sat(25_000) };
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
