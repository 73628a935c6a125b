//! Making lightningd forget a channel. `fundchannel_cancel` takes a peer and no channel: it ends an opening in progress
//! there, otherwise the first channel that waits for its funding, perhaps one that was released. So it is called only when
//! there is nothing else that it could mean.

use super::openings::Opening;
use super::reply::{AWAITING, Channel, OPENING};

/// What is done about an opening that nobody wants any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// lightningd has nothing of it.
    Gone,
    /// `fundchannel_cancel` can only mean this one.
    Cancel,
    /// It is in progress, and another channel waits for its funding: an opening ends with its connection, too, and nothing
    /// else does.
    Disconnect,
    /// It is left alone, and why.
    Leave(String),
}

/// `channels` are those with its peer.
pub(super) fn way(opening: &Opening, channels: &[Channel]) -> Way {
    let progress = channels.iter().find(|channel| channel.state == OPENING);
    let others_wait = |ours: Option<&Channel>| {
        channels.iter().any(|channel| channel.is_awaiting() && Some(channel) != ours)
    };
    let funded =
        channels.iter().find(|channel| channel.funding.is_some() && channel.funding == opening.funding);
    match (funded, progress) {
        (Some(ours), _) if ours.state != AWAITING => {
            Way::Leave(format!("it is in the state {}: close it with `lightning-cli close`", ours.state))
        }
        (Some(_), Some(_)) => Way::Leave("somebody opens another channel with its peer".to_owned()),
        (Some(ours), None) if others_wait(Some(ours)) => {
            Way::Leave("another channel with its peer waits for its funding".to_owned())
        }
        (Some(_), None) => Way::Cancel,
        (None, Some(progress)) if is_ours(opening, progress) => {
            if others_wait(None) {
                Way::Disconnect
            } else {
                Way::Cancel
            }
        }
        (None, _) => Way::Gone,
    }
}

/// Whether the opening in progress is this one: lightningd tells its script as long as it waits for the transaction.
fn is_ours(opening: &Opening, progress: &Channel) -> bool {
    let told =
        progress.status.iter().find_map(|line| line.split_once("with output to ")).map(|(_, script)| script);
    let same_amounts = progress.total_msat == opening.amount.to_sat().saturating_mul(1_000)
        && progress.total_msat.saturating_sub(progress.ours_msat)
            == opening.push.to_sat().saturating_mul(1_000);
    match (told, &opening.script) {
        (Some(told), Some(script)) => told.trim() == script.to_hex_string(),
        _ => same_amounts,
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;
    use bitcoin::{Amount, OutPoint, ScriptBuf, Txid, WScriptHash};

    use super::*;
    use crate::cln::reply::NORMAL;

    const PEER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn outpoint(n: u8) -> OutPoint {
        OutPoint::new(Txid::from_byte_array([n; 32]), 0)
    }

    fn script(n: u8) -> ScriptBuf {
        ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([n; 32]))
    }

    fn opening(script: Option<ScriptBuf>, funding: Option<OutPoint>) -> Opening {
        let (amount, push) = (Amount::from_sat(100_000), Amount::from_sat(5_000));
        Opening { peer: PEER.parse().unwrap(), amount, push, script, funding, secured: false, ended: true }
    }

    fn channel(state: &str, funding: Option<OutPoint>, status: &str) -> Channel {
        Channel {
            peer: PEER.parse().unwrap(),
            connected: true,
            state: state.to_owned(),
            status: vec![status.to_owned()],
            channel_id: None,
            funding,
            total_msat: 100_000_000,
            ours_msat: 95_000_000,
            spendable_msat: 0,
            receivable_msat: 0,
            closer: None,
        }
    }

    fn progress(n: u8) -> Channel {
        channel(OPENING, None, &format!("awaiting funding_txid with output to {}", script(n).to_hex_string()))
    }

    fn awaiting(n: u8) -> Channel {
        channel(AWAITING, Some(outpoint(n)), "Funding needs 1 more confirmations")
    }

    #[test]
    fn a_channel_is_cancelled_only_where_nothing_else_can_be_meant() {
        let (started, accepted) = (opening(None, None), opening(Some(script(1)), None));
        let given = opening(Some(script(1)), Some(outpoint(1)));
        let normal = channel(NORMAL, Some(outpoint(7)), "");
        let waits =
            channel(OPENING, None, "Funding channel: create first tx, now waiting for their signature");
        let other_amount = Channel { total_msat: 1, ours_msat: 1, ..waits.clone() };
        for (case, opening, channels, expected) in [
            ("never begun", &started, vec![], Way::Gone),
            ("beside a channel in use", &started, vec![normal.clone(), progress(1)], Way::Cancel),
            ("accepted", &accepted, vec![progress(1)], Way::Cancel),
            ("accepted, another waits", &accepted, vec![awaiting(2), progress(1)], Way::Disconnect),
            ("somebody else opens", &accepted, vec![progress(2)], Way::Gone),
            ("somebody else opens another amount", &started, vec![other_amount], Way::Gone),
            ("somebody else's waits", &accepted, vec![awaiting(2)], Way::Gone),
            ("the peer is asked to sign", &given, vec![waits], Way::Cancel),
            ("the peer has signed", &given, vec![awaiting(1), normal.clone()], Way::Cancel),
            ("not signed", &given, vec![normal], Way::Gone),
        ] {
            assert_eq!(way(opening, &channels), expected, "{case}");
        }
        for (case, channels) in [
            ("another waits, too", vec![awaiting(2), awaiting(1)]),
            ("somebody opens", vec![awaiting(1), progress(2)]),
            (
                "a dual-funded one waits",
                vec![awaiting(1), channel("DUALOPEND_AWAITING_LOCKIN", Some(outpoint(3)), "")],
            ),
            ("in use", vec![channel(NORMAL, Some(outpoint(1)), "")]),
            ("closing", vec![channel("AWAITING_UNILATERAL", Some(outpoint(1)), "")]),
        ] {
            assert!(matches!(way(&given, &channels), Way::Leave(_)), "{case}");
        }
    }
}
