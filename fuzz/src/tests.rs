//! Every target with its seeds, and with what is near them.

use std::fs;
use std::path::Path;

use super::*;

/// How often each seed is changed.
const CHANGES: u64 = 300;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A byte changed, lost, doubled, or the rest cut off.
fn change(mut data: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
    for _ in 0..=chance.below(3) {
        if data.is_empty() {
            return data;
        }
        let at = chance.below(data.len());
        match chance.below(5) {
            0 => data[at] ^= 1 << chance.below(8),
            1 => data[at] = chance.below(256) as u8,
            2 => drop(data.remove(at)),
            3 => data.insert(at, data[at]),
            _ if chance.below(4) == 0 => data.truncate(at),
            _ => {}
        }
    }
    data
}

fn run(target: &str, limit: u64) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let seeds = seeds(target);
    assert!(!seeds.is_empty());
    for (number, seed) in (1..).zip(&seeds) {
        run(seed);
        let mut chance = Chance(number);
        (0..limit).for_each(|_| run(&change(seed.clone(), &mut chance)));
    }
}

#[test]
fn any_original_leads_to_a_proposal_that_conserves_value_or_to_none() {
    run("psbt", CHANGES);
}

#[test]
fn any_bytes_on_a_connection_get_an_answer_in_http_or_none() {
    // Each waits for the end of a server.
    run("request", CHANGES / 10);
}

#[test]
fn any_code_asks_for_what_a_code_of_ours_would_ask_for() {
    run("uri", CHANGES);
}

#[test]
fn any_message_in_a_mailbox_leads_to_an_exchange_or_to_the_end_of_the_session() {
    run("mailbox", CHANGES / 3);
}

#[test]
fn any_answer_of_a_relay_is_opened_or_refused() {
    run("ohttp", CHANGES / 3);
}

#[test]
fn any_line_on_the_control_socket_is_a_command_or_none() {
    run("control", CHANGES);
}

#[test]
fn every_seed_for_commands_is_a_command() {
    for seed in seeds("control") {
        let line = String::from_utf8(seed).unwrap();
        assert!(serde_json::from_str::<payjoin_node::Request>(&line).is_ok(), "{line}");
    }
}

#[test]
fn any_file_of_settings_is_usable_or_refused() {
    run("settings", CHANGES);
}

/// Payments of the kit. `WRITE_SEEDS=1` writes them anew.
#[test]
fn the_seeds_for_originals_are_payments_as_they_are_made_today() {
    let (p2wpkh, p2tr, nested) = (kit::Kind::P2wpkh, kit::Kind::P2tr, kit::Kind::Nested);
    for (name, choices, kinds) in [
        ("plain", [0, 0, 0, 0], vec![p2wpkh]),
        ("coin", [0, 0, 5, 0], vec![p2wpkh, p2wpkh]),
        ("channels", [0, 3, 5, 4], vec![p2wpkh]),
        ("rest", [2, 4, 10, 0], vec![p2tr]),
        ("bootstrap", [0, 24, 0, 0], vec![p2wpkh]),
        ("beside", [1, 2, 12, 0], vec![p2wpkh, p2tr]),
        ("nested", [0, 7, 15, 0], vec![nested]),
        ("peer-gone", [0, 3, 15, 1], vec![p2wpkh]),
    ] {
        let payment = kit::payment(&kinds);
        let query = payment.payer().query;
        let seed = [&choices[..], query.as_bytes(), b"\n", &payment.psbt.serialize()].concat();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/psbt").join(name);
        if std::env::var_os("WRITE_SEEDS").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &seed).unwrap();
        }
        assert_eq!(fs::read(&file).ok(), Some(seed), "{name}");
    }
}

#[test]
fn every_target_has_a_program_of_its_name() {
    for (name, _) in TARGETS {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz_targets/{name}.rs")));
        assert!(text.unwrap().contains(&format!("payjoin_fuzz::{name}(data)")), "{name}");
    }
}
