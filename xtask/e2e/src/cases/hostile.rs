//! Requests that no honest payer sends.

use std::fs;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use bitcoin::bip32::{DerivationPath, Fingerprint, Xpriv, Xpub};
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Amount, Network, Psbt, Txid, Witness};
use serde_json::Value;

use crate::harness::World;
use crate::harness::daemon::Daemon;
use crate::harness::json::Fields;
use crate::harness::payer::{FEE_RATE, Payment, Substitution};
use crate::harness::raw::{self, Reply};
use crate::harness::world::Invoice;

/// What must come back.
#[derive(Clone, Copy)]
enum Expect {
    /// This status, readable by a web page.
    Status(u16),
    /// The refusal of its version.
    Version,
    /// The refusal of its Original, in words that contain these.
    Rejected(&'static str),
    /// Anything but success: a refusal of any kind, or nothing.
    NoSuccess,
}
use Expect::{NoSuccess, Rejected, Status, Version};

const NO_PSBT: Expect = Rejected("not a PSBT");

/// What it is, the bytes, and what must come back.
type Row = (&'static str, Vec<u8>, Expect);

pub(super) fn bad_input(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;

    let endless = endless_headers(node.plain);
    let path = format!("/{}", invoice.id);
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let honest = payment.body();
    let mut rows = framing(&path, &honest);
    rows.extend(targets(&path, &honest));
    rows.extend(bodies(&path, &honest));
    rows.extend(originals(world, &path, &invoice, payment.psbt())?);
    ensure!(rows.len() >= 30, "only {} hostile requests", rows.len());
    for (name, bytes, expect) in rows {
        let reply = raw::send(node.plain, &bytes).with_context(|| name.to_owned())?;
        judge(&node, &reply, expect).with_context(|| format!("{name}: got {:?}", reply.text()))?;
    }
    let reply = endless.join().ok().context("the endless client panicked")??;
    judge(&node, &reply, NoSuccess).context("headers that never end")?;

    expect_silence(&node, &peer)?;
    let exchanges = node.call(&["exchange", "list"])?;
    ensure!(exchanges.list("exchanges")?.is_empty(), "a hostile request was admitted: {exchanges}");
    ensure!(node.locked()? == Amount::ZERO, "a hostile request locked a coin");
    node.expect_queued(intent)?;
    world.pay(&invoice)?;
    node.await_intent(intent, "released").map(drop)
}

/// Money rule 11: what a daemon knows is in no log of its own at the default level, and in none of a peer's. That it
/// is in no reply is judged with each reply.
fn expect_silence(node: &Daemon, peer: &Daemon) -> Result<()> {
    let words = fs::read_to_string(node.folder().join("seed"))?;
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut canaries: Vec<String> = words.windows(3).map(|three| three.join(" ")).collect();
    ensure!(canaries.len() == 10, "a seed of {} words", words.len());
    canaries.push(node.call(&["wallet", "address"])?.text("address")?.to_owned());
    for coin in node.call(&["wallet", "coins"])?.list("coins")? {
        canaries.extend([coin.text("address")?.to_owned(), coin.text("outpoint")?.to_owned()]);
    }
    for daemon in [node, peer] {
        let log = daemon.log()?;
        let told = canaries.iter().find(|canary| log.contains(*canary));
        ensure!(told.is_none(), "the log of {} tells {told:?}", daemon.name);
    }
    Ok(())
}

fn judge(node: &Daemon, reply: &Reply, expect: Expect) -> Result<()> {
    let text = reply.text();
    ensure!(reply.responses() <= 1, "more than one response");
    for secret in
        [node.peer.split('@').next().unwrap_or_default(), "bcrt1", "payjoind", env!("CARGO_PKG_VERSION")]
    {
        ensure!(!text.contains(secret), "the reply tells {secret}");
    }
    if text.is_empty() {
        ensure!(matches!(expect, NoSuccess), "no reply");
        return Ok(());
    }
    ensure!(reply.status().is_some_and(|status| status >= 400), "this is no refusal");
    ensure!(reply.has_header("access-control-allow-origin: *"), "a web page cannot read it");
    let error: Value = serde_json::from_str(&reply.body()).context("no BIP 78 error")?;
    let code = error.text("errorCode")?;
    match expect {
        NoSuccess => {}
        Status(status) => ensure!(reply.status() == Some(status), "expected {status}"),
        Version => {
            ensure!(code == "version-unsupported", "expected a refusal of the version");
            ensure!(error["supported"] == serde_json::json!([1]), "it does not say which version we speak");
        }
        Rejected(why) => {
            ensure!(code == "original-psbt-rejected", "expected a refusal of the Original");
            ensure!(error.text("message")?.contains(why), "expected \"{why}\"");
        }
    }
    Ok(())
}

/// A client that begins and never ends its headers, and stays.
fn endless_headers(address: SocketAddr) -> JoinHandle<Result<Reply>> {
    thread::spawn(move || raw::send_and_stay(address, b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Endless: "))
}

/// A request with the headers that a payer sends, and more.
fn post(target: &str, more: &[&str], body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    let lines = [&["Content-Type: text/plain", &length], more].concat();
    request(&format!("POST {target} HTTP/1.1"), &lines, body)
}

/// A request with only the headers that are given.
fn request(line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line}\r\nHost: localhost\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Wrong HTTP around an honest body.
fn framing(path: &str, honest: &[u8]) -> Vec<Row> {
    let line = format!("POST {path} HTTP/1.1");
    let with = |headers: &[&str]| request(&line, &[&["Content-Type: text/plain"], headers].concat(), honest);
    let length = format!("Content-Length: {}", honest.len());
    let mut many: Vec<String> = (0..10_000).map(|index| format!("X-{index}: y")).collect();
    many.push(length.clone());
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = format!("X-Long: {}", "a".repeat(64 * 1024));
    vec![
        ("no length", with(&[]), Status(411)),
        ("a length of words", with(&["Content-Length: many"]), NoSuccess),
        ("a negative length", with(&["Content-Length: -1"]), NoSuccess),
        ("a length past 64 bits", with(&["Content-Length: 99999999999999999999"]), NoSuccess),
        ("a length past the limit", with(&["Content-Length: 2000001"]), Status(413)),
        ("a length of a gigabyte", with(&["Content-Length: 1000000000"]), Status(413)),
        ("two lengths that differ", with(&[&length, "Content-Length: 5"]), NoSuccess),
        ("a length and chunks", with(&[&length, "Transfer-Encoding: chunked"]), NoSuccess),
        ("chunks only", with(&["Transfer-Encoding: chunked"]), NoSuccess),
        ("chunks spelled oddly", with(&["Transfer-Encoding: xchunked"]), NoSuccess),
        ("a space before the colon", with(&[&length.replace(':', " :")]), NoSuccess),
        ("a folded header", with(&["X-Fold: a\r\n b", "Content-Length: 1000001"]), NoSuccess),
        ("a NUL in a header", with(&["X-Nul: a\0b", &length]), NoSuccess),
        ("a body that ends early", with(&["Content-Length: 100000"]), NoSuccess),
        ("ten thousand headers", with(&many), NoSuccess),
        ("one header of 64 KiB", with(&[&long, &length]), NoSuccess),
        ("nothing at all", Vec::new(), NoSuccess),
        ("half a request line", b"POST /".to_vec(), NoSuccess),
        ("HTTP 0.9", b"GET /\r\n".to_vec(), NoSuccess),
        ("HTTP 2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), NoSuccess),
        ("TLS where none is spoken", b"\x16\x03\x01\x00\x2a\x01\x00\x00\x26\x03\x03".to_vec(), NoSuccess),
        ("every byte there is", (0..=255).collect(), NoSuccess),
        ("two requests in one go", [post(path, &[], b"x"), post(path, &[], b"y")].concat(), NO_PSBT),
    ]
}

/// The wrong method, place or version.
fn targets(path: &str, honest: &[u8]) -> Vec<Row> {
    let length = format!("Content-Length: {}", honest.len());
    let typed = ["Content-Type: text/plain", &length];
    let by = |method: &str| request(&format!("{method} {path} HTTP/1.1"), &typed, honest);
    let to = |target: &str| post(target, &[], honest);
    vec![
        ("a GET", request(&format!("GET {path} HTTP/1.1"), &[], b""), NoSuccess),
        ("a PUT", by("PUT"), NoSuccess),
        ("a DELETE", by("DELETE"), NoSuccess),
        ("a method in small letters", by("post"), NoSuccess),
        ("a method of a thousand letters", by(&"M".repeat(1000)), NoSuccess),
        ("a CONNECT", request("CONNECT localhost:80 HTTP/1.1", &[], b""), NoSuccess),
        ("the root", to("/"), Status(404)),
        ("an invoice that does not exist", to("/aaaaaaaaaaaaaaaaaaaaaaaaaa"), Status(404)),
        ("a path above the root", to("/../../etc/passwd"), NoSuccess),
        ("a path with a quote", to("/'%20OR%20'1'='1"), NoSuccess),
        ("a path of 10,000 letters", to(&format!("/{}", "a".repeat(10_000))), NoSuccess),
        ("version 2", to(&format!("{path}?v=2")), Version),
        ("version 0", to(&format!("{path}?v=0")), Version),
        ("a version of words", to(&format!("{path}?v=one")), Version),
        ("a parameter twice", to(&format!("{path}?v=1&v=1")), Rejected("repeated")),
        ("a rate of words", to(&format!("{path}?v=1&minfeerate=low")), Rejected("not a fee rate")),
    ]
}

/// Bodies that are no PSBT, in good HTTP.
fn bodies(path: &str, honest: &[u8]) -> Vec<Row> {
    let query = format!("{path}?v=1");
    let body = |bytes: &[u8]| post(&query, &[], bytes);
    let length = format!("Content-Length: {}", honest.len());
    let typed = |kind: &str| request(&format!("POST {query} HTTP/1.1"), &[kind, &length], honest);
    vec![
        ("an empty body", body(b""), NO_PSBT),
        ("no type", request(&format!("POST {query} HTTP/1.1"), &[&length], honest), Rejected("Content-Type")),
        ("a type of another kind", typed("Content-Type: application/json"), Rejected("Content-Type")),
        ("words", body(b"give me a payjoin"), NO_PSBT),
        ("NULs", body(&[0; 64]), NO_PSBT),
        ("bytes that are no UTF-8", body(&[0xff, 0xfe, 0xc0, 0x80]), Rejected("UTF-8")),
        ("base64 of nothing known", body(b"AAAA"), NO_PSBT),
        ("half of an honest PSBT", body(&honest[..honest.len() / 2]), NO_PSBT),
        ("an honest PSBT twice", body(&[honest, honest].concat()), NO_PSBT),
        ("a million letters", body(&vec![b'A'; 1_000_000]), NO_PSBT),
    ]
}

/// Real PSBTs with something wrong in them.
fn originals(world: &World<'_>, path: &str, invoice: &Invoice, honest: &Psbt) -> Result<Vec<Row>> {
    let query = format!("{path}?v=1");
    let send = |psbt: &Psbt| post(&query, &[], psbt.to_string().as_bytes());
    let altered = |alter: fn(&mut Psbt)| {
        let mut psbt = honest.clone();
        alter(&mut psbt);
        send(&psbt)
    };
    let less = world.payer().payment(&invoice.address, invoice.amount - Amount::from_sat(1), FEE_RATE)?;
    let elsewhere = world.payer().payment(&world.payer().address("bech32")?, invoice.amount, FEE_RATE)?;
    Ok(vec![
        ("one satoshi too little", send(&less), Rejected("pays less")),
        ("a payment to somebody else", send(&elsewhere), Rejected("does not pay the invoice")),
        ("inputs that are not signed", altered(unsign), Rejected("not finalized")),
        ("a signature that is wrong", altered(spoil_signature), Rejected("cannot be broadcast")),
        ("an input that does not exist", altered(invent_input), Rejected("does not exist")),
        ("a lie about an input's value", altered(lie_about_value), Rejected("misstates")),
        ("no inputs", altered(remove_inputs), Rejected("no inputs")),
        ("an extended public key", altered(tell_xpub), Rejected("leaks")),
    ])
}

fn unsign(psbt: &mut Psbt) {
    psbt.inputs[0].final_script_witness = None;
}

fn spoil_signature(psbt: &mut Psbt) {
    let witness = psbt.inputs[0].final_script_witness.take().unwrap_or_default();
    let mut items = witness.to_vec();
    for item in &mut items {
        item[10] ^= 1;
    }
    psbt.inputs[0].final_script_witness = Some(Witness::from_slice(&items));
}

fn invent_input(psbt: &mut Psbt) {
    psbt.unsigned_tx.input[0].previous_output.txid = Txid::all_zeros();
    psbt.inputs[0].non_witness_utxo = None;
}

fn lie_about_value(psbt: &mut Psbt) {
    psbt.inputs[0].non_witness_utxo = None;
    if let Some(output) = &mut psbt.inputs[0].witness_utxo {
        output.value += Amount::ONE_BTC;
    }
}

fn remove_inputs(psbt: &mut Psbt) {
    psbt.unsigned_tx.input.clear();
    psbt.inputs.clear();
}

fn tell_xpub(psbt: &mut Psbt) {
    if let Ok(key) = Xpriv::new_master(Network::Regtest, &[7; 32]) {
        let xpub = Xpub::from_priv(&Secp256k1::new(), &key);
        psbt.xpub.insert(xpub, (Fingerprint::default(), DerivationPath::master()));
    }
}
