//! The money rules, as far as the machines can prove them. The names are those of the design.

use bitcoin::Witness;
use bitcoin::psbt::raw::ProprietaryKey;
use payjoin_core::{
    Acceptance, Admission, Answer, ChannelFailure, Delivery, Exchange, FailureKind, IntentId, Invoice, Left,
    Output, Policy, Question, Release, Reply, Request, Settlement, SettlementInput, SettlementOutput,
};

use crate::kit::*;

fn host(payment: &Payment) -> Host {
    Host::new(&payment.spends).with_coins(&[our_coin(0, 100_000)]).with_wishes(&[exact(1, 400_000)])
}

#[test]
fn money_rule_1_release_a_proposal_leaves_only_when_every_channel_is_safe_and_the_write_is_durable() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut host = host(&payment);
    let mut exchange = Exchange::new(NOW, invoice(), payment.request(), Policy::default());
    while let Output::Ask(question) = exchange.poll_output() {
        let asked = host.asked.clone();
        match question {
            Question::Sign(_) => assert!(asked.contains(&"fund"), "signed before it was funded"),
            Question::Release(..) => assert!(asked.contains(&"sign"), "stored before it was signed"),
            _ => {}
        }
        host.step(&mut exchange);
    }
    assert_eq!(host.asked.last(), Some(&"release"));

    let mut failing = Host { release_fails: true, ..self::host(&payment) };
    let reply = failing.exchange(payment.request());
    assert_eq!(reply.status(), 503);
    assert_eq!(failing.asked.last(), Some(&"abandon"));
}

#[test]
fn money_rule_2_conservation_everything_that_is_signed_was_checked() {
    // `Question::Sign` takes a `CheckedProposal`, which only `Conservation` makes. This one is checked again by hand.
    let payment = payment(&[Kind::P2wpkh, Kind::P2tr]);
    let mut host = host(&payment);
    payment.run(&mut host);
    let psbt = host.checked.unwrap().psbt().clone();
    let inputs = 2_000_000 + 100_000;
    let outputs: u64 = psbt.unsigned_tx.output.iter().map(|output| output.value.to_sat()).sum();
    let fee = inputs - outputs;
    assert!((1_000..5_000).contains(&fee), "{fee}");
    assert_eq!(psbt.fee().unwrap().to_sat(), fee);
}

#[test]
fn money_rule_3_drain_no_channel_output_ever_moves_wherever_the_shuffle_puts_it() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut positions = std::collections::HashSet::new();
    for _ in 0..40 {
        let mut host = host(&payment).with_wishes(&[exact(1, 400_000), exact(2, 100_000), exact(3, 50_001)]);
        let psbt = payment.run(&mut host);
        for (channel, amount) in host.release.unwrap().channels.iter().zip([400_000, 100_000, 50_001]) {
            assert_eq!(psbt.unsigned_tx.output[channel.vout as usize].value, sats(amount));
            positions.insert(channel.vout);
        }
    }
    assert!(positions.len() > 1, "the shuffle moved nothing: the test shows nothing");
}

#[test]
fn money_rule_4_stable_txid_only_native_segwit_payers_open_channels() {
    for kind in KINDS {
        let payment = payment(&[Kind::P2wpkh, kind]);
        let mut host = host(&payment);
        let psbt = payment.run(&mut host);
        let native = matches!(kind, Kind::P2wpkh | Kind::P2tr | Kind::P2wsh);
        assert_eq!(host.channels_offered, Some(native), "{kind:?}");
        assert_eq!(host.stable.is_some(), native, "{kind:?}");
        if let Some(stable) = host.stable {
            assert_eq!(stable.transaction().compute_txid(), psbt.unsigned_tx.compute_txid());
        }
    }
}

#[test]
fn money_rule_4_stable_txid_is_judged_by_the_chain_and_not_by_the_payers_word() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut host = host(&payment);
    host.prevouts[0].as_mut().unwrap().script_pubkey = script(Kind::Nested, 100);
    assert_eq!(host.exchange(payment.request()).status(), 400);
    assert!(host.opened.is_empty());
}

#[test]
fn money_rule_5_own_input_an_empty_wallet_gets_a_plain_payjoin_first() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut empty = Host::new(&payment.spends).with_wishes(&[exact(1, 400_000)]);
    payment.run(&mut empty);
    assert!(empty.opened.is_empty() && empty.admission.unwrap().intents.is_empty());

    // The operator's word goes with the code: any queued channel opens for it, and by no other code does one.
    for payer_is_me in [true, false] {
        let mut code = Host { payer_is_me, ..Host::new(&payment.spends).with_wishes(&[rest(1)]) };
        assert_eq!(payment.run(&mut code).unsigned_tx.input.len(), 1);
        let channels: Vec<_> = code.release.unwrap().channels.iter().map(|channel| channel.amount).collect();
        assert_eq!(channels, if payer_is_me { vec![sats(PAID)] } else { vec![] });
    }

    let mut with_coin = host(&payment);
    assert_eq!(payment.run(&mut with_coin).unsigned_tx.input.len(), 2);
}

#[test]
fn money_rule_6_fallback_the_original_is_kept_before_anything_is_offered_and_sent_when_nothing_was_seen() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut host = host(&payment);
    payment.run(&mut host);
    let admission = host.admission.unwrap();
    assert_eq!(admission.original, payment.psbt.clone().extract_tx_unchecked_fee_rate());
    assert_eq!(admission.fallback_at, NOW.plus(600));
    assert_eq!(admission.fee, sats(1_000));
    let admit = host.asked.iter().position(|name| *name == "admit").unwrap();
    assert!(host.asked[..admit].iter().all(|name| ["recall", "inspect", "owns", "resources"].contains(name)));

    // A plain payjoin is kept and released in one write, and kept even where the wallet fails.
    let mut plain = Host { wishes: Vec::new(), ..self::host(&payment) };
    payment.run(&mut plain);
    assert_eq!(
        (plain.asked.last(), plain.admission.as_ref()),
        (
            Some(&"offer"),
            Some(&Admission {
                coins: vec![our_coin(0, 100_000).outpoint],
                intents: Vec::new(),
                ..admission.clone()
            })
        )
    );
    let mut unsigned = Host { wishes: Vec::new(), signing: Signing::Fails, ..self::host(&payment) };
    assert_eq!(unsigned.exchange(payment.request()).status(), 503);
    assert_eq!((unsigned.asked.last(), unsigned.admission), (Some(&"admit"), plain.admission));

    let release = host.release.unwrap();
    let obligation = payjoin_core::Obligation {
        exchange: payjoin_core::ExchangeId(1),
        original: admission.original.clone(),
        payment: payjoin_core::Invoice::owed(invoice().script, None, &admission.original),
        payjoin: Some(release.txid),
        fees: payjoin_core::Fees { original: admission.fee, payjoin: release.fee },
        coins: release.coins,
        channels: release.channels,
        plain: false,
        fallback_at: release.fallback_at,
        signed: None,
        mined: None,
    };
    let mut settlement = Settlement::new(obligation, Policy::default());
    settlement.handle_input(NOW.plus(600), SettlementInput::Tick);
    assert_eq!(settlement.poll_output(), SettlementOutput::Broadcast(admission.original));
}

#[test]
fn money_rule_7_locks_every_coin_that_is_shown_was_locked_by_the_admission() {
    // A plain payjoin alone would prefer the second coin of the first row.
    let rows =
        [(vec![50_000, 500_000], exact(1, 400_000), 1), (vec![60_000, 70_000, 80_000], exact(1, 700_000), 2)];
    for lightning in [Lightning::Works, Lightning::OpenFails, Lightning::FundFails] {
        for (coins, wish, locked) in rows.clone() {
            let payment = payment(&[Kind::P2wpkh]);
            let coins: Vec<Spend> = (0..).zip(coins).map(|(seed, value)| our_coin(seed, value)).collect();
            let mut host = Host::new(&payment.spends).with_coins(&coins).with_wishes(&[wish]);
            host.lightning = lightning.clone();
            payment.run(&mut host);
            let (admission, release) = (host.admission.unwrap(), host.release.unwrap());
            assert_eq!(admission.coins.len(), locked);
            assert!(release.coins.iter().all(|coin| admission.coins.contains(coin)));
            assert!(!release.coins.is_empty());
        }
    }
}

#[test]
fn money_rule_8_probing_no_coin_is_shown_before_the_payers_inputs_are_on_record() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut seen = Host { seen: true, ..host(&payment) };
    let reply = seen.exchange(payment.request());
    assert_eq!(reply, Reply::rejected("An input was offered before."));
    assert!(seen.checked.is_none() && seen.opened.is_empty());
}

#[test]
fn money_rule_8_probing_the_same_original_again_gets_the_same_bytes_again() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut first = host(&payment);
    let reply = first.exchange(payment.request());
    let mut again = Host { recall: first.release.map(|release| release.proposal), ..host(&payment) };
    let mut late = invoice();
    late.expires = payjoin_core::Timestamp(0);
    let mut exchange = Exchange::new(NOW, late, payment.request(), Policy::default());
    assert_eq!(again.run(&mut exchange), reply, "even when the invoice has expired since");
    assert_eq!(again.asked, ["recall"]);
}

/// The usual payment, answered once: what it got, and what asks for it again.
fn answered(wishes: Wishes) -> (Payment, Reply) {
    let payment = Payment { wishes, ..payment(&[Kind::P2wpkh]) };
    let reply = host(&payment).exchange(payment.request());
    (payment, reply)
}

/// What this request gets of a host that has answered its transaction before.
fn again(payment: &Payment, answer: &Reply, request: Request) -> Reply {
    let recall = Some(proposal(answer).to_string());
    let mut host = Host { recall, ..host(payment) };
    let reply = host.exchange(request);
    assert_eq!(host.asked, ["recall"], "nothing of ours is looked at");
    reply
}

fn to(delivery: Delivery) -> impl Fn(&mut Request) {
    move |request| request.delivery = delivery
}

#[test]
fn money_rule_8_probing_the_same_transaction_in_other_bytes_gets_what_it_got_before() {
    let (payment, answer) = answered(Wishes { contribution: Some((1_000, 0)), ..Wishes::default() });
    let mut anew = payment.psbt.clone();
    anew.proprietary.insert(ProprietaryKey { prefix: vec![7], subtype: 7, key: vec![7] }, vec![7]);
    let mut signature = anew.inputs[0].final_script_witness.clone().unwrap().to_vec();
    signature[0][9] ^= 1;
    anew.inputs[0].final_script_witness = Some(Witness::from_slice(&signature));
    for query in [
        "v=1&additionalfeeoutputindex=0&maxadditionalfeecontribution=1000",
        "additionalfeeoutputindex=0&maxadditionalfeecontribution=900&minfeerate=1&x=y",
    ] {
        for psbt in [&payment.psbt, &anew] {
            let request = request(query, psbt.to_string().as_bytes());
            assert_eq!(again(&payment, &answer, request), answer, "{query}");
        }
    }
}

#[test]
fn money_rule_8_probing_an_answer_that_breaks_what_is_asked_now_is_not_given_and_no_other_is() {
    const OFFER: &str = "additionalfeeoutputindex=0&maxadditionalfeecontribution";
    let refused = Reply::rejected("This payment was answered before, on other terms.");
    let (payment, answer) = answered(Wishes { contribution: Some((1_000, 0)), ..Wishes::default() });
    let body = payment.psbt.to_string();
    let with = |query: &str, change: &dyn Fn(&mut Request)| {
        let mut request = request(query, body.as_bytes());
        change(&mut request);
        again(&payment, &answer, request)
    };
    let (all, unchanged) = (format!("{OFFER}=1000"), |_: &mut Request| {});
    assert_eq!(with(&all, &unchanged), answer);
    assert_eq!(with(&all, &to(Delivery::DirectoryV1)), answer);
    for (query, why) in [
        (String::new(), "takes what is not offered"),
        (format!("{OFFER}=1"), "takes more than is offered"),
        (format!("{all}&minfeerate=900"), "pays less than is demanded"),
        (format!("{all}&disableoutputsubstitution=true"), "the payment shrank"),
    ] {
        assert_eq!(with(&query, &unchanged), refused, "{why}");
    }
    assert_eq!(with(&all, &|request: &mut Request| request.authenticated = false), refused);
    assert_eq!(with(&all, &to(Delivery::Mailbox)), refused, "says too little of the payer's inputs");
}

#[test]
fn money_rule_8_probing_a_v1_payer_gets_nothing_that_was_made_for_v2() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut request = payment.request();
    to(Delivery::Mailbox)(&mut request);
    let answer = host(&payment).exchange(request.clone());
    assert_eq!(again(&payment, &answer, request.clone()), answer);
    to(Delivery::Http)(&mut request);
    let refused = Reply::rejected("This payment was answered before, on other terms.");
    assert_eq!(again(&payment, &answer, request), refused);
}

#[test]
fn money_rule_8_probing_while_coins_are_shown_an_invoice_is_offered_no_others() {
    let coins = [our_coin(0, 50_000), our_coin(1, 500_000), our_coin(2, 900_000)];
    // Which coins are shown, what is queued, and which are offered.
    for (shown, wishes, offered) in [
        (vec![], vec![], vec![1]),
        (vec![0], vec![], vec![0]),
        (vec![2], vec![exact(1, 400_000)], vec![2]),
        // The shown coin pays for no channel of this size.
        (vec![0], vec![exact(1, 700_000)], vec![0]),
        (vec![], vec![exact(1, 700_000)], vec![1]),
        // What was shown is spent.
        (vec![9], vec![exact(1, 400_000)], vec![]),
    ] {
        let payment = payment(&[Kind::P2wpkh]);
        let outpoint = |index: &usize| {
            our_coin(*index as u32, coins.get(*index).map_or(1, |c| c.txout.value.to_sat())).outpoint
        };
        let host = Host::new(&payment.spends).with_coins(&coins).with_wishes(&wishes);
        let mut host = Host { shown: shown.iter().map(outpoint).collect(), ..host };
        payment.run(&mut host);
        let expected: Vec<_> = offered.iter().map(outpoint).collect();
        assert_eq!(host.admission.unwrap().coins, expected, "{shown:?} {wishes:?}");
    }
}

#[test]
fn money_rule_8_probing_the_coin_that_is_shown_first_is_the_smallest_that_serves() {
    let coins = [our_coin(0, 900_000), our_coin(1, 150_000), our_coin(2, 40_000), our_coin(3, 300_000)];
    for (wishes, smallest) in
        [(vec![exact(1, 400_000)], 2), (vec![exact(1, 700_000)], 1), (vec![exact(1, 800_000)], 3)]
    {
        let payment = payment(&[Kind::P2wpkh]);
        let mut host = Host::new(&payment.spends).with_coins(&coins).with_wishes(&wishes);
        payment.run(&mut host);
        assert_eq!(host.admission.unwrap().coins, [coins[smallest].outpoint], "{wishes:?}");
    }
}

#[test]
fn money_rule_9_once_an_intent_is_opened_at_most_once_in_an_exchange() {
    for lightning in [Lightning::Works, Lightning::OpenFails, Lightning::FundFails] {
        let payment = payment(&[Kind::P2wpkh]);
        let mut host = Host { lightning, ..host(&payment) };
        payment.run(&mut host);
        assert_eq!(host.asked.iter().filter(|name| **name == "open").count(), 1);
        let intents: Vec<_> = host.opened.iter().map(|channel| channel.intent).collect();
        assert_eq!(host.admission.unwrap().intents, intents, "taken before they are opened");
    }
}

#[test]
fn money_rule_10_substitution_only_where_the_payer_allows_it_and_the_transport_is_authenticated() {
    let payment = payment(&[Kind::P2wpkh]);
    let paid = |reply: &Reply| {
        let psbt = proposal(reply);
        let mut outputs = psbt.unsigned_tx.output.iter();
        outputs.find(|output| output.script_pubkey == invoice().script).map(|output| output.value)
    };
    let forbidding = ["true", "True", "1", "", "yes"];
    let queries = forbidding.map(|word| (format!("v=1&disableoutputsubstitution={word}"), true));
    for (query, authenticated) in queries.into_iter().chain([("v=1".to_owned(), false)]) {
        let mut request = request(&query, &payment.payer().body);
        request.authenticated = authenticated;
        // The coin does not pay for the channel.
        let mut poor = host(&payment);
        assert!(paid(&poor.exchange(request.clone())) >= Some(sats(PAID)), "{query}");
        assert!(poor.opened.is_empty(), "{query}");
        // These do, and the payment stays.
        let mut rich = host(&payment).with_coins(&[our_coin(0, 300_000), our_coin(1, 200_000)]);
        assert!(paid(&rich.exchange(request)) >= Some(sats(PAID)), "{query}");
        assert_eq!((rich.opened.len(), rich.release.unwrap().coins.len()), (1, 2), "{query}");
    }
    for query in ["v=1&disableoutputsubstitution=false", "v=1&disableoutputsubstitution=False"] {
        let mut host = host(&payment);
        let reply = host.exchange(request(query, &payment.payer().body));
        assert_eq!(host.opened.len(), 1, "{query}");
        assert!(paid(&reply) < Some(sats(PAID)), "{query}");
    }
}

#[test]
fn money_rule_11_silence_nothing_that_the_host_says_reaches_the_payer() {
    let payment = payment(&[Kind::P2wpkh]);
    let secret = "wallet.dat of Carol on 10.0.0.7";
    for fails_at in 0..9 {
        let mut host = host(&payment);
        let mut exchange = Exchange::new(NOW, invoice(), payment.request(), Policy::default());
        for _ in 0..fails_at {
            host.step(&mut exchange);
        }
        exchange.handle_input(NOW, Answer::Failed(secret.into())).unwrap();
        let reply = host.run(&mut exchange);
        assert!(!reply.body().contains("Carol"), "{}", reply.body());
        assert_eq!(reply, Reply::unavailable("The receiver cannot make a payjoin now."));
    }
    let mut refused = Host { acceptable: Acceptance::No(secret.into()), ..host(&payment) };
    assert_eq!(refused.exchange(payment.request()), Reply::rejected("The PSBT cannot be broadcast."));
}

/// What is left of channels by a letter for each: open, abandoned, failed.
fn left(letters: &str) -> Vec<Left> {
    let failure = |at: usize| ChannelFailure {
        intent: IntentId(at as u64 + 1),
        kind: FailureKind::Late,
        text: "it is slow".into(),
        said: None,
    };
    let left = letters.char_indices().map(|(at, letter)| match letter {
        'o' => Left::Open,
        'a' => Left::Abandoned,
        _ => Left::Failed(failure(at)),
    });
    left.collect()
}

/// Three channels, of which the peers of the last two have no slot to spare; this is left of them when they are funded. Gives
/// the host, what was opened in each round, and the intents whose channels were released.
fn short(rounds: &[&str]) -> (Host, Vec<Vec<u64>>, Vec<u64>) {
    let payment = payment(&[Kind::P2wpkh]);
    let wishes = [exact(1, 200_000), exact(2, 100_000), exact(3, 50_000)];
    let mut host = host(&payment).with_wishes(&wishes);
    host.scarce = vec![IntentId(2), IntentId(3)];
    host.lightning = Lightning::Short(rounds.iter().map(|letters| left(letters)).collect());
    let mut exchange = Exchange::new(NOW, invoice(), payment.request(), Policy::default());
    let mut opened = Vec::new();
    let reply = loop {
        if let Output::Ask(Question::OpenChannels(channels)) = exchange.poll_output() {
            opened.push(channels.iter().map(|channel| channel.intent.0).collect());
        }
        if let Some(reply) = host.step(&mut exchange) {
            break reply;
        }
    };
    assert_eq!(reply.status(), 200);
    let released = host.release.as_ref().unwrap().channels.iter().map(|channel| channel.intent.0).collect();
    (host, opened, released)
}

#[test]
fn money_rule_12_slots_what_one_peer_spoils_is_tried_once_more_without_it() {
    for (rounds, opened, released) in [
        // The peer with slots to spare fails: those who were not asked yet keep their channels.
        (&["foo"][..], &[&[1, 2, 3][..]][..], &[2, 3][..]),
        // The first without one fails: the one that had signed comes back with a new channel.
        (&["afo"], &[&[1, 2, 3], &[1]], &[3, 1]),
        (&["aff"], &[&[1, 2, 3], &[1]], &[1]),
        // A peer without one has signed: no more is risked.
        (&["aaf"], &[&[1, 2, 3]], &[]),
        // Nothing is left, or the second round fails as well.
        (&["fff"], &[&[1, 2, 3]], &[]),
        (&["foo", "fo"], &[&[1, 2, 3]], &[]),
        (&["afo", "oa"], &[&[1, 2, 3], &[1]], &[]),
    ] {
        let (host, in_rounds, of) = short(rounds);
        assert_eq!((in_rounds, &of[..]), (opened.iter().map(|round| round.to_vec()).collect(), released));
        assert_eq!(host.last, [IntentId(2), IntentId(3)]);
        let release = host.release.unwrap();
        assert!(release.reason.unwrap().contains("it is slow"), "{rounds:?}");
        // Money rules 7 and 8: the coins stay those that were admitted.
        assert_eq!(release.coins, host.admission.unwrap().coins, "{rounds:?}");
        let abandons = usize::from(released.is_empty());
        assert_eq!(host.abandoned.len(), abandons, "{rounds:?}: what is open is given up: {:?}", host.asked);
    }
}

#[test]
fn money_rule_12_slots_amounts_stand_in_the_second_round_and_what_is_missing_is_change() {
    let (whole, _, all) = short(&[]);
    assert_eq!(all, [1, 2, 3]);
    let (host, _, _) = short(&["afo"]);
    let change = |host: &Host| {
        let transaction = &host.checked.as_ref().unwrap().psbt().unsigned_tx;
        let mut outputs = transaction.output.iter();
        outputs.find(|output| output.script_pubkey == invoice().script).unwrap().value
    };
    let freed = change(&host) - change(&whole);
    assert!(freed >= sats(100_000) && freed < sats(101_000), "{freed}");
    let amounts: Vec<_> = host.release.unwrap().channels.iter().map(|channel| channel.amount).collect();
    assert_eq!(amounts, [sats(50_000), sats(200_000)]);
}

#[test]
fn money_rule_12_slots_no_second_round_begins_when_the_time_for_channels_is_over() {
    let payment = payment(&[Kind::P2wpkh]);
    let mut host = host(&payment).with_wishes(&[exact(1, 200_000), exact(2, 100_000)]);
    host.lightning = Lightning::Short(vec![left("fo")]);
    let mut exchange = Exchange::new(NOW, invoice(), payment.request(), Policy::default());
    while !host.asked.contains(&"open") {
        host.step(&mut exchange);
    }
    host.now = NOW.plus(20);
    assert_eq!(host.run(&mut exchange).status(), 200);
    assert_eq!(host.abandoned.len(), 1);
    assert!(host.release.unwrap().channels.is_empty());
}

#[test]
fn money_rule_13_top_up_coins_of_ours_go_into_channels_only_where_the_code_or_the_operator_says_so() {
    let payment = payment(&[Kind::P2wpkh]);
    for (code, operator) in [(false, false), (true, false), (false, true)] {
        let host = Host::new(&payment.spends).with_coins(&[our_coin(0, 400_000)]);
        let mut host = host.with_wishes(&[exact(1, PAID + 1_000)]);
        let request = Request { authenticated: true, ..payment.request() };
        let (invoice, policy) =
            (Invoice { top_up: code, ..invoice() }, Policy { top_up: operator, ..Policy::default() });
        host.run(&mut Exchange::new(NOW, invoice, request, policy));
        let Release { channels, reason, .. } = host.release.unwrap();
        assert_eq!(channels.len(), usize::from(code || operator), "{code} {operator}");
        assert_eq!(reason.is_some_and(|why| why.contains("--top-up")), !(code || operator));
    }
}
