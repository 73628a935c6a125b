//! What the wallets in use accept: their rules, read from their sources and written down in our own words, against
//! 10,000 random Originals, stocks and queues.

mod chance;

use bitcoin::{Amount, Psbt, Transaction, TxOut, Witness};

use crate::kit::*;

/// What a payer has before it when it decides.
struct Deal<'a> {
    spends: &'a [Spend],
    original: &'a Psbt,
    proposal: &'a Psbt,
    /// Index of the payment in the Original.
    payment: usize,
    asked: Wishes,
}

type Verdict = Result<(), &'static str>;

/// A wallet that pays.
struct Wallet {
    name: &'static str,
    /// Whether it makes such Originals.
    sends: fn(&Deal<'_>) -> bool,
    accepts: fn(&Deal<'_>) -> Verdict,
}

const WALLETS: &[Wallet] = &[
    Wallet {
        name: "Sparrow",
        sends: |deal| deal.kind().is_some(),
        accepts: |deal| {
            clean(deal)?;
            one_type(deal)?;
            one_sequence(deal)?;
            // It truncates the product, and measures its own first input.
            let size = match deal.kind() {
                Some(Kind::P2tr) => 58.0,
                Some(Kind::Nested) => 91.0,
                _ => 68.0,
            };
            queue(deal, (size * deal.rate()) as u64)
        },
    },
    Wallet {
        name: "BlueWallet",
        sends: |deal| deal.kind().is_some_and(|kind| kind != Kind::P2wsh),
        accepts: |deal| {
            clean(deal)?;
            one_type(deal)?;
            one_sequence(deal)?;
            // Whole satoshis for a virtual byte.
            let size = match deal.kind() {
                Some(Kind::P2tr) => 57,
                Some(Kind::Nested) => 91,
                Some(Kind::P2pkh) => 148,
                _ => 68,
            };
            queue(deal, deal.rate() as u64 * size)?;
            not_below(deal, deal.asked.min_fee_rate as f64 / 250.0)
        },
    },
    Wallet {
        name: "BTCPay Server",
        sends: |deal| matches!(deal.kind(), Some(Kind::P2wpkh | Kind::Nested)),
        accepts: |deal| {
            clean(deal)?;
            one_type(deal)?;
            one_sequence(deal)?;
            let size = if deal.kind() == Some(Kind::Nested) { 91 } else { 68 };
            queue(deal, (deal.rate() * 1000.0) as u64 * size / 1000)?;
            not_below(deal, deal.asked.min_fee_rate as f64 / 250.0)
        },
    },
    Wallet {
        name: "JoinMarket",
        sends: |deal| {
            let outputs = deal.original.unsigned_tx.output.len();
            matches!(deal.kind(), Some(Kind::P2wpkh | Kind::Nested)) && outputs <= 2
        },
        accepts: |deal| {
            clean(deal)?;
            one_type(deal)?;
            one_sequence(deal)?;
            let paid = deal.payment();
            let kept =
                |output: &&TxOut| output.script_pubkey == paid.script_pubkey && output.value >= paid.value;
            if deal.asked.fixed_outputs && deal.proposal.unsigned_tx.output.iter().filter(kept).count() != 1 {
                return Err("the payment is not there once and whole");
            }
            not_below(deal, deal.asked.min_fee_rate as f64 / 250.0)?;
            for (_, change) in deal.theirs() {
                let back: Vec<_> = outputs_to(deal.proposal, change).collect();
                let [back] = back[..] else { return Err("the change is not there exactly once") };
                let taken = change.value.to_sat().saturating_sub(back.value.to_sat());
                let most = deal.asked.contribution.map_or(0, |(most, _)| most);
                if taken > most.min(deal.added_fee()?) {
                    return Err("the change lost too much");
                }
            }
            Ok(())
        },
    },
    Wallet {
        name: "Wasabi",
        sends: |deal| deal.kind() == Some(Kind::P2wpkh) && !deal.asked.fixed_outputs,
        accepts: |deal| {
            clean(deal)?;
            one_type(deal)?;
            let (inputs, added) = (deal.spends.len(), deal.added().len());
            if added > inputs {
                return Err("more inputs added than it has");
            }
            let back = |psbt: &Psbt| -> u64 {
                let outputs = deal.theirs().map(|(_, theirs)| theirs.script_pubkey.clone());
                let theirs: Vec<_> = outputs.collect();
                let back =
                    psbt.unsigned_tx.output.iter().filter(|output| theirs.contains(&output.script_pubkey));
                back.map(|output| output.value.to_sat()).sum()
            };
            let dearer = back(deal.original).saturating_sub(back(deal.proposal));
            let before = deal.fee_before();
            let expected = deal.rate() * (deal.signed().vsize() + 2 * (inputs + added)) as f64;
            match dearer {
                dearer if dearer > deal.added_fee()? => Err("the receiver sends money to himself"),
                dearer if dearer > before => Err("twice the fee"),
                dearer if dearer as f64 > (expected - before as f64).max(0.0) => Err("a greater fee rate"),
                _ => Ok(()),
            }
        },
    },
];

impl Deal<'_> {
    /// The type of all its inputs; `None` when they are mixed.
    fn kind(&self) -> Option<Kind> {
        let kind = self.spends[0].kind;
        self.spends.iter().all(|spend| spend.kind == kind).then_some(kind)
    }

    fn payment(&self) -> &TxOut {
        &self.original.unsigned_tx.output[self.payment]
    }

    /// Its other outputs.
    fn theirs(&self) -> impl Iterator<Item = (usize, &TxOut)> {
        self.original.unsigned_tx.output.iter().enumerate().filter(|(index, _)| *index != self.payment)
    }

    fn is_theirs(&self, index: usize) -> bool {
        let outpoint = self.proposal.unsigned_tx.input[index].previous_output;
        self.spends.iter().any(|spend| spend.outpoint == outpoint)
    }

    /// Indexes of the inputs that the receiver added.
    fn added(&self) -> Vec<usize> {
        (0..self.proposal.inputs.len()).filter(|index| !self.is_theirs(*index)).collect()
    }

    fn spent(&self) -> u64 {
        self.spends.iter().map(|spend| spend.txout.value.to_sat()).sum()
    }

    fn fee_before(&self) -> u64 {
        self.spent() - total(self.original)
    }

    fn fee_after(&self) -> Result<u64, &'static str> {
        let added = self.added().into_iter().map(|index| self.proposal.inputs[index].witness_utxo.as_ref());
        let added = added.map(|utxo| utxo.map(|utxo| utxo.value)).sum::<Option<Amount>>();
        let added = added.ok_or("an input of the receiver without its output")?;
        (self.spent() + added.to_sat()).checked_sub(total(self.proposal)).ok_or("more out than in")
    }

    fn added_fee(&self) -> Result<u64, &'static str> {
        self.fee_after()?.checked_sub(self.fee_before()).ok_or("the fee fell")
    }

    /// Of the Original, in sat/vB.
    fn rate(&self) -> f64 {
        let vsize = self.original.clone().extract_tx_unchecked_fee_rate().vsize();
        self.fee_before() as f64 / vsize as f64
    }

    /// The payjoin as it is broadcast, with the witnesses of the Original for its inputs.
    fn signed(&self) -> Transaction {
        let mut theirs = self.original.inputs.iter();
        let mut psbt = self.proposal.clone();
        for index in 0..psbt.inputs.len() {
            if self.is_theirs(index) {
                psbt.inputs[index] = theirs.next().unwrap().clone();
            }
        }
        psbt.extract_tx_unchecked_fee_rate()
    }
}

fn total(psbt: &Psbt) -> u64 {
    psbt.unsigned_tx.output.iter().map(|output| output.value.to_sat()).sum()
}

fn outputs_to<'a>(psbt: &'a Psbt, output: &TxOut) -> impl Iterator<Item = &'a TxOut> {
    psbt.unsigned_tx.output.iter().filter(|other| other.script_pubkey == output.script_pubkey)
}

/// Version, lock time, order and state of the inputs, no key paths, a fee that did not fall.
fn clean(deal: &Deal<'_>) -> Verdict {
    let (before, after) = (&deal.original.unsigned_tx, &deal.proposal.unsigned_tx);
    if (before.version, before.lock_time) != (after.version, after.lock_time) {
        return Err("another version or lock time");
    }
    let mut theirs = before.input.iter();
    for (index, data) in deal.proposal.inputs.iter().enumerate() {
        let signed = data.final_script_sig.is_some()
            || data.final_script_witness.as_ref().is_some_and(|w| *w != Witness::new());
        let utxo = data.witness_utxo.is_some() || data.non_witness_utxo.is_some();
        if !data.bip32_derivation.is_empty() || !data.partial_sigs.is_empty() {
            return Err("key paths or partial signatures");
        }
        if deal.is_theirs(index) {
            let original = theirs.next().ok_or("an input twice")?;
            let proposed = &after.input[index];
            if (original.previous_output, original.sequence) != (proposed.previous_output, proposed.sequence)
            {
                return Err("its inputs in another order or with another sequence");
            }
            if signed || utxo {
                return Err("one of its inputs is filled in");
            }
        } else if !signed || !utxo {
            return Err("an input of the receiver is not final");
        }
    }
    if theirs.next().is_some() {
        return Err("an input is missing");
    }
    deal.added_fee().map(drop)
}

fn one_type(deal: &Deal<'_>) -> Verdict {
    let expected = &deal.spends[0].txout.script_pubkey;
    let same = |index: usize| {
        let script = &deal.proposal.inputs[index].witness_utxo.as_ref().unwrap().script_pubkey;
        (script.is_p2wpkh(), script.is_p2tr()) == (expected.is_p2wpkh(), expected.is_p2tr())
            && (script.is_p2wpkh() || script.is_p2tr())
    };
    if deal.added().into_iter().all(same) { Ok(()) } else { Err("mixed input types") }
}

fn one_sequence(deal: &Deal<'_>) -> Verdict {
    let inputs = &deal.proposal.unsigned_tx.input;
    if inputs.iter().all(|input| input.sequence == inputs[0].sequence) {
        Ok(())
    } else {
        Err("mixed sequences")
    }
}

/// The first reference code, copied by most: the outputs of the Original wait in a queue, and each output of the
/// proposal is compared with its head, by script.
fn queue(deal: &Deal<'_>, fee_of_an_input: u64) -> Verdict {
    let mut waiting = deal.original.unsigned_tx.output.iter().enumerate().peekable();
    let added = deal.added().len() as u64;
    for output in &deal.proposal.unsigned_tx.output {
        let Some((index, original)) = waiting.next_if(|(_, head)| head.script_pubkey == output.script_pubkey)
        else {
            continue;
        };
        let less = original.value.to_sat().saturating_sub(output.value.to_sat());
        match deal.asked.contribution.filter(|(most, fee_output)| *most > 0 && *fee_output == index) {
            Some((most, _)) if less > most => return Err("more taken than offered"),
            Some(_) if less > deal.added_fee()? => return Err("what was taken is no fee"),
            Some(_) if less > fee_of_an_input * added => return Err("more taken than the inputs cost"),
            Some(_) => {}
            None if index == deal.payment && !deal.asked.fixed_outputs => {}
            None if less > 0 => return Err("an output is smaller"),
            None => {}
        }
    }
    let left: Vec<usize> = waiting.map(|(index, _)| index).collect();
    match left[..] {
        [] => Ok(()),
        [payment] if payment == deal.payment && !deal.asked.fixed_outputs => Ok(()),
        _ => Err("some of its outputs are missing"),
    }
}

/// At least this many sat/vB.
fn not_below(deal: &Deal<'_>, rate: f64) -> Verdict {
    let after = deal.fee_after()? as f64 / deal.signed().vsize() as f64;
    if after >= rate { Ok(()) } else { Err("below its minimum fee rate") }
}
