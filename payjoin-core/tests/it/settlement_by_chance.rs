//! Blocks, reorganisations, mempools and refusals by chance: a settlement knows what its chain holds, sends only what can
//! be mined, the Original only when it is due, and ends only with what is buried.

use bitcoin::Transaction;
use payjoin_core::{Settled, SettlementInput as In, SettlementOutput as Out, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::kit::NOW;
use crate::settlement::{Run, World, world};

const FIRST: u32 = 100;
const BURIAL: u32 = 6;

#[derive(Clone, Debug)]
enum Act {
    /// A block with this transaction, if that is possible.
    Mine(Option<usize>),
    Disconnect(usize),
    See(Option<usize>),
    Refuse,
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let transaction = || prop_oneof![3 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    let act = prop_oneof![
        4 => transaction().prop_map(Act::Mine),
        1 => (1..6_usize).prop_map(Act::Disconnect),
        2 => transaction().prop_map(Act::See),
        1 => Just(Act::Refuse),
        1 => (0..400_u64).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 1..80)
}

struct Model {
    /// Original, payjoin and conflict spend the payer's coin; payjoin and theft spend ours.
    transactions: [Transaction; 4],
    run: Run,
    /// What of them is in each block.
    blocks: Vec<Option<usize>>,
    now: Timestamp,
}

impl Model {
    fn new(world: &World) -> Self {
        let transactions = [&world.original, &world.payjoin, &world.conflict, &world.theft].map(Clone::clone);
        Self { transactions, run: Run::new(world), blocks: Vec::new(), now: NOW }
    }

    fn mined(&self, any: &[usize]) -> Option<(usize, u32)> {
        let mut found = (FIRST..).zip(&self.blocks).filter_map(|(height, found)| Some(((*found)?, height)));
        found.find(|(index, _)| any.contains(index))
    }

    fn is_possible(&self, index: usize) -> bool {
        let payer = index != 3 && self.mined(&[0, 1, 2]).is_some();
        let coin = [1, 3].contains(&index) && self.mined(&[1, 3]).is_some();
        !payer && !coin
    }

    fn act(&mut self, act: Act) -> Vec<Out> {
        let possible = |index: Option<usize>| index.filter(|index| self.is_possible(*index));
        match act {
            Act::Mine(index) => {
                let mined = possible(index);
                self.blocks.push(mined);
                let height = FIRST + self.blocks.len() as u32 - 1;
                let news = mined.map(|index| In::Mined(self.transactions[index].clone(), height));
                let mut outputs = news.map_or(Vec::new(), |news| self.run.feed(self.now, news));
                outputs.extend(self.run.feed(self.now, In::Tip(height)));
                outputs
            }
            Act::Disconnect(depth) => {
                self.blocks.truncate(self.blocks.len().saturating_sub(depth));
                self.run.feed(self.now, In::Disconnected(FIRST + self.blocks.len() as u32))
            }
            Act::See(index) => {
                let seen = possible(index).map(|index| self.transactions[index].clone());
                self.run.feed(self.now, In::Mempool(seen))
            }
            Act::Refuse => self.run.feed(self.now, In::Refused),
            Act::Wait(seconds) => {
                self.now = self.now.plus(seconds);
                self.run.feed(self.now, In::Tick)
            }
        }
    }

    fn check(&self, output: &Out) {
        let obligation = self.run.0.obligation();
        let due = self.now >= obligation.fallback_at || self.mined(&[3]).is_some();
        match output {
            Out::Broadcast(sent) if *sent == self.transactions[0] => assert!(due && self.is_possible(0)),
            Out::Broadcast(sent) => assert!(*sent == self.transactions[1] && self.is_possible(1)),
            Out::Done(settled) => {
                let (index, height) = self.mined(&[0, 1, 2]).unwrap();
                let outcomes = [Settled::Original, Settled::Payjoin, Settled::Conflict];
                assert_eq!(*settled, outcomes[index]);
                assert!(FIRST + self.blocks.len() as u32 >= height + BURIAL);
            }
            Out::RecordMined(_) | Out::Wait(_) => {}
        }
    }
}

#[test]
fn money_rule_6_a_settlement_follows_any_chain_to_what_is_buried() {
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let (world, ended) = (world(), std::cell::Cell::new(0));
    let run = |acts: Vec<Act>| {
        let mut model = Model::new(&world);
        for act in acts {
            let outputs = model.act(act);
            let known = model.run.0.obligation().mined.clone();
            let mined = model.mined(&[0, 1, 2]);
            assert_eq!(known, mined.map(|(index, height)| (model.transactions[index].clone(), height)));
            outputs.iter().for_each(|output| model.check(output));
            if matches!(outputs.last(), Some(Out::Done(_))) {
                ended.set(ended.get() + 1);
                break;
            }
        }
        Ok(())
    };
    TestRunner::new(config).run(&acts(), run).unwrap();
    assert!(ended.get() > 400, "only {} ended", ended.get());
}
