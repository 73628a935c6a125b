//! Every rule by which a receiver refuses an Original: status, code, nothing locked, nothing signed.

use bitcoin::absolute::LockTime;
use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpriv, Xpub};
use bitcoin::psbt::PsbtSighashType;
use bitcoin::{
    Amount, EcdsaSighashType, FeeRate, Network, OutPoint, Psbt, ScriptBuf, TapSighashType, Transaction,
    Witness,
};
use payjoin_core::{Acceptance, Exchange, Invoice, Policy, Reply, Request};
use serde_json::Value;

use crate::kit::*;

/// A good request and a host that would open a channel for it.
struct Case {
    psbt: Psbt,
    request: Request,
    host: Host,
    invoice: Invoice,
    policy: Policy,
}

impl Case {
    fn new(kinds: &[Kind]) -> Self {
        let payment = payment(kinds);
        let host =
            Host::new(&payment.spends).with_wishes(&[exact(1, 400_000)]).with_coins(&[our_coin(0, 100_000)]);
        let invoice = Invoice { amount: Some(sats(PAID)), ..invoice() };
        Self { request: payment.request(), psbt: payment.psbt, host, invoice, policy: Policy::default() }
    }

    fn body(&mut self, body: &[u8]) {
        self.request.body = body.to_vec();
        self.request.content_length = Some(body.len().to_string());
    }

    fn psbt(&mut self, change: impl FnOnce(&mut Psbt)) {
        change(&mut self.psbt);
        let text = self.psbt.to_string();
        self.body(text.as_bytes());
    }

    fn transaction(&mut self, change: impl FnOnce(&mut Transaction)) {
        self.psbt(|psbt| {
            change(&mut psbt.unsigned_tx);
            let first = psbt.inputs[0].clone();
            psbt.inputs.resize(psbt.unsigned_tx.input.len(), first);
        });
    }

    fn query(&mut self, query: &str) {
        self.request.query = query.into();
    }

    fn run(&mut self) -> Reply {
        let mut exchange =
            Exchange::new(NOW, self.invoice.clone(), self.request.clone(), self.policy.clone());
        self.host.run(&mut exchange)
    }
}

fn key_source() -> (Fingerprint, DerivationPath) {
    (Fingerprint::default(), DerivationPath::from(vec![ChildNumber::Normal { index: 0 }]))
}

fn xpub() -> Xpub {
    Xpub::from_priv(&SECP, &Xpriv::new_master(Network::Regtest, &[1; 32]).unwrap())
}

const REJECTED: (u16, &str) = (400, "original-psbt-rejected");
const POOR: (u16, &str) = (400, "not-enough-money");
const VERSION: (u16, &str) = (400, "version-unsupported");
const UNAVAILABLE: (u16, &str) = (503, "unavailable");

/// Name, what is wrong, status and code, message.
type Row = (&'static str, fn(&mut Case), (u16, &'static str), &'static str);

#[rustfmt::skip]
const HEADERS_AND_BODY: &[Row] = &[
    ("a missing content type", |c| c.request.content_type = None, REJECTED, "Content-Type must be text/plain."),
    ("an empty content type", |c| c.request.content_type = Some(String::new()), REJECTED, "Content-Type must be text/plain."),
    ("a JSON content type", |c| c.request.content_type = Some("application/json".into()), REJECTED, "Content-Type must be text/plain."),
    ("a content type that begins like text/plain", |c| c.request.content_type = Some("text/plainer".into()), REJECTED, "Content-Type must be text/plain."),
    ("a missing content length", |c| c.request.content_length = None, REJECTED, "Content-Length is missing."),
    ("a content length that is no number", |c| c.request.content_length = Some("many".into()), REJECTED, "Content-Length is wrong."),
    ("a content length with a sign", |c| c.request.content_length = Some(format!("+{}", c.request.body.len())), REJECTED, "Content-Length is wrong."),
    ("a negative content length", |c| c.request.content_length = Some("-1".into()), REJECTED, "Content-Length is wrong."),
    ("a content length too great", |c| c.request.content_length = Some((c.request.body.len() + 1).to_string()), REJECTED, "Content-Length is wrong."),
    ("a content length too small", |c| c.request.content_length = Some("1".into()), REJECTED, "Content-Length is wrong."),
    ("a content length beyond all numbers", |c| c.request.content_length = Some("9".repeat(40)), REJECTED, "Content-Length is wrong."),
    ("an empty body", |c| c.body(b""), REJECTED, "The body is not a PSBT in base64."),
    ("a body that is not UTF-8", |c| c.body(&[0xff, 0xfe]), REJECTED, "The body is not UTF-8."),
    ("a body with a NUL", |c| c.body(b"cHNidP8\0"), REJECTED, "The body is not a PSBT in base64."),
    ("a body that is not base64", |c| c.body(b"not base64!"), REJECTED, "The body is not a PSBT in base64."),
    ("base64 of something else", |c| c.body(b"aGVsbG8gd29ybGQ="), REJECTED, "The body is not a PSBT in base64."),
    ("a cut PSBT", |c| { let half = c.request.body[..200].to_vec(); c.body(&half); }, REJECTED, "The body is not a PSBT in base64."),
    ("a PSBT in hex", |c| { let hex = c.psbt.serialize_hex(); c.body(hex.as_bytes()); }, REJECTED, "The body is not a PSBT in base64."),
];

#[rustfmt::skip]
const QUERY: &[Row] = &[
    ("version 2", |c| c.query("v=2"), VERSION, "This version of payjoin is not supported."),
    ("version 0", |c| c.query("v=0"), VERSION, "This version of payjoin is not supported."),
    ("version 1 with a zero in front", |c| c.query("v=01"), VERSION, "This version of payjoin is not supported."),
    ("an empty version", |c| c.query("v="), VERSION, "This version of payjoin is not supported."),
    ("a version without a value", |c| c.query("v"), VERSION, "This version of payjoin is not supported."),
    ("a percent-encoded version 2", |c| c.query("%76=%32"), VERSION, "This version of payjoin is not supported."),
    ("version 2 even with a body of junk", |c| { c.query("v=2"); c.body(b"junk"); }, VERSION, "This version of payjoin is not supported."),
    ("two versions", |c| c.query("v=1&v=1"), REJECTED, "A query parameter is repeated."),
    ("two contradicting versions", |c| c.query("v=1&v=2"), REJECTED, "A query parameter is repeated."),
    ("two fee offers", |c| c.query("maxadditionalfeecontribution=1&maxadditionalfeecontribution=9"), REJECTED, "A query parameter is repeated."),
    ("two fee outputs", |c| c.query("additionalfeeoutputindex=0&additionalfeeoutputindex=0"), REJECTED, "A query parameter is repeated."),
    ("two minimum fee rates", |c| c.query("minfeerate=1&minfeerate=2"), REJECTED, "A query parameter is repeated."),
    ("two words on substitution", |c| c.query("disableoutputsubstitution=true&disableoutputsubstitution=false"), REJECTED, "A query parameter is repeated."),
    ("a broken percent sign", |c| c.query("v=%4"), REJECTED, "The query is malformed."),
    ("a percent sign before no hex digits", |c| c.query("v=%zz"), REJECTED, "The query is malformed."),
    ("a query that decodes to no UTF-8", |c| c.query("v=%ff"), REJECTED, "The query is malformed."),
    ("a fragment in the query", |c| c.query("v=1#x"), REJECTED, "The query is malformed."),
    ("a space in the query", |c| c.query("v= 1"), REJECTED, "The query is malformed."),
    ("a minimum fee rate that is no number", |c| c.query("minfeerate=fast"), REJECTED, "minfeerate is not a fee rate."),
    ("a negative minimum fee rate", |c| c.query("minfeerate=-1"), REJECTED, "minfeerate is not a fee rate."),
    ("an infinite minimum fee rate", |c| c.query("minfeerate=inf"), REJECTED, "minfeerate is not a fee rate."),
    ("a minimum fee rate that is NaN", |c| c.query("minfeerate=NaN"), REJECTED, "minfeerate is not a fee rate."),
    ("an absurd minimum fee rate", |c| c.query("minfeerate=25001"), REJECTED, "minfeerate is not a fee rate."),
    ("a minimum fee rate above the Original's", |c| c.query("minfeerate=100"), POOR, "minfeerate is above the fee rate of the PSBT."),
    ("a minimum fee rate just above the Original's", |c| c.query("minfeerate=6.58"), POOR, "minfeerate is above the fee rate of the PSBT."),
];

#[rustfmt::skip]
const PSBT: &[Row] = &[
    ("an Original without inputs", |c| { c.psbt(|p| { p.unsigned_tx.input.clear(); p.inputs.clear(); }) }, REJECTED, "The PSBT has no inputs."),
    ("an Original without outputs", |c| { c.psbt(|p| { p.unsigned_tx.output.clear(); p.outputs.clear(); }) }, REJECTED, "The PSBT does not pay the invoice."),
    ("an input twice", |c| c.transaction(|t| t.input.push(t.input[0].clone())), REJECTED, "The PSBT spends an output twice."),
    ("an input without signature", |c| c.psbt(|p| p.inputs[0].final_script_witness = None), REJECTED, "The PSBT is not finalized."),
    ("an input that is signed but not finalized", |c| { c.psbt(|p| { p.inputs[0].final_script_witness = None; let key = bitcoin::PublicKey::new(keypair(1).public_key()); let signature = SECP .sign_ecdsa(&bitcoin::secp256k1::Message::from_digest([1; 32]), &keypair(1).secret_key()); p.inputs[0].partial_sigs.insert(key, bitcoin::ecdsa::Signature::sighash_all(signature)); }) }, REJECTED, "The PSBT is not finalized."),
    ("a declared sighash NONE", |c| c.psbt(|p| p.inputs[0].sighash_type = Some(EcdsaSighashType::None.into())), REJECTED, "The PSBT declares a sighash type other than ALL."),
    ("a declared sighash SINGLE", |c| c.psbt(|p| p.inputs[0].sighash_type = Some(EcdsaSighashType::Single.into())), REJECTED, "The PSBT declares a sighash type other than ALL."),
    ("a declared sighash ALL for anyone to add inputs", |c| { c.psbt(|p| { p.inputs[0].sighash_type = Some(EcdsaSighashType::AllPlusAnyoneCanPay.into()); }) }, REJECTED, "The PSBT declares a sighash type other than ALL."),
    ("a declared taproot sighash for anyone to add inputs", |c| { c.psbt(|p| { p.inputs[0].sighash_type = Some(TapSighashType::AllPlusAnyoneCanPay.into()); }) }, REJECTED, "The PSBT declares a sighash type other than ALL."),
    ("a declared sighash that does not exist", |c| { c.psbt(|p| { p.inputs[0].sighash_type = Some(PsbtSighashType::from_u32(0x55)); }) }, REJECTED, "The PSBT declares a sighash type other than ALL."),
    ("a global extended key", |c| { c.psbt(|p| { p.xpub.insert(xpub(), key_source()); }) }, REJECTED, "The PSBT leaks extended keys or key paths."),
    ("a key path of an input", |c| { c.psbt(|p| { p.inputs[0].bip32_derivation.insert(keypair(1).public_key(), key_source()); }) }, REJECTED, "The PSBT leaks extended keys or key paths."),
    ("a taproot key origin of an input", |c| { c.psbt(|p| { p.inputs[0].tap_key_origins.insert(keypair(1).x_only_public_key().0, (vec![], key_source())); }) }, REJECTED, "The PSBT leaks extended keys or key paths."),
    ("a key path of an output", |c| { c.psbt(|p| { p.outputs[0].bip32_derivation.insert(keypair(1).public_key(), key_source()); }) }, REJECTED, "The PSBT leaks extended keys or key paths."),
    ("a taproot key origin of an output", |c| { c.psbt(|p| { p.outputs[0].tap_key_origins.insert(keypair(1).x_only_public_key().0, (vec![], key_source())); }) }, REJECTED, "The PSBT leaks extended keys or key paths."),
    ("no UTXO data", |c| c.psbt(|p| p.inputs[0].witness_utxo = None), REJECTED, "The PSBT has no valid data on the outputs it spends."),
    ("a previous transaction of another id", |c| { c.psbt(|p| { p.inputs[0].non_witness_utxo = Some(Spend::new(Kind::P2wpkh, 77, 5).parent); }) }, REJECTED, "The PSBT has no valid data on the outputs it spends."),
    ("a previous transaction without that output", |c| { let parent = Spend::new(Kind::P2wpkh, 100, 1_000_000).parent; c.psbt(|p| { p.unsigned_tx.input[0].previous_output.vout = 9; p.inputs[0].non_witness_utxo = Some(parent); }); }, REJECTED, "The PSBT has no valid data on the outputs it spends."),
    ("two UTXO fields that differ", |c| { let parent = Spend::new(Kind::P2wpkh, 100, 1_000_000).parent; c.psbt(|p| { p.inputs[0].witness_utxo.as_mut().unwrap().value += Amount::ONE_SAT; p.inputs[0].non_witness_utxo = Some(parent); }); }, REJECTED, "The PSBT has no valid data on the outputs it spends."),
    ("no output to the invoice", |c| c.transaction(|t| t.output[1].script_pubkey = script(Kind::P2tr, 3)), REJECTED, "The PSBT does not pay the invoice."),
    ("two outputs to the invoice", |c| c.transaction(|t| t.output[0].script_pubkey = invoice().script), REJECTED, "The PSBT pays the invoice more than once."),
    ("less than the invoice asks for", |c| c.transaction(|t| t.output[1].value = sats(PAID - 1)), REJECTED, "The PSBT pays less than the invoice asks for."),
    ("a payment of dust", |c| { c.invoice.amount = None; c.transaction(|t| t.output[1].value = sats(329)); }, REJECTED, "The payment is dust."),
    ("a payment of nothing", |c| { c.invoice.amount = None; c.transaction(|t| t.output[1].value = Amount::ZERO); }, REJECTED, "The payment is dust."),
    ("an output that burns money", |c| c.transaction(|t| t.output[0].script_pubkey = bitcoin::ScriptBuf::new_op_return([1])), REJECTED, "The PSBT burns money."),
    ("an output beyond all money", |c| c.transaction(|t| t.output[0].value = Amount::MAX_MONEY + Amount::ONE_SAT), REJECTED, "The outputs exceed all money there is."),
    ("outputs that together are beyond all money", |c| c.transaction(|t| t.output[0].value = Amount::MAX_MONEY), REJECTED, "The outputs exceed all money there is."),
    ("outputs whose sum overflows", |c| c.transaction(|t| t.output[0].value = Amount::MAX), REJECTED, "The outputs exceed all money there is."),
];

#[rustfmt::skip]
const CHAIN: &[Row] = &[
    ("a transaction that the mempool would not take", |c| c.host.acceptable = Acceptance::No("min relay fee not met".into()), REJECTED, "The PSBT cannot be broadcast."),
    ("a transaction that nobody can judge", |c| c.host.acceptable = Acceptance::Unknown("no mempool".into()), UNAVAILABLE, "Try again later."),
    ("an input that is not in the chain or is spent", |c| c.host.prevouts = vec![None], REJECTED, "An input does not exist, is not confirmed or is spent."),
    ("a lie about the value of an input", |c| c.host.prevouts[0].as_mut().unwrap().value = sats(999_999), REJECTED, "The PSBT misstates an output it spends."),
    ("a lie of 200 BTC that would pass a fee floor", |c| { c.psbt(|p| p.inputs[0].witness_utxo.as_mut().unwrap().value = Amount::from_btc(200.0).unwrap()); }, REJECTED, "The PSBT misstates an output it spends."),
    ("a lie about the script of an input", |c| c.host.prevouts[0].as_mut().unwrap().script_pubkey = script(Kind::P2wpkh, 9), REJECTED, "The PSBT misstates an output it spends."),
    ("an input of ours", |c| c.host.ours = vec![script(Kind::P2wpkh, 100)], REJECTED, "The PSBT spends an output of the receiver."),
    ("a fee rate below our minimum", |c| c.policy.min_fee_rate = FeeRate::from_sat_per_vb_u32(50), REJECTED, "The fee rate is too low."),
    ("a fee rate just below our minimum", |c| c.policy.min_fee_rate = FeeRate::from_sat_per_kwu(1_800), REJECTED, "The fee rate is too low."),
    ("more out than in", |c| c.transaction(|t| t.output[0].value = sats(400_001)), REJECTED, "The PSBT spends more than it has."),
    ("no fee at all", |c| c.transaction(|t| t.output[0].value = sats(400_000)), REJECTED, "The fee rate is too low."),
    ("a fee beyond all reason", |c| { let rich = Spend::new(Kind::P2wpkh, 100, 2_000_000_000_000_000).txout; c.host.prevouts = vec![Some(rich.clone())]; c.psbt(|p| p.inputs[0].witness_utxo = Some(rich)); }, REJECTED, "The fee is absurd."),
    ("an expired invoice", |c| c.invoice.expires = payjoin_core::Timestamp(NOW.0 - 1), UNAVAILABLE, "The invoice has expired."),
];

fn check(kinds: &[Kind], rows: &[Row]) {
    for (name, change, (status, code), message) in rows {
        let mut case = Case::new(kinds);
        change(&mut case);
        let reply = case.run();
        let body: Value = serde_json::from_str(&reply.body()).unwrap_or_else(|_| panic!("{name}: accepted"));
        let told = (reply.status(), body["errorCode"].as_str().unwrap(), body["message"].as_str().unwrap());
        assert_eq!(told, (*status, *code, *message), "{name}");
        assert_eq!(reply.content_type(), "application/json", "{name}");
        assert!(!case.host.asked.contains(&"admit"), "{name}: something was locked");
        assert!(!case.host.asked.contains(&"sign"), "{name}: something was signed");
        assert!(!case.host.asked.contains(&"open"), "{name}: a peer was bothered");
    }
}

#[test]
fn refuses_bad_headers_and_bodies() {
    check(&[Kind::P2wpkh], HEADERS_AND_BODY);
}

#[test]
fn refuses_bad_queries() {
    check(&[Kind::P2wpkh], QUERY);
}

#[test]
fn refuses_bad_psbts() {
    check(&[Kind::P2wpkh], PSBT);
}

#[test]
fn refuses_what_the_chain_and_the_wallet_contradict() {
    check(&[Kind::P2wpkh], CHAIN);
}

#[test]
fn refuses_lies_about_legacy_inputs_too() {
    for kind in KINDS {
        let lies: Vec<Row> =
            CHAIN.iter().filter(|row| row.0 == "a lie about the value of an input").copied().collect();
        check(&[kind], &lies);
    }
}

#[test]
fn the_table_has_at_least_sixty_rows_with_names_of_their_own() {
    let rows: Vec<&str> = [HEADERS_AND_BODY, QUERY, PSBT, CHAIN].concat().iter().map(|row| row.0).collect();
    let names: std::collections::HashSet<_> = rows.iter().collect();
    assert!(rows.len() >= 60 && names.len() == rows.len(), "{} rows, {} names", rows.len(), names.len());
}

#[test]
fn the_unchanged_request_is_accepted_with_a_channel() {
    for kinds in [vec![Kind::P2wpkh], vec![Kind::P2tr, Kind::P2wpkh], vec![Kind::P2wsh, Kind::P2wpkh]] {
        let mut case = Case::new(&kinds);
        let reply = case.run();
        assert_eq!((reply.status(), reply.content_type()), (200, "text/plain"), "{kinds:?}: {reply:?}");
        assert_eq!(case.host.release.unwrap().channels.len(), 1, "{kinds:?}");
    }
}

type Odd = (&'static str, fn(&mut Case));

#[test]
fn accepts_what_looks_odd_and_is_allowed() {
    let rows: &[Odd] = &[
        ("no query", |c| c.query("")),
        ("empty pairs", |c| c.query("&&v=1&")),
        ("unknown parameters", |c| c.query("v=1&utm=x&flag&x=1&x=2")),
        ("percent-encoded version 1", |c| c.query("%76=%31")),
        ("a content type with a charset", |c| {
            c.request.content_type = Some("Text/Plain; charset=utf-8".into())
        }),
        ("a fee output out of range", |c| {
            c.query("maxadditionalfeecontribution=500&additionalfeeoutputindex=7")
        }),
        ("a fee output that is ours", |c| {
            c.query("maxadditionalfeecontribution=500&additionalfeeoutputindex=1")
        }),
        ("a fee output that is no number", |c| {
            c.query("maxadditionalfeecontribution=500&additionalfeeoutputindex=a")
        }),
        ("a negative fee offer", |c| c.query("maxadditionalfeecontribution=-5&additionalfeeoutputindex=0")),
        ("a fee offer without an output", |c| c.query("maxadditionalfeecontribution=500")),
        ("a fee offer greater than its output", |c| {
            c.query("maxadditionalfeecontribution=9999999&additionalfeeoutputindex=0")
        }),
        ("a fee offer beyond all numbers", |c| {
            c.query("maxadditionalfeecontribution=99999999999999999999&additionalfeeoutputindex=0")
        }),
        ("a minimum fee rate that the Original meets", |c| c.query("minfeerate=1.5")),
        // 1,000 sat for 153 vB.
        ("a minimum fee rate that it meets and its rounded rate does not", |c| c.query("minfeerate=6.535")),
        ("white space around the body", |c| {
            let body = format!("\r\n  {}\n\n", c.psbt);
            c.body(body.as_bytes());
        }),
        ("a minimum fee rate of nothing", |c| c.query("minfeerate=0")),
        ("a declared sighash ALL", |c| {
            c.psbt(|p| p.inputs[0].sighash_type = Some(EcdsaSighashType::All.into()))
        }),
        ("both UTXO fields", |c| {
            let parent = Spend::new(Kind::P2wpkh, 100, 1_000_000).parent;
            c.psbt(|p| p.inputs[0].non_witness_utxo = Some(parent));
        }),
        ("more than the invoice asks for", |c| c.invoice.amount = Some(sats(PAID - 1))),
        ("an invoice of any amount", |c| c.invoice.amount = None),
        ("an invoice in its last second", |c| c.invoice.expires = NOW),
        ("a lock time", |c| c.transaction(|t| t.lock_time = LockTime::from_height(1).unwrap())),
        ("other versions", |c| c.transaction(|t| t.version = bitcoin::transaction::Version::ONE)),
    ];
    for (name, change) in rows {
        let mut case = Case::new(&[Kind::P2wpkh]);
        change(&mut case);
        let reply = case.run();
        assert_eq!(reply.status(), 200, "{name}: {reply:?}");
    }
}

#[test]
fn names_the_supported_versions_as_an_array_of_numbers() {
    let mut case = Case::new(&[Kind::P2wpkh]);
    case.query("v=2");
    let body: Value = serde_json::from_str(&case.run().body()).unwrap();
    assert_eq!(body["supported"], serde_json::json!([1]));
}

#[test]
fn accepts_the_test_vector_of_bip_78() {
    let text = include_str!("bip78_original.txt").trim();
    let psbt: Psbt = text.parse().unwrap();
    let mut case = Case::new(&[Kind::P2wpkh]);
    case.invoice.script = psbt.unsigned_tx.output[1].script_pubkey.clone();
    case.invoice.amount = Some(psbt.unsigned_tx.output[1].value);
    case.host.prevouts = psbt.iter_funding_utxos().map(|utxo| utxo.ok().cloned()).collect();
    case.psbt = psbt;
    case.body(text.as_bytes());
    let reply = case.run();
    assert_eq!(proposal(&reply).unsigned_tx.input.len(), 1, "we have no nested segwit coin to add");
    assert_eq!(case.host.channels_offered, Some(false), "nested segwit");
}

#[test]
fn an_input_that_was_offered_before_is_refused_and_nothing_leaves() {
    // A plain payjoin is signed before its one write: what was signed is thrown away.
    let (channels, plain) = (vec![exact(1, 400_000)], Vec::new());
    for (wishes, last) in [(channels, &["admit"][..]), (plain, &["sign", "offer"])] {
        let mut case = Case::new(&[Kind::P2wpkh]);
        (case.host.seen, case.host.wishes) = (true, wishes);
        let reply = case.run();
        assert_eq!(reply, Reply::rejected("An input was offered before."));
        assert_eq!(case.host.asked, [&["recall", "inspect", "owns", "resources"], last].concat());
        assert!(case.host.admission.is_none() && case.host.release.is_none());
    }
}

#[test]
fn a_pay_to_anchor_input_opens_no_channel() {
    let anchor =
        bitcoin::TxOut { value: sats(1_000_000), script_pubkey: ScriptBuf::from_hex("51024e73").unwrap() };
    let mut case = Case::new(&[Kind::P2wpkh]);
    case.host.prevouts[0] = Some(anchor.clone());
    case.psbt(|psbt| {
        psbt.inputs[0].witness_utxo = Some(anchor);
        psbt.inputs[0].final_script_witness = Some(Witness::new());
    });
    let reply = case.run();
    assert_eq!(reply.status(), 200);
    assert_eq!(case.host.channels_offered, Some(false));
}

#[test]
fn an_outpoint_of_a_coinbase_is_refused() {
    let mut case = Case::new(&[Kind::P2wpkh]);
    case.host.prevouts = vec![None];
    case.transaction(|transaction| transaction.input[0].previous_output = OutPoint::null());
    assert_eq!(case.run().status(), 400);
}
