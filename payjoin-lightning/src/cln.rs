//! The operator's own Core Lightning: its wallet, its channels, over the socket of its JSON-RPC or over clnrest.
//!
//! What is asked in which order, and what lightningd promises, is in docs/core-lightning.md and
//! docs/adr/0010-own-node.md.

mod abandon;
mod calls;
mod error;
mod funder;
mod lightning;
mod openings;
mod pledges;
pub mod plugin;
mod purse;
mod reply;
mod rest;
mod rpc;
mod wallet;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, Network, OutPoint};
use payjoin_core::{PeerAddress, Step};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::error::RpcError;
use self::funder::{Funder, Shared};
use self::openings::Openings;
use self::pledges::Pledges;
use self::purse::Purse;
use self::reply::{Channel, Info, NORMAL, info};
use self::rpc::Rpc;
use crate::addresses::{Addresses, Turn};
use crate::lock::lock;
use crate::steps::Steps;
use crate::{LightningError, LightningNode as _, OwnNodeConfig, Wanted};

pub use self::calls::{methods, rune_line};
pub use self::rest::RestAccess;
pub use self::rpc::ClnAccess;

/// Between looks at the wallet: longer where lightningd takes long to answer, up to a limit.
const EVERY: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(10);
/// Between looks at peers that should be connected, and for one to be.
const PEERS_EVERY: Duration = Duration::from_secs(10);
const DIAL: Duration = Duration::from_secs(30);

/// A Core Lightning node that runs beside us. It goes on when we end.
pub struct Cln {
    rpc: Rpc,
    node_id: PublicKey,
    network: Network,
    /// What lightningd keeps back to close channels: `min-emergency-msat`.
    emergency: Amount,
    funder: Shared,
    purse: Mutex<Purse>,
    pledges: Pledges,
    /// Reservations change one after the other.
    turn: tokio::sync::Mutex<()>,
    /// Why nothing can be offered now.
    trouble: Mutex<Option<String>>,
    /// The list of coins is to be looked at again.
    stale: Notify,
    channels_count: AtomicUsize,
    /// Channels of ours that were ready at the last look.
    ready: Mutex<HashSet<OutPoint>>,
    meets: AtomicBool,
    wanted: Option<Arc<dyn Wanted>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Cln {
    /// Begins to use the node behind this access: locks on coins are taken again, openings that an earlier process left are read
    /// back.
    ///
    /// # Errors
    /// [`LightningError::Away`] while it does not answer or has not caught up with the chain: try again. Everything else is
    /// for the operator to change.
    pub async fn start(access: ClnAccess, config: OwnNodeConfig) -> Result<Arc<Self>, LightningError> {
        let rpc = Rpc::new(access);
        let node_id = ready_node(&rpc, config.network).await?;
        let openings = Openings::load(Arc::clone(&config.state));
        let openings = openings.map_err(|error| LightningError::Refused(error.to_string()))?;
        let (steps, addresses) = (Steps(config.events), Addresses::default());
        let funder = Funder { rpc: rpc.clone(), openings, steps, addresses };
        let node = Arc::new(Self {
            emergency: emergency(&rpc).await?,
            rpc,
            node_id,
            network: config.network,
            funder: Arc::new(funder),
            purse: Mutex::default(),
            pledges: Pledges::new(Arc::clone(&config.state)),
            turn: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            stale: Notify::new(),
            channels_count: AtomicUsize::default(),
            ready: Mutex::default(),
            meets: AtomicBool::default(),
            wanted: config.wanted,
            stop: watch::Sender::new(false),
            task: Mutex::default(),
        });
        node.refresh().await?;
        node.retake(config.held).await.map_err(LightningError::from)?;
        // What nobody else reserved and is ours by right counts from here on.
        node.refresh().await?;
        *lock(&node.task) = Some(tokio::spawn(tend(Arc::clone(&node), node.stop.subscribe())));
        Ok(node)
    }

    fn trouble_now(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// What stays in the wallet now, and what for each channel more: Core Lightning keeps back one sum as soon as there is a
    /// channel, however many there are.
    fn kept_back(&self) -> (Amount, Amount) {
        match self.channels_count.load(Ordering::Relaxed) {
            0 => (Amount::ZERO, self.emergency),
            _ => (self.emergency, Amount::ZERO),
        }
    }

    /// Looks at chain and wallet.
    async fn refresh(&self) -> Result<(), LightningError> {
        const FUNDS: &str = "listfunds";
        const ADDRESSES: &str = "listaddresses";
        let Info { behind, height, .. } = ask_info(&self.rpc).await?;
        let start = lock(&self.purse).last_key + 1;
        let answer = self.rpc.call(ADDRESSES, json!({ "start": start })).await?;
        let known = reply::addresses(&answer, self.network).ok_or(RpcError::Unexpected(ADDRESSES))?;
        {
            // No reservation of ours changes between the question and the answer.
            let _turn = self.turn.lock().await;
            let answer = self.rpc.call(FUNDS, json!({})).await?;
            let outputs = reply::outputs(&answer).ok_or(RpcError::Unexpected(FUNDS))?;
            let mut purse = lock(&self.purse);
            purse.height = height;
            purse.replace(outputs);
            known.0.into_iter().for_each(|script| purse.add_script(script));
            purse.last_key = known.1.unwrap_or(purse.last_key).max(purse.last_key);
        }
        let channels = self.funder.channels().await?;
        let open = channels.iter().filter(|channel| !channel.is_closed()).count();
        self.channels_count.store(open, Ordering::Relaxed);
        self.tell_ready(&channels);
        match behind {
            Some(behind) => Err(LightningError::Away(catching_up(&behind))),
            None => Ok(()),
        }
    }

    /// What was ready at the start is no news.
    fn tell_ready(&self, channels: &[Channel]) {
        let is_start = lock(&self.task).is_none();
        let mut ready = lock(&self.ready);
        for (key, opening) in self.funder.openings.all() {
            let Some(funding) = opening.funding else { continue };
            let found = channels.iter().find(|one| one.funding == Some(funding) && one.state == NORMAL);
            if let Some(channel) = found
                && ready.insert(funding)
                && !is_start
            {
                let capacity = Some(Amount::from_sat(channel.total_msat / 1_000));
                self.funder.steps.tell(Some(key), Step::ChannelReady { peer: channel.peer, capacity });
            }
        }
    }

    fn told(&self, looked: Result<(), LightningError>) {
        let mut trouble = lock(&self.trouble);
        match &looked {
            Err(error) if trouble.is_none() => tracing::warn!(%error, "nothing new is offered for now"),
            Ok(()) if trouble.is_some() => tracing::info!("Core Lightning answers again"),
            _ => {}
        }
        *trouble = looked.err().map(|error| error.to_string());
    }

    /// Connects peers that should be: no payer waits for a dial then.
    async fn dial(&self) {
        let Some(wanted) = self.wanted.as_ref().filter(|_| self.meets.load(Ordering::Relaxed)) else {
            return;
        };
        let Ok(connected) = self.peers().await else { return };
        let missing = wanted.peers().await.into_iter();
        for peer in missing.filter(|peer| !connected.iter().any(|known| known.node_id == peer.node_id())) {
            let funder = Arc::clone(&self.funder);
            tokio::spawn(async move { reach(&funder, &peer).await });
        }
    }
}

async fn reach(funder: &Funder, peer: &PeerAddress) {
    if let Ok(Err(error)) = timeout(DIAL, funder.reach(peer, Turn::WorkedFirst)).await {
        tracing::debug!(%error, %peer, "a peer cannot be reached");
    }
}

/// Looks after wallet, reservations and openings until the stop.
async fn tend(node: Arc<Cln>, mut stop: watch::Receiver<bool>) {
    let mut dialled = None::<Instant>;
    let mut rest = EVERY;
    loop {
        tokio::select! {
            () = sleep(rest) => {}
            () = node.stale.notified() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let began = Instant::now();
        let looked = node.refresh().await;
        let answers = looked.is_ok();
        node.told(looked);
        if answers {
            if let Err(error) = node.keep_locks().await {
                tracing::warn!(%error, "Core Lightning does not keep all coins for us");
            }
            node.funder.clear().await;
            if dialled.is_none_or(|last| last.elapsed() >= PEERS_EVERY) {
                dialled = Some(Instant::now());
                node.dial().await;
            }
        }
        rest = (began.elapsed() * 2).clamp(EVERY, SELDOM);
    }
}

/// Whose node it is, if it can be used. Changes nothing.
///
/// # Errors
/// What is wrong with it, and what to do.
pub async fn examine(access: ClnAccess, network: Network) -> Result<PublicKey, LightningError> {
    ready_node(&Rpc::new(access), network).await
}

/// Whose node it is, if it is on our network and up to date.
async fn ready_node(rpc: &Rpc, ours: Network) -> Result<PublicKey, LightningError> {
    let Info { node_id, network, behind, .. } = ask_info(rpc).await?;
    if Network::from_core_arg(core_arg(&network)) != Ok(ours) {
        return Err(LightningError::Refused(format!(
            "Core Lightning at {} is on {network}, not on {ours}: set `socket` or `rest` under [cln], or `network`",
            rpc.place()
        )));
    }
    match behind {
        Some(behind) => Err(LightningError::Away(catching_up(&behind))),
        None => Ok(node_id),
    }
}

async fn ask_info(rpc: &Rpc) -> Result<Info, RpcError> {
    const METHOD: &str = "getinfo";
    info(&rpc.call(METHOD, json!({})).await?).ok_or(RpcError::Unexpected(METHOD))
}

async fn emergency(rpc: &Rpc) -> Result<Amount, RpcError> {
    const METHOD: &str = "listconfigs";
    const NAME: &str = "min-emergency-msat";
    let answer = rpc.call(METHOD, json!({ "config": NAME })).await?;
    let value = answer
        .get("configs")
        .and_then(|configs| configs.get(NAME)?.get("value_msat").and_then(Value::as_u64));
    Ok(Amount::from_sat(value.ok_or(RpcError::Unexpected(METHOD))? / 1_000))
}

/// Core Lightning says `bitcoin` where bitcoind says `main`, and `testnet` where it says `test`.
fn core_arg(network: &str) -> &str {
    match network {
        "bitcoin" => "main",
        "testnet" => "test",
        network => network,
    }
}

fn catching_up(warning: &str) -> String {
    format!(
        "Core Lightning has not caught up with the chain: {warning} Wait for it; see `lightning-cli getinfo`"
    )
}
