//! With Tor only, a daemon tries nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;

use super::{expect_channel, named, shut_in};
use crate::harness::World;
use crate::harness::cell::Cell;
use crate::harness::daemon::Options;
use crate::harness::json::Fields;
use crate::harness::onion::{pay, settings};
use crate::harness::{Daemon, wait};

/// Where nobody is. Only the daemon that may leak is told of these.
const NAME: &str = "stranger.invalid";
const STRANGER: &str = "192.0.2.7";

pub(in super::super) fn no_leak(world: &World<'_>) -> Result<()> {
    let tor = world.tor()?;
    let [relay, directory] = world.mailrooms()?;
    let (node, cell) = shut_in(world, tor, &relay, &directory)?;
    let peer = world.daemon("peer")?;

    // A payer comes to the onion service; a channel opens.
    let intent =
        node.call(&["channel", "queue", &named(&peer.peer), "500000", "--unchecked"])?.number("intent")?;
    let txid = pay(world, tor, &node, &world.receive_by(&node, None, &["--via", "onion"])?, "payer")?;
    expect_channel(world, &node, intent, txid)?;
    node.pay(&peer, Amount::from_sat(50_000))?;
    // Another comes through a directory.
    let invoice = world.receive_by(&node, Some(400_000), &["--via", "directory"])?;
    world.finish(world.begin(&invoice, &relay)?)?;
    world.mine(6)?;
    // And we pay somebody.
    let receiver = world.receiving(150_000).v2(&relay, &directory, 600)?;
    let told = world.send(&node, &receiver.uri, receiver.amount, 60)?;
    ensure!(told.text("status")? == "payjoin", "no payjoin: {told}");

    let leaks = control(world, &cell, &peer, settings(tor, false))?;
    let tried = cell.tried()?;
    let line = |address: &SocketAddr| format!("tcp {address}");
    let (rpc, relays) = (line(&world.chain.address()), tor.or_ports());
    let relays: Vec<_> = relays.iter().map(line).collect();
    for line in &tried {
        let allowed = *line == rpc || relays.contains(line) || leaks.contains(line);
        ensure!(allowed, "the daemon tried {line:?}, among {tried:?}");
    }
    ensure!(tried.contains(&rpc), "bitcoind was reached by another way: {tried:?}");
    ensure!(relays.iter().any(|relay| tried.contains(relay)), "no Tor: {tried:?}");
    Ok(())
}

/// A daemon that may go other ways does so, and it is seen. Packets are seen in their order, so whatever the other one
/// did before is known by then. Returns what is seen of this one.
fn control(world: &World<'_>, cell: &Cell, peer: &Daemon, tor: String) -> Result<[String; 2]> {
    let control =
        world.daemon_with("control", Options { tor, prefix: cell.prefix(), ..Options::default() })?;
    let (id, _) = peer.peer.split_once('@').context("a peer without an address")?;
    for host in [NAME, STRANGER] {
        control.refusal(&["peer", "connect", &format!("{id}@{host}:9735")])?;
    }
    let leaks = [format!("dns {NAME}"), format!("tcp {STRANGER}:9735")];
    wait::until("what a daemon without Tor tries is seen", Duration::from_secs(10), || {
        let tried = cell.tried()?;
        Ok(leaks.iter().all(|leak| tried.contains(leak)).then_some(()))
    })?;
    Ok(leaks)
}
