//! Why a payment opens no channel, in words for the operator.

use bitcoin::Amount;

use super::facts::Facts;
use crate::{PlanRequest, limits, plan};

/// Should no channel be planned although some are queued: why, for the operator.
pub(super) fn passed_over(facts: &Facts, request: &PlanRequest<'_>) -> Option<String> {
    if request.resources.wishes.is_empty() {
        return None;
    }
    let (coins, payer_is_me) = (&request.resources.coins, request.payer_is_me);
    let why = match (coins.is_empty(), facts.types().groups(coins).is_empty()) {
        (true, _) if !payer_is_me => "no channel: the wallet has no free coin to add",
        (_, true) if !payer_is_me => {
            "no channel: the payer's wallet may refuse inputs of another type than its own, and no coin of its type is free"
        }
        _ => match limit(request) {
            Some(limit) => return Some(format!("no channel: {limit}")),
            None => facts.difficulty().unwrap_or(
                "no channel: none that is queued fits the payment, the wallet's free coins and its reserve",
            ),
        },
    };
    Some(why.to_owned())
}

/// The limits of the operator without which there would be a channel: as few as possible, each with the value that would
/// do.
fn limit(request: &PlanRequest<'_>) -> Option<String> {
    limits::combinations().find_map(|lifted| {
        let policy = lifted.lift(request.policy);
        let plan = plan(&PlanRequest { policy: &policy, ..*request })?;
        let (fee, weight) = request.cost(&plan)?;
        let channels: Amount = plan.channels.iter().map(|channel| channel.amount).sum();
        let lacking = channels.checked_sub(request.payment.value).unwrap_or_default();
        Some(lifted.tell(request.policy, fee, weight, lacking))
    })
}
