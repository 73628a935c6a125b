//! LND as the Lightning node of a receiver.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::Network;
use bitcoin::key::rand::{RngCore as _, thread_rng};
use bitcoin::secp256k1::PublicKey;
use payjoin_core::{LedgerError, NodeState, StateWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::channels::LndChannels;
use super::client::{Client, LndAccess};
use super::error::LndError;
use super::funder::LndFunder;
use super::held::HeldInvoices;
use super::names::{Names, blocking};
use super::parts::{Parts, Seen, info};
use super::rights;
use super::wallet::LndWallet;
use super::wire::Info;
use crate::lock::lock;
use crate::steps::Steps;
use crate::{LightningError, OwnNodeConfig};

const NAMESPACE: &str = "lnd";
const LEASES: &str = "leases";

/// How LND is reached, and for how long coins are locked there.
#[derive(Clone, Debug)]
pub struct LndConfig {
    /// Where LND is, and what lets us in.
    pub access: LndAccess,
    /// LND locks a coin for so long. It is renewed at half the time; where we do not run for longer, the lock ends.
    pub lease: Duration,
}

/// LND as the Lightning node. Dropping it ends its tasks; LND goes on.
pub struct Lnd {
    pub(super) parts: Arc<Parts>,
    tasks: Mutex<JoinSet<()>>,
    stopped: watch::Sender<bool>,
}

impl Lnd {
    /// Starts beside an LND that answers: takes the locks on record again and clears away what a crash left half open, before
    /// anything is offered.
    ///
    /// # Errors
    /// [`LightningError::Away`] for what passes by itself: try again. The others say what to change.
    pub async fn start(lnd: LndConfig, config: OwnNodeConfig) -> Result<Arc<Self>, LightningError> {
        let LndConfig { access, lease } = lnd;
        let client = Arc::new(Client::new(access));
        let info = info(&client).await.map_err(at_a_start)?;
        check_network(&info, config.network)?;
        let kept = not_kept(kept(&config.state).await)?;
        let wallet = LndWallet::new(Arc::clone(&client), config.network, kept.leases, lease);
        for (holder, coins) in &config.held {
            wallet.record(*holder, coins);
        }
        let parts = Arc::new(Parts {
            node_id: info.identity_pubkey,
            wallet,
            channels: LndChannels::new(Arc::clone(&client)),
            funder: Arc::new(LndFunder::new(Arc::clone(&client), kept.names, Steps(config.events))),
            held: HeldInvoices::new(Arc::clone(&client), config.state, config.once, kept.held),
            client,
            wanted: config.wanted,
            seen: Mutex::new(Seen::default()),
        });
        rights::check(&parts.client).await.map_err(at_a_start)?;
        parts.look().await.map_err(at_a_start)?;
        if parts.client.is_for_administrators() {
            tracing::warn!(
                "the macaroon allows everything: bake one with the few rights that are needed, docs/lnd.md says how"
            );
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&parts).watch());
        tasks.spawn(Arc::clone(&parts).hear_of_coins());
        tasks.spawn(Arc::clone(&parts).hear_of_channels());
        tasks.spawn(Arc::clone(&parts).hear_of_invoices());
        tasks.spawn(Arc::clone(&parts).reach_peers());
        Ok(Arc::new(Self { parts, tasks: Mutex::new(tasks), stopped: watch::Sender::new(false) }))
    }

    pub(super) async fn end(&self) {
        self.stopped.send_replace(true);
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
    }

    pub(super) async fn ended(&self) {
        // It fails when the node is gone.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }
}

/// An LND that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Its key.
    pub node_id: PublicKey,
    /// The macaroon allows far more than is needed.
    pub allows_everything: bool,
}

/// Looks whether this LND can be used. Changes nothing.
///
/// # Errors
/// What is wrong with it, and what to do.
pub async fn examine(access: LndAccess, network: Network) -> Result<Examined, LightningError> {
    let client = Client::new(access);
    let info = info(&client).await.map_err(at_a_start)?;
    check_network(&info, network)?;
    rights::check(&client).await.map_err(at_a_start)?;
    if !info.synced_to_chain {
        return Err(at_a_start(LndError::NotSynchronised));
    }
    Ok(Examined { node_id: info.identity_pubkey, allows_everything: client.is_for_administrators() })
}

impl std::fmt::Debug for Lnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lnd").field("node_id", &self.parts.node_id).finish_non_exhaustive()
    }
}

/// What is known from before.
struct Known {
    names: Names,
    /// Names our leases.
    leases: [u8; 32],
    /// Preimages of invoices, by hash.
    held: HashMap<[u8; 32], [u8; 32]>,
}

async fn kept(state: &Arc<dyn NodeState>) -> Result<Known, LedgerError> {
    let state = Arc::clone(state);
    blocking(move || {
        let leases = match state.kv_read(NAMESPACE, "", LEASES)? {
            Some(id) => {
                id.try_into().map_err(|_| LedgerError::Damaged("the name of the leases".to_owned()))?
            }
            None => {
                let mut id = [0; 32];
                thread_rng().fill_bytes(&mut id);
                let (primary, secondary, key) = (NAMESPACE.to_owned(), String::new(), LEASES.to_owned());
                state.kv_write(StateWrite { primary, secondary, key, value: id.to_vec(), generation: 0 })?;
                id
            }
        };
        let held = HeldInvoices::read(&*state)?;
        Ok(Known { names: Names::load(state)?, leases, held })
    })
    .await
}

fn not_kept<T>(read: Result<T, LedgerError>) -> Result<T, LightningError> {
    read.map_err(|error| LightningError::Refused(error.to_string()))
}

/// What somebody must change ends a start.
fn at_a_start(error: LndError) -> LightningError {
    match error.passes() {
        true => LightningError::Away(error.to_string()),
        false => LightningError::Refused(error.to_string()),
    }
}

fn check_network(info: &Info, network: Network) -> Result<(), LightningError> {
    let name = match network {
        Network::Bitcoin => "mainnet",
        Network::Testnet => "testnet",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
    };
    let theirs = info.chains.first().map_or("none", |chain| chain.network.as_str());
    match theirs == name {
        true => Ok(()),
        false => Err(LightningError::Refused(format!("LND is on {theirs}, and this node on {name}"))),
    }
}

impl From<LndError> for LightningError {
    fn from(error: LndError) -> Self {
        match error.is_away() {
            true => Self::Away(error.to_string()),
            false => Self::Refused(error.to_string()),
        }
    }
}
