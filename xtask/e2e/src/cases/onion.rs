//! The onion service, and everything else through Tor, in a private Tor network.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use bitcoin::Txid;

use super::Case;
use crate::harness::World;
use crate::harness::cell::Cell;
use crate::harness::daemon::{Daemon, Options};
use crate::harness::mailroom::Mailroom;
use crate::harness::onion::{PATIENCE, await_reachable, endpoint, expect_answer, pay, pay_from, settings};
use crate::harness::raw;
use crate::harness::wait;
use crate::harness::world::Invoice;
use crate::tor::{HERE, TorNetwork};

mod flood;
mod leak;

use flood::flood;
use leak::no_leak;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "onion-channel",
        about: "a payer behind a C tor reaches our onion service, and the payment opens a channel",
        run: channel,
    },
    Case {
        name: "onion-v2",
        about: "with Tor as the only way out, a payment through relay and directory opens a channel",
        run: directory,
    },
    Case {
        name: "onion-restart",
        about: "the address stays after kill -9; an exposed or lost key stops the start, never a new address",
        run: restart,
    },
    Case {
        name: "onion-restricted",
        about: "an onion service for chosen payers: one with the key opens a channel, another does not find it",
        run: restricted,
    },
    Case {
        name: "onion-no-leak",
        about: "Tor only, in a network namespace: nothing but Tor and bitcoind is tried, no name is looked up",
        run: no_leak,
    },
    Case {
        name: "onion-flood",
        about: "240 streams of garbage come all the time: honest payers are served, memory is bounded",
        run: flood,
    },
];

fn channel(world: &World<'_>) -> Result<()> {
    let tor = world.tor()?;
    let (node, peer) =
        (node(world, Options { tor: settings(tor, false), ..Options::default() })?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive_by(&node, None, &["--via", "onion"])?;
    ensure!(is_onion(&invoice), "no onion endpoint: {}", invoice.endpoint);
    let txid = pay(world, tor, &node, &invoice, "payer")?;
    expect_channel(world, &node, intent, txid)
}

fn directory(world: &World<'_>) -> Result<()> {
    let tor = world.tor()?;
    let [relay, directory] = world.mailrooms()?;
    let (node, peer) = (shut_in(world, tor, &relay, &directory)?.0, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive_by(&node, None, &["--via", "directory"])?;
    let txid = world.finish(world.begin(&invoice, &relay)?)?;
    expect_channel(world, &node, intent, txid)
}

fn restart(world: &World<'_>) -> Result<()> {
    let tor = world.tor()?;
    let node = node(world, Options { tor: settings(tor, false), ..Options::default() })?;
    await_reachable(&node)?;
    let address = endpoint(&node)?;
    expect_answer(tor.socks(), &address)?;
    node.kill();
    node.restart()?;
    ensure!(endpoint(&node)? == address, "another address after the restart");
    await_reachable(&node)?;
    expect_answer(tor.socks(), &address)?;
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
    ensure!(endpoint(&node)? == address, "another address after the key came back");
    await_reachable(&node)?;
    expect_answer(tor.socks(), &address)
}

/// A key pair of a payer's, made as docs/tor.md tells.
const PUBLIC: &str = "descriptor:x25519:S34AEPR7JOIVK2GNQ6TMSKGBRGSXHYSL2KNKSQ4QKK3MAV7ZJFTQ";
const SECRET: &str = "descriptor:x25519:LASOYLBXUMAR2WR2VBWHLVND3PAV6KYUW65FKR7XVAEOWHDYOFXA";

fn restricted(world: &World<'_>) -> Result<()> {
    let tor = world.tor()?;
    let settings = format!("{}\nclients.alice = {PUBLIC:?}", settings(tor, false));
    let (node, peer) = (node(world, Options { tor: settings, ..Options::default() })?, world.daemon("peer")?);
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive_by(&node, None, &["--via", "onion"])?;
    let host = invoice.endpoint.split('/').nth(2).context("an endpoint without a host")?;
    let service = host.strip_suffix(".onion").context("no onion endpoint")?;
    let alice = world.invited("alice-tor", service, SECRET)?;
    let txid = pay_from(world, alice.socks(), &invoice, "alice")?;
    // The others' Tor finds what the service published, and cannot read it. It asks other directories than Alice's:
    // not all of them need have it yet.
    let code = wait::until("the descriptor is found", PATIENCE, || {
        let (_, code) = raw::ask_tor(tor.socks(), "mallory", host, 80)?;
        Ok((code != raw::NO_DESCRIPTOR).then_some(code))
    })?;
    ensure!(code == raw::NOT_INVITED, "a payer without a key was told {code:#x}");
    expect_channel(world, &node, intent, txid)
}

/// A daemon with a coin, Tor only, where nothing answers besides the Tor network and bitcoind. It knows the relay by name.
fn shut_in(
    world: &World<'_>,
    tor: &TorNetwork,
    relay: &Mailroom,
    directory: &Mailroom,
) -> Result<(Rc<Daemon>, Rc<Cell>)> {
    let cell = world.cell(&[tor.or_ports(), vec![world.chain.address()]].concat())?;
    let relay = named(relay.url());
    let payjoin = format!("ohttp_relays = [{relay:?}]\ndirectories = [{:?}]", directory.url());
    let options = Options { tor: settings(tor, true), payjoin, prefix: cell.prefix(), ..Options::default() };
    Ok((node(world, options)?, cell))
}

/// The same by a name that only exits know.
fn named(address: &str) -> String {
    address.replace("127.0.0.1", &format!("somebody{HERE}"))
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

/// The file with the onion service's key.
fn key(node: &Daemon) -> Result<PathBuf> {
    let services = node.folder().join("tor/state/keystore/hss");
    let service = fs::read_dir(&services)?.next().context("no service has a key")??;
    let key = service.path().join("ks_hs_id.ed25519_expanded_private");
    ensure!(key.is_file(), "no key at {}", key.display());
    Ok(key)
}
