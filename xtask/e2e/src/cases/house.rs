//! The house that the daemon stands in: who reads its output, who signals it, bitcoind as people run it.

use std::fs::{self, File};
use std::io::Read;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;
use serde_json::{Value, json};
use xtask_programs::bitcoind::Regtest;
use xtask_programs::ports;
use xtask_programs::process::Server;

use super::{Case, refusals};
use crate::harness::World;
use crate::harness::daemon::{Daemon, Options};
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::tls::Certificate;
use crate::harness::{raw, wait};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "output-unread",
        about: "nobody reads what the daemon writes: payers are served, what is due is sent, it stops, and says what it dropped",
        run: output_unread,
    },
    Case {
        name: "sighup",
        about: "SIGHUP in the middle of an exchange: certificate and limits are read again, the exchange goes on",
        run: sighup,
    },
    Case {
        name: "stop-fast",
        about: "half a head, half a body and a bitcoind that hangs: the daemon has stopped a few seconds later",
        run: stop_fast,
    },
    Case {
        name: "bitcoind-blocksonly",
        about: "bitcoind hears of no transactions and estimates no fees: a channel opens all the same",
        run: blocks_only,
    },
    Case {
        name: "bitcoind-whitelist",
        about: "bitcoind lets the user call too little: the start names what is missing, and with that it works",
        run: whitelist,
    },
    Case {
        name: "bitcoind-busy",
        about: "bitcoind's work queue holds one call and is full: the start waits, and a payer gets his channel",
        run: busy,
    },
    Case {
        name: "bitcoind-behind",
        about: "bitcoind is in its initial block download: the start waits and says how far it is, and offers no code",
        run: behind,
    },
    Case {
        name: "fee-spike",
        about: "fees above the limits, and coins that may not help: reason and code name the limit and what would do",
        run: fee_spike,
    },
    Case {
        name: "peer-address",
        about: "a wrong address of a peer never takes the place of one that worked",
        run: peer_address,
    },
    Case {
        name: "config-refusals",
        about: "settings that cannot work, each with its message, and nothing is left behind",
        run: refusals::settings,
    },
];

const PATIENCE: Duration = Duration::from_secs(30);
/// What a pipe holds at least.
const PIPE: usize = 64 * 1024;

fn output_unread(world: &World<'_>) -> Result<()> {
    let options = Options { policy: "fallback_seconds = 8", ..Options::default() };
    let (node, peer) = (world.daemon_with("node", options)?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    node.queue(&peer, "500000", &[])?;
    node.terminate()?;
    let mut stderr = node.restart_unread()?;
    node.await_peers(1)?;
    for _ in 0..300 {
        node.call(&["status"])?;
    }
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    payment.exchange(&world.tls)?;
    let original = payment.original()?;
    wait::until("the Original is sent", PATIENCE, || {
        Ok(world.chain.mempool()?.contains(&original.compute_txid()).then_some(()))
    })?;
    // Somebody reads again.
    let reading = thread::spawn(move || {
        let (mut read, mut piece) = (Vec::new(), vec![0; PIPE]);
        while let Ok(length @ 1..) = stderr.read(&mut piece) {
            read.extend_from_slice(&piece[..length]);
            if String::from_utf8_lossy(&read).contains("lines of the log were dropped") {
                return (read.len(), stderr);
            }
        }
        (0, stderr)
    });
    wait::until("it says what it dropped", PATIENCE, || {
        node.call(&["status"])?;
        Ok(reading.is_finished().then_some(()))
    })?;
    let (length, unread) = reading.join().ok().context("the reader panicked")?;
    ensure!(length >= PIPE, "the pipe was never full, or nothing was said: {length}");
    // From here on nobody reads again.
    for _ in 0..300 {
        node.call(&["status"])?;
    }
    let took = node.terminate()?;
    ensure!(took < Duration::from_secs(15), "it took {took:?} to stop");
    drop(unread);
    node.restart()?;
    world.broadcast(&original)?;
    world.settle()
}

fn sighup(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000, 400_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    peer.freeze()?;
    let mut payer = raw::begin(node.plain, &payment.request()?)?;
    node.await_intent(intent, "negotiating")?;
    node.change_settings(|text| text.replace("[policy]", "[policy]\nmax_fee = 7\nburial = 5"))?;
    node.signal("HUP")?;
    await_log(&node, "[policy] `burial` changed and need a restart")?;
    peer.thaw()?;
    let mut reply = String::new();
    payer.read_to_string(&mut reply)?;
    let proposal = reply.split_once("\r\n\r\n").context("no reply to the payer")?.1;
    ensure!(reply.starts_with("HTTP/1.1 200"), "the exchange did not go on: {reply}");
    world.broadcast(&payment.signed(proposal)?)?;
    node.await_intent(intent, "confirming").or_else(|_| node.await_intent(intent, "released"))?;

    // The limit holds from now on, until it is lifted again.
    node.queue(&peer, "400000", &["--unchecked"])?;
    ensure!(note(&node, 500_000)?.contains("`max_fee` under [policy] is 7"), "the limit was not taken over");
    node.change_settings(|_| "[policy]\nmax_fee = many".to_owned()).and_then(|()| node.signal("HUP"))?;
    await_log(&node, "Nothing was changed")?;
    ensure!(note(&node, 500_000)?.contains("`max_fee`"), "a broken file changed something");

    // The certificate is read again by itself, and its end is told.
    let folder = world.folder("renewed")?;
    let renewed = Certificate::new(&folder)?;
    replace(&renewed, &world.tls)?;
    let code = world.receive(&node, Some(100_000))?;
    let payment = Payment::new(world.payer(), &code.uri, Substitution::Allowed)?;
    let payjoin = wait::until("payers see the new certificate", PATIENCE, || Ok(payment.exchange(&renewed).ok()))?;
    world.broadcast(&payjoin)?;
    ensure!(node.call(&["status"])?["certificate_warning"].is_null(), "a certificate for years ends soon");
    replace(&Certificate::until(&folder, 2020)?, &world.tls)?;
    node.signal("HUP")?;
    let warning = wait::until("status tells that it has ended", PATIENCE, || {
        Ok(node.call(&["status"])?["certificate_warning"].as_str().map(str::to_owned))
    })?;
    ensure!(warning.contains("has ended"), "not that it has ended: {warning}");
    world.settle()
}

fn replace(new: &Certificate, old: &Certificate) -> Result<()> {
    for (new, old) in [(&new.certificate, &old.certificate), (&new.key, &old.key)] {
        fs::copy(new, old)?;
    }
    Ok(())
}

fn await_log(node: &Daemon, part: &str) -> Result<()> {
    wait::until(&format!("the log says {part:?}"), PATIENCE, || Ok(node.log()?.contains(part).then_some(())))
}

/// What a code says of this payment.
fn note(node: &Daemon, sat: u64) -> Result<String> {
    let code = node.call(&["receive", "--amount", &sat.to_string()])?;
    Ok(code["note"].as_str().unwrap_or_default().to_owned())
}

fn stop_fast(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[300_000])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    let request = payment.request()?;
    let head = raw::begin(node.plain, b"POST / HTTP/1.1\r\nHost: local")?;
    let body = raw::begin(node.plain, &request[..request.len() - 100])?;
    thread::sleep(Duration::from_millis(500));
    let took = node.terminate()?;
    ensure!(took < Duration::from_secs(6), "beside half a head and half a body it took {took:?}");
    drop((head, body));

    node.restart()?;
    world.chain.freeze()?;
    let waiting = raw::begin(node.plain, &request)?;
    thread::sleep(Duration::from_secs(1));
    let took = node.terminate();
    world.chain.thaw()?;
    let took = took?;
    ensure!(took < Duration::from_secs(12), "beside a bitcoind that hangs it took {took:?}");
    drop(waiting);

    // Nothing was lost.
    node.restart()?;
    world.broadcast(&payment.exchange(&world.tls)?)?;
    node.step("broadcast")?;
    world.settle()
}

fn blocks_only(world: &World<'_>) -> Result<()> {
    world.chain.stop()?;
    world.chain.restart_with(&["-blocksonly=1"], &["payer", "nested"])?;
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let warning = node.call(&["status"])?["fee_warning"].as_str().unwrap_or_default().to_owned();
    ensure!(warning.contains("`fallback` under [fees]"), "not what is paid instead: {warning}");
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, None)?;
    world.pay(&invoice)?;
    world.mine(6)?;
    node.await_channel(node.funding(intent)?).map(drop)
}

fn whitelist(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    node.terminate()?;
    let by_password = |text: String| {
        let lines = text.lines().map(|line| match line.starts_with("cookie") {
            true => "user = \"peer\"\npassword = \"peer\"",
            false => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    node.change_settings(by_password)?;
    let restart = |methods: &str| {
        world.chain.stop()?;
        let list = format!("-rpcwhitelist=peer:{methods}");
        world.chain.restart_with(&[&list, "-rpcwhitelistdefault=0"], &["payer", "nested"])
    };
    restart("getblockchaininfo,getblock,getblockhash,getblockheader,getbestblockhash,getrawmempool,stop")?;
    let refusal = node.refusal(&["run"])?;
    for part in ["gettxspendingprevout", "submitpackage", "testmempoolaccept", "add them to its `rpcwhitelist`"] {
        ensure!(refusal.contains(part), "it should say {part}: {refusal}");
    }
    ensure!(!refusal.contains("credentials"), "the password is right: {refusal}");
    let all = refusal.split_once("All that is needed: ").context("not what is needed")?.1;
    let all = all.split(|letter: char| letter != ',' && !letter.is_ascii_lowercase()).next().unwrap_or_default();
    restart(all)?;
    node.restart()?;
    let intent = node.queue(&peer, "500000", &[])?;
    world.pay(&world.receive(&node, Some(600_000))?)?;
    world.mine(6)?;
    node.await_channel(node.funding(intent)?).map(drop)
}

fn busy(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    node.terminate()?;
    world.chain.stop()?;
    world.chain.restart_with(&["-rpcworkqueue=1", "-rpcthreads=1"], &["payer", "nested"])?;
    let (over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (url, cookie) = (world.chain.url().to_owned(), fs::read_to_string(world.chain.cookie())?);
    let proposal = thread::scope(|scope| {
        let load = || {
            let client = reqwest::blocking::Client::builder().no_proxy().build()?;
            let (user, password) = cookie.split_once(':').context("the cookie has no colon")?;
            let body = json!({ "id": 0, "method": "waitfornewblock", "params": [40] }).to_string();
            while !over.load(Ordering::Relaxed) {
                let asked = client.post(&url).basic_auth(user, Some(password)).body(body.clone());
                if asked.send().is_ok_and(|reply| reply.status() == 503) {
                    refused.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        let loads: Vec<_> = (0..3).map(|_| scope.spawn(load)).collect();
        let paid = (|| {
            node.restart()?;
            node.step("ready")?;
            node.await_peers(1)?;
            let reply = raw::send_and_stay(node.plain, &payment.request()?)?;
            ensure!(reply.status() == Some(200), "no proposal: {}", reply.text());
            Ok(reply.body())
        })();
        over.store(true, Ordering::Relaxed);
        for load in loads {
            load.join().ok().context("a load panicked")??;
        }
        paid
    })?;
    ensure!(refused.load(Ordering::Relaxed) > 10, "bitcoind was never busy");
    world.broadcast(&payment.signed(&proposal)?)?;
    world.mine(6)?;
    node.await_channel(node.funding(intent)?).map(drop)
}

fn behind(world: &World<'_>) -> Result<()> {
    // Alone on signet it downloads blocks for ever.
    let (data, port) = (world.folder("signet")?.join("bitcoind"), ports::free()?);
    let alone = ["-regtest=0", "-signet", "-connect=0"];
    let regtest = Regtest::new(world.bitcoind(), &data, port, &alone)?;
    let _bitcoind = regtest.start()?;
    let folder = world.folder("waiting")?;
    let settings = format!("[bitcoind]\nurl = {:?}\ncookie = {:?}\n", regtest.url(), data.join("signet/.cookie"));
    fs::write(folder.join("payjoind.toml"), settings)?;
    let payjoind = || {
        let mut command = Command::new(world.payjoind());
        command.arg("--datadir").arg(&folder).arg("--json");
        command
    };
    let log = File::create(folder.with_extension("log"))?;
    let mut server = Server::start(payjoind().arg("run").stdout(log.try_clone()?).stderr(log))?;
    let trouble = wait::until("status tells what is waited for", PATIENCE, || {
        let status = payjoind().arg("status").output()?.stdout;
        let status: Value = serde_json::from_slice(&status)?;
        Ok(status["chain_error"].as_str().map(str::to_owned))
    })?;
    ensure!(trouble.contains("initial block download, at block 0 of"), "not how far it is: {trouble}");
    let refused = payjoind().args(["receive", "--amount", "250000"]).output()?;
    let refused = String::from_utf8_lossy(&refused.stdout).into_owned();
    ensure!(refused.contains("initial block download"), "a code is refused for another reason: {refused}");
    ensure!(!folder.join("seed").exists(), "a seed was made before it was needed");
    server.signal("TERM")?;
    wait::until("it ends", Duration::from_secs(10), || server.ended()).map(drop)
}

fn fee_spike(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000, 250_000])?;
    node.queue(&peer, "500000", &[])?;
    node.terminate()?;
    node.change_settings(|text| format!("{text}\n[fees]\nfallback = 120\n"))?;
    node.restart()?;
    node.await_peers(1)?;
    let told = note(&node, 600_000)?;
    ensure!(told.contains("`max_fee_rate` under [policy] is 100: it would have to be 120"), "not which limit: {told}");
    let reason = pay_at(world, &node, 120, 600_000)?;
    ensure!(reason.contains("`max_fee_rate` under [policy] is 100: it would have to be 1"), "not which limit: {reason}");

    limit(&node, "max_fee_rate = 1000\nmax_fee = 1000")?;
    let told = note(&node, 600_000)?;
    ensure!(told.contains("`max_fee` under [policy] is 1000: it would have to be"), "not which limit: {told}");
    let reason = pay_at(world, &node, 120, 600_000)?;
    let needed = reason.split_once("`max_fee` under [policy] is 1000: it would have to be ");
    let needed = needed.with_context(|| format!("not which limit: {reason}"))?.1.trim().to_owned();

    limit(&node, &format!("max_fee_rate = 1000\nmax_fee = {needed}\ntop_up = false"))?;
    let told = note(&node, 400_000)?;
    ensure!(told.contains("needs 100000 sat more") && told.contains("`top_up`"), "not which limit: {told}");
    let reason = pay_at(world, &node, 5, 400_000)?;
    ensure!(reason.contains("needs 100000 sat more") && reason.contains("`top_up`"), "not which limit: {reason}");

    // What it says would do, does.
    limit(&node, &format!("max_fee_rate = 1000\nmax_fee = {needed}\ntop_up = true"))?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::at(120, world.payer(), &invoice.uri, Substitution::Allowed)?;
    world.broadcast(&payment.exchange(&world.tls)?)?;
    node.await_intent(1, "confirming").or_else(|_| node.await_intent(1, "released")).map(drop)
}

/// Other limits, without a restart.
fn limit(node: &Daemon, policy: &str) -> Result<()> {
    node.change_settings(|text| {
        let (before, rest) = text.split_once("[policy]\n").unwrap_or((&text, ""));
        let rest = rest.find("\n[").map_or("", |at| &rest[at..]);
        format!("{before}[policy]\n{policy}{rest}")
    })?;
    let count = |log: &str| log.matches("settings were read again").count();
    let before = count(&node.log()?);
    node.signal("HUP")?;
    wait::until("the settings are read again", PATIENCE, || Ok((count(&node.log()?) > before).then_some(())))
}

/// Pays a fresh code by payjoin, at this rate, and returns why no channel opened. A block follows.
fn pay_at(world: &World<'_>, node: &Daemon, fee_rate: u64, sat: u64) -> Result<String> {
    let invoice = world.receive(node, Some(sat))?;
    let payment = Payment::at(fee_rate, world.payer(), &invoice.uri, Substitution::Allowed)?;
    world.broadcast(&payment.exchange(&world.tls)?)?;
    world.mine(1)?;
    let all = node.call(&["exchange", "list"])?;
    let newest = all.list("exchanges")?.first().cloned().unwrap_or(Value::Null);
    Ok(newest.text("reason")?.to_owned())
}

fn peer_address(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let id = peer.peer.split('@').next().unwrap_or_default();
    let wrong = format!("{id}@127.0.0.1:1");
    let refusal = node.refusal(&["peer", "connect", &wrong])?;
    ensure!(refusal.contains("no connection to 127.0.0.1:1"), "not what failed: {refusal}");
    let missed = node.call(&["peer", "list"])?;
    let missed = missed.list("peers")?.first().cloned().unwrap_or(Value::Null);
    ensure!(!missed.flag("connected")? && missed.text("error")?.contains("127.0.0.1:1"), "not told: {missed}");

    let told = node.call(&["peer", "connect", &peer.peer])?;
    ensure!(told["note"].is_null(), "it is where it was looked for: {told}");
    let told = node.call(&["peer", "connect", &wrong])?;
    ensure!(told.text("note")?.contains("connected before"), "a live connection is no success of another address: {told}");

    // A queued channel with the wrong address, too: after a restart the peer is reached, and the channel opens.
    let intent = node.queue_to(&wrong, "500000", &[])?;
    node.terminate()?;
    node.restart()?;
    node.await_peers(1)?;
    let all = node.call(&["peer", "list"])?;
    let there = all.list("peers")?.first().cloned().unwrap_or(Value::Null);
    ensure!(there.text("address")? == peer.peer, "not where it was reached: {there}");
    world.pay(&world.receive(&node, Some(600_000))?)?;
    world.mine(6)?;
    let channel = node.await_channel(node.funding(intent)?)?;
    ensure!(channel.text("peer")? == id, "a channel with somebody else: {channel}");

    // An invoice that names no amount cannot be made here; one of our own is not paid.
    let ours = node.call(&["invoice", "1500"])?;
    let refusal = node.refusal(&["pay", ours.text("bolt11")?])?;
    ensure!(refusal.contains("an invoice of this node itself"), "not whose it is: {refusal}");
    let theirs = peer.call(&["invoice", "1500"])?;
    let refusal = node.refusal(&["pay", theirs.text("bolt11")?, "--amount", "1500"])?;
    ensure!(refusal.contains("asks for 1500 sat"), "not what it asks for: {refusal}");
    node.pay(&peer, Amount::from_sat(1_500))
}
