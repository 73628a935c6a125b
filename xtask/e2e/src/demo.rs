//! The whole story once, told as it happens.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Amount, Transaction, Txid};
use serde_json::{Value, json};
use xtask_programs::cln;

use crate::harness::{
    Chain, Cln, Daemon, FEE_RATE, Fields, Foreign, Invoice, Lnd, Mailroom, Need, Options, Own, Programs,
    World, onion,
};
use crate::peers;
use crate::tor::TorNetwork;

/// What the operator wants in the channel, what the payer pays, and what the node's wallet holds before.
const CHANNEL: u64 = 500_000;
const PAYMENT: u64 = 600_000;
const WALLET: u64 = 300_000;
/// What is paid over the channel at the end.
const LIGHTNING_PAYMENT: Amount = Amount::from_sat(42_000);

/// Each step of the sequence, who speaks to whom, and what it means.
const NOTES: &[(&str, &str, &str)] = &[
    ("tor", "node <-> Tor", "the node finds its way into the Tor network by itself"),
    ("onion", "node <-> Tor", "where payers come: no open port, no domain, no certificate"),
    (
        "BIP 21",
        "node -> payer",
        "one code to scan; `pj=` is where the payer's wallet may ask for something better",
    ),
    ("Original PSBT", "payer -> node", "a plain payment, signed: whatever happens now, the node is paid"),
    ("open_channel", "node -> peer", "the queued channel fits the payment, so the node asks its peer"),
    ("accept_channel", "peer -> node", "both keys are known: so is the funding script"),
    (
        "funding_created",
        "node -> peer",
        "the transaction id is final before anyone has signed the transaction",
    ),
    ("funding_signed", "peer -> node", "the node can close the channel from now on: safe to fund it"),
    (
        "Proposal PSBT",
        "node -> payer",
        "the payment output has become the channel; an input of the node is signed",
    ),
    ("broadcast", "payer -> all", "the payer checked it, signed it and sent it"),
    ("confirmed", "chain", "the payment is the channel's funding transaction"),
    ("channel_ready", "node <-> peer", "the channel is open"),
];

/// How the payer reaches the node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// BIP 78 over TLS.
    Direct,
    /// BIP 77.
    Directory,
    /// BIP 78 at an onion service.
    Onion,
}

/// The node behind the daemon.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Backend {
    /// Core Lightning.
    Cln,
    /// LND.
    Lnd,
}

impl Backend {
    /// One that runs below `dir`, with nothing else.
    pub(crate) fn run(self, dir: &Path, chain: &Chain) -> Result<Rc<dyn Foreign>> {
        let node: Rc<dyn Foreign> = match self {
            Self::Cln => {
                let programs = cln::Cln::find().context(cln::Cln::MISSING)?;
                Rc::new(Cln::new(&programs, dir, "cln", chain, &[])?)
            }
            Self::Lnd => {
                let programs = peers::lnd()?.context(peers::NO_LND)?;
                Rc::new(Lnd::new(&programs, dir, "lnd", chain, &[])?)
            }
        };
        (&*node as &dyn Foreign).run(chain)?;
        Ok(node)
    }

    pub(crate) fn need(self) -> Need {
        match self {
            Self::Cln => Need::Cln,
            Self::Lnd => Need::Lnd,
        }
    }

    /// One that runs.
    fn start(self, world: &World<'_>) -> Result<Own> {
        match self {
            Self::Cln => {
                say("the node is a Core Lightning that runs already: its coins, its channels");
                world.cln("own", &[])?.own()
            }
            Self::Lnd => {
                say("the node is an LND that runs already: its coins, its channels");
                world.lnd("own", &[])?.own()
            }
        }
    }
}

/// Runs the demo and ends with one line of truth.
pub(crate) fn run(way: Way, backend: Option<Backend>) -> Result<()> {
    let programs = programs(way, backend)?;
    let dir = tempfile::Builder::new().prefix("demo-").tempdir()?;
    if way == Way::Onion {
        say("starting a private Tor network on loopback: half a minute");
        programs.tor()?;
    }
    say("starting a regtest chain, a payer and two Lightning nodes");
    let start = Instant::now();
    let world = World::new(&programs, dir.path())?;
    let route = match way {
        Way::Direct => Route::Direct,
        Way::Directory => Route::Directory(Box::new(world.mailrooms()?)),
        Way::Onion => Route::Onion(world.tor()?),
    };
    let node = node(&world, &route, backend, start)?;
    let peer = world.daemon("peer")?;
    world.give(&node, &[WALLET])?;
    say(&format!("the node holds {WALLET} sat; its operator wants a channel of {CHANNEL} sat to the peer"));
    let intent = node.queue(&peer, &CHANNEL.to_string(), &[])?;

    let via: &[_] = if way == Way::Onion { &["--via", "onion"] } else { &[] };
    let invoice = world.receive_by(&node, Some(PAYMENT), via)?;
    let replaced = Replaced::build(&world, &invoice)?;
    let txid = pay(&world, &route, &node, &invoice)?;
    node.step("broadcast")?;
    say("six blocks are mined");
    world.mine(1)?;
    node.step("confirmed")?;
    world.mine(5)?;
    node.step("channel_ready")?;
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the channel does not stand on the payment");
    node.await_channel(funding)?;
    node.pay(&peer, LIGHTNING_PAYMENT)?;
    say(&format!("a BOLT 11 invoice of {} sat is paid across the channel", LIGHTNING_PAYMENT.to_sat()));
    println!("\n{}", replaced.truth(&world.chain, txid)?);
    Ok(())
}

fn programs(way: Way, backend: Option<Backend>) -> Result<Programs> {
    let mut needs = if way == Way::Onion { vec![Need::Tor] } else { Vec::new() };
    needs.extend(backend.map(Backend::need));
    let programs = Programs::provide(&needs)?;
    match programs.missing(&needs) {
        Some(missing) => bail!("the demo needs {missing}"),
        None => Ok(programs),
    }
}

/// A way with what stands on it.
enum Route<'a> {
    Direct,
    Directory(Box<[Mailroom; 2]>),
    Onion(&'a TorNetwork),
}

/// The one who is paid, with every step told.
fn node(
    world: &World<'_>,
    route: &Route<'_>,
    backend: Option<Backend>,
    start: Instant,
) -> Result<Rc<Daemon>> {
    let mut options =
        Options { listener: Some(Box::new(move |step| tell(start, step))), ..Options::default() };
    options.own = backend.map(|backend| backend.start(world)).transpose()?;
    match route {
        Route::Direct => {}
        Route::Directory(mailrooms) => {
            let [relay, directory] = mailrooms.as_ref();
            say(
                "payers reach the node through an OHTTP relay and a directory: it needs no port and no certificate",
            );
            options.payjoin =
                format!("ohttp_relays = [{:?}]\ndirectories = [{:?}]", relay.url(), directory.url());
        }
        Route::Onion(tor) => {
            say("payers reach the node at an onion service that it runs by itself");
            options.tor = onion::settings(tor, false);
        }
    }
    world.daemon_with("node", options)
}

fn pay(world: &World<'_>, route: &Route<'_>, node: &Daemon, invoice: &Invoice) -> Result<Txid> {
    if let Route::Onion(tor) = route {
        say("the payer scans the code; the wallet sends through the SOCKS port of the payer's own Tor");
        return onion::pay(world, tor, node, invoice, "payer");
    }
    say("the payer scans the code with payjoin-cli");
    match route {
        Route::Directory(mailrooms) => world.finish(world.begin(invoice, &mailrooms[0])?),
        _ => world.pay(invoice),
    }
}

fn say(text: &str) {
    println!("         * {text}");
}

fn tell(start: Instant, step: &Value) {
    let name = step["step"].as_str().unwrap_or_default();
    let Some((_, who, note)) = NOTES.iter().find(|(known, ..)| *known == name) else { return };
    println!("{:6.1} s {name:<16} {who:<14} {note}", start.elapsed().as_secs_f32());
    for (field, unit) in
        [("percent", " %"), ("endpoint", ""), ("uri", ""), ("amount_sat", " sat"), ("txid", "")]
    {
        match &step[field] {
            Value::String(text) => println!("{:41}{text}{unit}", ""),
            Value::Number(number) => println!("{:41}{number}{unit}", ""),
            _ => {}
        }
    }
}

/// The two transactions that it would have taken without payjoin, built and signed by a real wallet and accepted by
/// the mempool, but not sent.
struct Replaced {
    payment: Transaction,
    open: Transaction,
}

impl Replaced {
    fn build(world: &World<'_>, invoice: &Invoice) -> Result<Self> {
        let payment = world.payer().payment(&invoice.address, invoice.amount, FEE_RATE)?.extract_tx()?;
        world.chain.accepts(&payment)?;
        // The node's wallet as it would be after the plain payment: one coin more.
        let wallet = world.chain.wallet("without-payjoin")?;
        world.chain.give(&[(wallet.address("bech32")?, invoice.amount)])?;
        let channel = Amount::from_sat(CHANNEL);
        let open = wallet.payment(&two_of_two(&world.chain)?, channel, FEE_RATE)?.extract_tx()?;
        world.chain.accepts(&open)?;
        Ok(Self { payment, open })
    }

    fn truth(&self, chain: &Chain, txid: Txid) -> Result<String> {
        let payjoin = chain.transaction(txid)?.vsize();
        let (payment, open) = (self.payment.vsize(), self.open.vsize());
        let saved = (payment + open).checked_sub(payjoin).context("nothing is saved")?;
        Ok(format!(
            "{txid}: {payjoin} vB instead of {payment} vB (payment) + {open} vB (channel): {saved} vB saved, {} %",
            saved * 100 / (payment + open)
        ))
    }
}

/// An address like that of a channel's funding output.
fn two_of_two(chain: &Chain) -> Result<String> {
    let key = |byte| -> Result<String> {
        let secret = SecretKey::from_slice(&[byte; 32])?;
        Ok(PublicKey::from_secret_key(&Secp256k1::new(), &secret).to_string())
    };
    let made = chain.call("createmultisig", json!([2, [key(1)?, key(2)?], "bech32"]))?;
    Ok(made.text("address")?.to_owned())
}
