//! What a wallet built with LDK adds to fund queued channels from a payjoin. Two real LDK nodes in this process talk
//! over loopback; the steps are printed as they happen.

use std::error::Error;
use std::sync::Arc;

use bitcoin::{Amount, Psbt};
use payjoin_core::{
    ChannelAmount, ChannelLimits, ChannelSpec, ExchangeId, FundedChannel, Funder, IntentId, PlannedChannel,
    Reserve, SpecError,
};
use payjoin_lightning::{Channels, LdkFunder, shortfall};

#[path = "../tests/common/mod.rs"]
mod common;
use common::{Dialer, Manner, Node, payjoin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    print_steps();
    let peer = Node::new(2, Manner::Accept).await;
    tokio::spawn(Arc::clone(&peer).run(|_| false));

    // 1. The funder needs the wallet's ChannelManager and a way to reach peers.
    let wallet = Node::new(1, Manner::Accept).await;
    let dialer = Arc::new(Dialer(Arc::clone(&wallet.peers)));
    let funder = Arc::new(LdkFunder::new(Arc::clone(&wallet.manager), dialer));

    // 2. The wallet's event handler gives it every event first.
    let events = Arc::clone(&funder);
    tokio::spawn(Arc::clone(&wallet).run(move |event| events.handle_event(event)));

    // 3. The queue is the wallet's own. It says for how much a code must ask.
    let queue = [(IntentId(1), spec(&peer, 400_000)?), (IntentId(2), spec(&peer, 500_000)?)];
    let wishes = queue.each_ref().map(|(id, spec)| spec.wish(*id, &ChannelLimits::default()));
    let asked = shortfall(&wishes, &Reserve::default(), Amount::from_sat(1_000));
    println!("the queued channels need a payment of {asked}");

    // 4. An Original PSBT has come that pays it: `payjoin_core::Exchange` plans the channels and drives the rest of
    //    this. They open side by side, in 20 seconds at most.
    let channels = Channels::new(funder, 20);
    let exchange = ExchangeId(1);
    let wanted: Vec<_> = queue.into_iter().filter_map(planned).collect();
    let scripts = channels.open_all(exchange, &wanted).await?;

    // 5. The scripts take the place of the payment output. The payjoin's id is final, though nobody has signed.
    let (transaction, positions) = payjoin(&wanted, &scripts);
    channels.fund_all(exchange, &Psbt::from_unsigned_tx(transaction.clone())?, &positions).await?;

    // 6. The ChannelManager becomes durable, where the wallet finds it at its next start. Then it signs its inputs and
    //    lets the proposal go. If any of that fails: `channels.abandon_all(exchange, reason)`.
    let funded: Vec<_> = positions.iter().map(funded).collect();
    for state in channels.state(exchange, &funded).await? {
        println!("{} bytes to be written as {}", state.value.len(), state.key);
    }
    println!("{} may be released: it funds {} channels", transaction.compute_txid(), funded.len());
    Ok(())
}

/// A channel that the operator wants.
fn spec(peer: &Node, sat: u64) -> Result<ChannelSpec, SpecError> {
    let amount = ChannelAmount::Exact(Amount::from_sat(sat));
    let (peer, push) = (peer.address(), Amount::ZERO);
    let spec = ChannelSpec { peer, amount, push, announced: false };
    spec.validate(&ChannelLimits::default())?;
    Ok(spec)
}

fn planned((intent, spec): (IntentId, ChannelSpec)) -> Option<(PlannedChannel, ChannelSpec)> {
    match spec.amount {
        ChannelAmount::Exact(amount) => Some((PlannedChannel { intent, amount }, spec)),
        ChannelAmount::Rest | ChannelAmount::Absorb => None,
    }
}

fn funded((planned, vout): &(PlannedChannel, u32)) -> FundedChannel {
    FundedChannel { intent: planned.intent, vout: *vout, amount: planned.amount }
}

fn print_steps() {
    let steps = tracing_subscriber::fmt().with_env_filter("step=info").without_time();
    steps.with_target(false).with_ansi(false).init();
}
