//! What an operator meets: mistakes, outages, every command.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;
use serde_json::Value;

use crate::harness::World;
use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::ledger;
use crate::harness::payer::{FEE_RATE, Payment, Substitution};
use crate::harness::raw;

pub(super) fn mistakes(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    let (folder, seed) = (node.folder(), node.folder().join("seed"));
    let settings = folder.join("payjoind.toml");
    expect_refusal(&node, "run", &["another payjoind runs in", "stop it first"])?;

    node.call(&["stop"])?;
    // It has ended: the folder is free at once.
    node.restart()?;
    node.call(&["stop"])?;
    node.kill();
    expect_refusal(&node, "status", &["no daemon runs in", "payjoind --datadir", " run"])?;

    fs::set_permissions(&seed, Permissions::from_mode(0o644))?;
    expect_refusal(&node, "run", &["/seed:", "must have mode 0600"])?;
    fs::set_permissions(&seed, Permissions::from_mode(0o600))?;

    fs::set_permissions(folder, Permissions::from_mode(0o750))?;
    expect_refusal(&node, "run", &["others can look into it", "chmod 700"])?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;

    let kept = seed.with_extension("kept");
    fs::rename(&seed, &kept)?;
    expect_refusal(&node, "run", &["seed file is missing", "twelve words"])?;
    ensure!(!seed.exists(), "a new seed was made for an old wallet");
    fs::rename(&kept, &seed)?;

    let good = fs::read_to_string(&settings)?;
    fs::write(&settings, format!("{good}code_hour = 3\n"))?;
    let line = format!("line {},", good.lines().count() + 1);
    expect_refusal(&node, "run", &["payjoind.toml", &line, "code_hour`", "code_hours"])?;
    fs::write(&settings, good)?;

    world.chain.stop()?;
    expect_refusal(&node, "run", &["bitcoind", world.chain.url(), "is it running"])?;
    world.chain.restart(&[])?;
    node.restart()
}

/// The reason of the refusal names each of these.
fn expect_refusal(node: &Daemon, command: &str, parts: &[&str]) -> Result<()> {
    let reason = node.refusal(&[command])?;
    for part in parts {
        ensure!(reason.contains(part), "`{command}` should say {part:?}: {reason}");
    }
    Ok(())
}

pub(super) fn outage(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[300_000])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;

    world.chain.stop()?;
    let reply = raw::send_and_stay(node.plain, &payment.request()?)?;
    ensure!(reply.status() == Some(503), "expected 503: {}", reply.text());
    let error: Value = serde_json::from_str(&reply.body())?;
    ensure!(error.text("errorCode")? == "unavailable", "not `unavailable`: {error}");
    ensure!(node.locked()? == Amount::ZERO, "a coin is locked by a refused payment");
    let status = node.call(&["status"])?;
    ensure!(status["bitcoind_height"].is_null(), "bitcoind answers from the grave: {status}");

    world.chain.restart(&["payer", "nested"])?;
    let payjoin = payment.exchange(&world.tls)?;
    // While a payment is owed, too.
    world.chain.stop()?;
    world.chain.restart(&["payer", "nested"])?;
    world.broadcast(&payjoin)?;
    node.step("broadcast")?;
    world.mine(1)?;
    let status = node.call(&["status"])?;
    ensure!(status["bitcoind_height"] == status["height"], "not at the tip: {status}");
    Ok(())
}

pub(super) fn commands(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let payjoin = format!("ohttp_relays = [{:?}]\ndirectories = [{:?}]", relay.url(), directory.url());
    let node = world.daemon_with("node", Options { payjoin, ..Options::default() })?;
    let peer = world.daemon("peer")?;
    world.give(&node, &[300_000])?;
    show(&node, &["channel", "queue"], &[&peer.peer, "500000"])?;
    let txid = world.pay(&world.receive_by(&node, None, &["--via", "https"])?)?;
    world.mine(6)?;
    let funding = node.funding(1)?;
    ensure!(funding.txid == txid, "the channel is not in {txid}");
    let channel = node.await_channel(funding)?;
    node.await_intent(1, "open")?;

    show(&node, &["channel", "queue"], &[&peer.peer, "rest", "--private", "--push", "5000"])?;
    show(&node, &["channel", "cancel"], &["2"])?;
    let code = show(&node, &["receive"], &["--amount", "250000"])?;
    for listed in ["channel", "peer", "exchange", "session"] {
        show(&node, &[listed, "list"], &[])?;
    }
    for of_wallet in ["address", "balance", "coins"] {
        show(&node, &["wallet", of_wallet], &[])?;
    }
    show(&node, &["peer", "connect"], &[&peer.peer])?;
    show(&node, &["exchange", "show"], &["1"])?;
    for of_session in ["show", "cancel"] {
        show(&node, &["session", of_session], &[code.text("invoice")?])?;
    }
    show(&node, &["status"], &[])?;
    show(&node, &["rescue"], &[])?;
    show(&node, &["doctor"], &[])?;
    let invoice = show(&peer, &["invoice"], &["1500", "--description", "coffee"])?;
    show(&node, &["pay"], &[invoice.text("bolt11")?])?;
    for (arguments, reason) in REFUSED {
        let told = node.refusal(arguments)?;
        ensure!(told.contains(reason), "{} should say {reason:?}: {told}", arguments.join(" "));
    }
    last_commands(world, &node, &peer, channel.text("channel_id")?)
}

/// Commands after which the ledger is not drawn up any more: it knows no children of payments and no closed channels.
fn last_commands(world: &World<'_>, node: &Daemon, peer: &Daemon, channel: &str) -> Result<()> {
    let code = format!("bitcoin:{}?amount=0.001", world.payer().address("bech32")?);
    show(node, &["send"], &[&code, "--fee-rate", &FEE_RATE.to_string()])?;
    // Tells the ledger.
    world.send(node, &code, Amount::from_sat(100_000), 0)?;
    world.settle()?;
    ledger::check_settled(world)?;

    let invoice = world.receive_by(node, Some(600_000), &["--via", "https"])?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    payment.exchange(&world.tls)?;
    world.broadcast(&payment.original()?)?;
    show(node, &["exchange", "bump"], &["2", "--fee-rate", "30"])?;
    show(node, &["channel", "close"], &[channel])?;
    for daemon in [node, peer] {
        show(daemon, &["stop"], &[])?;
        daemon.kill();
    }
    Ok(())
}

/// What is refused, and a part of the reason.
const REFUSED: &[(&[&str], &str)] = &[
    (&["channel", "queue", "nonsense", "500000"], "node_id@host:port"),
    (&["channel", "queue", PEER, "5"], "at least 20000 sat"),
    (&["channel", "queue", PEER, "five"], "neither a whole number of satoshis nor `rest`"),
    (&["channel", "queue", PEER, "50000", "--push", "50000"], "leaves nothing"),
    (&["channel", "queue", PEER, "50000", "--push", "1.5"], "a whole number of satoshis"),
    (&["channel", "queue"], "required arguments were not provided"),
    (&["channel", "cancel", "77"], "intent 77 is not queued"),
    (&["channel", "close", "abc"], "no such channel"),
    (&["exchange", "show", "77"], "no exchange 77"),
    (&["receive", "--amount", "-1"], "a whole number of satoshis"),
    (&["receive", "--amount", "5"], "at least 330 sat"),
    (&["receive", "--amount", "99999999999999999"], "nobody can pay"),
    (&["invoice", "0"], "cannot be paid"),
    (&["pay", "lnbc1"], "not a valid invoice"),
];
const PEER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:1";

/// Runs a command for scripts: its fields must be those that its help names. Where it changes nothing it runs for
/// people too, and each field must be shown.
pub(super) fn show(node: &Daemon, command: &[&str], arguments: &[&str]) -> Result<Value> {
    let words = command.join(" ");
    let help = node.print(&[command, &["--help"]].concat())?;
    ensure!(help.contains(&format!("payjoind {words}")), "`{words}` has no example");
    let answer = node.call(&[command, arguments].concat())?;
    let fields = named(&help, "JSON").with_context(|| format!("`{words} --help` names no fields"))?;
    ensure!(fields == keys(&answer), "`{words} --help` names {fields:?}, the answer is {answer}");
    for field in &fields {
        for row in answer[field].as_array().into_iter().flatten() {
            if let Some(columns) = named(&help, &format!("  {field}")) {
                ensure!(columns == keys(row), "`{words} --help` names {columns:?} for {field}, it is {row}");
            }
        }
    }
    if ["list", "address", "balance", "coins", "show", "status", "connect"].iter().any(|w| words.ends_with(w))
    {
        let text = node.print(&[command, arguments].concat())?;
        let missing = fields.iter().find(|field| !text.contains(field.as_str()));
        ensure!(missing.is_none(), "`{words}` does not show {missing:?}:\n{text}");
    }
    Ok(answer)
}

/// The names after `title:` in a help text. A list goes on in the next line after a comma at the end.
fn named(help: &str, title: &str) -> Option<BTreeSet<String>> {
    let mut lines = help.lines().skip_while(|line| !line.starts_with(&format!("{title}: ")));
    let mut list = lines.next()?.strip_prefix(title)?.strip_prefix(": ")?.to_owned();
    while list.ends_with(',') {
        list += &format!(" {}", lines.next()?.trim());
    }
    Some(list.split(", ").map(str::to_owned).collect())
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}
