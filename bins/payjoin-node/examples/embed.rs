//! A node with a channel queued, in a program of one's own. It prints a code: the payment of it opens the channel.
//!
//!     cargo run -p payjoin-node --example embed -- DATADIR http://127.0.0.1:18443 COOKIE_FILE NODE_ID@HOST:PORT

use std::error::Error;

use payjoin_node::requests::{ChannelRequest, QueueArgs, ReceiveArgs};
use payjoin_node::settings::{Bitcoind, Http, PlainListen};
use payjoin_node::{ChannelAmount, Heard, Lifetime, Node, Request, Response, Settings, Step};

fn settings(datadir: &str, url: &str, cookie: &str) -> Settings {
    Settings {
        datadir: datadir.into(),
        network: bitcoin::Network::Regtest,
        bitcoind: Bitcoind { url: Some(url.into()), cookie: Some(cookie.into()), ..Bitcoind::default() },
        http: Http {
            plain_listen: Some(PlainListen::Tcp(([127, 0, 0, 1], 8080).into())),
            public_endpoint: Some("https://localhost".into()),
            ..Http::default()
        },
        ..Settings::default()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [datadir, url, cookie, peer] = &arguments[..] else {
        return Err("arguments: DATADIR BITCOIND_URL COOKIE_FILE PEER".into());
    };
    let node = Node::builder(settings(datadir, url, cookie)).start().await?;
    let mut events = node.events();

    let channel = QueueArgs {
        peer: peer.parse()?,
        amount: ChannelAmount::Exact(bitcoin::Amount::from_sat(500_000)).into(),
        push: bitcoin::Amount::ZERO,
        private: false,
        unchecked: false,
        within: None,
    };
    node.request(Request::Channel(ChannelRequest::Queue(channel))).await?;
    let code = ReceiveArgs { payer_is_me: true, ..ReceiveArgs::new(Lifetime::try_from(3600)?) };
    if let Response::Code(code) = node.request(Request::Receive(code)).await? {
        println!("{}", code.uri);
    }
    while let Some(heard) = events.next().await {
        if let Heard::Event(event) = heard {
            println!("{:?}", event.step);
            if matches!(event.step, Step::ChannelReady { .. }) {
                break;
            }
        }
    }
    node.stop().await;
    Ok(())
}
