//! Fee rates from bitcoind, kept for LDK, which asks often and cannot wait.

use std::sync::Mutex;

use bitcoin::Amount;
use lightning::chain::chaininterface::{ConfirmationTarget, FeeEstimator};
use serde_json::{Value, json};

use super::lock;
use super::rpc::{Rpc, RpcError};

/// Least rate LDK works with, in satoshis per 1000 weight units: one per virtual byte, rounded up.
const FLOOR: u32 = 253;

/// Rates in satoshis per 1000 weight units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    /// Within 2 blocks.
    urgent: u32,
    /// Within 12 blocks.
    normal: u32,
    /// Within a day.
    slow: u32,
    /// The least that bitcoind's mempool takes.
    floor: u32,
}

/// Until bitcoind has seen enough blocks to estimate, as on regtest.
const UNKNOWN: Rates = Rates { urgent: 2_500, normal: 1_000, slow: 500, floor: FLOOR };

/// The rates of the last refresh.
pub(super) struct Fees(Mutex<Rates>);

impl Fees {
    pub(super) fn new() -> Self {
        Self(Mutex::new(UNKNOWN))
    }

    /// Asks bitcoind, in one request. On error the old rates stay.
    pub(super) async fn refresh(&self, rpc: &Rpc) -> Result<(), RpcError> {
        let within = |blocks: u16| ("estimatesmartfee", json!([blocks]));
        let calls = [within(2), within(12), within(144), ("getmempoolinfo", json!([]))];
        let answers = rpc.batch(&calls).await?;
        let rate = |at: usize, field| {
            let answer = answers.get(at).and_then(|answer| answer.as_ref().ok());
            answer.and_then(|answer| sat_per_kw(answer.get(field)?))
        };
        let (urgent, normal, slow) = (rate(0, "feerate"), rate(1, "feerate"), rate(2, "feerate"));
        *lock(&self.0) = Rates::of(urgent, normal, slow, rate(3, "mempoolminfee"));
        Ok(())
    }
}

impl Rates {
    /// From what bitcoind knows. It may know a slow rate before it knows an urgent one, but what is faster never costs
    /// less: LDK would offer a peer a range of closing fees that ends below its beginning, and peers force-close then.
    fn of(urgent: Option<u32>, normal: Option<u32>, slow: Option<u32>, floor: Option<u32>) -> Self {
        let floor = floor.unwrap_or(UNKNOWN.floor).max(FLOOR);
        let slow = slow.unwrap_or(UNKNOWN.slow).max(floor);
        let normal = normal.unwrap_or(UNKNOWN.normal).max(slow);
        let urgent = urgent.unwrap_or(UNKNOWN.urgent).max(normal);
        Self { urgent, normal, slow, floor }
    }
}

/// From bitcoins per 1000 virtual bytes.
fn sat_per_kw(btc_per_kvb: &Value) -> Option<u32> {
    let sat = Amount::from_btc(btc_per_kvb.as_f64()?).ok()?.to_sat();
    u32::try_from(sat.div_ceil(4)).ok()
}

impl FeeEstimator for Fees {
    fn get_est_sat_per_1000_weight(&self, target: ConfirmationTarget) -> u32 {
        let rates = *lock(&self.0);
        match target {
            // Above every honest peer's estimate.
            ConfirmationTarget::MaximumFeeEstimate => rates.urgent.saturating_mul(2).saturating_add(5_000),
            ConfirmationTarget::UrgentOnChainSweep => rates.urgent,
            ConfirmationTarget::NonAnchorChannelFee | ConfirmationTarget::OutputSpendingFee => rates.normal,
            ConfirmationTarget::AnchorChannelFee | ConfirmationTarget::ChannelCloseMinimum => rates.slow,
            ConfirmationTarget::MinAllowedAnchorChannelRemoteFee => FLOOR,
            // A peer that rounds to whole satoshis per byte may be 250 lower.
            ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee => {
                rates.slow.saturating_sub(250).max(FLOOR)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitcoinds_unit_becomes_ldks() {
        for (btc_per_kvb, expected) in [
            (json!(0.00001), Some(250)),
            (json!(0.0001), Some(2_500)),
            (json!("x"), None),
            (json!(-1.0), None),
        ] {
            assert_eq!(sat_per_kw(&btc_per_kvb), expected);
        }
    }

    #[test]
    fn what_is_faster_never_costs_less() {
        let (low, high) = (Some(300), Some(40_000));
        for (urgent, normal, slow, floor) in [
            (None, None, None, None),
            (None, None, high, None),
            (None, low, high, low),
            (low, low, low, high),
            (high, None, None, low),
        ] {
            let rates = Rates::of(urgent, normal, slow, floor);
            let ordered = [FLOOR, rates.floor, rates.slow, rates.normal, rates.urgent];
            assert!(ordered.is_sorted(), "{rates:?}");
        }
        assert_eq!(Rates::of(None, None, None, None), UNKNOWN);
    }

    #[test]
    fn urgency_costs_more() {
        let fees = Fees::new();
        let rate = |target| fees.get_est_sat_per_1000_weight(target);
        assert!(rate(ConfirmationTarget::MaximumFeeEstimate) > rate(ConfirmationTarget::UrgentOnChainSweep));
        assert!(rate(ConfirmationTarget::UrgentOnChainSweep) > rate(ConfirmationTarget::OutputSpendingFee));
        assert!(rate(ConfirmationTarget::OutputSpendingFee) > rate(ConfirmationTarget::AnchorChannelFee));
        assert_eq!(rate(ConfirmationTarget::MinAllowedAnchorChannelRemoteFee), FLOOR);
    }
}
