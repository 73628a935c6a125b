//! The order of questions, failures at each of them, and what the payer gets to read.

use bitcoin::{Amount, FeeRate, Psbt, ScriptBuf, Transaction, Witness};
use payjoin_core::{
    Answer, Exchange, ExchangeError, ExchangeId, Invoice, Output, Policy, Question, Reply, Request, Stock,
    Timestamp,
};

use crate::kit::*;

const PLAIN: [&str; 6] = ["recall", "inspect", "owns", "resources", "sign", "offer"];
const CHANNEL: [&str; 9] =
    ["recall", "inspect", "owns", "resources", "admit", "open", "fund", "sign", "release"];

fn host(payment: &Payment) -> Host {
    Host::new(&payment.spends).with_coins(&[our_coin(0, 100_000)])
}

fn channel_host(payment: &Payment) -> Host {
    host(payment).with_wishes(&[exact(1, 400_000), exact(2, 150_000)])
}

/// The value that an output with this script has; panics unless it is there exactly once.
fn value(psbt: &Psbt, script: &ScriptBuf) -> Amount {
    let mut outputs = psbt.unsigned_tx.output.iter().filter(|output| output.script_pubkey == *script);
    let value = outputs.next().unwrap().value;
    assert!(outputs.next().is_none());
    value
}

#[test]
fn a_plain_payjoin_raises_the_payment_by_our_coin() {
    use Kind::{Nested, P2pkh, P2tr, P2wpkh, P2wsh};
    for kinds in [vec![P2wpkh], vec![P2wpkh, P2tr], vec![P2wsh, P2wpkh], vec![Nested, P2pkh]] {
        let payment = payment(&kinds);
        let mut host = host(&payment);
        let psbt = payment.run(&mut host);
        assert_eq!(host.asked, PLAIN);
        assert_eq!(psbt.unsigned_tx.input.len(), kinds.len() + 1);
        let raised = value(&psbt, &invoice().script) - sats(PAID);
        assert!(raised > sats(99_000) && raised <= sats(100_000), "{raised}");
        let release = host.release.unwrap();
        assert_eq!((release.channels.len(), release.reason, release.coins.len()), (0, None, 1));
    }
}

#[test]
fn an_empty_wallet_gives_the_original_back_as_a_plain_proposal() {
    let payment = payment(&[Kind::P2wpkh, Kind::P2tr]);
    let mut host = Host::new(&payment.spends);
    let psbt = payment.run(&mut host);
    assert_eq!(psbt.unsigned_tx, payment.psbt.unsigned_tx);
    assert_eq!(host.asked, PLAIN);
}

#[test]
fn a_legacy_or_time_locked_original_gets_no_coin() {
    let legacy = payment(&[Kind::P2pkh]);
    let psbt = legacy.run(&mut host(&legacy));
    assert_eq!(psbt.unsigned_tx, legacy.psbt.unsigned_tx);

    let mut locked = payment(&[Kind::P2wpkh]);
    locked.psbt.unsigned_tx.input[0].sequence = bitcoin::Sequence::from_height(10);
    let psbt = locked.run(&mut host(&locked));
    assert_eq!(psbt.unsigned_tx, locked.psbt.unsigned_tx);
}

#[test]
fn the_payment_pays_for_channels_and_keeps_the_change() {
    let payment = payment(&[Kind::P2wpkh, Kind::P2tr, Kind::P2wsh]);
    let mut host = channel_host(&payment);
    let psbt = payment.run(&mut host);
    assert_eq!(host.asked, CHANNEL);
    assert_eq!(value(&psbt, &funding_script(0)), sats(400_000));
    assert_eq!(value(&psbt, &funding_script(1)), sats(150_000));
    let change = value(&psbt, &invoice().script);
    assert!(change > sats(148_000) && change < sats(150_000), "{change}");
    let release = host.release.unwrap();
    let txid = psbt.unsigned_tx.compute_txid();
    assert_eq!((release.txid, release.reason), (txid, None));
    for (channel, id) in release.channels.iter().zip([1, 2]) {
        let output = &psbt.unsigned_tx.output[channel.vout as usize];
        assert_eq!((channel.intent.0, channel.amount), (id, output.value));
    }
}

#[test]
fn a_channel_takes_the_place_of_a_last_payment_of_either_type() {
    for (kind, less) in [(Kind::P2tr, 0..=0), (Kind::P2wpkh, 70..=90)] {
        let invoice = Invoice { script: script(kind, 900_001), payer_is_me: true, ..invoice() };
        let spends = [Spend::new(Kind::P2wpkh, 100, 1_000_000)];
        let outputs = vec![txout(399_000, script(Kind::P2wpkh, 500)), txout(PAID, invoice.script.clone())];
        let psbt = original(&spends, outputs, true);
        let mut host = Host::new(&spends).with_wishes(&[rest(1)]);
        let request = request("v=1", psbt.to_string().as_bytes());
        let reply = host.run(&mut Exchange::new(NOW, invoice, request, Policy::default()));
        let proposal = proposal(&reply);
        assert_eq!((proposal.unsigned_tx.output.len(), host.opened.len()), (2, 1), "{kind:?}");
        let paid = PAID - value(&proposal, &funding_script(0)).to_sat();
        assert!(less.contains(&paid), "{kind:?}: {paid}");
    }
}

#[test]
fn the_proposal_says_nothing_about_the_payers_inputs_and_finalizes_ours() {
    let payment = payment(&[Kind::P2wpkh, Kind::P2wpkh]);
    let psbt = payment.run(&mut channel_host(&payment));
    let mut ours = 0;
    for (input, data) in psbt.unsigned_tx.input.iter().zip(&psbt.inputs) {
        if payment.spends.iter().any(|spend| spend.outpoint == input.previous_output) {
            assert_eq!(*data, bitcoin::psbt::Input::default());
        } else {
            assert!(data.witness_utxo.is_some() && data.final_script_witness.is_some());
            ours += 1;
        }
    }
    assert_eq!(ours, 1);
    assert!(psbt.outputs.iter().all(|output| *output == bitcoin::psbt::Output::default()));
}

#[test]
fn channels_that_fail_leave_a_plain_payjoin_with_a_locked_coin() {
    for (lightning, reason) in
        [(Lightning::OpenFails, "the peer is offline"), (Lightning::FundFails, "the peer hung up")]
    {
        let payment = payment(&[Kind::P2wpkh]);
        let mut host = Host { lightning, ..channel_host(&payment) };
        let psbt = payment.run(&mut host);
        let (admission, release) = (host.admission.unwrap(), host.release.unwrap());
        assert_eq!(release.reason.as_deref(), Some(reason));
        assert_eq!((release.channels.len(), &release.coins), (0, &admission.coins));
        assert!(value(&psbt, &invoice().script) > sats(PAID));
        assert_eq!(admission.intents.len(), 2);
        assert!(host.abandoned.is_empty(), "the host abandoned them already");
    }
}

#[test]
fn a_plain_payjoin_tells_the_operator_why_no_queued_channel_was_opened() {
    let (segwit, nested): (&[Kind], &[Kind]) = (&[Kind::P2wpkh], &[Kind::Nested]);
    let coin = || vec![our_coin(0, 100_000)];
    for (kinds, fixed_outputs, authenticated, coins, wish, expected) in [
        (segwit, false, false, coin(), Some(400_000), Some("authenticated")),
        (segwit, true, true, coin(), Some(400_000), Some("substitution")),
        (nested, false, true, coin(), Some(400_000), Some("native segwit")),
        (segwit, false, true, vec![], Some(400_000), Some("no free coin")),
        (segwit, false, true, coin(), Some(900_000), Some("none that is queued fits")),
        (nested, true, false, coin(), None, None),
        (segwit, false, true, vec![], None, None),
    ] {
        let payment = payment(kinds);
        let payment = Payment { wishes: Wishes { fixed_outputs, ..payment.wishes }, ..payment };
        let wishes: Vec<_> = wish.map(|amount| exact(1, amount)).into_iter().collect();
        let mut host = Host::new(&payment.spends).with_coins(&coins).with_wishes(&wishes);
        host.exchange(Request { authenticated, ..payment.request() });
        let release = host.release.unwrap();
        let fits =
            expected.is_none_or(|part| release.reason.as_deref().is_some_and(|why| why.contains(part)));
        assert!(
            release.channels.is_empty() && fits && release.reason.is_some() == expected.is_some(),
            "{release:?}"
        );
    }
}

#[test]
fn a_limit_that_keeps_channels_from_opening_is_named_with_the_value_that_would_do() {
    let sat_per_vb = FeeRate::from_sat_per_vb_u32;
    let whole = Policy { top_up: true, ..Policy::default() };
    let invoice = || Invoice { top_up: false, ..invoice() };
    let payment = payment(&[Kind::P2wpkh]);
    let reason = |policy: Policy, channel| {
        let host = Host::new(&payment.spends).with_coins(&[our_coin(0, 400_000)]);
        let mut host = host.with_wishes(&[exact(1, channel)]);
        let request = Request { authenticated: true, ..payment.request() };
        host.run(&mut Exchange::new(NOW, invoice(), request, policy));
        host.release.unwrap().reason
    };
    for (policy, channel, parts) in [
        (Policy { max_fee: sats(1), ..whole.clone() }, 400_000, &["`max_fee` under [policy] is 1: "][..]),
        (
            Policy { max_fee_rate: sat_per_vb(1), ..whole.clone() },
            400_000,
            &["`max_fee_rate` under [policy] is 1: "],
        ),
        (Policy { top_up: false, ..whole.clone() }, PAID + 1_000, &["needs 1000 sat more", "`top_up`"]),
        (
            Policy { max_fee: sats(1), max_fee_rate: sat_per_vb(1), ..whole.clone() },
            400_000,
            &["`max_fee` under", "`max_fee_rate` under"],
        ),
    ] {
        let told = reason(policy.clone(), channel).unwrap();
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        assert!(!told.contains("none that is queued fits"), "{told}");
        // What it says would do, does.
        let value = |name: &str| {
            let rest = told.split(name).nth(1).and_then(|rest| rest.split("would have to be ").nth(1))?;
            rest.split(|letter: char| !letter.is_ascii_digit() && letter != '.').next()?.parse::<f64>().ok()
        };
        let better = Policy {
            max_fee: value("`max_fee` ").map_or(policy.max_fee, |sat| sats(sat as u64)),
            max_fee_rate: value("`max_fee_rate` ")
                .map_or(policy.max_fee_rate, |rate| FeeRate::from_sat_per_kwu((rate * 250.0).round() as u64)),
            top_up: true,
            ..policy
        };
        assert_eq!(reason(better, channel), None, "{told}");
    }
}

#[test]
fn funding_scripts_that_cannot_be_used_are_abandoned_before_they_are_funded() {
    let one = funding_script(1);
    let bad: [(&str, Vec<ScriptBuf>); 7] = [
        ("one too few", vec![one.clone()]),
        ("one too many", vec![one.clone(), funding_script(2), funding_script(3)]),
        ("the same twice", vec![one.clone(), one.clone()]),
        ("not P2WSH", vec![one.clone(), script(Kind::P2tr, 1)]),
        ("our own", vec![one.clone(), invoice().script]),
        ("the payer's change", vec![one.clone(), script(Kind::P2wpkh, 500)]),
        ("none at all", vec![]),
    ];
    for (name, scripts) in bad {
        let payment = payment(&[Kind::P2wpkh]);
        let mut host = Host { lightning: Lightning::Scripts(scripts), ..channel_host(&payment) };
        let psbt = payment.run(&mut host);
        assert_eq!(host.asked[5..], ["open", "abandon", "sign", "release"], "{name}");
        assert!(value(&psbt, &invoice().script) > sats(PAID), "{name}");
        assert!(host.release.unwrap().reason.is_some(), "{name}");
    }
}

#[test]
fn a_funding_script_that_the_payer_pays_too_is_not_used() {
    let spends = [Spend::new(Kind::P2wpkh, 100, 1_000_000)];
    let outputs = vec![txout(399_000, funding_script(0)), txout(PAID, invoice().script)];
    let payment =
        Payment { psbt: original(&spends, outputs, true), spends: spends.into(), wishes: Wishes::default() };
    let mut host = channel_host(&payment);
    payment.run(&mut host);
    assert_eq!(host.asked[5..], ["open", "abandon", "sign", "release"]);
}

#[test]
fn wrong_signatures_end_with_unavailable_and_abandoned_channels() {
    use Signing::{Fails, Nothing, OtherTransaction, ScriptSig, SighashNone, Theirs};
    for signing in [Fails, Nothing, SighashNone, Theirs, OtherTransaction, ScriptSig] {
        let payment = payment(&[Kind::P2wpkh]);
        let mut with = Host { signing, ..channel_host(&payment) };
        let reply = with.exchange(payment.request());
        assert_eq!((reply.status(), with.asked.last()), (503, Some(&"abandon")), "{signing:?}");
        let mut without = Host { signing, ..host(&payment) };
        let reply = without.exchange(payment.request());
        assert_eq!((reply.status(), without.asked.last()), (503, Some(&"admit")), "{signing:?}");
        assert!(with.release.is_none() && without.release.is_none(), "{signing:?}");
    }
}

#[test]
fn a_failure_at_any_question_ends_with_unavailable_and_nothing_open() {
    for (fails_at, name) in CHANNEL.iter().enumerate() {
        let payment = payment(&[Kind::P2wpkh]);
        let mut host = channel_host(&payment);
        let mut exchange = Exchange::new(NOW, invoice(), payment.request(), Policy::default());
        for _ in 0..fails_at {
            host.step(&mut exchange);
        }
        exchange.handle_input(NOW, Answer::Failed("no".into())).unwrap();
        let opened = ["open", "fund", "sign", "release"].contains(name);
        if opened {
            assert!(matches!(exchange.poll_output(), Output::Ask(Question::Abandon(_))), "{name}");
            exchange.handle_input(NOW, Answer::Failed("no".into())).unwrap();
        }
        match exchange.poll_output() {
            Output::Done(reply) => assert_eq!(reply.status(), 503, "{name}"),
            Output::Ask(question) => panic!("{name}: {question:?}"),
        }
    }
}

#[test]
fn channels_that_cannot_open_are_left_out_and_what_they_leave_is_change() {
    let payment = payment(&[Kind::P2wpkh]);
    let whole = {
        let mut host = channel_host(&payment);
        value(&payment.run(&mut host), &invoice().script)
    };
    for (failing, left, sat) in [(0, 1, 150_000), (1, 0, 400_000)] {
        let mut host = Host { lightning: Lightning::SomeFail(vec![failing]), ..channel_host(&payment) };
        let psbt = payment.run(&mut host);
        assert_eq!(host.asked, CHANNEL);
        assert_eq!(value(&psbt, &funding_script(left)), sats(sat));
        let change = value(&psbt, &invoice().script);
        let freed = sats(550_000 - sat);
        assert!(change >= whole + freed && change < whole + freed + sats(1_000), "{change}");
        let release = host.release.unwrap();
        let intents: Vec<_> = release.channels.iter().map(|channel| channel.intent.0).collect();
        assert_eq!(intents, [u64::from(left) + 1]);
        assert_eq!(release.reason, Some(format!("number {failing} is away")));
    }
    let mut host = Host { lightning: Lightning::SomeFail(vec![0, 1]), ..channel_host(&payment) };
    payment.run(&mut host);
    let release = host.release.unwrap();
    assert_eq!((release.channels.len(), release.coins.len()), (0, 1));
    assert_eq!(release.reason.as_deref(), Some("number 0 is away; number 1 is away"));
}

#[test]
fn money_rule_9_a_code_that_was_paid_over_lightning_takes_no_payjoin() {
    let payment = payment(&[Kind::P2wpkh]);
    for host in [channel_host(&payment), Host::new(&payment.spends)] {
        let mut host = Host { paid: true, ..host };
        let reply = host.exchange(payment.request());
        assert_eq!((reply.status(), host.opened.len()), (503, 0));
        assert!(reply.body().contains("unavailable") && reply.body().contains("has been paid"));
        assert!(host.release.is_none() && host.checked.is_none_or(|checked| checked.our_inputs().is_empty()));
    }
}

#[test]
fn an_answer_to_another_question_is_an_error_and_changes_nothing() {
    let answers = [
        Answer::Recalled(None),
        Answer::Owned(vec![]),
        Answer::Admitted(ExchangeId(1)),
        Answer::Seen,
        Answer::Paid,
        Answer::Opened(vec![]),
        Answer::Funded,
        Answer::Short(vec![]),
        Answer::ChannelsFailed("?".into()),
        Answer::Abandoned,
        Answer::Released,
        Answer::Resources(payjoin_core::Resources::default()),
    ];
    let payment = payment(&[Kind::P2wpkh]);
    let mut host = channel_host(&payment);
    let mut exchange = Exchange::new(NOW, invoice(), payment.request(), Policy::default());
    let mut wrong = 0;
    while let Output::Ask(question) = exchange.poll_output() {
        let before = format!("{question:?}");
        for answer in &answers {
            if fits(&question, answer) {
                continue;
            }
            let outcome = exchange.handle_input(NOW, answer.clone());
            assert_eq!(outcome, Err(ExchangeError::UnexpectedAnswer), "{question:?} {answer:?}");
            let Output::Ask(after) = exchange.poll_output() else { panic!("ended") };
            assert_eq!(format!("{after:?}"), before);
            wrong += 1;
        }
        host.step(&mut exchange);
    }
    assert!(wrong > 70);
    assert!(exchange.handle_input(NOW, Answer::Failed("late".into())).is_err(), "it is over");
}

fn fits(question: &Question, answer: &Answer) -> bool {
    matches!(
        (question, answer),
        (Question::Recall(_), Answer::Recalled(_))
            | (Question::Resources(_), Answer::Resources(_))
            | (Question::Admit(_), Answer::Admitted(_) | Answer::Seen | Answer::Paid)
            | (Question::OpenChannels(_), Answer::Opened(_) | Answer::ChannelsFailed(_))
            | (Question::Fund(..), Answer::Funded | Answer::ChannelsFailed(_))
            | (Question::Release(..), Answer::Released)
    )
}

#[test]
fn deadlines_leave_time_for_a_plain_payjoin_and_none_for_durable_writes() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut host = channel_host(&payment);
    let mut exchange = Exchange::new(NOW, invoice(), payment.request(), Policy::default());
    let deadlines = |late: u64| {
        let whole = NOW.plus(50);
        let channels = NOW.plus(late + 20).min(NOW.plus(45));
        let never = Timestamp(u64::MAX);
        [whole, whole, whole, whole, never, channels, channels, whole, never]
    };
    for (question, deadline) in CHANNEL.iter().zip(deadlines(30)) {
        assert_eq!(exchange.deadline(), deadline, "{question}");
        host.now = NOW.plus(30);
        host.step(&mut exchange);
    }
}

#[test]
fn no_channel_is_opened_when_no_time_is_left_for_it() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut host = Host { now: NOW.plus(46), ..channel_host(&payment) };
    let psbt = payment.run(&mut host);
    assert_eq!(host.asked, ["recall", "inspect", "owns", "resources", "admit", "sign", "release"]);
    assert!(value(&psbt, &invoice().script) > sats(PAID));
    assert!(host.release.unwrap().reason.is_some());
}

#[test]
fn the_final_transaction_is_valid_for_its_signatures_and_pays_the_originals_fee_rate() {
    for kinds in [vec![Kind::P2wpkh], vec![Kind::P2tr, Kind::P2wsh], vec![Kind::Nested, Kind::P2wpkh]] {
        let payment = payment(&kinds);
        let mut host = channel_host(&payment);
        let psbt = payment.run(&mut host);
        let spends = [payment.spends.clone(), host.coins.clone()].concat();
        let prevouts: Vec<_> = psbt
            .unsigned_tx
            .input
            .iter()
            .map(|input| {
                spends.iter().find(|spend| spend.outpoint == input.previous_output).unwrap().txout.clone()
            })
            .collect();
        let ours = psbt.clone();
        let mut signed = psbt;
        sign(&mut signed, &payment.spends, &prevouts, true);
        sign(&mut signed, &host.coins, &prevouts, true);
        // Signing is deterministic: our signatures were over the very transaction that the payer completes.
        for (ours, all) in
            ours.inputs.iter().zip(&signed.inputs).filter(|(ours, _)| ours.witness_utxo.is_some())
        {
            assert_eq!(ours.final_script_witness, all.final_script_witness);
        }
        let rate = |transaction: &Transaction, inputs: Amount| {
            let outputs: Amount = transaction.output.iter().map(|output| output.value).sum();
            (inputs - outputs) / transaction.weight()
        };
        let before = rate(
            &payment.psbt.clone().extract_tx_unchecked_fee_rate(),
            payment.spends.iter().map(|spend| spend.txout.value).sum(),
        );
        let transaction = signed.extract_tx_unchecked_fee_rate();
        let after = rate(&transaction, prevouts.iter().map(|prevout| prevout.value).sum());
        assert!(
            after >= before && after.to_sat_per_kwu() <= before.to_sat_per_kwu() + 20,
            "{before} {after}"
        );
    }
}

#[test]
fn identity_covers_invoice_and_transaction_and_neither_query_nor_signatures() {
    let id = |name: &str, query: &str, psbt: &Psbt| {
        let mut invoice = invoice();
        invoice.id.0 = name.into();
        let body = psbt.to_string();
        let exchange = Exchange::new(NOW, invoice, request(query, body.as_bytes()), Policy::default());
        exchange.original_id().0.clone()
    };
    let (here, nested) = (payment(&[Kind::P2wpkh]).psbt, payment(&[Kind::Nested]).psbt);
    let mut less = here.clone();
    less.unsigned_tx.output[0].value -= Amount::ONE_SAT;
    let ids = [id("a", "", &here), id("ab", "", &here), id("a", "", &nested), id("a", "", &less)];
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    for original in [&here, &nested] {
        let mut anew = original.clone();
        anew.inputs[0].final_script_witness = Some(Witness::from_slice(&[[1; 64]]));
        assert_eq!(id("a", "v=1&minfeerate=1", &anew), id("a", "", original));
    }
    assert_eq!(ids[0].len(), 64);
}

#[test]
fn a_proposal_is_plain_text_with_status_200() {
    let reply = Reply::Proposal("cHNidP8=".into());
    assert_eq!(
        (reply.status(), reply.content_type(), reply.body().as_str()),
        (200, "text/plain", "cHNidP8=")
    );
}

/// A payment with these outputs beside ours, and an offer of so much from the output of that index.
fn with_outputs(others: &[(u64, ScriptBuf)], offer: (u64, usize)) -> (Vec<Spend>, Psbt, String) {
    let paid: u64 = others.iter().map(|(value, _)| value).sum();
    let spends = vec![Spend::new(Kind::P2wpkh, 100, paid + PAID + 1_000)];
    let outputs = others.iter().map(|(value, script)| txout(*value, script.clone()));
    let outputs = outputs.chain([txout(PAID, invoice().script)]).collect();
    let query = format!("v=1&maxadditionalfeecontribution={}&additionalfeeoutputindex={}", offer.0, offer.1);
    (spends.clone(), original(&spends, outputs, true), query)
}

#[test]
fn an_offer_is_taken_as_far_as_it_goes() {
    let change = script(Kind::P2wpkh, 500);
    // 1,000 sat for 152 vB: 6 sat/vB in whole numbers, 408 for an input. At most that, at most the offer, never into dust.
    for (value, offer, left) in
        [(50_000, 900, 49_592), (50_000, 100, 49_900), (594, 900, 294), (294, 900, 294)]
    {
        let (spends, psbt, query) = with_outputs(&[(value, change.clone())], (offer, 0));
        let mut host = Host::new(&spends).with_coins(&[our_coin(0, 100_000)]);
        let reply = host.exchange(request(&query, psbt.to_string().as_bytes()));
        assert_eq!(self::value(&proposal(&reply), &change), sats(left), "{offer} of {value}");
    }
}

#[test]
fn an_offer_from_one_of_two_equal_outputs_is_taken_only_from_the_first() {
    let change = script(Kind::P2wpkh, 500);
    for (index, taken) in [(0, true), (1, false)] {
        let (spends, psbt, query) =
            with_outputs(&[(50_000, change.clone()), (50_000, change.clone())], (900, index));
        let mut host = Host::new(&spends).with_coins(&[our_coin(0, 100_000)]);
        let reply = host.exchange(request(&query, psbt.to_string().as_bytes()));
        let proposal = proposal(&reply);
        let theirs = proposal.unsigned_tx.output.iter().filter(|output| output.script_pubkey == change);
        let full: Vec<bool> = theirs.map(|output| output.value == sats(50_000)).collect();
        assert_eq!(full, [!taken, true], "offered output {index}");
        assert_eq!(host.admission.unwrap().coins.len(), 1, "offered output {index}");
    }
}

#[test]
fn a_plain_payjoin_takes_no_coin_that_costs_more_than_it_brings_or_that_the_reserve_needs() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut small = Host::new(&payment.spends).with_coins(&[our_coin(0, 400)]);
    let psbt = Payment { wishes: Wishes::default(), ..payment }.run(&mut small);
    assert_eq!(psbt.unsigned_tx.input.len(), 1);

    let payment = self::payment(&[Kind::P2wpkh]);
    let coins = [our_coin(0, 400), our_coin(1, 100_000)];
    let mut passed_over = Host::new(&payment.spends).with_coins(&coins);
    Payment { wishes: Wishes::default(), ..payment }.run(&mut passed_over);
    assert_eq!(passed_over.admission.unwrap().coins, [coins[1].outpoint]);

    let payment = self::payment(&[Kind::P2wpkh]);
    let mut reserved = host(&payment);
    reserved.reserve.existing = sats(1);
    assert_eq!(payment.run(&mut reserved).unsigned_tx.input.len(), 1);
}

#[test]
fn a_plain_payjoin_prefers_the_coin_that_hides_which_output_is_whose() {
    // Beside outputs of 399,000 and more, an input of 50,000 would look unnecessary; one of 500,000 does not.
    let payment = payment(&[Kind::P2wpkh]);
    let coins = [our_coin(0, 50_000), our_coin(1, 500_000)];
    let mut host = Host::new(&payment.spends).with_coins(&coins);
    payment.run(&mut host);
    assert_eq!(host.admission.unwrap().coins, [coins[1].outpoint]);
}

#[test]
fn scripts_for_what_is_split_off_are_asked_for_once_the_original_is_kept_and_no_peer_is_asked_without_them() {
    let payment = payment(&[Kind::P2wpkh]);
    for no_scripts in [false, true] {
        let mut host = host(&payment).with_wishes(&[exact(1, 100_000), exact(2, 100_000)]);
        host.reserve.per_channel = sats(30_000);
        host.reserve.stock = Some(Stock { whole: 1, parts: Amount::ZERO, channels: 0 });
        host.no_scripts = no_scripts;
        let proposal = payment.run(&mut host);
        let asked = ["recall", "inspect", "owns", "resources", "admit", "scripts"];
        assert_eq!(host.asked[..6], asked);
        assert_eq!(host.asked.contains(&"open"), !no_scripts);
        let split = proposal.unsigned_tx.output.iter().filter(|o| host.own.contains(&o.script_pubkey));
        let split: Vec<_> = split.map(|output| output.value.to_sat()).collect();
        assert_eq!(split, if no_scripts { vec![] } else { vec![30_000] });
        let release = host.release.unwrap();
        assert_eq!(release.channels.len(), if no_scripts { 0 } else { 2 });
        assert_eq!(release.reason.is_some(), no_scripts);
    }
}

#[test]
fn an_offer_from_our_own_output_does_not_count_when_the_reserve_is_planned() {
    let payment = payment(&[Kind::P2wpkh]);
    let body = payment.payer().body;
    // What comes back is 300,000 less 447 for the coin and 283 for the channel's output; the payer may add 408.
    for (index, opened) in [(0, 1), (1, 0)] {
        let mut host = host(&payment).with_wishes(&[exact(1, 400_000)]);
        host.reserve.per_channel = sats(299_500);
        let query = format!("v=1&maxadditionalfeecontribution=900&additionalfeeoutputindex={index}");
        assert_eq!(host.exchange(request(&query, &body)).status(), 200);
        assert_eq!(host.opened.len(), opened, "offered output {index}");
    }
}
