//! Settings of the node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, FeeRate, Network, OutPoint};
use lightning::util::anchor_channel_reserves::{AnchorChannelReserveContext, get_reserve_per_channel};
use lightning::util::config::UserConfig;

use super::{Dialer, Wanted};

/// Settings of a [`Node`](super::Node).
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The network; bitcoind must be on the same one.
    pub network: Network,
    /// The file with the twelve words.
    pub seed: PathBuf,
    /// Where peers may connect to us; `None` to accept nobody. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// A way to peers besides TCP.
    pub dialer: Option<Arc<dyn Dialer>>,
    /// Peers to keep connected besides those with channels.
    pub wanted: Option<Arc<dyn Wanted>>,
    /// Confirmations before a channel is used that a peer funds.
    pub min_depth: u32,
    /// How often bitcoind is asked for a new block.
    pub poll: Duration,
    /// Most channels that one peer may have opened to us.
    pub inbound_per_peer: usize,
    /// Most channels that all peers together may have opened to us, counting those whose funding is mined. Each keeps
    /// back [`NodeConfig::reserve`] in the wallet: this bounds what strangers can tie up there.
    pub inbound_total: usize,
    /// Smallest channel that a peer may open to us.
    pub inbound_min: Amount,
    /// Height from which a wallet without stored state looks for its coins, for a seed that was used before. `None`:
    /// from now on.
    pub birthday: Option<u32>,
    /// What is kept back in the wallet to close channels.
    pub reserve: ReserveConfig,
    /// Coins that unfinished exchanges hold, one entry for each holder. Given here and not later because LDK may look
    /// for coins as soon as the node runs (money rule 7).
    pub locked: Vec<OutPoint>,
}

/// What one channel may cost to close when fees are high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReserveConfig {
    /// The high fee rate to be prepared for, in satoshis per virtual byte.
    pub sat_per_vb: u64,
    /// Payments in flight that must be resolved on chain.
    pub htlcs: u16,
}

impl Default for ReserveConfig {
    /// About 34,000 satoshis a channel.
    fn default() -> Self {
        Self { sat_per_vb: 20, htlcs: 2 }
    }
}

impl ReserveConfig {
    /// What must stay in the wallet for each channel.
    pub(super) fn per_channel(self) -> Amount {
        get_reserve_per_channel(&AnchorChannelReserveContext {
            upper_bound_fee_rate: FeeRate::from_sat_per_kwu(self.sat_per_vb.saturating_mul(250)),
            expected_accepted_htlcs: self.htlcs,
            taproot_wallet: false,
        })
    }
}

impl NodeConfig {
    /// Defaults for everything but network and seed file.
    pub fn new(network: Network, seed: impl Into<PathBuf>) -> Self {
        Self {
            network,
            seed: seed.into(),
            listen: None,
            dialer: None,
            wanted: None,
            min_depth: 3,
            poll: Duration::from_millis(500),
            inbound_per_peer: 4,
            inbound_total: 10,
            inbound_min: Amount::from_sat(100_000),
            birthday: None,
            reserve: ReserveConfig::default(),
            locked: Vec::new(),
        }
    }

    pub(super) fn ldk(&self) -> UserConfig {
        let mut config = UserConfig::default();
        let handshake = &mut config.channel_handshake_config;
        handshake.minimum_depth = self.min_depth.max(1);
        handshake.negotiate_anchors_zero_fee_htlc_tx = true;
        // A few large payments are the rule here, not many small ones.
        handshake.max_inbound_htlc_value_in_flight_percent_of_channel = 100;
        // The payer can double-spend a payjoin until it is mined, so it is not ours to trust.
        config.channel_handshake_limits.trust_own_funding_0conf = false;
        config.channel_handshake_limits.force_announced_channel_preference = false;
        config.manually_accept_inbound_channels = true;
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_reserve_is_what_the_documentation_says() {
        let reserve = ReserveConfig::default().per_channel().to_sat();
        assert!((33_000..35_000).contains(&reserve), "{reserve}");
    }

    #[test]
    fn channels_have_anchors_and_never_skip_confirmations() {
        let mut config = NodeConfig::new(Network::Regtest, "seed");
        config.min_depth = 0;
        let ldk = config.ldk();
        assert!(ldk.channel_handshake_config.negotiate_anchors_zero_fee_htlc_tx);
        assert_eq!(ldk.channel_handshake_config.minimum_depth, 1);
        assert!(!ldk.channel_handshake_limits.trust_own_funding_0conf);
        assert!(ldk.manually_accept_inbound_channels);
    }
}
