//! Payments from the node's wallet, on a real bitcoind.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod node_support;

use bitcoin::psbt::Input;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, Sequence, TxIn, TxOut};
use node_support::{Bitcoind, Setup, build, sign, start, until};
use payjoin_core::{Acceptance, Chain, ExchangeId, Holder, PaymentId};
use payjoin_lightning::node::{SignError, SpendError, raise};
use serde_json::json;

const FIRST: PaymentId = PaymentId(1);
const SECOND: PaymentId = PaymentId(2);
const RATE: FeeRate = FeeRate::from_sat_per_vb_u32(5);

fn output(sat: u64) -> TxOut {
    let script_pubkey = bitcoin::ScriptBuf::from_hex(&format!("0014{}", "33".repeat(20))).unwrap();
    TxOut { value: Amount::from_sat(sat), script_pubkey }
}

fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

/// The rate that a transaction pays, in satoshis per virtual byte.
fn rate(psbt: &Psbt) -> f64 {
    let size = psbt.clone().extract_tx().unwrap().vsize();
    psbt.fee().unwrap().to_sat() as f64 / size as f64
}

fn inputs(psbt: &Psbt) -> Vec<OutPoint> {
    psbt.unsigned_tx.input.iter().map(|input| input.previous_output).collect()
}

/// Pays, and waits until the block with the payment is known.
async fn pay(bitcoind: &Bitcoind, setup: &Setup, sat: u64) -> Psbt {
    let psbt = setup.node.pay_on_chain(SECOND, &output(sat), RATE).unwrap();
    bitcoind.broadcast(&psbt.clone().extract_tx().unwrap()).await;
    bitcoind.mine_for(1, &[&setup.node]).await;
    psbt
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_mined_with_its_fee_rate_and_its_change_comes_back() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let coin = setup.earn(&bitcoind, 300_000).await;
    // From P2TR first, then from the P2WPKH change.
    for expected in [300_000, 200_000] {
        let before = setup.node.balance().confirmed;
        let psbt = setup.node.pay_on_chain(FIRST, &output(50_000), RATE).unwrap();
        assert!((5.0..5.1).contains(&rate(&psbt)), "{} sat/vB", rate(&psbt));
        assert!(before <= sat(expected), "{before}");
        assert_eq!(setup.node.balance().locked, before, "every coin of the payment is locked");
        let paid = psbt.clone().extract_tx().unwrap();
        let cost = setup.node.wallet().cost(&psbt, &paid).unwrap();
        assert_eq!(cost, sat(50_000) + psbt.fee().unwrap());
        bitcoind.broadcast(&paid).await;
        bitcoind.mine_for(1, &[&setup.node]).await;
        setup.node.wallet().hold(Holder::Payment(FIRST), &[]);
        assert_eq!(setup.node.balance().confirmed, before - cost);
        // A second payment leaves more than 50,000 in the first change.
        if expected == 300_000 {
            assert_eq!(inputs(&psbt), [coin]);
            pay(&bitcoind, &setup, 50_000).await;
        }
    }
    assert!(
        setup.node.wallet().coins().iter().all(|coin| coin.address.starts_with("bcrt1q") && !coin.locked)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_coin_that_is_enough_is_spent_and_types_mix_only_if_they_must() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    // After every four P2WPKH coins, here such that cost more than they bring, the stock lacks a P2TR coin.
    let mut taproot = Vec::new();
    for sat in [100_000, 60_000] {
        for _ in 0..4 {
            setup.earn(&bitcoind, 300).await;
        }
        taproot.push(setup.earn(&bitcoind, sat).await);
    }
    setup.earn(&bitcoind, 400_000).await;
    pay(&bitcoind, &setup, 300_000).await; // Leaves about 99,000 in P2WPKH.
    let segwit = setup.node.wallet().coins().last().unwrap().outpoint;
    for (amount, expected) in [
        (50_000, vec![segwit]),
        (99_100, vec![taproot[0]]),
        (130_000, vec![taproot[0], taproot[1]]),
        (250_000, vec![taproot[0], segwit, taproot[1]]),
    ] {
        let psbt = setup.node.pay_on_chain(FIRST, &output(amount), RATE).unwrap();
        let mut found = inputs(&psbt);
        setup.node.wallet().hold(Holder::Payment(FIRST), &[]);
        found.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(found, expected, "for {amount}");
        assert!(rate(&psbt) >= 5.0);
        assert_eq!(
            bitcoind.chain.inspect(&psbt.extract_tx().unwrap()).await.unwrap().acceptable,
            Acceptance::Yes
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_that_nobody_relays_goes_to_the_fee() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    setup.earn(&bitcoind, 100_000).await;
    let psbt = setup.node.pay_on_chain(FIRST, &output(99_300), RATE).unwrap();
    assert_eq!(psbt.unsigned_tx.output, [output(99_300)]);
    assert_eq!(psbt.fee().unwrap(), sat(700));
}

#[tokio::test(flavor = "multi_thread")]
async fn money_rule_7_a_payment_leaves_locked_coins_alone() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let coin = setup.earn(&bitcoind, 300_000).await;
    let other = Holder::Exchange(ExchangeId(1));
    setup.node.wallet().hold(other, &[coin]);
    let refused = setup.node.pay_on_chain(FIRST, &output(50_000), RATE).unwrap_err();
    assert!(matches!(refused, SpendError::NotEnough { spendable: Amount::ZERO }), "{refused}");
    setup.node.wallet().hold(other, &[]);
    setup.node.pay_on_chain(FIRST, &output(50_000), RATE).unwrap();
    let refused = setup.node.pay_on_chain(SECOND, &output(50_000), RATE).unwrap_err();
    assert!(matches!(refused, SpendError::NotEnough { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_closes_channels_is_not_spent_not_even_by_the_receivers_fee() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    setup.earn(&bitcoind, 300_000).await;
    let reserve = setup.node.reserve_per_channel() * 2;
    let pay = |amount: Amount| setup.node.wallet().pay(FIRST, &output(amount.to_sat()), RATE, 2);
    // 141 vB for the payment, 69 for an input of the receiver.
    let most = sat(300_000 - 210 * 5) - reserve;
    let refused = pay(most + sat(50)).unwrap_err();
    assert!(matches!(refused, SpendError::NotEnough { spendable } if spendable == sat(300_000) - reserve));
    pay(most - sat(50)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_channel_keeps_a_coin_of_its_own_whatever_the_sum() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    for _ in 0..2 {
        setup.earn(&bitcoind, 150_000).await;
    }
    let kept = setup.node.reserve_per_channel();
    let pay = |amount| setup.node.wallet().pay(FIRST, &output(amount), RATE, 2);
    // Both coins together would leave enough for two, in one piece.
    let refused = pay(180_000).unwrap_err();
    let most = sat(150_000) - kept;
    assert!(matches!(refused, SpendError::NotEnough { spendable } if spendable == most), "{refused}");
    assert_eq!(setup.node.wallet().balance(2).spendable, most);
    pay(most.to_sat() - 210 * 5 - 50).unwrap();
    assert_eq!(setup.node.wallet().balance(1).spendable, most, "the other is all that is left for one");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_and_locks_nothing() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    setup.earn(&bitcoind, 300_000).await;
    let refuses = |amount, rate| setup.node.pay_on_chain(FIRST, &output(amount), rate).unwrap_err();
    assert!(matches!(refuses(293, RATE), SpendError::Dust(_)));
    assert!(matches!(refuses(u64::MAX, RATE), SpendError::NotEnough { .. }));
    assert!(matches!(refuses(50_000, FeeRate::MAX), SpendError::NotEnough { .. }));
    assert_eq!(setup.node.balance().locked, Amount::ZERO);
}

/// A proposal for `original`: with this coin as a further input, and `taken` less change.
fn proposal(setup: &Setup, original: &Psbt, coin: OutPoint, value: Amount, taken: u64) -> Psbt {
    let mut proposal = original.clone();
    for output in &mut proposal.unsigned_tx.output {
        if setup.node.wallet().owns(std::slice::from_ref(&output.script_pubkey))[0] {
            output.value -= sat(taken);
        } else {
            output.value += value - sat(1_000);
        }
    }
    proposal.inputs.iter_mut().for_each(|input| input.final_script_witness = None);
    let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
    proposal.unsigned_tx.input.push(TxIn { previous_output: coin, sequence, ..TxIn::default() });
    let witness_utxo = Some(TxOut { value, ..output(0) });
    proposal.inputs.push(Input { witness_utxo, ..Input::default() });
    proposal
}

#[tokio::test(flavor = "multi_thread")]
async fn money_rule_2_a_payjoin_is_signed_only_where_and_while_the_original_allows_it() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let other = setup.earn(&bitcoind, 40_000).await;
    setup.earn(&bitcoind, 300_000).await;
    let original = setup.node.pay_on_chain(FIRST, &output(50_000), RATE).unwrap();
    let wallet = setup.node.wallet();
    // A coin of ours in the place of the receiver's: it stays unsigned.
    let slipped = proposal(&setup, &original, other, sat(40_000), 300);
    let signed = wallet.sign_payjoin(&original, &slipped).unwrap();
    let witnesses: Vec<bool> = signed.input.iter().map(|input| !input.witness.is_empty()).collect();
    assert_eq!(witnesses, [true, false]);
    let verdict = bitcoind.chain.inspect(&signed).await.unwrap().acceptable;
    assert!(matches!(verdict, Acceptance::No(_)), "{verdict:?}");
    // The fee for one input is his, a satoshi of another is not.
    let dear = proposal(&setup, &original, other, sat(40_000), 68 * 5);
    wallet.sign_payjoin(&original, &dear).unwrap();
    let dear = proposal(&setup, &original, other, sat(40_000), 69 * 5);
    assert_eq!(wallet.sign_payjoin(&original, &dear), Err(SignError::TooDear));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wallet_knows_which_transaction_spent_a_coin_and_where() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let coin = setup.earn(&bitcoind, 300_000).await;
    assert_eq!(setup.node.wallet().spent_by(coin), None);
    let psbt = setup.node.pay_on_chain(FIRST, &output(50_000), RATE).unwrap();
    let transaction = psbt.extract_tx().unwrap();
    bitcoind.broadcast(&transaction).await;
    setup.node.wallet().saw(&transaction);
    assert_eq!(setup.node.wallet().spent_by(coin), None, "not in the chain");
    bitcoind.mine_for(1, &[&setup.node]).await;
    let height = setup.node.height();
    assert_eq!(setup.node.wallet().spent_by(coin), Some((transaction, height)));
    let tip = bitcoind.call("getbestblockhash", json!([])).await;
    bitcoind.call("invalidateblock", json!([tip])).await;
    bitcoind.mine_for(2, &[&setup.node]).await;
    until("the payment is mined again", || {
        setup.node.wallet().spent_by(coin).is_some_and(|(_, height)| height == setup.node.height() - 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_raises_a_parent_of_either_version_that_nodes_relay() {
    let bitcoind = Bitcoind::start().await;
    for version in [2, 3] {
        let setup = start(&bitcoind).await;
        setup.earn(&bitcoind, 300_000).await;
        let ours = setup.node.wallet().new_address().unwrap().script_pubkey();
        let mut psbt = build(&setup.node, TxOut { script_pubkey: ours, ..output(50_000) });
        psbt.unsigned_tx.version = Version(version);
        let parent = sign(&setup.node, &psbt);
        bitcoind.broadcast(&parent).await;
        let rate = FeeRate::from_sat_per_vb_u32(20);
        let child = raise(&*bitcoind.source(), &*setup.node, &parent, 0, rate).await.unwrap();
        assert_eq!(child.version, parent.version, "not every node would refuse another");
        let entry = bitcoind.call("getmempoolentry", json!([child.compute_txid()])).await;
        let paid = Amount::from_btc(entry["fees"]["ancestor"].as_f64().unwrap()).unwrap().to_sat();
        let size = entry["ancestorsize"].as_u64().unwrap();
        assert!((20 * size..21 * size).contains(&paid), "{paid} sat for {size} vB");
    }
}
