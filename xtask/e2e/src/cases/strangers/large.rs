//! Large bodies.

use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;

use crate::harness::payer::Payment;
use crate::harness::{FEE_RATE, World, raw};

/// Inputs of the large Original, and the size of each transaction that they spend, in bytes.
const INPUTS: usize = 12;
const PARENT: u64 = 78_000;
/// Bodies that do not end, and how long each is.
const BODIES: usize = 256;
const BODY: usize = 300_000;
/// What they may take together, in KiB.
const MEMORY: u64 = 40_000;

pub(in super::super) fn original(world: &World<'_>) -> Result<()> {
    let (node, peer) = (world.daemon("node")?, world.daemon("peer")?);
    world.give(&node, &[300_000])?;
    let intent = node.queue(&peer, "500000", &[])?;
    let invoice = world.receive(&node, Some(600_000))?;

    let before = node.memory()?;
    let endless = endless(node.plain, &invoice.id)?;
    let growth = node.memory()?.saturating_sub(before);
    println!("  {BODIES} bodies of {BODY} bytes that do not end: {growth} KiB");
    ensure!(growth < MEMORY, "{BODIES} bodies take {growth} KiB");
    drop(endless);

    let coins = world.chain.large_parents(&world.payer(), INPUTS, Amount::from_sat(60_000), PARENT)?;
    world.mine(1)?;
    let psbt = world.payer().payment_of(&coins, &invoice.address, invoice.amount, FEE_RATE)?;
    let body = psbt.to_string();
    println!("  an Original of {INPUTS} inputs in {} bytes", body.len());
    ensure!(body.len() > 1_200_000, "bitcoind wrote only {} bytes", body.len());
    let payment = Payment::of(world.payer(), &invoice.uri, psbt)?;
    let head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain", payment.target()?);
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let reply = raw::send_and_stay(node.plain, request.as_bytes())?;
    ensure!(reply.status() == Some(200), "no proposal: {}", reply.text());
    world.broadcast(&payment.signed(&reply.body())?)?;
    world.mine(6)?;
    node.await_channel(node.funding(intent)?).map(drop)
}

/// Connections that send all of a body but its last byte.
fn endless(address: std::net::SocketAddr, invoice: &str) -> Result<Vec<TcpStream>> {
    let head = format!("POST /{invoice}?v=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain");
    let bytes =
        [format!("{head}\r\nContent-Length: {BODY}\r\n\r\n").into_bytes(), vec![b'A'; BODY - 1]].concat();
    let begin = |_| match raw::begin(address, &bytes) {
        // Some are cut while they send.
        Err(error) if error.downcast_ref::<std::io::Error>().is_some() => Ok(None),
        begun => begun.map(Some),
    };
    let streams = (0..BODIES).map(begin).collect::<Result<Vec<_>>>()?;
    let streams: Vec<_> = streams.into_iter().flatten().collect();
    streams.first().context("not one was let in")?;
    Ok(streams)
}
