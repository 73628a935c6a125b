//! From a request to a proposal: whatever a payer sends, value is conserved.

use bitcoin::base64::Engine as _;
use bitcoin::base64::prelude::BASE64_STANDARD;
use bitcoin::{Amount, Psbt, Transaction, TxOut};
use payjoin_core::{Delivery, Exchange, Invoice, Policy, Reserve};

use crate::kit::{
    Host, Kind, Lightning, NOW, Spend, exact, funding_script, invoice, proposal, request, rest,
};
use crate::line;

/// Four bytes: what the receiver has and how the request came. Then the query, a line break, and the PSBT in binary. The
/// chain knows what the PSBT says of the outputs that it spends.
pub fn psbt(data: &[u8]) {
    let Some((choices, payload)) = data.split_first_chunk::<4>() else { return };
    let Some((query, bytes)) = line(payload) else { return };
    let original = Psbt::deserialize(bytes).ok();
    let mut host = receiver(choices);
    host.prevouts = original.iter().flat_map(prevouts).collect();
    let mut request = request(query, BASE64_STANDARD.encode(bytes).as_bytes());
    request.authenticated = choices[0] & 1 == 0;
    if choices[0] & 2 != 0 {
        request.delivery = Delivery::Mailbox;
    }
    let policy = Policy { top_up: choices[0] & 4 == 0, ..Policy::default() };
    let invoice = Invoice { payer_is_me: choices[0] & 8 != 0, ..invoice() };
    let reply = host.run(&mut Exchange::new(NOW, invoice, request, policy.clone()));
    if reply.status() == 200 {
        let original = original.expect("only a PSBT gets a proposal");
        check(&original, &host, &policy, &proposal(&reply), query);
    } else {
        assert!(host.release.is_none() && host.checked.is_none(), "{reply:?}");
    }
}

fn receiver(choices: &[u8; 4]) -> Host {
    let wishes = [exact(0, 200_000), exact(1, 90_000), rest(2), exact(3, 300_000), rest(4)];
    let wishes: Vec<_> =
        (0..).zip(wishes).filter(|(bit, _)| choices[1] & (1 << bit) != 0).map(|(_, w)| w).collect();
    let coins = (0..4).filter(|bit| choices[2] & (1 << bit) != 0).map(|bit| {
        let kind = if bit % 2 == 0 { Kind::P2wpkh } else { Kind::P2tr };
        Spend::new(kind, 10_000 + bit, 40_000 << bit)
    });
    let host = Host::new(&[]).with_wishes(&wishes).with_coins(&coins.collect::<Vec<_>>());
    let lightning = match choices[3] & 3 {
        1 => Lightning::OpenFails,
        2 => Lightning::FundFails,
        _ => Lightning::Works,
    };
    let reserve = Reserve { per_channel: Amount::from_sat(u64::from(choices[3] >> 2) * 500), ..host.reserve };
    Host { lightning, reserve, real: false, ..host }
}

/// What the PSBT says that it spends.
fn prevouts(psbt: &Psbt) -> Vec<Option<TxOut>> {
    let inputs = psbt.inputs.iter().zip(&psbt.unsigned_tx.input);
    let claimed = inputs.map(|(input, spend)| {
        let parent = input.non_witness_utxo.as_ref();
        let legacy = parent.and_then(|parent| parent.output.get(spend.previous_output.vout as usize));
        input.witness_utxo.as_ref().or(legacy).filter(|output| output.value <= Amount::MAX_MONEY).cloned()
    });
    claimed.collect()
}

fn sum<'a>(outputs: impl IntoIterator<Item = &'a TxOut>) -> u64 {
    outputs.into_iter().map(|output| output.value.to_sat()).sum()
}

/// The ledger of a proposal, drawn up anew.
fn check(original: &Psbt, host: &Host, policy: &Policy, proposal: &Psbt, query: &str) {
    let (before, after) = (&original.unsigned_tx, &proposal.unsigned_tx);
    let release = host.release.as_ref().expect("a proposal was released");
    let coins: Vec<_> = host.coins.iter().filter(|coin| release.coins.contains(&coin.outpoint)).collect();
    let contributed: u64 = coins.iter().map(|coin| coin.txout.value.to_sat()).sum();
    assert_eq!(after.input.len(), before.input.len() + coins.len());
    for input in &before.input {
        assert!(after.input.iter().any(|other| other.previous_output == input.previous_output));
    }
    let theirs = sum(host.prevouts.iter().flatten());
    let (fee_before, fee_after) = (theirs - sum(&before.output), theirs + contributed - sum(&after.output));
    assert!(fee_after >= fee_before, "the fee falls from {fee_before} to {fee_after}");

    let taken = taken(before, after);
    assert!(taken <= offer(query), "{taken} of {}", offer(query));
    let script = invoice().script;
    let paid = sum(before.output.iter().filter(|output| output.script_pubkey == script));
    let kept = sum(after.output.iter().filter(|output| output.script_pubkey == script));
    let funded: u64 = release.channels.iter().map(|channel| channel.amount.to_sat()).sum();
    for (index, channel) in release.channels.iter().enumerate() {
        let output = &after.output[channel.vout as usize];
        assert_eq!((output.value, &output.script_pubkey), (channel.amount, &funding_script(index as u32)));
    }
    let ours = fee_after - fee_before - taken;
    assert!(ours <= policy.max_fee.to_sat(), "we pay {ours}");
    assert_eq!(paid + contributed, funded + kept + ours, "value is lost");
    assert!(
        release.channels.is_empty() || host.prevouts.iter().flatten().all(is_native),
        "its id may change"
    );
}

/// What one output of the payer's gave. All of them stand in their order.
fn taken(before: &Transaction, after: &Transaction) -> u64 {
    let script = invoice().script;
    let mut position = after.output.iter();
    let mut given = Vec::new();
    for output in before.output.iter().filter(|output| output.script_pubkey != script) {
        let same =
            |found: &&TxOut| found.script_pubkey == output.script_pubkey && found.value <= output.value;
        let found = position.find(same).expect("an output of the payer is gone");
        given.extend((found.value < output.value).then(|| (output.value - found.value).to_sat()));
    }
    assert!(given.len() <= 1, "{given:?} were taken");
    given.iter().sum()
}

fn is_native(output: &TxOut) -> bool {
    let script = &output.script_pubkey;
    script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr()
}

/// The most that the query lets us take.
fn offer(query: &str) -> u64 {
    let offers = query.split('&').filter_map(|pair| pair.strip_prefix("maxadditionalfeecontribution="));
    offers.filter_map(|text| text.parse().ok()).max().unwrap_or(0)
}
