//! Invented gossip.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bitcoin::Amount;

use crate::harness::stranger::Stranger;
use crate::harness::{Daemon, World, wait};

const INVENTED: u64 = 100_000;
/// What they may cost, in KiB.
const COST: u64 = 5_000;

pub(in super::super) fn gossip(world: &World<'_>) -> Result<()> {
    let node = world.daemon("node")?;
    let stranger = Stranger::connect(&node)?;
    // What the first of anything costs.
    stranger.announce(1_000)?;
    let (before, begun) = (node.memory()?, Instant::now());
    stranger.announce(INVENTED)?;
    let cost = node.memory()?.saturating_sub(before);
    println!("  {INVENTED} invented announcements in {:.0?}: {cost} KiB", begun.elapsed());
    ensure!(cost < COST, "{INVENTED} invented announcements cost {cost} KiB");
    drop(stranger);
    heard(world, &node)
}

/// Two channels in a row are a way: what the peer at their middle tells is heard, once our own channel is in a block.
fn heard(world: &World<'_>, node: &Daemon) -> Result<()> {
    let (middle, end) = (world.daemon("middle")?, world.daemon("end")?);
    for (from, to) in [(node, &middle), (&middle, &end)] {
        // One of the coins has to stay, should the other channel be closed.
        world.give(from, &[300_000, 100_000])?;
        let intent = from.queue(to, "500000", &[])?;
        world.pay(&world.receive(from, None)?)?;
        world.mine(6)?;
        from.await_channel(from.funding(intent)?)?;
    }
    world.mine(6)?;
    // An invoice without hints: only gossip shows the way to its node.
    wait::until("the node has heard of the second channel", Duration::from_secs(60), || {
        Ok(node.pay(&end, Amount::from_sat(20_000)).ok())
    })
}
