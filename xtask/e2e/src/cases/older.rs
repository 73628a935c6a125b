//! An older copy of the database: what it would send of a channel, the peer could punish.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Result, ensure};
use bitcoin::{Amount, OutPoint};

use crate::harness::daemon::Daemon;
use crate::harness::json::Fields;
use crate::harness::{Foreign, World};

/// What the copy does not know to be the peer's.
const PAID: Amount = Amount::from_sat(50_000);

/// A node that does not run, the peer of its only channel, and a copy of its database from before a payment.
struct Scene<'a> {
    world: &'a World<'a>,
    node: Rc<Daemon>,
    peer: Rc<Daemon>,
    funding: OutPoint,
    older: Vec<u8>,
}

impl<'a> Scene<'a> {
    fn new(world: &'a World<'a>) -> Result<Self> {
        let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
        world.give(&node, &[300_000, 100_000])?;
        let intent = node.queue(&peer, "500000", &[])?;
        world.pay(&world.receive(&node, Some(600_000))?)?;
        world.settle()?;
        let funding = node.funding(intent)?;
        node.await_channel(funding)?;
        end(&node)?;
        let older = fs::read(database(&node))?;
        node.restart()?;
        node.await_channel(funding)?;
        node.pay(&peer, PAID)?;
        end(&node)?;
        Ok(Self { world, node, peer, funding, older })
    }

    fn put_back(&self) -> Result<()> {
        Ok(fs::write(database(&self.node), &self.older)?)
    }

    /// Nothing is offered, and the channel is not ours to close.
    fn expect_walled(&self) -> Result<()> {
        let status = self.node.call(&["status"])?;
        ensure!(status.text("database_error")?.contains("older copy"), "not said: {status}");
        let told = self.node.refusal(&["receive", "--amount", "250000"])?;
        ensure!(told.contains("nothing is offered"), "why? {told}");
        Ok(())
    }

    /// The peer closes, and the node gets what the newest state says.
    fn expect_recovered(&self) -> Result<()> {
        let held = || self.node.call(&["wallet", "balance"])?.sat("confirmed_sat");
        let before = held()?;
        self.world.forced(self.funding, &self.node, || Ok(()))?;
        let (back, most) = (held()? - before, Amount::from_sat(500_000) - PAID);
        ensure!(back <= most && back + Amount::from_sat(5_000) > most, "{back} of {most} came back");
        // The ledger knows nothing of the copy's.
        self.node.kill();
        self.peer.kill();
        Ok(())
    }
}

fn database(node: &Daemon) -> PathBuf {
    node.folder().join("payjoind.sqlite")
}

fn end(node: &Daemon) -> Result<()> {
    node.call(&["stop"])?;
    node.kill();
    Ok(())
}

pub(super) fn refused(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world)?;
    let (node, peer) = (&scene.node, &scene.peer);
    let newest = fs::read(database(node))?;
    scene.put_back()?;
    for _ in 0..2 {
        let told = node.refusal(&["run"])?;
        ensure!(told.contains("older copy") && told.contains("payjoind recover"), "what to do? {told}");
    }
    let marked = fs::read(database(node))?;
    fs::write(database(node), newest)?;
    node.restart()?;
    node.await_channel(scene.funding)?;
    end(node)?;
    let told = node.refusal(&["recover"])?;
    ensure!(told.contains("--older-copy"), "the newest is recovered: {told}");

    fs::write(database(node), marked)?;
    fs::remove_file(node.folder().join("payjoind.count"))?;
    node.refusal(&["run"])?;
    peer.kill();
    node.restart_as(&["recover"])?;
    scene.expect_walled()?;
    let channel = node.call(&["channel", "list"])?.list("channels")?[0].clone();
    ensure!(channel["fallen"] == true, "not shown: {channel}");
    let told = node.refusal(&["channel", "close", channel.text("channel_id")?, "--force"])?;
    ensure!(told.contains("only its peer"), "why? {told}");
    world.mine(1)?;
    ensure!(world.chain.mempool()?.is_empty(), "a revoked state was sent");
    peer.restart()?;
    scene.expect_recovered()
}

pub(super) fn proved(world: &World<'_>) -> Result<()> {
    let scene = Scene::new(world)?;
    let node = &scene.node;
    scene.put_back()?;
    fs::remove_file(node.folder().join("payjoind.count"))?;
    // It ends as soon as it meets the peer.
    let told = node.refusal(&["run"])?;
    ensure!(told.contains("a peer has proved"), "why? {told}");
    node.restart()?;
    scene.expect_walled()?;
    scene.expect_recovered()
}

/// A node of another project closes as well when it is asked to.
pub(super) fn cln(world: &World<'_>) -> Result<()> {
    asked(world, &*world.cln("cln", &[])?)
}

fn asked(world: &World<'_>, peer: &dyn Foreign) -> Result<()> {
    let node = world.daemon("node")?;
    world.give(&node, &[300_000])?;
    let intent = node.queue_to(&peer.peer()?, "500000", &[])?;
    world.pay(&world.receive(&node, Some(600_000))?)?;
    world.settle()?;
    let funding = node.funding(intent)?;
    node.await_channel(funding)?;
    node.pay_invoice(&peer.invoice(PAID)?)?;
    end(&node)?;
    node.restart_as(&["recover", "--older-copy"])?;
    let held = || node.call(&["wallet", "balance"])?.sat("confirmed_sat");
    let before = held()?;
    world.forced(funding, &node, || Ok(()))?;
    ensure!(
        held()? - before + Amount::from_sat(5_000) > Amount::from_sat(500_000) - PAID,
        "too little came back"
    );
    Ok(())
}
