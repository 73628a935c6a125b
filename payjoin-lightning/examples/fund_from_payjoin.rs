//! What a wallet built with LDK adds to fund its channels from a payjoin. Two real LDK nodes in this process talk
//! over loopback; the steps are printed as they happen.

use std::error::Error;
use std::sync::Arc;

use payjoin_core::ExchangeId;
use payjoin_lightning::{Channels, LdkFunder};

#[path = "../tests/common/mod.rs"]
mod common;
use common::{Dialer, Manner, Node, channel, payjoin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter("step=info")
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .init();
    let peer = Node::new(2, Manner::Accept).await;
    tokio::spawn(Arc::clone(&peer).run(|_| false));

    // 1. The funder needs the wallet's ChannelManager and a way to reach peers.
    let wallet = Node::new(1, Manner::Accept).await;
    let dialer = Arc::new(Dialer(Arc::clone(&wallet.peers)));
    let funder = Arc::new(LdkFunder::new(Arc::clone(&wallet.manager), dialer));

    // 2. The wallet's event handler gives it every event first.
    let events = Arc::clone(&funder);
    tokio::spawn(Arc::clone(&wallet).run(move |event| events.handle_event(event)));

    // 3. An Original PSBT has come. Two channels are to be opened instead of one deposit, in 20 seconds at most.
    let channels = Channels::new(funder, 20);
    let exchange = ExchangeId(1);
    let wanted = [channel(1, peer.address(), 400_000), channel(2, peer.address(), 500_000)];
    let scripts = channels.open_all(exchange, &wanted).await?;

    // 4. The scripts take the place of the payment output. The payjoin's id is final, though nobody has signed.
    let (transaction, positions) = payjoin(&wanted, &scripts);
    channels.fund_all(exchange, &transaction, &positions).await?;

    // 5. Here the wallet persists its ChannelManager, then signs its inputs and lets the proposal go. If any of that
    //    fails: `channels.abandon_all(exchange, reason)`.
    println!("{} may be released: it funds {} channels", transaction.compute_txid(), positions.len());
    Ok(())
}
