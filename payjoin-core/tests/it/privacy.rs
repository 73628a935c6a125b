//! What amounts alone tell an observer, over drawn payments and stocks. docs/privacy.md has the numbers.

use std::cell::RefCell;
use std::collections::BTreeMap;

use payjoin_core::{ChannelAmount, ChannelWish, Delivery, Exchange, Policy};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::kit::*;

/// `cargo xtask bench privacy` asks for more.
fn drawn() -> u32 {
    std::env::var("PRIVACY_DRAWS").map_or(500, |draws| draws.parse().unwrap())
}

#[derive(Clone, Debug)]
struct Draw {
    inputs: Vec<u64>,
    /// Percent of the inputs that is paid; the rest is the payer's change.
    paid: u64,
    payment_first: bool,
    fee: u64,
    channel: u64,
    coins: Vec<u64>,
}

fn draws() -> impl Strategy<Value = Draw> {
    let payer =
        (prop::collection::vec(100_000..2_000_000_u64, 1..=3), 10..90_u64, any::<bool>(), 300..6_000_u64);
    let receiver = (30_000..400_000_u64, prop::collection::vec(20_000..500_000_u64, 1..=6));
    (payer, receiver).prop_map(|((inputs, paid, payment_first, fee), (channel, coins))| Draw {
        inputs,
        paid,
        payment_first,
        fee,
        channel,
        coins,
    })
}

impl Draw {
    /// Whether a channel opened, and in how many ways the amounts of the payjoin can be split.
    fn partitions(&self, wishes: &[ChannelWish]) -> (bool, Option<u32>) {
        let spends: Vec<Spend> =
            (0..).zip(&self.inputs).map(|(n, v)| Spend::new(Kind::P2wpkh, n, *v)).collect();
        let total = self.inputs.iter().sum::<u64>() - self.fee;
        let payment = total * self.paid / 100;
        let mut outputs =
            vec![txout(payment, invoice().script), txout(total - payment, script(Kind::P2wpkh, 500))];
        if !self.payment_first {
            outputs.reverse();
        }
        let psbt = original(&spends, outputs, false);
        let mut request = request("v=1", psbt.to_string().as_bytes());
        request.delivery = Delivery::Mailbox;
        let coins: Vec<Spend> =
            (10_000..).zip(&self.coins).map(|(n, v)| Spend::new(Kind::P2wpkh, n, *v)).collect();
        let host = Host::new(&spends).with_coins(&coins).with_wishes(wishes);
        let mut host = Host { real: false, ..host };
        host.run(&mut Exchange::new(NOW, invoice(), request, Policy::default()));
        let release = host.release.unwrap();
        (!release.channels.is_empty(), release.partitions)
    }
}

/// How many payjoins can be split in no way, in one, in several, and how many are not counted.
#[derive(Debug, Default)]
struct Row {
    none: u32,
    one: u32,
    several: u32,
    uncounted: u32,
}

impl Row {
    fn add(&mut self, partitions: Option<u32>) {
        *match partitions {
            Some(0) => &mut self.none,
            Some(1) => &mut self.one,
            Some(_) => &mut self.several,
            None => &mut self.uncounted,
        } += 1;
    }

    fn all(&self) -> u32 {
        self.none + self.one + self.several + self.uncounted
    }
}

#[test]
fn a_channel_that_absorbs_its_coin_is_given_away_by_amounts_less_often() {
    let rows: RefCell<BTreeMap<&str, Row>> = RefCell::default();
    let config = Config { cases: drawn(), failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng)
        .run(&draws(), |draw| {
            let of = |amount| vec![ChannelWish { amount, ..rest(1) }];
            for (name, wishes) in [
                ("no channel", Vec::new()),
                ("channel of a given amount", of(ChannelAmount::Exact(sats(draw.channel)))),
                ("channel of the rest", of(ChannelAmount::Rest)),
                ("channel that absorbs", of(ChannelAmount::Absorb)),
            ] {
                let (opened, partitions) = draw.partitions(&wishes);
                if opened != wishes.is_empty() {
                    rows.borrow_mut().entry(name).or_default().add(partitions);
                }
            }
            Ok(())
        })
        .unwrap();
    let rows = rows.into_inner();
    println!("{:<28}{:>8}{:>12}{:>10}{:>12}", "payjoins with", "all", "no split", "one", "several");
    for (name, row) in &rows {
        println!("{name:<28}{:>8}{:>12}{:>10}{:>12}", row.all(), row.none, row.one, row.several);
    }
    let share = |name: &str| f64::from(rows[name].one) / f64::from(rows[name].all());
    assert!(rows.values().all(|row| row.all() > drawn() / 4 && row.uncounted == 0), "{rows:?}");
    assert!(share("channel of the rest") > 0.5, "{rows:?}");
    assert!(share("channel that absorbs") < 0.1, "{rows:?}");
    assert!(share("no channel") < 0.1, "{rows:?}");
}
