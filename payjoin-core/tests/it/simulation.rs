//! Settlements side by side under 100,000 schedules made by chance: payers who cheat, of whom two were offered the same coin;
//! blocks, reorganisations, evictions, a bitcoind that is away, a wallet that signs nothing, a store that fails, and
//! restarts between any two writes.
//!
//! Each schedule is made from one number. `SIMULATION_SEED=n cargo test -p payjoin-core --test it simulation` runs the one
//! that failed, and shows what happened in it.
//!
//! What must hold at the end, whatever came before: what each payer paid is in the wallet, in a channel or a fee, unless
//! he took it back at a price beyond our limit or before the Original was due; every coin is free; and nobody waits.

mod chain;
mod driver;

use payjoin_core::{Settled, SettlementInput as In};

use self::chain::{Chain, Index, PAYERS, Pending, Transactions, What, transactions};
use self::driver::{BURIAL, Driver};
use crate::kit::NOW;

const SCHEDULES: u64 = 100_000;
/// Acts of one schedule at most, for each payer.
const LONGEST: u64 = 20;

/// SplitMix64: small, quick, and the same everywhere.
pub(crate) struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct Schedule<'a> {
    transactions: &'a Transactions,
    chance: Chance,
    chain: Chain<'a>,
    driver: Driver<'a>,
    /// Payers who have not come yet.
    expected: Vec<usize>,
    /// What happened, when somebody wants to read it.
    story: Option<String>,
}

/// How many ended so.
type Ends = [u64; 3];

impl<'a> Schedule<'a> {
    fn new(transactions: &'a Transactions, seed: u64, told: bool) -> Self {
        let (mut chance, chain) = (Chance(seed), Chain::new(transactions));
        let driver = Driver::new(transactions);
        // One payer, two with one coin, two with two coins, or all three.
        let expected: &[usize] = match chance.below(8) {
            0..4 => &[0],
            4 | 5 => &[0, 1],
            6 => &[0, 2],
            _ => &[0, 1, 2],
        };
        let expected = expected.iter().rev().copied().collect();
        Self { transactions, chance, chain, driver, expected, story: told.then(String::new) }
    }

    fn run(&mut self) -> Result<Ends, String> {
        let payers = self.expected.len() as u64;
        self.admit();
        for _ in 0..self.chance.below(LONGEST * payers) {
            self.act()?;
        }
        while !self.expected.is_empty() {
            self.admit();
        }
        self.finale()
    }

    /// The next payer comes. Mostly he gets a proposal.
    fn admit(&mut self) {
        // One whose coin is spent would be refused.
        let next = self.expected.pop().filter(|payer| self.chain.mined(*payer).is_none());
        if let Some(payer) = next {
            self.driver.admit(payer);
            if !self.chance.once_in(6) {
                self.driver.release(payer);
            }
        }
    }

    fn act(&mut self) -> Result<(), String> {
        let payer = self.chance.below(PAYERS as u64) as usize;
        let Some(owed) = self.driver.store.records[payer].as_ref() else {
            if self.chance.once_in(3) {
                self.admit();
            }
            return Ok(());
        };
        let released = owed.obligation.payjoin.is_some();
        match self.chance.below(16) {
            0 => self.driver.release(payer),
            1 | 2 if released => self.send(payer, What::Payjoin),
            3 => self.send(payer, What::Original),
            4 => self.send(payer, What::Cheap),
            5 if self.chance.once_in(2) => self.send(payer, What::Middle),
            6 if self.chance.once_in(4) => self.send(payer, What::Dear),
            7 if self.chance.once_in(2) => self.send(payer, What::Bumped),
            8 if self.chance.once_in(3) => self.submit(self.transactions.theft(payer)),
            9 => self.evict(),
            10 => self.reorganise(),
            11 => self.driver.now.0 += self.chance.below(400),
            12 => self.driver.restart(),
            13 | 14 => self.mine(payer),
            _ => {}
        }
        self.look(true)
    }

    /// What the daemon does all the time. With `faults` anything may go wrong in between.
    fn look(&mut self, faults: bool) -> Result<(), String> {
        let Self { chance, chain, driver, story, .. } = self;
        driver.faults = faults;
        driver.follow(chain, chance)?;
        if !faults || !chance.once_in(4) {
            for payer in driver.store.unsettled().collect::<Vec<_>>() {
                driver.give(payer, In::Mempool(chain.spends(payer)), chain, chance)?;
            }
        }
        driver.give_all(&In::Tick, chain, chance)?;
        if let Some(story) = story {
            let recorded = (0..PAYERS).map(|payer| Some(driver.store.owed(payer)?.mined.as_ref()?.1));
            let recorded: Vec<_> = recorded.collect();
            story.push_str(&format!("{chain:?}, {} s, recorded {recorded:?}\n", driver.now.0 - NOW.0));
        }
        Ok(())
    }

    fn send(&mut self, payer: usize, what: What) {
        self.submit(self.transactions.index(payer, what));
    }

    fn submit(&mut self, index: Index) {
        // A child of whoever sends it, which hangs on it.
        let child = if self.chance.once_in(6) { 500 } else { 0 };
        let sent = self.chain.submit(Pending { index, child });
        self.tell(&format!("sent {:?}: {sent}", self.transactions.all[index].is));
    }

    fn evict(&mut self) {
        let at = self.chance.below(4) as usize;
        if at < self.chain.pool.len() {
            self.chain.pool.remove(at);
        }
    }

    /// The best of the mempool, nothing, or what a miner got of this payer by another way.
    fn mine(&mut self, payer: usize) {
        let mined = match self.chance.below(8) {
            0 if self.chance.once_in(3) => vec![self.by_another_way(payer)],
            1 | 2 => Vec::new(),
            3 => self.chain.paying(0).into_iter().take(1).collect(),
            _ => self.chain.paying(0),
        };
        self.chain.mine(mined);
    }

    fn by_another_way(&mut self, payer: usize) -> Index {
        let what = chain::WHAT[self.chance.below(chain::WHAT.len() as u64) as usize];
        let released = |owed: &driver::Record| owed.obligation.payjoin.is_some();
        match what {
            What::Payjoin if !self.driver.store.records[payer].as_ref().is_some_and(released) => {
                self.transactions.theft(payer)
            }
            what => self.transactions.index(payer, what),
        }
    }

    fn reorganise(&mut self) {
        let depth = 1 + self.chance.below(u64::from(BURIAL) - 1) as usize;
        let lost = self.chain.disconnect(depth);
        for _ in 0..=lost {
            let payer = self.chance.below(PAYERS as u64) as usize;
            self.mine(payer);
        }
    }

    fn tell(&mut self, text: &str) {
        if let Some(story) = &mut self.story {
            story.push_str(text);
            story.push('\n');
        }
    }

    /// The payers repeat their cheap conflicts for ever, no miner takes them, and nothing fails any more.
    fn finale(&mut self) -> Result<Ends, String> {
        self.tell("finale");
        let waiting: Vec<usize> = self.driver.store.unsettled().collect();
        let dear = |payer: &usize| {
            let dear = self.transactions.index(*payer, What::Dear);
            self.chain.pool.iter().any(|pending| pending.index == dear)
        };
        let hopeless: Vec<usize> = waiting.iter().copied().filter(dear).collect();
        let taken: Vec<usize> =
            waiting.iter().copied().filter(|payer| self.chain.mined(*payer).is_some()).collect();
        let due = waiting.iter().filter_map(|payer| Some(self.driver.store.owed(*payer)?.fallback_at)).max();
        self.driver.now = self.driver.now.max(due.unwrap_or(NOW)).plus(1);
        // What failed is tried again at the next block.
        self.chain.mine(Vec::new());
        for _ in 0..3 * BURIAL + 3 {
            for payer in self.driver.store.unsettled().collect::<Vec<_>>() {
                let index = self.transactions.index(payer, What::Cheap);
                self.chain.submit(Pending { index, child: 0 });
            }
            self.look(false)?;
            let best = self.chain.paying(chain::MARKET);
            self.chain.mine(best);
        }
        let mut ends = [0; 3];
        for (payer, record) in self.driver.store.records.iter().enumerate() {
            let Some(record) = record else { continue };
            let excused = hopeless.contains(&payer) || taken.contains(&payer) || !waiting.contains(&payer);
            match record.settled {
                Some(Settled::Conflict) if !excused => {
                    return Err(format!("payer {payer} took back what we could have outbid"));
                }
                None if !hopeless.contains(&payer) => {
                    return Err(format!("what payer {payer} is owed never got out"));
                }
                settled => ends[settled.unwrap_or(Settled::Conflict) as usize] += 1,
            }
        }
        Ok(ends)
    }
}

fn check(transactions: &Transactions, seed: u64) -> Ends {
    Schedule::new(transactions, seed, false).run().unwrap_or_else(|error| {
        let mut again = Schedule::new(transactions, seed, true);
        let _ = again.run();
        panic!("SIMULATION_SEED={seed}: {error}\n{}", again.story.unwrap_or_default());
    })
}

fn sum(one: Ends, other: Ends) -> Ends {
    [0, 1, 2].map(|at| one[at] + other[at])
}

#[test]
fn money_rule_6_whatever_happens_what_the_payers_paid_arrives_or_was_taken_back_beyond_our_limit() {
    let transactions = transactions();
    if let Some(seed) = std::env::var("SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok()) {
        check(&transactions, seed);
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let run = |first: u64| {
        (first..SCHEDULES)
            .step_by(threads as usize)
            .fold([0; 3], |ends, seed| sum(ends, check(&transactions, seed)))
    };
    let ends = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).fold([0; 3], sum)
    });
    println!("seeds 0 to {SCHEDULES}: payjoin, original, conflict: {ends:?}");
    assert!(ends.iter().all(|count| *count > SCHEDULES / 20), "too one-sided: {ends:?}");
}
