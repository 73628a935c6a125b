//! Why a payment opens no channel, in words for the operator.

use super::facts::Facts;
use crate::Resources;

/// Should no channel be planned although some are queued: why, for the operator.
pub(super) fn passed_over(facts: &Facts, resources: &Resources, payer_is_me: bool) -> Option<String> {
    let otherwise = match (resources.coins.is_empty(), facts.types().groups(&resources.coins).is_empty()) {
        (true, _) if !payer_is_me => "no channel: the wallet has no free coin to add",
        (_, true) if !payer_is_me => {
            "no channel: the payer's wallet may refuse inputs of another type than its own, and no coin of its type is free"
        }
        _ => facts.difficulty().unwrap_or(
            "no channel: none that is queued fits the payment, the wallet's free coins and its reserve",
        ),
    };
    (!resources.wishes.is_empty()).then(|| otherwise.to_owned())
}
