//! The settler and the ledger, reduced to what they do with settlements: see `payjoin-io/src/settler.rs`.

use bitcoin::{Amount, Transaction};
use payjoin_core::{
    ExchangeId, Fees, Obligation, Policy, Settled, Settlement, SettlementInput as In,
    SettlementOutput as Out, Timestamp,
};

use super::Chance;
use super::chain::{Block, Chain, FIRST, Is, PAYERS, PAYMENT, Pending, Transactions, What};
use crate::kit::{NOW, sats};

pub(crate) const BURIAL: u32 = 6;
/// Of what the wallet gets, a quarter goes to the miners at most.
const LIMIT: Amount = Amount::from_sat(PAYMENT / 4);

/// What of one payer outlives a crash.
pub(crate) struct Record {
    pub(crate) obligation: Obligation,
    pub(crate) settled: Option<Settled>,
}

/// What outlives a crash. A coin is locked as long as an exchange that was offered it is not settled.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) records: [Option<Record>; PAYERS],
    /// Numbers of the blocks that were dealt with.
    blocks: Vec<u64>,
}

impl Ledger {
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = usize> {
        let waits = |record: &Option<Record>| record.as_ref().is_some_and(|record| record.settled.is_none());
        (0..PAYERS).filter(move |payer| waits(&self.records[*payer]))
    }

    pub(crate) fn owed(&self, payer: usize) -> Option<&Obligation> {
        let record = self.records[payer].as_ref().filter(|record| record.settled.is_none());
        record.map(|record| &record.obligation)
    }
}

/// What a process knows of one payer.
struct Running {
    machine: Settlement,
    unrecorded: bool,
    ended: Option<Settled>,
}

impl Running {
    fn new(obligation: Obligation) -> Self {
        Self { machine: Settlement::new(obligation, policy()), unrecorded: false, ended: None }
    }
}

pub(crate) struct Driver<'a> {
    transactions: &'a Transactions,
    pub(crate) store: Ledger,
    pub(crate) now: Timestamp,
    /// Writes fail, bitcoind is away, the wallet signs nothing, and the process dies.
    pub(crate) faults: bool,
    running: [Option<Running>; PAYERS],
    /// Numbers of the blocks that the process was told of.
    told: Vec<u64>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(transactions: &'a Transactions) -> Self {
        let (store, running) = (Ledger::default(), Default::default());
        Self { transactions, store, now: NOW, faults: true, running, told: Vec::new() }
    }

    /// The first write of an exchange: an Original was admitted.
    pub(crate) fn admit(&mut self, payer: usize) {
        let original = self.transactions.of(payer, What::Original);
        let obligation = Obligation {
            exchange: ExchangeId(1 + payer as u64),
            original: original.transaction.clone(),
            payment: original.transaction.output[0].clone(),
            payjoin: None,
            fees: Fees { original: self.transactions.fee(payer, What::Original), payjoin: Amount::ZERO },
            coins: vec![self.transactions.coin(payer)],
            channels: Vec::new(),
            plain: false,
            fallback_at: self.now.plus(600),
            signed: None,
            mined: None,
        };
        self.running[payer] = Some(Running::new(obligation.clone()));
        self.store.records[payer] = Some(Record { obligation, settled: None });
    }

    /// The second write. What the machine knew of the chain is newer than what is read.
    pub(crate) fn release(&mut self, payer: usize) {
        let fee = self.transactions.fee(payer, What::Payjoin);
        let (Some(record), Some(running)) = (&mut self.store.records[payer], &mut self.running[payer]) else {
            return;
        };
        if record.settled.is_some() || record.obligation.payjoin.is_some() {
            return;
        }
        record.obligation.payjoin = Some(self.transactions.of(payer, What::Payjoin).txid);
        record.obligation.fees.payjoin = fee;
        record.obligation.fallback_at = self.now.plus(600);
        let mined = running.machine.obligation().mined.clone();
        let unrecorded = running.unrecorded;
        *running = Running::new(Obligation { mined, ..record.obligation.clone() });
        running.unrecorded = unrecorded;
    }

    /// A new process knows what the store knows.
    pub(crate) fn restart(&mut self) {
        self.running = std::array::from_fn(|payer| self.store.owed(payer).cloned().map(Running::new));
        self.told.clone_from(&self.store.blocks);
    }

    /// Tells everybody of the blocks that came and went since. A process that dies meanwhile begins again from where the
    /// store stands.
    pub(crate) fn follow(&mut self, chain: &mut Chain<'_>, chance: &mut Chance) -> Result<(), String> {
        while !self.tell_blocks(chain, chance)? {}
        Ok(())
    }

    /// `false` after a crash.
    fn tell_blocks(&mut self, chain: &mut Chain<'_>, chance: &mut Chance) -> Result<bool, String> {
        let same =
            self.told.iter().zip(&chain.blocks).take_while(|(told, (block, _))| *told == block).count();
        if same == self.told.len() && same == chain.blocks.len() {
            return Ok(true);
        }
        if same < self.told.len() {
            self.told.truncate(same);
            if !self.give_all(&In::Disconnected(FIRST + same as u32), chain, chance)? {
                return Ok(false);
            }
        }
        for (height, block) in (FIRST..).zip(chain.blocks.clone()).skip(same) {
            if !self.tell_block(height, block, chain, chance)? {
                return Ok(false);
            }
        }
        if !self.give_all(&In::Tip(FIRST + chain.blocks.len() as u32 - 1), chain, chance)? {
            return Ok(false);
        }
        if self.running.iter().flatten().all(|running| !running.unrecorded) {
            self.store.blocks.clone_from(&self.told);
            self.assert_truth(chain)?;
        }
        Ok(true)
    }

    fn tell_block(
        &mut self,
        height: u32,
        (number, mined): Block,
        chain: &mut Chain<'_>,
        chance: &mut Chance,
    ) -> Result<bool, String> {
        for payer in self.payers() {
            let mined_at = |running: &Running| running.machine.obligation().mined.as_ref().map(|(_, at)| *at);
            let stale = self.running[payer].as_ref().and_then(mined_at).is_some_and(|at| at >= height);
            if stale && !self.give(payer, In::Disconnected(height), chain, chance)? {
                return Ok(false);
            }
        }
        for index in mined {
            for payer in self.payers() {
                if !chain.concerns(index, payer) {
                    continue;
                }
                let news = In::Mined(self.transactions.all[index].transaction.clone(), height);
                if !self.give(payer, news, chain, chance)? {
                    return Ok(false);
                }
            }
        }
        self.told.push(number);
        Ok(true)
    }

    fn payers(&self) -> Vec<usize> {
        self.store.unsettled().collect()
    }

    pub(crate) fn give_all(
        &mut self,
        input: &In,
        chain: &mut Chain<'_>,
        chance: &mut Chance,
    ) -> Result<bool, String> {
        for payer in self.payers() {
            if !self.give(payer, input.clone(), chain, chance)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As the settler's `give`. `false` after a crash: the new process has heard nothing of this input.
    pub(crate) fn give(
        &mut self,
        payer: usize,
        input: In,
        chain: &mut Chain<'_>,
        chance: &mut Chance,
    ) -> Result<bool, String> {
        let Some(mut running) = self.running[payer].take() else { return Ok(true) };
        let lives = self.work(payer, &mut running, input, chain, chance)?;
        let settled = self.store.owed(payer).is_none();
        self.running[payer] = Some(running).filter(|_| !settled);
        if !lives {
            self.restart();
        }
        Ok(lives)
    }

    fn work(
        &mut self,
        payer: usize,
        running: &mut Running,
        input: In,
        chain: &mut Chain<'_>,
        chance: &mut Chance,
    ) -> Result<bool, String> {
        if running.unrecorded {
            self.record(payer, running, chance);
        }
        if running.ended.is_none() {
            running.machine.handle_input(self.now, input);
        }
        loop {
            let output = running.machine.poll_output();
            self.check(payer, running, &output, chain)?;
            if self.dies(chance) {
                return Ok(false);
            }
            match output {
                Out::Wait(_) => return Ok(true),
                Out::Done(settled) => {
                    running.ended = Some(settled);
                    if !self.fails(chance)
                        && let Some(record) = &mut self.store.records[payer]
                    {
                        record.settled = Some(settled);
                    }
                    return Ok(true);
                }
                output => self.act(payer, running, output, chain, chance)?,
            }
            if self.dies(chance) {
                return Ok(false);
            }
        }
    }

    fn act(
        &mut self,
        payer: usize,
        running: &mut Running,
        output: Out,
        chain: &mut Chain<'_>,
        chance: &mut Chance,
    ) -> Result<(), String> {
        match output {
            Out::Broadcast(transaction) => {
                self.broadcast(payer, running, &transaction, 0, chain, chance)?;
            }
            Out::Weigh(rivals) => {
                let prices = (!self.fails(chance)).then(|| chain.prices(&rivals));
                running.machine.handle_input(self.now, In::Weighed(prices));
            }
            // The wallet makes no child.
            Out::Defend { .. } if self.fails(chance) => running.machine.handle_input(self.now, In::Refused),
            Out::Defend { parent, vout: 0, fee } if fee <= LIMIT => {
                self.broadcast(payer, running, &parent, fee.to_sat(), chain, chance)?;
            }
            Out::Defend { vout, fee, .. } => return Err(format!("defends output {vout} for {fee}")),
            Out::RecordSigned(signed) if !self.fails(chance) => {
                if let Some(record) = &mut self.store.records[payer] {
                    record.obligation.signed = Some(signed);
                }
            }
            Out::RecordMined(_) => self.record(payer, running, chance),
            Out::RecordSigned(_) | Out::GiveUp(..) | Out::Done(_) | Out::Wait(_) => {}
        }
        Ok(())
    }

    fn broadcast(
        &self,
        payer: usize,
        running: &mut Running,
        transaction: &Transaction,
        child: u64,
        chain: &mut Chain<'_>,
        chance: &mut Chance,
    ) -> Result<(), String> {
        let index = self.transactions.index(payer, self.sent(payer, transaction)?);
        if !self.fails(chance) && !chain.submit(Pending { index, child }) {
            running.machine.handle_input(self.now, In::Refused);
        }
        Ok(())
    }

    /// Which of the two it is that we may send.
    fn sent(&self, payer: usize, transaction: &Transaction) -> Result<What, String> {
        let found = [What::Original, What::Payjoin]
            .into_iter()
            .find(|what| self.transactions.of(payer, *what).transaction == *transaction);
        found.ok_or_else(|| "sends what is not ours to send".to_owned())
    }

    fn record(&mut self, payer: usize, running: &mut Running, chance: &mut Chance) {
        running.unrecorded = self.fails(chance);
        if let Some(record) = self.store.records[payer].as_mut().filter(|_| !running.unrecorded) {
            record.obligation.mined.clone_from(&running.machine.obligation().mined);
        }
    }

    fn fails(&self, chance: &mut Chance) -> bool {
        self.faults && chance.once_in(12)
    }

    fn dies(&self, chance: &mut Chance) -> bool {
        self.faults && chance.once_in(40)
    }

    /// The Original leaves only in its time, and the end is what is buried.
    fn check(&self, payer: usize, running: &Running, output: &Out, chain: &Chain<'_>) -> Result<(), String> {
        let obligation = running.machine.obligation();
        let due = self.now >= obligation.fallback_at || chain.has_lost_coin_of(payer);
        match output {
            Out::Broadcast(sent) if self.sent(payer, sent)? == What::Original && !due => {
                Err("the Original left early".into())
            }
            Out::Done(settled) => {
                let (index, height) = chain.mined(payer).ok_or("it ended with nothing in the chain")?;
                let outcome = match self.transactions.all[index].is {
                    Is::Payers(_, What::Payjoin) if obligation.payjoin.is_some() => Settled::Payjoin,
                    Is::Payers(_, What::Original | What::Bumped) => Settled::Original,
                    _ => Settled::Conflict,
                };
                let buried = FIRST + chain.blocks.len() as u32 >= height + BURIAL;
                if *settled == outcome && buried {
                    Ok(())
                } else {
                    Err(format!("{settled:?} is not what is buried"))
                }
            }
            _ => Ok(()),
        }
    }

    /// Where nothing failed, the store knows what is in the chain.
    fn assert_truth(&self, chain: &Chain<'_>) -> Result<(), String> {
        for payer in self.store.unsettled() {
            let known = self.store.owed(payer).and_then(|owed| owed.mined.as_ref());
            let known = known.map(|(transaction, height)| (transaction, *height));
            let truth = chain.mined(payer);
            let truth = truth.map(|(index, height)| (&self.transactions.all[index].transaction, height));
            if known != truth {
                return Err(format!("of payer {payer} the store knows another chain"));
            }
        }
        Ok(())
    }
}

fn policy() -> Policy {
    Policy { burial: BURIAL, top_up: true, ..Policy::default() }
}

impl Transactions {
    fn fee(&self, payer: usize, what: What) -> Amount {
        sats(self.of(payer, what).fee)
    }
}

#[test]
fn the_cheap_conflict_is_one_that_the_original_outbids() {
    let transactions = super::chain::transactions();
    let mut chain = Chain::new(&transactions);
    for (first, second, taken) in [
        (What::Cheap, What::Original, true),
        (What::Original, What::Cheap, false),
        (What::Cheap, What::Payjoin, true),
    ] {
        let [first, second] = [first, second].map(|what| transactions.index(0, what));
        chain.pool.clear();
        assert!(chain.submit(Pending { index: first, child: 0 }));
        assert_eq!(chain.submit(Pending { index: second, child: 0 }), taken, "{first} {second}");
    }
}
