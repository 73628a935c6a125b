//! Which channels are of no use though nothing is missing: their peers are connected anew ([`Revive`](crate::revive::Revive)).

use lightning::ln::channel_state::{ChannelDetails, ChannelShutdownState};

/// Deep enough for both sides and still of no use, though nobody closes it.
pub(super) fn is_stuck(channel: &ChannelDetails) -> bool {
    let closing =
        !matches!(channel.channel_shutdown_state, None | Some(ChannelShutdownState::NotShuttingDown));
    let deep = channel.confirmations.zip(channel.confirmations_required);
    !channel.is_usable && !closing && deep.is_some_and(|(has, needs)| has >= needs.max(1))
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
    use lightning::ln::channel_state::ChannelCounterparty;
    use lightning::ln::types::ChannelId;
    use lightning::types::features::InitFeatures;

    use super::*;

    fn peer(id: u8) -> PublicKey {
        PublicKey::from_secret_key(SECP256K1, &SecretKey::from_slice(&[id; 32]).unwrap())
    }

    /// A channel with so many of three confirmations.
    fn channel(
        confirmations: Option<u32>,
        is_usable: bool,
        shutdown: ChannelShutdownState,
    ) -> ChannelDetails {
        let counterparty = ChannelCounterparty {
            features: InitFeatures::empty(),
            node_id: peer(1),
            unspendable_punishment_reserve: 1_000,
            forwarding_info: None,
            outbound_htlc_minimum_msat: None,
            outbound_htlc_maximum_msat: None,
        };
        ChannelDetails {
            channel_id: ChannelId::new_zero(),
            counterparty,
            funding_txo: None,
            funding_redeem_script: None,
            channel_type: None,
            short_channel_id: None,
            outbound_scid_alias: None,
            inbound_scid_alias: None,
            channel_value_satoshis: 100_000,
            user_channel_id: 0,
            outbound_capacity_msat: 0,
            next_outbound_htlc_limit_msat: 0,
            next_outbound_htlc_minimum_msat: 0,
            inbound_capacity_msat: 0,
            unspendable_punishment_reserve: None,
            confirmations_required: Some(3),
            confirmations,
            force_close_spend_delay: None,
            is_outbound: true,
            is_channel_ready: false,
            is_usable,
            is_announced: false,
            inbound_htlc_minimum_msat: None,
            inbound_htlc_maximum_msat: None,
            config: None,
            feerate_sat_per_1000_weight: None,
            channel_shutdown_state: Some(shutdown),
            pending_inbound_htlcs: Vec::new(),
            pending_outbound_htlcs: Vec::new(),
        }
    }

    #[test]
    fn a_channel_is_stuck_when_it_is_deep_enough_and_useless_and_nobody_closes_it() {
        use ChannelShutdownState::{NotShuttingDown, ShutdownInitiated};
        for (confirmations, usable, shutdown, stuck) in [
            (Some(3), false, NotShuttingDown, true),
            (Some(9), false, NotShuttingDown, true),
            (Some(2), false, NotShuttingDown, false),
            (None, false, NotShuttingDown, false),
            (Some(3), true, NotShuttingDown, false),
            (Some(3), false, ShutdownInitiated, false),
        ] {
            assert_eq!(
                is_stuck(&channel(confirmations, usable, shutdown)),
                stuck,
                "{confirmations:?} {usable}"
            );
        }
    }
}
