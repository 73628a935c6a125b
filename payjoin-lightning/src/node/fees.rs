//! Fee rates of the chain source, kept for everyone who asks: LDK asks often and cannot wait.

use std::sync::Mutex;
use std::time::Duration;

use bitcoin::FeeRate;
use lightning::chain::chaininterface::{ConfirmationTarget, FeeEstimator};
use payjoin_core::ChainError;

use super::chain_source::{ChainSource, FeeRates};
use super::stop::Stop;
use crate::lock::lock;

/// How often fee rates are asked for: a mempool that has filled up meanwhile refuses what was made at the old ones.
const EVERY: Duration = Duration::from_secs(20);

/// Least rate LDK works with, in satoshis per 1000 weight units: one per virtual byte, rounded up.
const FLOOR: u32 = 253;

/// LDK counts in weight and bitcoind in whole virtual bytes, each of which counts in full: what pays exactly the least that
/// the mempool takes may fall short of it. One part in so many is added.
const MARGIN: u32 = 50;

/// Rates in satoshis per 1000 weight units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    /// Within 2 blocks.
    urgent: u32,
    /// Within 6 blocks: payments of the operator.
    payment: u32,
    /// Within 12 blocks.
    normal: u32,
    /// Within a day.
    slow: u32,
    /// The least that the mempool takes, and the margin.
    floor: u32,
}

/// What [`Rates`] are estimates for.
const WITHIN: [u16; 4] = [2, 6, 12, 144];

/// The rates of the last refresh.
pub(super) struct Fees {
    /// What a payment pays where nothing is estimated.
    fallback: u32,
    known: Mutex<Known>,
}

#[derive(Clone, Copy)]
struct Known {
    rates: Rates,
    /// The source estimates nothing: too few blocks were seen, as on regtest, or it hears of no transactions.
    blind: bool,
}

impl Fees {
    /// `fallback`: what payments pay where nothing is estimated.
    pub(super) fn new(fallback: FeeRate) -> Self {
        let fallback =
            u32::try_from(fallback.to_sat_per_kwu()).unwrap_or(u32::MAX / 4).clamp(FLOOR, u32::MAX / 4);
        let nothing = FeeRates { within: Vec::new(), least: None };
        let known = Known { rates: Rates::of(&nothing, fallback), blind: false };
        Self { fallback, known: Mutex::new(known) }
    }

    /// Asks the source, in one request. On error the old rates stay.
    pub(super) async fn refresh(&self, source: &dyn ChainSource) -> Result<(), ChainError> {
        let told = source.fee_rates(&WITHIN).await?;
        let (rates, blind) = (Rates::of(&told, self.fallback), told.within.iter().all(Option::is_none));
        let was_blind = std::mem::replace(&mut *lock(&self.known), Known { rates, blind }).blind;
        if let Some(warning) = self.warning().filter(|_| !was_blind) {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// That nothing is estimated, and what is paid instead.
    pub(super) fn warning(&self) -> Option<String> {
        let Known { rates, blind } = *lock(&self.known);
        // A quarter of a satoshi per virtual byte and thousand weight units.
        let rate = f64::from(rates.payment) / 250.0;
        blind.then(|| {
            format!(
                "bitcoind estimates no fees: {rate:.1} sat/vB are paid, the greatest of `fallback` under [fees] and of what \
                 its mempool asks for"
            )
        })
    }

    /// Refreshes them until `stop`.
    pub(super) async fn keep(&self, source: &dyn ChainSource, mut stop: Stop) {
        while tokio::time::timeout(EVERY, stop.wait()).await.is_err() {
            if let Err(error) = self.refresh(source).await {
                tracing::debug!(%error, "fee rates not refreshed");
            }
        }
    }

    /// The rate that confirms within six blocks.
    pub(super) fn payment(&self) -> FeeRate {
        FeeRate::from_sat_per_kwu(lock(&self.known).rates.payment.into())
    }
}

impl Rates {
    /// From what the source knows. It may know a slow rate before it knows an urgent one, but what is faster never costs
    /// less: LDK would offer a peer a range of closing fees that ends below its beginning, and peers force-close then.
    ///
    /// What it does not know follows from `fallback`, which is the rate for payments then.
    fn of(known: &FeeRates, fallback: u32) -> Self {
        let rate = |rate: Option<FeeRate>| rate.and_then(|rate| u32::try_from(rate.to_sat_per_kwu()).ok());
        let within = |at: usize| known.within.get(at).and_then(|estimate| rate(*estimate));
        let least = rate(known.least).map(|least| least.saturating_add(least.div_ceil(MARGIN)));
        let floor = least.unwrap_or(FLOOR).max(FLOOR);
        let slow = within(3).unwrap_or(fallback / 5 * 2).max(floor);
        let normal = within(2).unwrap_or(fallback / 5 * 4).max(slow);
        let payment = within(1).unwrap_or(fallback).max(normal);
        let urgent = within(0).unwrap_or(fallback * 2).max(payment);
        Self { urgent, payment, normal, slow, floor }
    }
}

impl FeeEstimator for Fees {
    fn get_est_sat_per_1000_weight(&self, target: ConfirmationTarget) -> u32 {
        let rates = lock(&self.known).rates;
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

    /// Five sat/vB.
    const FIVE: u32 = 1_250;

    #[test]
    fn what_the_mempool_asks_for_is_more_than_the_fallback_where_it_is_more() {
        for (fallback, least, payment) in
            [(FIVE, None, FIVE), (FIVE, Some(5_000), 5_100), (30_000, Some(5_000), 30_000)]
        {
            let known = FeeRates { within: vec![None; 4], least: least.map(FeeRate::from_sat_per_kwu) };
            assert_eq!(Rates::of(&known, fallback).payment, payment);
        }
    }

    #[test]
    fn what_is_faster_never_costs_less() {
        let (low, high) = (Some(300), Some(40_000));
        let rate = |rate: Option<u64>| rate.map(FeeRate::from_sat_per_kwu);
        for (within, least) in [
            ([None; 4], None),
            ([None, None, None, high], None),
            ([None, None, low, high], low),
            ([None, low, high, low], low),
            ([low; 4], high),
            ([high, None, None, None], low),
        ] {
            let rates = Rates::of(&FeeRates { within: within.map(rate).to_vec(), least: rate(least) }, FIVE);
            let ordered = [FLOOR, rates.floor, rates.slow, rates.normal, rates.payment, rates.urgent];
            assert!(ordered.is_sorted(), "{rates:?}");
        }
        let nothing = Rates::of(&FeeRates { within: vec![None; 4], least: None }, FIVE);
        assert_eq!(
            nothing,
            Rates { urgent: 2_500, payment: 1_250, normal: 1_000, slow: 500, floor: FLOOR },
            "what is not known follows from the fallback"
        );
    }

    #[test]
    fn whatever_is_made_at_the_floor_enters_the_mempool() {
        for least in [1_000, 8_626, 100_001] {
            let known = FeeRates { within: vec![None; 4], least: Some(FeeRate::from_sat_per_kwu(least)) };
            let floor = u64::from(Rates::of(&known, FIVE).floor);
            // From the smallest child to what nobody sends.
            for weight in 400..20_000_u64 {
                let (paid, asked) =
                    (floor * weight / 1_000, (least * 4 * weight.div_ceil(4)).div_ceil(1_000));
                assert!(paid >= asked, "{weight} at {least}: {paid} < {asked}");
            }
        }
    }

    #[test]
    fn urgency_costs_more() {
        let fees = Fees::new(FeeRate::from_sat_per_kwu(FIVE.into()));
        let rate = |target| fees.get_est_sat_per_1000_weight(target);
        assert!(rate(ConfirmationTarget::MaximumFeeEstimate) > rate(ConfirmationTarget::UrgentOnChainSweep));
        assert!(rate(ConfirmationTarget::UrgentOnChainSweep) > rate(ConfirmationTarget::OutputSpendingFee));
        assert!(rate(ConfirmationTarget::OutputSpendingFee) > rate(ConfirmationTarget::AnchorChannelFee));
        assert_eq!(rate(ConfirmationTarget::MinAllowedAnchorChannelRemoteFee), FLOOR);
    }
}
