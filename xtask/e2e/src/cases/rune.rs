//! Core Lightning over clnrest, with a rune.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;
use xtask_programs::workspace;

use super::Case;
use crate::harness::clnrest::ClnRest;
use crate::harness::{Daemon, Fields, Foreign, Options, Own, World, ledger, wait};

/// The cases.
pub(super) const CASES: &[Case] = &[Case {
    name: "cln-rune",
    about: "Core Lightning over HTTPS with the page's rune: a channel opens; a rune too small, expired or blacklisted, and another certificate have their words",
    run: rune,
}];

const PATIENCE: Duration = Duration::from_secs(60);

/// The restrictions of the operator's page.
fn restrictions() -> Result<String> {
    let page = fs::read_to_string(workspace::root().join("docs/core-lightning.md"))?;
    let line = page.lines().find_map(|line| line.strip_prefix("lightning-cli createrune restrictions='"));
    let line =
        line.and_then(|line| line.strip_suffix('\'')).context("the page has no line that makes a rune")?;
    Ok(line.to_owned())
}

struct Scene {
    own: Rc<dyn Foreign>,
    node: Rc<Daemon>,
    rest: ClnRest,
    folder: PathBuf,
    rune: PathBuf,
}

impl Scene {
    fn new(world: &World<'_>) -> Result<Self> {
        let own = world.cln("own", &[])?;
        let (socket, folder) = (own.folder().join("regtest/lightning-rpc"), world.folder("rest")?);
        let (rest, rune) = (ClnRest::start(&socket, &folder)?, folder.join("rune"));
        let good = make(&own, &restrictions()?)?;
        fs::write(&rune, &good)?;
        let table =
            format!("[cln]\nrest = {:?}\nrune = {rune:?}\ncertificate = {:?}\n", rest.url, rest.certificate);
        let own_node = Own { backend: "cln", table, peer: own.peer()? };
        let node = world.daemon_with("node", Options { own: Some(own_node), ..Options::default() })?;
        Ok(Self { own, node, rest, folder, rune })
    }

    fn expect_word(&self, word: &str) -> Result<()> {
        let mut last = String::new();
        let seen = wait::until(&format!("the daemon says: {word}"), PATIENCE, || {
            let told = self.node.call(&["status"])?;
            last = told["lightning_error"].to_string();
            Ok(last.contains(word).then_some(()))
        });
        seen.with_context(|| format!("last: {last}"))
    }

    fn expect_peace(&self) -> Result<()> {
        wait::until("the daemon goes on", PATIENCE, || {
            Ok(self.node.call(&["status"])?["lightning_error"].is_null().then_some(()))
        })
    }
}

/// A rune of lightningd's, with these restrictions.
fn make(own: &Rc<dyn Foreign>, restrictions: &str) -> Result<String> {
    let told = own.ask(&["-k", "createrune", &format!("restrictions={restrictions}")])?;
    Ok(told.text("rune")?.to_owned())
}

fn rune(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world)?;
    let (node, peer) = (&scene.node, world.daemon("peer")?);
    world.give(node, &[300_000, 100_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    world.pay(&world.receive(node, None)?)?;
    node.await_intent(intent, "released")?;
    let funding = node.funding(intent)?;
    world.mine(6)?;
    node.await_channel(funding)?;
    peer.await_channel(funding)?;
    node.await_intent(intent, "open")?;
    node.pay(&peer, Amount::from_sat(50_000))?;
    world.settle()?;
    ledger::check_settled(world)?;
    at_a_start(&scene)?;
    while_it_runs(&scene)
}

/// Each trouble has its word.
fn at_a_start(scene: &Scene) -> Result<()> {
    let Scene { own, node, rune: file, .. } = scene;
    let good = fs::read_to_string(file)?;
    let methods = restrictions()?;
    let small = make(own, r#"[["method=getinfo"]]"#)?;
    let old = make(own, &format!(r#"{},["time<1"]]"#, methods.strip_suffix(']').context("no list")?))?;
    let bad = make(own, &methods)?;
    blacklist(own, &bad)?;
    for (rune, word) in [
        (small.as_str(), "the rune does not allow `"),
        (&old, "the rune has expired"),
        (&bad, "the rune is blacklisted"),
        ("nonsense", "does not accept the rune"),
    ] {
        node.kill();
        fs::write(file, rune)?;
        ensure!(node.restart().is_err(), "it starts with this rune: {word}");
        wait::until(&format!("it ends with: {word}"), PATIENCE, || {
            Ok(node.told()?.contains(word).then_some(()))
        })?;
    }
    fs::write(file, &good)?;
    node.restart()
}

/// A good rune, or the right certificate, in the same file ends it.
fn while_it_runs(scene: &Scene) -> Result<()> {
    let Scene { own, node, rune, .. } = scene;
    blacklist(own, &fs::read_to_string(rune)?)?;
    scene.expect_word("the rune is blacklisted")?;
    ensure!(node.refusal(&["receive"])?.contains("blacklisted"), "a code without a node");
    fs::write(rune, make(own, &restrictions()?)?)?;
    scene.expect_peace()?;

    let other = scene.rest.change_certificate(&scene.folder)?;
    scene.expect_word("shows another certificate")?;
    fs::copy(other, &scene.rest.certificate)?;
    scene.expect_peace()
}

fn blacklist(own: &Rc<dyn Foreign>, rune: &str) -> Result<()> {
    let told = own.ask(&["showrunes", rune])?;
    let number = told.list("runes")?.first().context("no such rune")?.text("unique_id")?.to_owned();
    own.ask(&["blacklistrune", &number, &number]).map(drop)
}
