//! A chain and a mempool with Bitcoin Core's rules for replacement, over a handful of transactions of each of a few payers.

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, TxOut, Txid};
use payjoin_core::{Kin, Prices, Rival};

use crate::kit::*;

/// What a payer, or we for him, may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Original,
    Payjoin,
    /// Takes the payment back for less than the Original pays the miners.
    Cheap,
    /// For more than the Original pays.
    Middle,
    /// For more than the payment is worth.
    Dear,
    /// The payer's own fee bump, which pays the invoice.
    Bumped,
}

pub(crate) const WHAT: [What; 6] =
    [What::Original, What::Payjoin, What::Cheap, What::Middle, What::Dear, What::Bumped];

/// At most so many payers at a time. The first two are offered the same coin of ours, the third has one to himself.
pub(crate) const PAYERS: usize = 3;
const COIN_OF: [usize; PAYERS] = [0, 0, 1];
const COINS: usize = 2;

/// What miners take, in sat/vB.
pub(crate) const MARKET: u64 = 5;
pub(crate) const PAYMENT: u64 = 99_000;
pub(crate) const FIRST: u32 = 100;
const PAYERS_COIN: u64 = 150_000;
const OURS: u64 = 50_000;
/// What the child weighs that we or others hang on a transaction, in vB.
const CHILD: u64 = 110;

/// One of [`Transactions`].
pub(crate) type Index = usize;

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    Payers(usize, What),
    /// Spends a coin of ours and nothing of a payer.
    Theft,
}

#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) is: Is,
    pub(crate) transaction: Transaction,
    pub(crate) txid: Txid,
    pub(crate) fee: u64,
    size: u64,
    /// A bit for each coin that it spends.
    spends: u32,
}

#[derive(Debug)]
pub(crate) struct Transactions {
    pub(crate) all: Vec<Made>,
    coins: [OutPoint; COINS],
}

pub(crate) fn transactions() -> Transactions {
    let coins: [Spend; COINS] = std::array::from_fn(|at| our_coin(1 + at as u32, OURS));
    let mut all = Vec::new();
    for payer in 0..PAYERS {
        all.extend(WHAT.map(|what| made(Is::Payers(payer, what), payer, &coins)));
    }
    all.extend((0..COINS).map(|coin| made(Is::Theft, coin, &coins)));
    Transactions { all, coins: coins.map(|coin| coin.outpoint) }
}

/// `of` is a payer, or a coin of ours.
fn made(is: Is, of: usize, coins: &[Spend; COINS]) -> Made {
    let payer = || Spend::new(Kind::P2wpkh, 1 + of as u32, PAYERS_COIN);
    let coin = |at: usize| coins[at].clone();
    // The payment comes first; a conflict pays it a little, which is not enough.
    let (spends, outputs, bits) = match is {
        Is::Theft => (vec![coin(of)], vec![OURS - 3_000], 1 << (PAYERS + of)),
        Is::Payers(_, What::Payjoin) => {
            let ours = COIN_OF[of];
            let bits = 1 << of | 1 << (PAYERS + ours);
            (vec![payer(), coin(ours)], vec![PAYMENT + OURS - 1_000, 48_000], bits)
        }
        Is::Payers(_, what) => {
            let outputs = match what {
                What::Original | What::Payjoin => [PAYMENT, 48_000],
                What::Cheap => [1_000, 148_800],
                What::Middle => [1_000, 143_000],
                What::Dear => [1_000, 49_000],
                What::Bumped => [PAYMENT, 44_000],
            };
            (vec![payer()], outputs.to_vec(), 1 << of)
        }
    };
    let script = |at| if at == 0 { payment_script(of) } else { script(Kind::P2wpkh, 60 + of as u32) };
    let outputs: Vec<TxOut> = (0..).zip(outputs).map(|(at, value)| txout(value, script(at))).collect();
    let paid: Amount = spends.iter().map(|spend| spend.txout.value).sum();
    let fee = paid - outputs.iter().map(|output| output.value).sum();
    let transaction = original(&spends, outputs, false).extract_tx_unchecked_fee_rate();
    let (txid, size) = (transaction.compute_txid(), transaction.vsize() as u64);
    Made { is, transaction, txid, fee: fee.to_sat(), size, spends: bits }
}

fn payment_script(payer: usize) -> bitcoin::ScriptBuf {
    script(Kind::P2tr, 50 + payer as u32)
}

impl Transactions {
    pub(crate) fn index(&self, payer: usize, what: What) -> Index {
        payer * WHAT.len() + what as usize
    }

    pub(crate) fn theft(&self, payer: usize) -> Index {
        PAYERS * WHAT.len() + COIN_OF[payer]
    }

    pub(crate) fn of(&self, payer: usize, what: What) -> &Made {
        &self.all[self.index(payer, what)]
    }

    pub(crate) fn coin(&self, payer: usize) -> OutPoint {
        self.coins[COIN_OF[payer]]
    }

    fn clash(&self, one: Index, other: Index) -> bool {
        self.all[one].spends & self.all[other].spends != 0
    }

    /// Does it spend what this payer spends?
    pub(crate) fn is_of(&self, index: Index, payer: usize) -> bool {
        self.all[index].spends & (1 << payer) != 0
    }

    /// Does it spend the coin that this payer was offered?
    fn takes_coin_of(&self, index: Index, payer: usize) -> bool {
        self.all[index].spends & (1 << (PAYERS + COIN_OF[payer])) != 0
    }
}

/// A transaction in the mempool, with the fee of a child that hangs on it: 0 when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) index: Index,
    pub(crate) child: u64,
}

/// Its number, which no other block has, and what is in it.
pub(crate) type Block = (u64, Vec<Index>);

pub(crate) struct Chain<'a> {
    pub(crate) transactions: &'a Transactions,
    pub(crate) pool: Vec<Pending>,
    pub(crate) blocks: Vec<Block>,
    made: u64,
}

impl std::fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.blocks, self.pool)
    }
}

impl<'a> Chain<'a> {
    pub(crate) fn new(transactions: &'a Transactions) -> Self {
        Self { transactions, pool: Vec::new(), blocks: Vec::new(), made: 0 }
    }

    fn mined_all(&self) -> impl Iterator<Item = Index> {
        self.blocks.iter().flat_map(|(_, mined)| mined.iter().copied())
    }

    fn is_possible(&self, index: Index) -> bool {
        self.mined_all().all(|mined| !self.transactions.clash(mined, index))
    }

    /// Fee and size, its child included.
    fn load(&self, pending: Pending) -> (u64, u64) {
        let Made { fee, size, .. } = self.transactions.all[pending.index];
        (fee + pending.child, size + if pending.child > 0 { CHILD } else { 0 })
    }

    /// BIP 125 and, for a parent with its child, package replacement. `false` when it is refused.
    pub(crate) fn submit(&mut self, pending: Pending) -> bool {
        if self.pool.iter().any(|there| there.index == pending.index && there.child >= pending.child) {
            return true;
        }
        let clashes = |rival: &Pending| self.transactions.clash(rival.index, pending.index);
        let (fee, size) = self.load(pending);
        let rivals: Vec<_> = self.pool.iter().copied().filter(clashes).collect();
        let paid: u64 = rivals.iter().map(|rival| self.load(*rival).0).sum();
        let slower = |rival: &Pending| {
            let (paid, weighs) = self.load(*rival);
            paid * size < fee * weighs
        };
        let outbids = rivals.is_empty() || (fee >= paid + size && rivals.iter().all(slower));
        if !self.is_possible(pending.index) || !outbids {
            return false;
        }
        self.pool.retain(|there| !rivals.contains(there));
        self.pool.push(pending);
        true
    }

    /// What it takes to replace these.
    pub(crate) fn prices(&self, rivals: &[Txid]) -> Prices {
        let kin = |count, (fee, vsize)| Kin { count, vsize, fee: Amount::from_sat(fee) };
        let rival = |pending: &Pending| {
            let txid = self.transactions.all[pending.index].txid;
            let alone = kin(1, self.load(Pending { child: 0, ..*pending }));
            let descendants = kin(1 + u32::from(pending.child > 0), self.load(*pending));
            rivals.contains(&txid).then_some(Rival { txid, alone, ancestors: alone, descendants })
        };
        let rate = FeeRate::from_sat_per_vb_u32(1);
        Prices { rivals: self.pool.iter().filter_map(rival).collect(), floor: rate, step: rate }
    }

    /// What of the mempool pays at least this rate.
    pub(crate) fn paying(&self, rate: u64) -> Vec<Index> {
        let pays = |pending: &&Pending| {
            let (fee, size) = self.load(**pending);
            fee >= rate * size
        };
        self.pool.iter().filter(pays).map(|pending| pending.index).collect()
    }

    /// A block with what of these is possible.
    pub(crate) fn mine(&mut self, wanted: Vec<Index>) {
        self.made += 1;
        self.blocks.push((self.made, Vec::new()));
        for index in wanted {
            if self.is_possible(index)
                && let Some((_, mined)) = self.blocks.last_mut()
            {
                mined.push(index);
                self.pool.retain(|pending| !self.transactions.clash(index, pending.index));
            }
        }
    }

    /// How many blocks are gone. What was in them is back in the mempool.
    pub(crate) fn disconnect(&mut self, depth: usize) -> usize {
        let left = self.blocks.len().saturating_sub(depth);
        let lost = self.blocks.split_off(left);
        for index in lost.iter().flat_map(|(_, mined)| mined) {
            self.submit(Pending { index: *index, child: 0 });
        }
        lost.len()
    }

    /// The spend of a payer's coin in the chain, with its height.
    pub(crate) fn mined(&self, payer: usize) -> Option<(Index, u32)> {
        let blocks = (FIRST..).zip(&self.blocks);
        let mut all = blocks.flat_map(|(height, (_, mined))| mined.iter().map(move |index| (*index, height)));
        all.find(|(index, _)| self.transactions.is_of(*index, payer))
    }

    /// The chain has a spend of the coin that this payer was offered, and it is not his payjoin.
    pub(crate) fn has_lost_coin_of(&self, payer: usize) -> bool {
        let takes =
            |index| self.transactions.takes_coin_of(index, payer) && !self.transactions.is_of(index, payer);
        self.mined_all().any(takes)
    }

    /// What the mempool holds of a payer's coins and of the one that he was offered, as the settler hears of it.
    pub(crate) fn spends(&self, payer: usize) -> Vec<Transaction> {
        let concerns = |pending: &&Pending| self.concerns(pending.index, payer);
        let of = |pending: &Pending| self.transactions.all[pending.index].transaction.clone();
        self.pool.iter().filter(concerns).map(of).collect()
    }

    pub(crate) fn concerns(&self, index: Index, payer: usize) -> bool {
        self.transactions.is_of(index, payer) || self.transactions.takes_coin_of(index, payer)
    }
}
