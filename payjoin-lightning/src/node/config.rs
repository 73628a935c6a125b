//! Settings of the node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, FeeRate, Network, OutPoint, Weight};
use lightning::events::bump_transaction::Utxo;
use lightning::util::anchor_channel_reserves::{
    AnchorChannelReserveContext, get_reserve_per_channel, get_supportable_anchor_channels,
};
use lightning::util::config::UserConfig;
use payjoin_core::{Event, Holder};
use tokio::sync::broadcast;

use super::dial::Dialer;
use super::health::ChainHealth;
use crate::{PaidOnce, Wanted};

/// Unused addresses in a row beyond which the wallet looks for no payment.
const LOOKAHEAD: u32 = 25;
/// The same for a seed that was used before. Every code that was shown took an address of each kind, paid or not.
const LOOKAHEAD_OF_A_USED_SEED: u32 = 1000;

/// Five sat/vB.
const FEE_FALLBACK: FeeRate = FeeRate::from_sat_per_kwu(1_250);

/// The heaviest input of ours.
const P2WPKH_INPUT: Weight = Weight::from_wu(4 * 41 + 109);

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
    /// Who may refuse payments that are here; `None` takes them all.
    pub once: Option<Arc<dyn PaidOnce>>,
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
    /// Whether peers may open channels although no coin of the wallet could pay for closing them when fees are high.
    pub inbound_without_coins: bool,
    /// Tells, from the beginning of the start on, what keeps blocks from us.
    pub health: Arc<ChainHealth>,
    /// How long the source's chain may end elsewhere than ours with no block in between.
    pub patience: Duration,
    /// Height from which a wallet without stored state looks for its coins, for a seed that was used before. `None`:
    /// from now on.
    pub birthday: Option<u32>,
    /// Unused scripts in a row beyond which the wallet looks for no coin. `None`: 25, and 1000 with a birthday.
    pub lookahead: Option<u32>,
    /// What is kept back in the wallet to close channels.
    pub reserve: ReserveConfig,
    /// Coins that unfinished exchanges and payments hold. Given here and not later because LDK may look for coins as soon
    /// as the node runs (money rule 7).
    pub held: Vec<(Holder, Vec<OutPoint>)>,
    /// The store is an older copy: peers may have later states of its channels, so none is closed by us. Written down for
    /// good.
    pub older_copy: bool,
    /// What payments and closes pay where the source of the chain estimates no fees.
    pub fee_fallback: FeeRate,
    /// Where the steps of channels are told; nobody is waited for.
    pub events: Option<broadcast::Sender<Event>>,
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
        get_reserve_per_channel(&self.context())
    }

    /// What it costs to spend a coin when fees are high.
    pub(super) fn cost(self) -> Amount {
        let rate = self.context().upper_bound_fee_rate;
        rate.checked_mul_by_weight(P2WPKH_INPUT).unwrap_or(Amount::MAX)
    }

    /// How many channels could be closed with these coins: each needs coins of its own.
    pub(super) fn closable(self, coins: &[Utxo]) -> usize {
        usize::try_from(get_supportable_anchor_channels(&self.context(), coins)).unwrap_or(usize::MAX)
    }

    fn context(self) -> AnchorChannelReserveContext {
        AnchorChannelReserveContext {
            upper_bound_fee_rate: FeeRate::from_sat_per_kwu(self.sat_per_vb.saturating_mul(250)),
            expected_accepted_htlcs: self.htlcs,
            taproot_wallet: false,
        }
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
            once: None,
            min_depth: 3,
            poll: Duration::from_millis(500),
            inbound_per_peer: 4,
            inbound_total: 10,
            inbound_min: Amount::from_sat(100_000),
            inbound_without_coins: false,
            health: Arc::default(),
            patience: Duration::from_secs(60),
            birthday: None,
            lookahead: None,
            reserve: ReserveConfig::default(),
            held: Vec::new(),
            older_copy: false,
            fee_fallback: FEE_FALLBACK,
            events: None,
        }
    }

    pub(super) fn lookahead(&self) -> u32 {
        let usual = if self.birthday.is_some() { LOOKAHEAD_OF_A_USED_SEED } else { LOOKAHEAD };
        self.lookahead.unwrap_or(usual)
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
    use bitcoin::{ScriptBuf, TxOut};

    use super::*;

    #[test]
    fn the_default_reserve_is_what_the_documentation_says() {
        let reserve = ReserveConfig::default().per_channel().to_sat();
        assert!((33_000..35_000).contains(&reserve), "{reserve}");
    }

    #[test]
    fn each_channel_needs_coins_of_its_own_and_dust_closes_none() {
        let coin = |sat: &u64| Utxo {
            outpoint: OutPoint::null(),
            output: TxOut { value: Amount::from_sat(*sat), script_pubkey: ScriptBuf::new() },
            satisfaction_weight: 4 + 108,
        };
        for (coins, expected) in [
            (&[][..], 0),
            (&[30_000], 0),
            (&[40_000], 1),
            (&[10_000_000], 1),
            (&[40_000, 10_000_000], 2),
            (&[30_000; 2], 0),
            (&[30_000; 4], 1),
            (&[1_300; 1_000], 0),
        ] {
            let coins: Vec<_> = coins.iter().map(coin).collect();
            assert_eq!(ReserveConfig::default().closable(&coins), expected, "{coins:?}");
        }
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
