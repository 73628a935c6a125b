//! Originals, stocks and queues by chance, and how many proposals each wallet would sign.

use std::collections::BTreeMap;

use payjoin_core::{ChannelAmount, ChannelWish, Exchange, Policy, Reserve};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Clone, Debug)]
struct Case {
    inputs: Vec<(Kind, u64)>,
    /// Shares of what the inputs carry; the payment is one of them.
    outputs: Vec<u64>,
    payment: usize,
    fee: u64,
    /// Most that is offered, and from which output.
    offer: Option<(u64, usize)>,
    /// How far the minimum fee rate is below the Original's, in sat/kwu; `None` for no minimum.
    below: Option<u64>,
    fixed_outputs: bool,
    intents: Vec<Option<u64>>,
    /// P2TR or P2WPKH.
    coins: Vec<(bool, u64)>,
    reserve: u64,
}

fn inputs() -> impl Strategy<Value = Vec<(Kind, u64)>> {
    let value = 50_000..2_000_000_u64;
    let uniform = |kind: Kind| {
        prop::collection::vec(value.clone(), 1..=3)
            .prop_map(move |values| values.into_iter().map(|value| (kind, value)).collect::<Vec<_>>())
    };
    let any = (0..KINDS.len()).prop_map(|index| KINDS[index]);
    prop_oneof![
        12 => uniform(Kind::P2wpkh),
        4 => uniform(Kind::P2tr),
        1 => uniform(Kind::Nested),
        1 => uniform(Kind::P2wsh),
        2 => prop::collection::vec((any, value.clone()), 2..=3),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let payer = (
        inputs(),
        prop::collection::vec(1..100_u64, 1..=3),
        0..3_usize,
        150..6_000_u64,
        prop::option::weighted(0.8, (prop_oneof![1..400_u64, 1..5_000_u64], 0..3_usize)),
        prop::option::of(prop_oneof![Just(0_u64), 0..400_u64]),
        prop::bool::weighted(0.25),
    );
    let receiver = (
        prop::collection::vec(prop::option::weighted(0.8, 20_000..400_000_u64), 0..=3),
        prop::collection::vec((any::<bool>(), 1_000..500_000_u64), 0..=6),
        prop_oneof![3 => Just(0_u64), 1 => 0..30_000_u64],
    );
    (payer, receiver).prop_map(|(payer, (intents, coins, reserve))| {
        let (inputs, outputs, payment, fee, offer, below, fixed_outputs) = payer;
        let payment = payment % outputs.len();
        Case { inputs, outputs, payment, fee, offer, below, fixed_outputs, intents, coins, reserve }
    })
}

impl Case {
    fn spends(&self) -> Vec<Spend> {
        let spend = |(index, (kind, value)): (usize, &(Kind, u64))| Spend::new(*kind, index as u32, *value);
        self.inputs.iter().enumerate().map(spend).collect()
    }

    fn original(&self, spends: &[Spend]) -> Option<Psbt> {
        let total = self.inputs.iter().map(|(_, value)| value).sum::<u64>().checked_sub(self.fee)?;
        let shares: u64 = self.outputs.iter().sum();
        let output = |(index, share): (usize, &u64)| {
            let ours = index == self.payment;
            let script = if ours { invoice().script } else { script(Kind::P2wpkh, 500 + index as u32) };
            txout(total * share / shares, script)
        };
        Some(original(spends, self.outputs.iter().enumerate().map(output).collect(), false))
    }

    fn wishes(&self, original: &Psbt) -> Wishes {
        let weight = original.clone().extract_tx_unchecked_fee_rate().weight().to_wu();
        let spent: u64 = self.inputs.iter().map(|(_, value)| value).sum();
        let rate = (spent - total(original)) * 1_000 / weight;
        let offer = self.offer.filter(|(_, index)| *index != self.payment && *index < self.outputs.len());
        Wishes {
            contribution: offer,
            min_fee_rate: self.below.map_or(0, |below| rate.saturating_sub(below)),
            fixed_outputs: self.fixed_outputs,
        }
    }

    fn host(&self, spends: &[Spend]) -> Host {
        let coin = |(index, (taproot, value)): (usize, &(bool, u64))| {
            Spend::new(if *taproot { Kind::P2tr } else { Kind::P2wpkh }, 10_000 + index as u32, *value)
        };
        let coins: Vec<Spend> = self.coins.iter().enumerate().map(coin).collect();
        let intents = self.intents.iter().enumerate().map(|(index, amount)| match amount {
            Some(amount) => exact(index as u64, *amount),
            None if self.coins.len().is_multiple_of(2) => rest(index as u64),
            None => ChannelWish { amount: ChannelAmount::Absorb, ..rest(index as u64) },
        });
        let intents: Vec<ChannelWish> = intents.collect();
        let host = Host::new(spends).with_coins(&coins).with_wishes(&intents);
        let reserve = Reserve { existing: sats(self.reserve), ..host.reserve };
        Host { real: false, reserve, ..host }
    }
}

/// What came of all cases.
#[derive(Debug, Default)]
struct Tally {
    /// Originals that got an error instead, by what it says.
    unanswered: BTreeMap<String, u32>,
    proposals: u32,
    with_channels: u32,
    /// Proposals whose channel absorbs a coin of ours: nothing of ours comes back.
    absorbed: u32,
    /// Proposals without a coin of ours, though it has some.
    bare: u32,
    /// Proposals with more inputs of ours than the payer has, since no fewer pay for the channel.
    crowded: u32,
    wallets: BTreeMap<&'static str, Count>,
}

#[derive(Debug, Default)]
struct Count {
    accepted: u32,
    channels: u32,
    refused: BTreeMap<String, u32>,
}

impl Tally {
    fn add(&mut self, wallet: &'static str, channels: bool, verdict: Result<(), String>) {
        let count = self.wallets.entry(wallet).or_default();
        match verdict {
            Ok(()) => {
                count.accepted += 1;
                count.channels += u32::from(channels);
            }
            Err(reason) => *count.refused.entry(reason).or_default() += 1,
        }
    }
}

fn run(case: &Case, tally: &mut Tally) {
    let spends = case.spends();
    let Some(original) = case.original(&spends) else { return };
    let asked = case.wishes(&original);
    let Some(payer) = payer(&original, &invoice(), asked) else { return };
    let mut host = case.host(&spends);
    let reply =
        host.run(&mut Exchange::new(NOW, invoice(), request(&payer.query, &payer.body), Policy::default()));
    if reply.status() != 200 {
        *tally.unanswered.entry(reply.body()).or_default() += 1;
        return;
    }
    let proposal = proposal(&reply);
    let deal =
        Deal { spends: &spends, original: &original, proposal: &proposal, payment: case.payment, asked };
    let channels = !host.release.as_ref().unwrap().channels.is_empty();
    tally.proposals += 1;
    tally.with_channels += u32::from(channels);
    let back = outputs_to(&proposal, deal.payment()).count();
    tally.absorbed += u32::from(channels && back == 0 && !deal.added().is_empty());
    let crowded = deal.added().len() > spends.len();
    assert!(!crowded || channels && !enough(case, &deal, &host), "{case:?}");
    tally.crowded += u32::from(crowded);
    tally.bare += u32::from(deal.added().is_empty() && !case.coins.is_empty());
    for wallet in WALLETS.iter().filter(|wallet| (wallet.sends)(&deal)) {
        tally.add(wallet.name, channels, (wallet.accepts)(&deal).map_err(str::to_owned));
    }
    // Cove is the latter.
    let reference = if asked.fixed_outputs { "payjoin, outputs fixed" } else { "payjoin" };
    let verdict = payer.context.process_response(reply.body().as_bytes());
    tally.add(reference, channels, verdict.map(drop).map_err(|error| error.to_string()));
}

/// Whether the greatest coins of the payer's own type, as many as the payer has inputs, pay for the channels of this
/// proposal and leave a thousand satoshis more than they must.
fn enough(case: &Case, deal: &Deal<'_>, host: &Host) -> bool {
    let own = |coin: &&Spend| coin.kind == deal.spends[0].kind;
    let mut coins: Vec<u64> = host.coins.iter().filter(own).map(|coin| coin.txout.value.to_sat()).collect();
    coins.sort_by_key(|value| std::cmp::Reverse(*value));
    let coins: u64 = coins.iter().take(deal.spends.len()).sum();
    let paid = if deal.asked.fixed_outputs { 0 } else { deal.payment().value.to_sat() };
    let channels: u64 =
        host.release.iter().flat_map(|release| &release.channels).map(|c| c.amount.to_sat()).sum();
    let cost = channels + deal.added_fee().unwrap() + 1_330;
    case.reserve == 0 && deal.kind().is_some() && coins + paid > cost
}

#[test]
fn every_known_wallet_signs_every_proposal_that_answers_its_original() {
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let tally = std::cell::RefCell::new(Tally::default());
    TestRunner::new(config)
        .run(&cases(), |case| {
            run(&case, &mut tally.borrow_mut());
            Ok(())
        })
        .unwrap();
    let tally = tally.into_inner();
    println!("{tally:#?}");
    let enough = tally.proposals > 5_000 && tally.with_channels > 500 && tally.absorbed > 50;
    assert!(enough && tally.wallets.len() == WALLETS.len() + 2);
    // The payer demands more than it pays, or counts so that nothing can be added to reach it.
    assert!(tally.unanswered.values().sum::<u32>() < 1_000, "{:?}", tally.unanswered);
    for (name, mut count) in tally.wallets {
        // `run` shows that the stock has nothing better.
        count.refused.remove("more inputs added than it has");
        assert!(count.refused.is_empty(), "{name}: {:?}", count.refused);
    }
}
