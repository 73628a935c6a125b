//! The server of payjoin-io behind an onion service. The wallet and the chain here are those of a node that is down:
//! put yours in their place.
//!
//! `cargo run -p payjoin-tor --example onion_receiver -- <folder> [Tor network file]`

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bitcoin::{OutPoint, Psbt, ScriptBuf, Transaction};
use payjoin_core::{
    Broadcast, Chain, ChainError, CheckedProposal, Coin, Holder, Inspection, NoChannels, Policy, Reserve,
    ResourceRequest, Timestamp, Wallet, WalletError,
};
use payjoin_io::{Host, Limits, Server, Store};
use payjoin_tor::{OnionConfig, TorClient, TorConfig};

struct Down;

#[async_trait]
impl Chain for Down {
    async fn inspect(&self, _: &Transaction) -> Result<Inspection, ChainError> {
        Err(ChainError::Away("no Bitcoin node".into()))
    }

    async fn broadcast(&self, _: &Transaction) -> Result<Broadcast, ChainError> {
        Err(ChainError::Away("no Bitcoin node".into()))
    }

    async fn submit_package(&self, _: &[Transaction]) -> Result<Broadcast, ChainError> {
        Err(ChainError::Away("no Bitcoin node".into()))
    }
}

#[async_trait]
impl Wallet for Down {
    async fn owns(&self, _: &[ScriptBuf]) -> Result<Vec<bool>, WalletError> {
        Err(WalletError::Away("no wallet".into()))
    }

    async fn reserve(
        &self,
        _: Holder,
        _: &ResourceRequest,
        _: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), WalletError> {
        Err(WalletError::Away("no wallet".into()))
    }

    async fn hold(&self, _: Holder, _: &[OutPoint]) -> Result<(), WalletError> {
        Err(WalletError::Away("no wallet".into()))
    }

    async fn sign(&self, _: &CheckedProposal) -> Result<Psbt, WalletError> {
        Err(WalletError::Away("no wallet".into()))
    }
}

fn now() -> Timestamp {
    Timestamp(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let dir = arguments.next().ok_or("which folder?")?;
    let tor = TorClient::start(&TorConfig { network_file: arguments.next(), ..TorConfig::new(&dir) }).await?;
    let store = Arc::new(Store::open(dir.join("payjoin.db"))?);
    let (node, policy) = (Arc::new(Down), Policy::default());
    let (host, _obligations) = Host::new(node.clone(), node, Arc::new(NoChannels), store, policy, now);

    let onion = tor.listen(&OnionConfig::new("payjoin", dir.join("onion-addresses"))).await?;
    println!("{}", onion.endpoint());
    let mut reachability = onion.reachability();
    tokio::spawn(async move {
        while reachability.changed().await.is_ok() {
            eprintln!("{:?}", *reachability.borrow());
        }
    });
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    Server::new(host, Limits::default()).run(&onion, stop).await;
    Ok(tokio::time::timeout(Duration::from_secs(10), onion.close()).await?)
}
