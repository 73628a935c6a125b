//! What holds beside each node of the operator's: the same steps with Core Lightning and with LND.

use std::time::Duration;

use anyhow::{Result, ensure};
use bitcoin::Amount;

use super::safety::raise;
use super::{Case, conflict, payers};
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Foreign, Options, World, wait};

/// The cases.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "cln-taproot",
        about: "a payer with P2TR inputs: the P2TR coin of Core Lightning is offered, and its signature is finalised here",
        run: |world| taproot(world, &*world.cln("own", &[])?),
    },
    Case {
        name: "lnd-taproot",
        about: "a payer with P2TR inputs: the P2TR coin of LND is offered and signed for",
        run: |world| taproot(world, &*world.lnd("own", &[])?),
    },
    Case {
        name: "lnd-bump",
        about: "beside LND: a payjoin is raised by a child of its wallet, and one that its payer takes back is outbid by another",
        run: lnd_bump,
    },
    Case {
        name: "lnd-unified-code",
        about: "beside LND: a code with a Lightning invoice is paid once: LND holds a payment until we say that it may be taken",
        run: |world| {
            let own = Some(world.lnd("own", &[])?.own()?);
            payers::unified(world, &*world.daemon_with("node", Options { own, ..Options::default() })?)
        },
    },
];

/// Paid over the channel.
const PAYMENT: Amount = Amount::from_sat(50_000);

fn taproot(world: &World<'_>, own: &dyn Foreign) -> Result<()> {
    let node = world.daemon_with("node", Options { own: Some(own.own()?), ..Options::default() })?;
    let peer = world.daemon("peer")?;
    // payjoin-cli cannot send from such a wallet.
    let payer = world.taproot_payer()?;
    // After four P2WPKH coins the stock lacks one of P2TR.
    world.give(&node, &[60_000, 61_000, 62_000, 63_000])?;
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, None)?;
    let payment = Payment::new(payer, &invoice.uri, Substitution::Allowed)?;
    let payjoin = payment.exchange(&world.tls)?;
    let mut ours = 0;
    for input in &payjoin.input {
        let spent = world.chain.output(input.previous_output)?;
        ensure!(spent.script_pubkey.is_p2tr(), "an input of another type: {spent:?}");
        ours += usize::from(!world.is_payers(&spent)?);
    }
    ensure!(ours == 1, "{ours} coins of ours, not the P2TR coin alone: {payjoin:?}");
    let txid = world.broadcast(&payjoin)?;
    node.await_intent(intent, "released")?;
    let funding = node.funding(intent)?;
    ensure!(funding.txid == txid, "the payer broadcast {txid}, the channel waits for {}", funding.txid);
    world.mine(6)?;
    node.await_channel(funding)?;
    peer.await_channel(funding)?;
    node.await_intent(intent, "open")?;
    node.pay(&peer, PAYMENT)
}

fn lnd_bump(world: &World<'_>) -> Result<()> {
    let own = world.lnd("own", &[])?;
    let node = world.daemon_with("node", Options { own: Some(own.own()?), ..Options::default() })?;
    let peer = world.daemon("peer")?;
    world.give(&node, &[300_000, 100_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let txid = world.pay(&world.receive(&node, Some(600_000))?)?;
    let child = raise(world, &node, "1", 30)?.0;
    ensure!(child.input[0].previous_output.txid == txid, "the child spends something else");
    let again = raise(world, &node, "1", 40)?.0;
    ensure!(again.compute_txid() != child.compute_txid(), "at a higher rate it is another child");
    let mempool = world.chain.mempool()?;
    ensure!(
        mempool.contains(&txid) && !mempool.contains(&child.compute_txid()),
        "what is there? {mempool:?}"
    );
    world.mine(6)?;
    node.await_channel(node.funding(intent)?)?;

    // What a payer takes back comes back with a child that our own unconfirmed output pays.
    let invoice = world.receive(&node, Some(600_000))?;
    let payjoin = world.pay(&invoice)?;
    wait::until("the daemon sees the payjoin", Duration::from_secs(20), || {
        Ok(node.told()?.contains(&format!("\"broadcast\",\"txid\":\"{payjoin}\"")).then_some(()))
    })?;
    let conflict = world.double_spend(&invoice, &world.chain.transaction(payjoin)?, 40)?;
    conflict::expect_instead(world, conflict, payjoin, 1)?;
    world.settle()?;
    conflict::end(&[&node, &peer])
}
