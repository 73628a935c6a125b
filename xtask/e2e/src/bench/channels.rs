//! How long a payer waits for a payjoin that opens a channel, with the embedded node and beside the operator's own.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use super::report::{machine, percentile};
use super::{in_a_folder, payjoind};
use crate::demo::Backend;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::{Daemon, Options as Settings, Programs, World};

/// Coins of each receiver: one for each payment that is not buried, and what is kept back to close channels.
const COINS: [u64; 3] = [400_000, 200_000, 200_000];
const CHANNEL: &str = "100000";
const PAID: u64 = 150_000;

#[derive(Args)]
pub(crate) struct Options {
    /// Beside this node; the embedded one is measured in the same run
    #[arg(long, value_enum)]
    backend: Vec<Backend>,
    /// Payments to each receiver, one after the other
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    payments: u16,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Measure the debug build: shows that it runs, and no more
    #[arg(long)]
    pub(super) debug: bool,
}

pub(super) const HELP: &str = "\
One bitcoind, one LDK node as the peer, and payments that each open one channel: from the payer's request to the proposal, with
the peer's acceptance and signature in between. Fails when a payment opens none. Builds everything in release mode first.

Examples:
  cargo xtask bench channel --backend cln --backend lnd
  cargo xtask bench channel --payments 50 --json";

/// A receiver, and how long its payers waited.
struct Lane {
    name: &'static str,
    node: Rc<Daemon>,
    waited: Vec<Duration>,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let needs: Vec<_> = options.backend.iter().map(|backend| backend.need()).collect();
    let programs = Programs::provide(&needs)?.measuring(payjoind());
    if let Some(missing) = programs.missing(&needs) {
        anyhow::bail!("this bench needs {missing}");
    }
    in_a_folder(|dir| {
        let world = World::new(&programs, dir)?;
        let lanes = measure(&world, options)?;
        show(&lanes, options.json);
        Ok(())
    })
}

fn measure(world: &World<'_>, options: &Options) -> Result<Vec<Lane>> {
    // It takes as many as there are.
    let many = "inbound_per_peer = 1000\nmax_inbound = 1000".to_owned();
    let peer = world.daemon_with("peer", Settings { lightning: many, ..Settings::default() })?;
    let mut lanes = vec![lane(world, "embedded", Settings::default())?];
    for backend in &options.backend {
        let (name, own) = match backend {
            Backend::Cln => ("cln", world.cln("own-cln", &[])?),
            Backend::Lnd => ("lnd", world.lnd("own-lnd", &[])?),
        };
        lanes.push(lane(world, name, Settings { own: Some(own.own()?), ..Settings::default() })?);
    }
    for number in 0..options.payments {
        eprintln!("payment {} of {} to each", number + 1, options.payments);
        for lane in &mut lanes {
            lane.pay(world, &peer)?;
        }
    }
    Ok(lanes)
}

fn lane(world: &World<'_>, name: &'static str, settings: Settings) -> Result<Lane> {
    let node = world.daemon_with(name, settings)?;
    world.give(&node, &COINS)?;
    Ok(Lane { name, node, waited: Vec::new() })
}

impl Lane {
    /// One payment, from the request to a channel that is buried.
    fn pay(&mut self, world: &World<'_>, peer: &Daemon) -> Result<()> {
        let node = &self.node;
        let intent = node.queue(peer, CHANNEL, &["--push", "1000"])?;
        let invoice = world.receive(node, Some(PAID))?;
        let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
        let begun = Instant::now();
        let payjoin = payment.exchange(&world.tls)?;
        self.waited.push(begun.elapsed());
        node.await_intent(intent, "released")?;
        world.broadcast(&payjoin)?;
        world.mine(6)?;
        node.await_intent(intent, "open")?;
        ensure!(node.locked()?.to_sat() == 0, "{}: a coin is locked for nothing", self.name);
        Ok(())
    }
}

fn show(lanes: &[Lane], as_json: bool) {
    let embedded = lanes.first().map_or(f64::NAN, |lane| percentile(&lane.waited, 50));
    if as_json {
        let lanes = lanes.iter().map(|lane| {
            let p50 = percentile(&lane.waited, 50);
            json!({ "node": lane.name, "payments": lane.waited.len(), "p50_ms": p50,
                "p90_ms": percentile(&lane.waited, 90), "added_p50_ms": p50 - embedded })
        });
        println!("{}", json!({ "machine": machine(), "channels": lanes.collect::<Vec<_>>() }));
        return;
    }
    println!("machine: {}", machine());
    println!("{:<10} {:>9} {:>9} {:>9} {:>12}", "node", "payments", "p50 ms", "p90 ms", "more than ours");
    for lane in lanes {
        let (p50, p90) = (percentile(&lane.waited, 50), percentile(&lane.waited, 90));
        println!("{:<10} {:>9} {p50:>9.1} {p90:>9.1} {:>12.1}", lane.name, lane.waited.len(), p50 - embedded);
    }
}
