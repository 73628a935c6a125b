//! What it costs to outbid whoever spends the payer's coins elsewhere: a parent that pays too little alone, and a child
//! of it that spends an output of ours. Bitcoin Core replaces by such a package since version 28.

use bitcoin::{Amount, FeeRate, Transaction, Txid};

/// A transaction in the mempool and those that it is counted with, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kin {
    /// How many they are.
    pub count: u32,
    /// What they weigh together, in virtual bytes.
    pub vsize: u64,
    /// What they pay together.
    pub fee: Amount,
}

/// A transaction in the mempool that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its id.
    pub txid: Txid,
    /// It alone.
    pub alone: Kin,
    /// It and what it spends that is not mined.
    pub ancestors: Kin,
    /// It and what spends it.
    pub descendants: Kin,
}

/// What a mempool asks for a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// Those that the package would take out, in any order. One that left the mempool meanwhile is missing.
    pub rivals: Vec<Rival>,
    /// It takes nothing below this rate.
    pub floor: FeeRate,
    /// What replaces others pays this rate on top of what they pay.
    pub step: FeeRate,
}

/// Why a payment is not defended. It is tried again at the next block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undefended {
    /// All of it is channels, for example.
    #[error("no output of it is in our wallet, so no child of ours can pay for it")]
    NoOutput,
    /// Mempools replace no more than two that hang together.
    #[error("{0} hangs together with other unconfirmed transactions: no package can replace it")]
    Cluster(Txid),
    /// More than the operator allows, or than the output carries.
    #[error("it would cost {} sat, and {} sat is the most that we spend on it", .needed.to_sat(), .limit.to_sat())]
    TooDear {
        /// The child's fee.
        needed: Amount,
        /// The most.
        limit: Amount,
    },
}

/// The heaviest child with one input and one output: P2WPKH in, P2TR out. In virtual bytes.
const CHILD: u64 = 122;
/// Nothing below it is worth an output, whatever its script.
const DUST: Amount = Amount::from_sat(546);
/// Sizes and fees of others are rounded by bitcoind: one part in so many is added.
const MARGIN: u64 = 50;

/// The fee that a child spending `output` has to pay, so that it and its parent, which pays `paid`, enter the mempool.
pub(super) fn child_fee(
    parent: &Transaction,
    paid: Amount,
    output: Amount,
    prices: &Prices,
    limit: Amount,
) -> Result<Amount, Undefended> {
    if let Some(rival) = prices.rivals.iter().find(|rival| !rival.is_replaceable()) {
        return Err(Undefended::Cluster(rival.txid));
    }
    let alone = parent.vsize() as u64;
    let size = alone + CHILD;
    let rivals = || prices.rivals.iter();
    // All that is taken out is paid for, and the package for its own way through the network.
    let fees = rivals()
        .map(|rival| rival.descendants.fee.to_sat())
        .fold(fee(prices.step, size), u64::saturating_add);
    // Miners must gain however small the block is: the package pays no lower rate than any part of what it takes out.
    let rates = rivals().flat_map(|rival| [rival.alone, rival.ancestors, rival.descendants]);
    let rate = rates.map(|kin| at_rate(kin, size)).max().unwrap_or(0);
    let needed = fees.max(rate).max(fee(prices.floor, size));
    let needed = needed.saturating_add(needed.div_ceil(MARGIN)).saturating_sub(paid.to_sat());
    // The child pays for its parent, and not the parent for its child.
    let own =
        at_rate(Kin { count: 1, vsize: alone, fee: paid }, CHILD).saturating_add(fee(prices.step, CHILD));
    let needed = Amount::from_sat(needed.max(own));
    let limit = limit.min(output.checked_sub(DUST).unwrap_or_default());
    if needed <= limit { Ok(needed) } else { Err(Undefended::TooDear { needed, limit }) }
}

impl Rival {
    /// One parent and one child at most.
    fn is_replaceable(&self) -> bool {
        let (before, after) = (self.ancestors.count, self.descendants.count);
        before <= 2 && after <= 2 && (before < 2 || after < 2)
    }
}

fn fee(rate: FeeRate, size: u64) -> u64 {
    rate.fee_vb(size).map_or(u64::MAX, Amount::to_sat)
}

/// What `size` pays at the rate of these.
fn at_rate(kin: Kin, size: u64) -> u64 {
    let fee = u128::from(kin.fee.to_sat()) * u128::from(size);
    u64::try_from(fee.div_ceil(u128::from(kin.vsize.max(1)))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash as _;
    use bitcoin::transaction::Version;
    use bitcoin::{ScriptBuf, TxIn, TxOut};

    use super::*;

    /// 94 vB.
    fn parent() -> Transaction {
        let output = TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::from_bytes(vec![0; 34]) };
        let input = vec![TxIn::default()];
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output: vec![output] }
    }

    fn kin(count: u32, vsize: u64, fee: u64) -> Kin {
        Kin { count, vsize, fee: Amount::from_sat(fee) }
    }

    fn rival(alone: Kin, ancestors: Kin, descendants: Kin) -> Rival {
        Rival { txid: Txid::all_zeros(), alone, ancestors, descendants }
    }

    fn lonely(vsize: u64, fee: u64) -> Rival {
        let alone = kin(1, vsize, fee);
        rival(alone, alone, alone)
    }

    fn asked(rivals: Vec<Rival>, paid: u64, limit: u64) -> Result<u64, Undefended> {
        let rate = FeeRate::from_sat_per_vb_u32;
        let prices = Prices { rivals, floor: rate(1), step: rate(1) };
        let (paid, limit) = (Amount::from_sat(paid), Amount::from_sat(limit));
        child_fee(&parent(), paid, Amount::from_sat(100_000), &prices, limit).map(Amount::to_sat)
    }

    #[test]
    fn the_package_pays_all_fees_no_lower_rate_and_a_margin() {
        let size = parent().vsize() as u64 + CHILD;
        let margin = |fee: u64| fee + fee.div_ceil(MARGIN);
        // A great rival at a low rate: its fees count. A small one at a high rate: its rate does.
        assert_eq!(asked(vec![lonely(10_000, 10_000)], 500, 50_000), Ok(margin(10_000 + size) - 500));
        assert_eq!(asked(vec![lonely(100, 5_000)], 500, 50_000), Ok(margin(50 * size) - 500));
        let pair = vec![lonely(10_000, 10_000), lonely(10_000, 11_000)];
        assert_eq!(asked(pair, 500, 50_000), Ok(margin(21_000 + size) - 500), "each of several");
        let child = rival(kin(1, 100, 100), kin(1, 100, 100), kin(2, 200, 10_000));
        assert_eq!(asked(vec![child], 0, 50_000), Ok(margin((50 * size).max(10_000 + size))));
        assert_eq!(asked(Vec::new(), 0, 50_000), Ok(margin(size)), "the floor");
    }

    #[test]
    fn the_child_pays_a_higher_rate_than_its_parent() {
        let alone = parent().vsize() as u64;
        assert_eq!(asked(vec![lonely(100, 100)], alone * 100, 50_000), Ok(CHILD * 101));
    }

    #[test]
    fn what_is_too_dear_or_hangs_together_is_left() {
        assert!(matches!(asked(vec![lonely(100, 5_000)], 0, 5_000), Err(Undefended::TooDear { .. })));
        assert!(matches!(asked(vec![lonely(100, 90_000)], 0, 1_000_000), Err(Undefended::TooDear { .. })));
        let (one, two, three) = (kin(1, 100, 100), kin(2, 200, 200), kin(3, 300, 300));
        for (ancestors, descendants, replaced) in
            [(one, two, true), (two, one, true), (two, two, false), (one, three, false), (three, one, false)]
        {
            let asked = asked(vec![rival(one, ancestors, descendants)], 0, 50_000);
            assert_eq!(asked != Err(Undefended::Cluster(Txid::all_zeros())), replaced);
        }
    }
}
