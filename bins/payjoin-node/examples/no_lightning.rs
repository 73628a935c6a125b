//! A funder of one's own in the place of the Lightning node: this one has every channel at once, and in memory. It
//! prints a code whose payment pays such a channel.
//!
//!     cargo run -p payjoin-node --example no_lightning -- DATADIR http://127.0.0.1:18443 COOKIE_FILE

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, ScriptBuf, WScriptHash};
use payjoin_core::{
    ChannelFailure, ChannelSpec, ExchangeId, Funded, FundedChannel, Funder, FunderError, IntentId,
    PlannedChannel, StableProposal, StateWrite,
};
use payjoin_node::requests::{ChannelRequest, QueueArgs, ReceiveArgs};
use payjoin_node::settings::{Bitcoind, Http, PlainListen};
use payjoin_node::{ChannelAmount, Heard, Lifetime, Node, Request, Response, Settings, Step};

/// Every channel comes to be. Its funding script is made of its intent.
pub(crate) struct Always;

#[async_trait]
impl Funder for Always {
    async fn open(
        &self,
        _: ExchangeId,
        channels: &[(PlannedChannel, ChannelSpec)],
    ) -> Result<Vec<Result<ScriptBuf, ChannelFailure>>, FunderError> {
        let script = |channel: &PlannedChannel| {
            ScriptBuf::new_p2wsh(&WScriptHash::hash(&channel.intent.0.to_be_bytes()))
        };
        Ok(channels.iter().map(|(channel, _)| Ok(script(channel))).collect())
    }

    async fn fund(&self, _: ExchangeId, _: &StableProposal, _: &[IntentId]) -> Result<Funded, FunderError> {
        Ok(Funded::All)
    }

    async fn abandon(&self, _: ExchangeId, _: &str) {}

    async fn forget(&self, _: ExchangeId, _: &[FundedChannel]) {}

    async fn state(&self, _: ExchangeId, _: &[FundedChannel]) -> Result<Vec<StateWrite>, FunderError> {
        Ok(Vec::new())
    }
}

/// A key that nobody needs: nobody is asked.
pub(crate) const PEER: &str =
    "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:9735";

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
    let [datadir, url, cookie] = &arguments[..] else {
        return Err("arguments: DATADIR BITCOIND_URL COOKIE_FILE".into());
    };
    let node = Node::builder(settings(datadir, url, cookie)).funder(Arc::new(Always)).start().await?;
    let mut events = node.events();
    let channel = QueueArgs {
        peer: PEER.parse()?,
        amount: ChannelAmount::Exact(Amount::from_sat(100_000)).into(),
        push: Amount::ZERO,
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
            if matches!(event.step, Step::Confirmed { .. }) {
                break;
            }
        }
    }
    node.stop().await;
    Ok(())
}
