//! The onion service, and everything else through Tor, in a private Tor network.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use bitcoin::Txid;

use super::super::World;
use super::super::daemon::{Daemon, Options};
use super::super::json::Fields;
use super::super::onion::{expect_answer, pay, reachable, settings};
use super::super::tap::Tap;
use super::super::world::Invoice;

mod flood;
mod leak;

pub(super) use flood::flood;
pub(super) use leak::no_leak;

pub(super) fn channel(world: &World<'_>) -> Result<()> {
    let tor = world.tor()?;
    let (node, peer) =
        (node(world, Options { tor: settings(tor, false), ..Options::default() })?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive_by(&node, None, &["--via", "onion"])?;
    ensure!(is_onion(&invoice), "no onion endpoint: {}", invoice.endpoint);
    let txid = pay(world, tor, &invoice, "payer")?;
    expect_channel(world, &node, intent, txid)
}

pub(super) fn directory(world: &World<'_>) -> Result<()> {
    let tor = world.tor()?;
    let [relay, directory] = world.mailrooms()?;
    let relay_tap = tap(relay.url())?;
    let payjoin =
        format!("ohttp_relays = [\"http://{}\"]\ndirectories = [{:?}]", relay_tap.address(), directory.url());
    let node = node(world, Options { tor: settings(tor, true), payjoin, ..Options::default() })?;
    let peer = world.daemon("peer")?;
    let (id, address) = peer.peer.split_once('@').context("a peer without an address")?;
    let peer_tap = Tap::new(address.parse()?)?;
    let peer = format!("{id}@{}", peer_tap.address());
    let intent = node.call(&["channel", "queue", &peer, "500000"])?.number("intent")?;

    let invoice = world.receive_by(&node, None, &["--via", "directory"])?;
    let txid = world.finish(world.begin(&invoice, &relay)?)?;
    expect_channel(world, &node, intent, txid)?;
    for (name, tap) in [("the relay", relay_tap), ("the peer", peer_tap)] {
        let seen = tap.seen();
        ensure!(!seen.is_empty(), "{name} was reached by another way");
        ensure!(seen.iter().all(|ip| tor.is_exit(*ip)), "{name} saw {seen:?}, and not only exits");
    }
    Ok(())
}

pub(super) fn restart(world: &World<'_>) -> Result<()> {
    let tor = world.tor()?;
    let node = node(world, Options { tor: settings(tor, false), ..Options::default() })?;
    let address = reachable(&node)?;
    expect_answer(tor, &address, "before")?;
    node.kill();
    node.restart()?;
    ensure!(reachable(&node)? == address, "another address after the restart");
    expect_answer(tor, &address, "after")?;
    node.kill();

    let key = key(&node)?;
    let refused = |why: &str| -> Result<()> {
        let told = node.refusal(&["run"])?;
        ensure!(
            told.contains(&*key.to_string_lossy()),
            "{why}: the refusal does not name {}: {told}",
            key.display()
        );
        Ok(())
    };
    fs::set_permissions(&key, Permissions::from_mode(0o644))?;
    refused("an exposed key")?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    let kept = node.folder().join("kept");
    fs::rename(&key, &kept)?;
    refused("a lost key")?;
    ensure!(!key.exists(), "a new key was made for an old address");
    fs::rename(&kept, &key)?;
    node.restart()?;
    ensure!(reachable(&node)? == address, "another address after the key came back");
    Ok(())
}

/// A daemon with a coin.
fn node(world: &World<'_>, options: Options) -> Result<Rc<Daemon>> {
    let node = world.daemon_with("node", options)?;
    world.give(&node, &[300_000])?;
    Ok(node)
}

fn is_onion(invoice: &Invoice) -> bool {
    let host = invoice.endpoint.strip_prefix("http://").and_then(|rest| rest.strip_suffix(&invoice.id));
    host.and_then(|host| host.strip_suffix(".onion/")).is_some_and(|name| name.len() == 56)
}

/// The payment became the intent's channel.
fn expect_channel(world: &World<'_>, node: &Daemon, intent: u64, txid: Txid) -> Result<()> {
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the payer broadcast {txid}, the channel waits for {}", funding.txid);
    world.mine(6)?;
    node.await_channel(funding)?;
    node.await_intent(intent, "open")?;
    Ok(())
}

fn tap(url: &str) -> Result<Tap> {
    Tap::new(url.strip_prefix("http://").context("a mailroom without an address")?.parse::<SocketAddr>()?)
}

/// The file with the onion service's key.
fn key(node: &Daemon) -> Result<PathBuf> {
    let services = node.folder().join("tor/state/keystore/hss");
    let service = fs::read_dir(&services)?.next().context("no service has a key")??;
    let key = service.path().join("ks_hs_id.ed25519_expanded_private");
    ensure!(key.is_file(), "no key at {}", key.display());
    Ok(key)
}
