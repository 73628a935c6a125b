//! Channels from coins of ours alone.

use bitcoin::{Amount, FeeRate, Psbt};
use payjoin_core::{
    ChannelWish, ConservationError, ExchangeId, Fees, Obligation, OwnFunding, OwnFundingError,
    OwnFundingRequest, Policy, Release, Reserve, Resources, Settled, Settlement, SettlementInput as In,
    SettlementOutput as Out, Stock,
};

use crate::kit::*;

const RATE: FeeRate = FeeRate::from_sat_per_vb_u32(10);

/// A wallet of coins of these kinds and values, beside a channel that takes 10,000 sat to close.
struct Purse {
    coins: Vec<Spend>,
    stock: Option<Stock>,
}

fn purse(coins: &[(Kind, u64)]) -> Purse {
    let spend = |(seed, (kind, value)): (u32, &(Kind, u64))| Spend::new(*kind, 100 + seed, *value);
    Purse { coins: (0..).zip(coins).map(spend).collect(), stock: None }
}

impl Purse {
    fn resources(&self, wish: ChannelWish) -> Resources {
        let coins: Vec<_> = self.coins.iter().map(Spend::coin).collect();
        let balance = coins.iter().map(|coin| coin.txout.value).sum();
        let reserve =
            Reserve { balance, existing: Amount::ZERO, per_channel: sats(10_000), stock: self.stock };
        Resources { wishes: vec![wish], coins, reserve, height: 120, ..Resources::default() }
    }

    fn plan(&self, wish: ChannelWish, rate: FeeRate, policy: &Policy) -> Result<OwnFunding, OwnFundingError> {
        let (resources, change) = (self.resources(wish), script(Kind::P2wpkh, 50));
        OwnFunding::plan(&OwnFundingRequest { resources: &resources, change: &change, rate, policy })
    }

    /// Signed as the wallet does it.
    fn signed(&self, psbt: &Psbt) -> Psbt {
        let mut psbt = psbt.clone();
        let prevouts: Vec<_> = psbt.inputs.iter().map(|input| input.witness_utxo.clone().unwrap()).collect();
        sign(&mut psbt, &self.coins, &prevouts, true);
        psbt
    }

    fn release(&self, plan: &OwnFunding) -> Release {
        let splits: Vec<_> = (0..plan.splits()).map(|n| script(Kind::P2wpkh, 60 + n as u32)).collect();
        let (stable, checked) = plan.draw(&funding_script(1), &splits).unwrap();
        assert_eq!(checked.our_inputs().len(), checked.psbt().inputs.len(), "all inputs are ours");
        plan.release(&stable, self.signed(checked.psbt()), NOW).unwrap()
    }
}

#[test]
fn money_rule_2_a_channel_from_our_coins_is_exact_and_the_rest_comes_back() {
    for coins in [
        &[(Kind::P2wpkh, 700_000)][..],
        &[(Kind::P2wpkh, 300_000), (Kind::P2tr, 300_000)],
        &[(Kind::P2tr, 5_000_000), (Kind::P2wpkh, 20_000)],
    ] {
        let purse = purse(coins);
        let release = purse.release(&purse.plan(exact(1, 500_000), RATE, &Policy::default()).unwrap());
        let transaction = release.signed.as_ref().unwrap();
        let [channel] = &release.channels[..] else { panic!("{:?}", release.channels) };
        assert_eq!(transaction.output[channel.vout as usize], txout(500_000, funding_script(1)));
        assert_eq!(transaction.compute_txid(), release.txid);
        let vsize = transaction.vsize() as u64;
        assert!(
            (vsize * 10..=vsize * 10 + 60).contains(&release.fee.to_sat()),
            "{} for {vsize}",
            release.fee
        );
        let left = purse.resources(exact(1, 1)).reserve.balance - release.fee - sats(500_000);
        assert!(left >= sats(10_000), "what closes the channel stays");
        assert_eq!(release.coins.len(), transaction.input.len());
    }
}

#[test]
fn money_rule_2_a_transaction_that_is_not_the_planned_one_is_not_drawn() {
    let purse = purse(&[(Kind::P2wpkh, 700_000)]);
    let plan = purse.plan(exact(1, 500_000), RATE, &Policy::default()).unwrap();
    for bad in [script(Kind::P2wpkh, 7), script(Kind::P2wpkh, 50)] {
        let refused = plan.draw(&bad, &[]).unwrap_err();
        assert_eq!(refused, OwnFundingError::Conservation(ConservationError::Channel));
    }
}

#[test]
fn money_rule_1_what_the_wallet_has_not_signed_is_not_released() {
    let purse = purse(&[(Kind::P2wpkh, 700_000)]);
    let plan = purse.plan(exact(1, 500_000), RATE, &Policy::default()).unwrap();
    let (stable, checked) = plan.draw(&funding_script(1), &[]).unwrap();
    assert_eq!(plan.release(&stable, checked.psbt().clone(), NOW).unwrap_err(), OwnFundingError::Unsigned);
    let (_, other) = plan.draw(&funding_script(2), &[]).unwrap();
    let other = purse.signed(other.psbt());
    assert_eq!(plan.release(&stable, other, NOW).unwrap_err(), OwnFundingError::Unsigned);
}

#[test]
fn a_wallet_that_cannot_open_it_is_told_what_is_missing() {
    let policy = Policy::default();
    let refused = |purse: &Purse, amount, rate| purse.plan(exact(1, amount), rate, &policy).unwrap_err();
    let poor = purse(&[(Kind::P2wpkh, 505_000)]);
    let (balance, amount, reserve) = (sats(505_000), sats(500_000), sats(10_000));
    let (fee, missing) = (sats(1_600), sats(6_600));
    let why = refused(&poor, 500_000, RATE);
    assert_eq!(why, OwnFundingError::NotEnough { balance, amount, reserve, fee, missing });
    assert!(why.to_string().ends_with("6600 sat are missing"), "{why}");
    let none = purse(&[]);
    assert!(matches!(refused(&none, 500_000, RATE), OwnFundingError::NotEnough { .. }));
    // Dust pays for nothing.
    let pieces = purse(&[(Kind::P2wpkh, 500); 12]);
    assert_eq!(refused(&pieces, 20_000, FeeRate::BROADCAST_MIN), not_enough_of(6_000, 20_000));
    let rich = purse(&[(Kind::P2wpkh, 9_000_000)]);
    assert_eq!(refused(&rich, 500_000, FeeRate::from_sat_per_vb_u32(101)), OwnFundingError::FeeRate);
    let strict = Policy { max_fee: sats(1_000), ..Policy::default() };
    assert_eq!(rich.plan(exact(1, 500_000), RATE, &strict).unwrap_err(), OwnFundingError::Fee(sats(1_000)));
    assert!(rich.plan(exact(1, 500_000), FeeRate::from_sat_per_vb_u32(100), &policy).is_ok());
}

/// With the fee of a typical opening at 1 sat/vB.
fn not_enough_of(balance: u64, amount: u64) -> OwnFundingError {
    let (balance, amount, reserve, fee) = (sats(balance), sats(amount), sats(10_000), sats(160));
    OwnFundingError::NotEnough { balance, amount, reserve, fee, missing: amount + reserve + fee - balance }
}

#[test]
fn coins_that_close_other_channels_stay() {
    let stock = |whole, channels| Some(Stock { whole, parts: Amount::ZERO, channels });
    let coins = [(Kind::P2wpkh, 600_000), (Kind::P2wpkh, 20_000)];
    let taken = |stock| {
        let purse = Purse { stock, ..purse(&coins) };
        purse.plan(exact(1, 500_000), RATE, &Policy::default())
    };
    // Two whole coins and one channel: the large one may go, and its change closes the new channel.
    assert_eq!(taken(stock(2, 1)).unwrap().coins().len(), 1);
    assert_eq!(taken(stock(2, 2)).unwrap_err(), OwnFundingError::Pieces { coins: 2 });
}

/// A released opening, and a transaction that spends its coin elsewhere.
fn released() -> (Obligation, bitcoin::Transaction) {
    let purse = purse(&[(Kind::P2wpkh, 700_000)]);
    let plan = purse.plan(exact(1, 500_000), RATE, &Policy::default()).unwrap();
    let release = purse.release(&plan);
    let elsewhere = original(&purse.coins, vec![txout(690_000, script(Kind::P2wpkh, 9))], true);
    let obligation = Obligation {
        exchange: ExchangeId(1),
        original: plan.original().clone(),
        payment: txout(0, script(Kind::P2wpkh, 50)),
        payjoin: Some(release.txid),
        fees: Fees { original: Amount::ZERO, payjoin: release.fee },
        coins: release.coins,
        channels: release.channels,
        plain: false,
        fallback_at: NOW,
        signed: release.signed.map(|signed| *signed),
        mined: None,
    };
    (obligation, elsewhere.extract_tx_unchecked_fee_rate())
}

fn feed(settlement: &mut Settlement, input: In) -> Vec<Out> {
    settlement.handle_input(NOW, input);
    let next = || match settlement.poll_output() {
        Out::Wait(wake) => {
            assert_eq!(wake, None, "there is no Original to wait for");
            None
        }
        done @ Out::Done(_) => Some(done),
        output => Some(output),
    };
    let mut outputs: Vec<Out> = Vec::new();
    let mut next = next;
    while let Some(output) = next() {
        let done = matches!(output, Out::Done(_));
        outputs.push(output);
        if done {
            break;
        }
    }
    outputs
}

#[test]
fn money_rule_7_a_channel_from_our_coins_is_sent_at_each_block_until_it_is_buried() {
    let (obligation, _) = released();
    let signed = obligation.signed.clone().unwrap();
    let mut settlement = Settlement::new(obligation, Policy::default());
    assert_eq!(feed(&mut settlement, In::Tick), [Out::Broadcast(signed.clone())]);
    assert_eq!(feed(&mut settlement, In::Tick), [], "once a block");
    assert_eq!(feed(&mut settlement, In::Refused), []);
    assert_eq!(feed(&mut settlement, In::Tip(121)), [Out::Broadcast(signed.clone())]);
    let mined = Out::RecordMined(Some((signed.clone(), 122)));
    assert_eq!(feed(&mut settlement, In::Mined(signed.clone(), 122)), [mined]);
    assert_eq!(feed(&mut settlement, In::Disconnected(122)).len(), 1);
    feed(&mut settlement, In::Mined(signed, 122));
    assert_eq!(feed(&mut settlement, In::Tip(127)), [Out::Done(Settled::Payjoin)]);
}

#[test]
fn a_coin_that_was_spent_elsewhere_ends_the_opening() {
    let (obligation, elsewhere) = released();
    let mut settlement = Settlement::new(obligation, Policy::default());
    feed(&mut settlement, In::Tick);
    feed(&mut settlement, In::Mined(elsewhere, 122));
    assert_eq!(feed(&mut settlement, In::Tip(127)), [Out::Done(Settled::Conflict)]);
}

#[test]
fn money_rule_1_an_opening_that_is_not_released_sends_nothing() {
    let (released, _) = released();
    let (payjoin, signed, channels) = (None, None, Vec::new());
    let admitted = Obligation { payjoin, signed, channels, ..released };
    let mut settlement = Settlement::new(admitted, Policy::default());
    assert_eq!(feed(&mut settlement, In::Tick), []);
    assert_eq!(feed(&mut settlement, In::Tip(130)), []);
}
