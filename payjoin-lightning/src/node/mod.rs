//! The embedded default node: LDK for channels, BDK for coins, bitcoind for the chain.
//!
//! [`Node::start`] reads everything back from a [`NodeStore`], catches up with bitcoind and runs until [`Node::stop`].
//! The daemon shows how it goes with `payjoin-io`: `bins/payjoind/src/keep.rs` makes its store a [`NodeStore`], and
//! `roles.rs` beside it makes the node the chain, wallet and funder of its host.

mod broadcast;
mod chain;
mod closing;
mod config;
mod dial;
mod events;
mod fees;
mod fork;
mod inbound;
mod log;
mod parts;
mod payments;
mod peers;
mod raise;
mod redial;
mod rpc;
mod seed;
mod start;
mod stop;
mod store;
mod wallet;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, BlockHash, FeeRate, OutPoint, Psbt, Script, TxOut};
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::types::ChannelId;
use lightning_invoice::Bolt11Invoice;
use payjoin_core::{Coin, Reserve};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::{ChannelFunder, Connector, LdkFunder, PeerAddress};
use closing::Closing;
use parts::{ChannelManager, PeerManager};
use payments::Payments;
use peers::Peers;
use stop::Switch;
use store::ManagerStore;

pub use chain::BlockListener;
pub use config::{NodeConfig, ReserveConfig};
pub use dial::{Dialer, PeerStream, Wanted};
pub use payments::{InvoiceError, PayError, PaymentOutcome};
pub use raise::RaiseError;
pub use rpc::{Inspected, Rpc, RpcAuth, RpcError};
pub use seed::{Seed, SeedError};
pub use start::NodeError;
pub use store::{ManagerState, NodeStore};
pub use wallet::{Balance, CoinInfo, NodeWallet, SignError, SpendError, WalletError};

/// A running node. Dropping it ends its tasks without the last saves; [`Node::stop`] is the way to end it.
pub struct Node {
    node_id: PublicKey,
    listening: Option<SocketAddr>,
    reserve_per_channel: Amount,
    inbound_total: usize,
    closing: Arc<Closing>,
    rpc: Arc<Rpc>,
    wallet: Arc<NodeWallet>,
    manager: Arc<ChannelManager>,
    manager_store: Arc<ManagerStore>,
    peer_manager: Arc<PeerManager>,
    peers: Arc<Peers>,
    funder: Arc<LdkFunder<Arc<ChannelManager>>>,
    payments: Arc<Payments>,
    switch: Arc<Switch>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// One channel, for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelInfo {
    /// LDK's name for it, in hex. It changes once, when the funding transaction is known.
    pub channel_id: String,
    /// The other end.
    pub peer: PublicKey,
    /// Value of the funding output, in satoshis.
    pub capacity_sat: u64,
    /// What can be sent, in millisatoshis.
    pub outbound_msat: u64,
    /// What can be received, in millisatoshis.
    pub inbound_msat: u64,
    /// Ready, and the peer is connected.
    pub usable: bool,
    /// The funding transaction is deep enough for both sides.
    pub ready: bool,
    /// The funding output, once it is known.
    pub funding: Option<OutPoint>,
    /// Names the exchange that opened it (see [`ChannelKey`](crate::ChannelKey)), in decimal: JSON numbers are too
    /// short for it.
    pub user_channel_id: String,
}

/// One peer, for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerInfo {
    /// Its key.
    pub node_id: PublicKey,
    /// Where we reached it last; `None` when it always came to us.
    pub address: Option<PeerAddress>,
}

/// Why a channel was not closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// No channel with this id.
    #[error("no such channel: use the channel id as the list of channels shows it")]
    Unknown,
    /// LDK refuses, for example because the peer is not connected.
    #[error("not closed: {0}")]
    Refused(String),
}

impl Node {
    /// Our key.
    pub fn node_id(&self) -> PublicKey {
        self.node_id
    }

    /// Where peers can connect to us.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.listening
    }

    /// Connects to a peer, or returns at once when it is connected. The error is for the operator.
    pub async fn connect(&self, peer: &PeerAddress) -> Result<(), String> {
        self.peers.connect(peer).await
    }

    /// Connected peers.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let info = |node_id| PeerInfo { node_id, address: self.peers.address(&node_id) };
        self.peers.connected().into_iter().map(info).collect()
    }

    /// All channels, also those that are not funded yet.
    pub fn channels(&self) -> Vec<ChannelInfo> {
        let info = |channel: ChannelDetails| ChannelInfo {
            channel_id: channel.channel_id.to_string(),
            peer: channel.counterparty.node_id,
            capacity_sat: channel.channel_value_satoshis,
            outbound_msat: channel.outbound_capacity_msat,
            inbound_msat: channel.inbound_capacity_msat,
            usable: channel.is_usable,
            ready: channel.is_channel_ready,
            funding: channel.funding_txo.map(|funding| funding.into_bitcoin_outpoint()),
            user_channel_id: channel.user_channel_id.to_string(),
        };
        self.manager.list_channels().into_iter().map(info).collect()
    }

    /// Starts closing a channel: with the peer's help, or with `force` on our own. What is ours goes to the wallet.
    ///
    /// # Errors
    /// See [`CloseError`].
    pub fn close(&self, channel_id: &str, force: bool) -> Result<(), CloseError> {
        let channels = self.manager.list_channels();
        let channel = channels.iter().find(|channel| channel.channel_id.to_string() == channel_id);
        let channel = channel.ok_or(CloseError::Unknown)?;
        let (id, peer): (&ChannelId, _) = (&channel.channel_id, &channel.counterparty.node_id);
        let closing = match force {
            false => self.manager.close_channel(id, peer),
            true => self.manager.force_close_broadcasting_latest_txn(id, peer, "channel closed".to_owned()),
        };
        closing.map_err(|error| CloseError::Refused(format!("{error:?}")))
    }

    /// A BOLT 11 invoice; `None` lets the payer choose the amount.
    ///
    /// # Errors
    /// See [`InvoiceError`].
    pub fn invoice(
        &self,
        amount: Option<Amount>,
        description: &str,
        expiry: Duration,
    ) -> Result<Bolt11Invoice, InvoiceError> {
        self.payments.invoice(amount, description, expiry)
    }

    /// Pays a BOLT 11 invoice and waits for the outcome. Dropping the call does not cancel the payment.
    ///
    /// # Errors
    /// See [`PayError`]. After [`PayError::Stopped`] and [`PayError::Duplicate`] the payment may still arrive.
    pub async fn pay(&self, invoice: &str) -> Result<PaymentOutcome, PayError> {
        self.payments.pay(invoice).await
    }

    /// Opens channels that a payjoin funds; give it to [`Channels`](crate::Channels).
    pub fn funder(&self) -> Arc<dyn ChannelFunder> {
        Arc::clone(&self.funder) as Arc<dyn ChannelFunder>
    }

    /// The on-chain wallet.
    pub fn wallet(&self) -> &Arc<NodeWallet> {
        &self.wallet
    }

    /// The connection to bitcoind.
    pub fn rpc(&self) -> &Arc<Rpc> {
        &self.rpc
    }

    /// What must stay in the wallet for each channel.
    pub fn reserve_per_channel(&self) -> Amount {
        self.reserve_per_channel
    }

    /// [`NodeWallet::reserve`] for the channels that we may have to close.
    pub fn reserve(&self, payer_script: &Script, prefer: &[OutPoint]) -> (Vec<Coin>, Reserve) {
        self.wallet.reserve(payer_script, prefer, self.channels_to_close())
    }

    /// [`NodeWallet::pay`] beside the channels that we may have to close.
    ///
    /// # Errors
    /// See [`SpendError`]. No coin is locked then.
    pub fn pay_on_chain(&self, output: &TxOut, rate: FeeRate) -> Result<Psbt, SpendError> {
        self.wallet.pay(output, rate, self.channels_to_close())
    }

    /// [`NodeWallet::balance`] for the channels that we may have to close.
    pub fn balance(&self) -> Balance {
        self.wallet.balance(self.channels_to_close())
    }

    /// Channels that may cost us a fee to close, those among them that are closing. One that a peer opened counts once its
    /// funding is mined: until then a peer could make us keep back any amount for nothing. Of those no more count than
    /// we mean to have: many may be under way before the first is mined.
    fn channels_to_close(&self) -> usize {
        let channels = self.manager.list_channels();
        let outbound = channels.iter().filter(|channel| channel.is_outbound).count();
        let inbound = channels.iter().filter(|channel| !channel.is_outbound && is_mined(channel)).count();
        outbound + inbound.min(self.inbound_total) + self.closing.count(self.height())
    }

    /// Height of the best block the node has dealt with.
    pub fn height(&self) -> u32 {
        self.manager.current_best_block().height
    }

    /// The best block the node has dealt with.
    pub fn best_block(&self) -> BlockHash {
        self.manager.current_best_block().block_hash
    }

    /// The ChannelManager as it is now, to be written in the transaction that releases a proposal (money rule 1). Take it
    /// before that transaction begins: see [`NodeStore`].
    pub fn manager_state(&self) -> ManagerState {
        self.manager_store.state()
    }

    /// Disconnects, saves everything and returns when all tasks have ended.
    pub async fn stop(&self) {
        self.peer_manager.disconnect_all_peers();
        self.switch.throw();
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the node failed");
            }
        }
        // A peer may have come back while the tasks ended, and its channels may have moved on since the last save.
        self.peer_manager.disconnect_all_peers();
        if let Err(error) = self.manager_store.save() {
            tracing::error!(%error, "the channels' last state is not saved");
        }
        self.wallet.flush();
    }

    /// Returns when the node has been stopped, or ends because its store failed.
    pub async fn stopped(&self) {
        self.switch.stop().wait().await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.switch.throw();
    }
}

fn is_mined(channel: &ChannelDetails) -> bool {
    channel.confirmations.is_some_and(|depth| depth > 0)
}

/// Locks a mutex. Every guarded section leaves its data whole, so a panic elsewhere does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
