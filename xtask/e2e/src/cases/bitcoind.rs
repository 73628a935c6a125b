//! bitcoind as people run it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xtask_programs::bitcoind::Regtest;
use xtask_programs::ports;
use xtask_programs::process::Server;

use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Chain, World};
use crate::harness::{raw, wait};

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn blocks_only(world: &World<'_>) -> Result<()> {
    world.chain.stop()?;
    world.chain.restart_with(&["-blocksonly=1", "-walletbroadcast=1"], &["payer", "nested"])?;
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

pub(super) fn whitelist(world: &World<'_>) -> Result<()> {
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
    for part in
        ["gettxspendingprevout", "submitpackage", "testmempoolaccept", "add them to its `rpcwhitelist`"]
    {
        ensure!(refusal.contains(part), "it should say {part}: {refusal}");
    }
    ensure!(node.diagnosis()?.contains("gettxspendingprevout"), "doctor does not name what is missing");
    ensure!(!refusal.contains("credentials"), "the password is right: {refusal}");
    let all = refusal.split_once("All that is needed: ").context("not what is needed")?.1;
    let all =
        all.split(|letter: char| letter != ',' && !letter.is_ascii_lowercase()).next().unwrap_or_default();
    restart(all)?;
    node.restart()?;
    let intent = node.queue(&peer, "500000", &[])?;
    world.pay(&world.receive(&node, Some(600_000))?)?;
    world.mine(6)?;
    node.await_channel(node.funding(intent)?).map(drop)
}

pub(super) fn busy(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    node.terminate()?;
    world.chain.stop()?;
    world.chain.restart_with(&["-rpcworkqueue=1", "-rpcthreads=1"], &["payer", "nested"])?;
    let proposal = under_load(&world.chain, || {
        node.restart()?;
        wait::until("the start is over", Duration::from_secs(90), || {
            Ok(node.call(&["status"])?["height"].is_u64().then_some(()))
        })?;
        node.await_peers(1)?;
        let reply = raw::send_and_stay(node.plain, &payment.request()?)?;
        ensure!(reply.status() == Some(200), "no proposal: {}", reply.text());
        Ok(reply.body())
    })?;
    world.broadcast(&payment.signed(&proposal)?)?;
    world.mine(6)?;
    node.await_channel(node.funding(intent)?).map(drop)
}

/// Does something while others take bitcoind's one thread again and again.
fn under_load<T>(chain: &Chain, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let (over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (url, cookie) = (chain.url().to_owned(), fs::read_to_string(chain.cookie())?);
    let done = thread::scope(|scope| {
        let load = || {
            let client = reqwest::blocking::Client::builder().no_proxy().build()?;
            let (user, password) = cookie.split_once(':').context("the cookie has no colon")?;
            let body = json!({ "id": 0, "method": "waitfornewblock", "params": [20] }).to_string();
            while !over.load(Ordering::Relaxed) {
                let asked = client.post(&url).basic_auth(user, Some(password)).body(body.clone());
                if asked.send().is_ok_and(|reply| reply.status() == 503) {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(5));
            }
            Ok::<_, anyhow::Error>(())
        };
        let loads: Vec<_> = (0..3).map(|_| scope.spawn(load)).collect();
        let done = act();
        over.store(true, Ordering::Relaxed);
        for load in loads {
            load.join().ok().context("a load panicked")??;
        }
        done
    })?;
    ensure!(refused.load(Ordering::Relaxed) > 10, "bitcoind was never busy");
    Ok(done)
}

pub(super) fn behind(world: &World<'_>) -> Result<()> {
    // Alone on signet it downloads blocks for ever.
    let (data, port) = (world.folder("signet")?.join("bitcoind"), ports::free()?);
    let alone = ["-regtest=0", "-signet", "-connect=0"];
    let regtest = Regtest::new(world.bitcoind(), &data, port, &alone)?;
    let _bitcoind = regtest.start()?;
    let folder = world.folder("waiting")?;
    let api = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
    let settings = format!(
        "[bitcoind]\nurl = {:?}\ncookie = {:?}\n[api]\nlisten = \"{api}\"\nplain = true\n",
        regtest.url(),
        data.join("signet/.cookie")
    );
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
    for (path, status) in [("/healthz", 200), ("/readyz", 503), ("/v1/status", 401)] {
        let told = raw::send(api, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())?;
        ensure!(told.status() == Some(status) && told.body().is_empty(), "{path}: {}", told.text());
    }
    let refused = payjoind().args(["receive", "--amount", "250000"]).output()?;
    let refused = String::from_utf8_lossy(&refused.stdout).into_owned();
    ensure!(refused.contains("initial block download"), "a code is refused for another reason: {refused}");
    ensure!(!folder.join("seed").exists(), "a seed was made before it was needed");
    server.signal("TERM")?;
    wait::until("it ends", Duration::from_secs(10), || server.ended()).map(drop)
}
