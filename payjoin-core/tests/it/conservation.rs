//! What may not be signed: a good proposal, spoiled in one way at a time.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Psbt, ScriptBuf, Sequence, Witness};
use payjoin_core::{
    Coin, Conservation, ConservationError as E, IntentId, MinFeeRate, PaymentOutput, PlannedChannel,
};

use crate::kit::*;

/// Two payer inputs, two payer outputs around the payment, two channels, change at the payment's place, one coin. The
/// Original pays 1,000; the payer adds 50, we pay 500.
struct Case {
    rules: Conservation,
    psbt: Psbt,
}

/// Positions in the proposal.
const CHANNEL: usize = 2;
const CHANGE: usize = 1;
const FEE_OUTPUT: usize = 0;
const THEIRS: usize = 4;
const OUR_INPUT: usize = 1;

fn our_coins() -> Vec<Coin> {
    vec![our_coin(0, 50_000).coin()]
}

fn channel(id: u64, amount: u64) -> (PlannedChannel, ScriptBuf) {
    (PlannedChannel { intent: IntentId(id), amount: sats(amount) }, funding_script(id as u32))
}

fn case() -> Case {
    let spends = [Spend::new(Kind::P2wpkh, 1, 500_000), Spend::new(Kind::P2tr, 2, 500_000)];
    let outputs = vec![
        txout(200_000, script(Kind::P2wpkh, 500)),
        txout(600_000, invoice().script),
        txout(199_000, script(Kind::P2tr, 501)),
    ];
    let before = original(&spends, outputs, true);
    let rules = Conservation {
        original: before.clone().extract_tx_unchecked_fee_rate(),
        prevouts: spends.iter().map(|spend| spend.txout.clone()).collect(),
        payment: 1,
        contribution: Some((sats(50), 0)),
        coins: our_coins(),
        channels: vec![channel(1, 400_000), channel(2, 150_000)],
        splits: Vec::new(),
        output: PaymentOutput::Change,
        min_fee_rate: MinFeeRate::ZERO,
        max_fee: sats(500),
        payer_is_me: false,
    };
    let mut psbt = before;
    let coin = our_coin(0, 50_000);
    let mut input = psbt.unsigned_tx.input[0].clone();
    input.previous_output = coin.outpoint;
    psbt.unsigned_tx.input.insert(OUR_INPUT, input);
    psbt.inputs
        .insert(OUR_INPUT, bitcoin::psbt::Input { witness_utxo: Some(coin.txout), ..Default::default() });
    for theirs in [0, 2] {
        psbt.inputs[theirs].final_script_witness = None;
    }
    psbt.unsigned_tx.output = vec![
        txout(199_950, script(Kind::P2wpkh, 500)),
        txout(99_500, invoice().script),
        txout(400_000, funding_script(1)),
        txout(150_000, funding_script(2)),
        txout(199_000, script(Kind::P2tr, 501)),
    ];
    psbt.outputs = vec![Default::default(); 5];
    Case { rules, psbt }
}

impl Case {
    fn output(&mut self, index: usize) -> &mut bitcoin::TxOut {
        &mut self.psbt.unsigned_tx.output[index]
    }

    /// Moves value between two outputs.
    fn shift(&mut self, from: usize, to: usize, value: u64) {
        self.output(from).value -= sats(value);
        self.output(to).value += sats(value);
    }

    fn add_input(&mut self, spend: &Spend) {
        let mut input = self.psbt.unsigned_tx.input[0].clone();
        input.previous_output = spend.outpoint;
        self.psbt.unsigned_tx.input.push(input);
        let data = bitcoin::psbt::Input { witness_utxo: Some(spend.txout.clone()), ..Default::default() };
        self.psbt.inputs.push(data);
    }

    fn set_version(&mut self, version: Version) {
        (self.rules.original.version, self.psbt.unsigned_tx.version) = (version, version);
    }

    /// The payer's signature has so many bytes.
    fn sign_with(&mut self, bytes: usize) {
        self.rules.original.input[0].witness = Witness::from_slice(&[vec![0; bytes]]);
    }

    fn drop_input(&mut self, index: usize) {
        self.psbt.unsigned_tx.input.remove(index);
        self.psbt.inputs.remove(index);
    }

    fn drop_output(&mut self, index: usize) {
        self.psbt.unsigned_tx.output.remove(index);
        self.psbt.outputs.remove(index);
    }
}

type Row = (&'static str, fn(&mut Case), E);

#[rustfmt::skip]
const SPOILED: &[Row] = &[
    ("another version", |c| c.psbt.unsigned_tx.version = Version::ONE, E::Header),
    ("another lock time", |c| c.psbt.unsigned_tx.lock_time = LockTime::from_consensus(9), E::Header),
    ("too heavy to be standard", |c| c.sign_with(399_000), E::Weight),
    ("too heavy for version 3", |c| { c.set_version(Version(3)); c.sign_with(39_000); }, E::Weight),
    ("a payer input missing", |c| c.drop_input(0), E::Inputs),
    ("payer inputs in another order", |c| { c.psbt.unsigned_tx.input.swap(0, 2); c.psbt.inputs.swap(0, 2); }, E::Inputs),
    ("another sequence of a payer input", |c| c.psbt.unsigned_tx.input[0].sequence = Sequence::MAX, E::Inputs),
    ("another sequence of our input", |c| c.psbt.unsigned_tx.input[OUR_INPUT].sequence = Sequence::MAX, E::Inputs),
    ("our coin missing", |c| c.drop_input(OUR_INPUT), E::Inputs),
    ("a second coin of ours", |c| c.add_input(&our_coin(7, 10_000)), E::Inputs),
    ("our coin twice", |c| c.add_input(&our_coin(0, 50_000)), E::Inputs),
    ("a payer input twice", |c| c.add_input(&Spend::new(Kind::P2wpkh, 1, 500_000)), E::Inputs),
    ("a signature of the payer left", |c| c.psbt.inputs[0].final_script_witness = Some(Witness::new()), E::Signed),
    ("a scriptSig of the payer left", |c| c.psbt.inputs[0].final_script_sig = Some(ScriptBuf::new()), E::Signed),
    ("our input without its UTXO", |c| c.psbt.inputs[OUR_INPUT].witness_utxo = None, E::Utxo),
    ("our input with another UTXO", |c| c.psbt.inputs[OUR_INPUT].witness_utxo.as_mut().unwrap().value = sats(1), E::Utxo),
    ("a payer output missing", |c| c.drop_output(THEIRS), E::Outputs),
    ("payer outputs in another order", |c| c.psbt.unsigned_tx.output.swap(FEE_OUTPUT, THEIRS), E::Outputs),
    ("a payer output raised", |c| c.shift(CHANGE, THEIRS, 1), E::Outputs),
    ("a payer output reduced", |c| c.shift(THEIRS, CHANGE, 1), E::Contribution),
    ("the fee output reduced beyond the offer", |c| c.shift(FEE_OUTPUT, CHANGE, 1), E::Contribution),
    ("nothing where the payment was", |c| c.psbt.unsigned_tx.output[..4].rotate_left(1), E::Place),
    ("the payment behind the payer's next output", |c| c.psbt.unsigned_tx.output[1..].rotate_left(1), E::Place),
    ("a channel before the payment", |c| c.psbt.unsigned_tx.output.swap(CHANNEL, CHANGE), E::Place),
    ("a foreign output", |c| { let value = c.output(CHANGE).value; *c.output(CHANGE) = txout(value.to_sat(), script(Kind::P2wpkh, 9)); }, E::Outputs),
    ("an output more", |c| { c.psbt.unsigned_tx.output.push(txout(0, script(Kind::P2wpkh, 9))); c.psbt.outputs.push(Default::default()); }, E::Outputs),
    ("the change twice", |c| { let change = c.output(CHANGE).clone(); c.psbt.unsigned_tx.output.push(change); c.psbt.outputs.push(Default::default()); }, E::Outputs),
    ("the change missing", |c| c.drop_output(CHANGE), E::Outputs),
    ("a channel missing", |c| c.drop_output(CHANNEL), E::Outputs),
    ("a channel twice", |c| { let channel = c.output(CHANNEL).clone(); c.psbt.unsigned_tx.output.push(channel); c.psbt.outputs.push(Default::default()); }, E::Outputs),
    ("a channel a satoshi smaller", |c| c.shift(CHANNEL, CHANGE, 1), E::Channel),
    ("a channel a satoshi greater", |c| c.shift(CHANGE, CHANNEL, 1), E::Channel),
    ("two channels exchanged", |c| { c.output(CHANNEL).value = sats(150_000); c.output(3).value = sats(400_000); }, E::Channel),
    ("a channel that is not P2WSH", |c| c.rules.channels[0].1 = script(Kind::P2tr, 3), E::Channel),
    ("two channels with one script", |c| c.rules.channels[1].1 = funding_script(1), E::Ambiguous),
    ("a payment to a payer's script", |c| c.rules.original.output[1].script_pubkey = script(Kind::P2tr, 501), E::Ambiguous),
    ("a channel to the payment's script", |c| c.rules.original.output[1].script_pubkey = funding_script(1), E::Ambiguous),
    ("a channel to a payer's script", |c| c.rules.original.output[2].script_pubkey = funding_script(1), E::Ambiguous),
    ("a satoshi more in fees than we pay at most", |c| c.output(CHANGE).value -= Amount::ONE_SAT, E::Fee),
    ("half of the payment burned", |c| c.output(CHANGE).value = sats(1_000), E::Fee),
    ("more out than in", |c| c.output(CHANGE).value += sats(10_000), E::Value),
    ("change that takes the Original's fee", |c| c.output(CHANGE).value += sats(501), E::Value),
    ("an overflow", |c| c.output(CHANGE).value = Amount::MAX, E::Value),
    ("change that is dust", |c| { c.rules.max_fee = sats(1_000_000); c.output(CHANGE).value = sats(329); }, E::Dust),
    ("less than the payer's minimum fee rate", |c| c.rules.min_fee_rate = MinFeeRate::from_sat_per_vb(3.9).unwrap(), E::FeeRate),
    ("a payment that shrank though the payer forbids it", |c| c.rules.output = PaymentOutput::Kept, E::Payment),
    ("a payment that stays though it was to go", |c| c.rules.output = PaymentOutput::Replaced, E::Outputs),
    ("a real prevout worth less", |c| c.rules.prevouts[0].value = sats(499_000), E::Contribution),
    ("no channel, and change", |c| { c.rules.channels.clear(); c.drop_output(3); c.drop_output(CHANNEL); c.rules.max_fee = Amount::MAX_MONEY; }, E::Payment),
    ("no channel, and the payment gone", |c| { c.rules.channels.clear(); c.rules.output = PaymentOutput::Replaced; c.drop_output(3); c.drop_output(CHANNEL); c.drop_output(CHANGE); c.rules.max_fee = Amount::MAX_MONEY; }, E::Outputs),
];

#[test]
fn the_good_proposal_passes_and_is_stable() {
    let case = case();
    let checked = case.rules.check(case.psbt.clone()).unwrap();
    assert_eq!((checked.our_inputs(), checked.psbt()), (&[OUR_INPUT][..], &case.psbt));
    let stable = case.rules.stable(&checked).unwrap();
    let funding: Vec<_> = stable.funding().iter().map(|(channel, vout)| (channel.intent.0, *vout)).collect();
    assert_eq!(funding, [(1, 2), (2, 3)]);
    assert_eq!(stable.transaction(), &case.psbt.unsigned_tx);
}

#[test]
fn every_spoiled_proposal_is_refused_for_its_own_reason() {
    for (name, spoil, error) in SPOILED {
        let mut case = case();
        spoil(&mut case);
        assert_eq!(case.rules.check(case.psbt).err(), Some(*error), "{name}");
    }
}

#[test]
fn a_contribution_pays_for_no_more_than_an_input_of_the_payers_own_type_at_whole_satoshis() {
    // 1,000 sat for 253 vB are 3 sat/vB in whole numbers; the payer has a P2TR input: 57 vB.
    let mut case = case();
    case.rules.contribution = Some((sats(10_000), 0));
    assert_eq!(case.rules.original.vsize(), 253);
    case.shift(FEE_OUTPUT, CHANGE, 3 * 57 - 50);
    assert!(case.rules.check(case.psbt.clone()).is_ok());
    case.shift(FEE_OUTPUT, CHANGE, 1);
    assert_eq!(case.rules.check(case.psbt).err(), Some(E::Contribution));
}

#[test]
fn a_payment_that_channels_replace_leaves_one_of_them_at_its_place() {
    let mut case = case();
    case.rules.output = PaymentOutput::Replaced;
    case.rules.channels[0].0.amount = sats(499_500);
    case.drop_output(CHANGE);
    case.output(CHANNEL - 1).value = sats(499_500);
    assert!(case.rules.check(case.psbt.clone()).is_ok());
    case.psbt.unsigned_tx.output.rotate_left(1);
    assert_eq!(case.rules.check(case.psbt.clone()).err(), Some(E::Outputs));
}

#[test]
fn channels_beside_a_kept_payment_are_paid_by_coins_of_ours() {
    let mut case = case();
    case.rules.output = PaymentOutput::Kept;
    case.rules.coins[0].txout.value = sats(551_000);
    case.psbt.inputs[OUR_INPUT].witness_utxo.as_mut().unwrap().value = sats(551_000);
    case.output(CHANGE).value = sats(600_500);
    let checked = case.rules.check(case.psbt.clone()).unwrap();
    assert_eq!(case.rules.stable(&checked).unwrap().funding().len(), 2);
    case.rules.max_fee = sats(10_000);
    case.output(CHANGE).value = sats(599_999);
    assert_eq!(case.rules.check(case.psbt).err(), Some(E::Payment));
}

type Split = (&'static str, fn(&mut Case), Option<E>);

#[test]
fn what_is_split_off_the_change_is_exact_and_ours() {
    const OURS: u32 = 700;
    let rows: &[Split] = &[
        ("as it is", |_| {}, None),
        ("at another place behind the payment", |c| c.psbt.unsigned_tx.output.swap(CHANNEL, 5), None),
        ("before the payment", |c| c.psbt.unsigned_tx.output.swap(CHANGE, 5), Some(E::Place)),
        ("a satoshi less", |c| c.shift(5, CHANGE, 1), Some(E::Outputs)),
        ("a satoshi more", |c| c.shift(CHANGE, 5, 1), Some(E::Outputs)),
        ("to another script", |c| c.output(5).script_pubkey = script(Kind::P2wpkh, 9), Some(E::Outputs)),
        ("missing", |c| c.drop_output(5), Some(E::Outputs)),
        ("one that nobody planned", |c| c.rules.splits.clear(), Some(E::Outputs)),
        (
            "to a payer's script",
            |c| c.rules.splits[0].script_pubkey = script(Kind::P2wpkh, 500),
            Some(E::Ambiguous),
        ),
        ("to a channel", |c| c.rules.splits[0].script_pubkey = funding_script(1), Some(E::Ambiguous)),
        ("to the payment", |c| c.rules.splits[0].script_pubkey = invoice().script, Some(E::Ambiguous)),
        ("dust", |c| c.rules.splits[0].value = sats(293), Some(E::Dust)),
    ];
    for (name, spoil, error) in rows {
        let mut case = case();
        let split = txout(40_000, script(Kind::P2wpkh, OURS));
        case.output(CHANGE).value -= split.value;
        case.rules.splits = vec![split.clone()];
        case.psbt.unsigned_tx.output.push(split);
        case.psbt.outputs.push(Default::default());
        spoil(&mut case);
        assert_eq!(case.rules.check(case.psbt).err(), *error, "{name}");
    }
}

type Stability = (&'static str, fn(&mut Conservation), Result<(), E>);

#[test]
fn only_a_final_id_that_the_payer_cannot_replace_is_stable() {
    let rows: &[Stability] = &[
        ("as it is", |_| {}, Ok(())),
        ("a nested input", |c| c.prevouts[0].script_pubkey = script(Kind::Nested, 1), Err(E::Malleable)),
        ("a legacy input", |c| c.prevouts[0].script_pubkey = script(Kind::P2pkh, 1), Err(E::Malleable)),
        (
            "pay to anchor",
            |c| c.prevouts[0].script_pubkey = ScriptBuf::from_hex("51024e73").unwrap(),
            Err(E::Malleable),
        ),
        ("an input without witness", |c| c.original.input[0].witness = Witness::new(), Err(E::Malleable)),
        (
            "an input with a scriptSig",
            |c| c.original.input[0].script_sig = ScriptBuf::from_hex("51").unwrap(),
            Err(E::Malleable),
        ),
        (
            "a legacy coin of ours",
            |c| c.coins[0].txout.script_pubkey = script(Kind::P2pkh, 1),
            Err(E::Malleable),
        ),
        ("no coin of ours", |c| c.coins.clear(), Err(E::Replaceable)),
        (
            "the operator vouches, and an input is nobody's",
            |c| {
                c.coins.clear();
                c.payer_is_me = true;
            },
            Err(E::Inputs),
        ),
        ("no channel", |c| c.channels.clear(), Err(E::Outputs)),
        ("a channel that is not there", |c| c.channels[0].1 = funding_script(9), Err(E::Outputs)),
    ];
    for (name, change, expected) in rows {
        let mut case = case();
        let checked = case.rules.check(case.psbt).unwrap();
        change(&mut case.rules);
        assert_eq!(case.rules.stable(&checked).map(drop), *expected, "{name}");
    }
}

#[test]
fn without_channels_the_payment_output_only_grows_or_gives_what_the_original_lacks_of_its_own_rate() {
    let spends = [Spend::new(Kind::P2wpkh, 1, 500_000)];
    let before = original(&spends, vec![txout(499_000, invoice().script)], true);
    let rules = Conservation {
        original: before.clone().extract_tx_unchecked_fee_rate(),
        prevouts: vec![spends[0].txout.clone()],
        payment: 0,
        contribution: None,
        coins: Vec::new(),
        channels: Vec::new(),
        splits: Vec::new(),
        output: PaymentOutput::Kept,
        min_fee_rate: MinFeeRate::ZERO,
        max_fee: sats(50_000),
        payer_is_me: false,
    };
    let mut same = before;
    same.inputs[0].final_script_witness = None;
    assert!(rules.check(same.clone()).is_ok());
    same.unsigned_tx.output[0].value -= Amount::ONE_SAT;
    assert_eq!(rules.check(same.clone()).err(), Some(E::Payment));
    // The Original pays 1,000 sat: enough, one too few, two too few.
    let size = rules.original.weight().to_vbytes_ceil() as f64;
    for (demanded, outcome) in [(999.5, Some(E::Payment)), (1_000.5, None), (1_001.5, Some(E::Payment))] {
        let min_fee_rate = MinFeeRate::from_sat_per_vb(demanded / size).unwrap();
        let lacking = Conservation { output: PaymentOutput::Change, min_fee_rate, ..rules.clone() };
        assert_eq!(lacking.check(same.clone()).err(), outcome, "{demanded}");
        let with_coin = Conservation { coins: vec![our_coin(0, 50_000).coin()], ..lacking };
        assert!(with_coin.check(same.clone()).is_err(), "a coin of ours would pay for it");
    }
}

#[test]
fn money_rule_2_conservation_a_proposal_that_is_just_light_enough_passes() {
    let mut case = case();
    // No contribution: at the lower rate of a heavy Original it would be too much.
    case.rules.contribution = None;
    case.output(FEE_OUTPUT).value = sats(200_000);
    case.rules.max_fee = sats(1_000);
    case.sign_with(396_000);
    assert!(case.rules.check(case.psbt.clone()).is_ok());
    case.set_version(Version(3));
    assert_eq!(case.rules.check(case.psbt.clone()).map(drop), Err(E::Weight));
    case.sign_with(37_000);
    assert!(case.rules.check(case.psbt).is_ok());
}
