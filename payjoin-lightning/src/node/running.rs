//! A running node.

mod closing;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, BlockHash, FeeRate, OutPoint, Psbt, Script, TxOut};
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::types::ChannelId;
use lightning_invoice::Bolt11Invoice;
use payjoin_core::{Coin, Holder, PaymentId, PeerAddress, Reserve};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::broadcast::Broadcaster;
use super::census::Census;
use super::chain_source::ChainSource;
use super::closed::Closed;
use super::closing::Closing;
use super::fallen::FallenChannels;
use super::fees::Fees;
use super::funder::NodeFunder;
use super::gate::PeerManager;
use super::health::ChainHealth;
use super::manager_store::ManagerStore;
use super::parts::Sweeper;
use super::payments::{InvoiceError, PayError, Payments};
use super::peers::Peers;
use super::stop::Switch;
use super::store::ManagerState;
use super::types::{ChainMonitor, ChannelManager};
use super::wallet::{NodeWallet, SpendError};
use crate::lock::lock;

use crate::addresses::Turn;
use crate::{Balance, ChannelFunder, ChannelInfo, PaymentOutcome, PeerInfo, Reached};

/// What there is to know of a node with channels that have fallen behind.
const OLDER_COPY: &str = "this database is an older copy, or another node runs with the same seed: its channels can only \
                          be closed by their peers, who are asked to as soon as they are connected. When all of them \
                          are closed and the coins are in the wallet, begin anew with the seed alone and a `birthday`";

/// A running node. Dropping it ends its tasks without the last saves; [`Node::stop`] is the way to end it.
pub struct Node {
    pub(super) node_id: PublicKey,
    /// Until peers are met.
    pub(super) listener: Mutex<Option<TcpListener>>,
    pub(super) listening: Option<SocketAddr>,
    pub(super) census: Arc<Census>,
    pub(super) closing: Arc<Closing>,
    pub(super) closed: Arc<Closed>,
    pub(super) broadcaster: Arc<Broadcaster>,
    pub(super) fallen: Arc<FallenChannels>,
    pub(super) chain_monitor: Arc<ChainMonitor>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) chain: Arc<dyn ChainSource>,
    pub(super) health: Arc<ChainHealth>,
    pub(super) fees: Arc<Fees>,
    pub(super) wallet: Arc<NodeWallet>,
    pub(super) manager: Arc<ChannelManager>,
    pub(super) manager_store: Arc<ManagerStore>,
    pub(super) peer_manager: Arc<PeerManager>,
    pub(super) peers: Arc<Peers>,
    pub(super) funder: Arc<NodeFunder>,
    pub(super) payments: Arc<Payments>,
    pub(super) switch: Arc<Switch>,
    pub(super) tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Why a channel was not closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// No channel with this id.
    #[error("no such channel: use the channel id as the list of channels shows it")]
    Unknown,
    /// The peer has a later state of it than we.
    #[error(
        "only its peer can close this channel: the state in this database is an older one, for which the peer could \
         take all that is in the channel"
    )]
    Fallen,
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

    /// Connects to a peer, by this address first, or returns at once when it is connected. The error is for the operator.
    pub async fn connect(&self, peer: &PeerAddress) -> Result<Reached, String> {
        self.peers.reach(peer, Turn::AskedFirst).await
    }

    /// Connected peers.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let info = |node_id| PeerInfo { node_id, address: self.peers.addresses().worked(&node_id) };
        self.peers.connected().into_iter().map(info).collect()
    }

    /// Peers that could not be reached the last time, with the reason. Some may have connected to us since.
    pub fn missed(&self) -> Vec<(PeerAddress, String)> {
        self.peers.addresses().missed()
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
            why: waits(&channel),
            fallen: self.fallen.has(&channel.channel_id),
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
        if self.fallen.has(id) {
            return Err(CloseError::Fallen);
        }
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

    /// Pays a BOLT 11 invoice, with an amount where it names none, and waits for the outcome. Dropping the call does not cancel the payment. Called again for
    /// an invoice that was paid it gives the same answer, and for one whose payment is under way it waits for that.
    ///
    /// # Errors
    /// See [`PayError`]. After [`PayError::Stopped`] the payment may still arrive.
    pub async fn pay(&self, invoice: &str, amount: Option<Amount>) -> Result<PaymentOutcome, PayError> {
        self.payments.pay(invoice, amount).await
    }

    /// What LDK does once a minute. For tests: it forgets payments so.
    #[doc(hidden)]
    pub fn tick(&self) {
        self.manager.timer_tick_occurred();
    }

    /// Opens channels that a payjoin funds; give it to [`Channels`](crate::Channels).
    pub fn funder(&self) -> Arc<dyn ChannelFunder> {
        Arc::clone(&self.funder) as Arc<dyn ChannelFunder>
    }

    /// The on-chain wallet.
    pub fn wallet(&self) -> &Arc<NodeWallet> {
        &self.wallet
    }

    /// The chain, asked directly.
    pub fn chain(&self) -> &Arc<dyn ChainSource> {
        &self.chain
    }

    /// What keeps us from offering anything new, and what to do. What is owed goes on.
    pub fn trouble(&self) -> Option<String> {
        self.health.trouble().or_else(|| self.older_copy().map(str::to_owned))
    }

    /// What looks as if another node ran with the same seed, and what to do. It is no proof: whoever restored the seed in
    /// another wallet and spends there looks like that, too.
    pub fn seed_elsewhere(&self) -> Option<String> {
        let txid = self.wallet.stranger()?;
        Some(format!(
            "{txid} spent a coin of ours, and this node did not make it: if another node runs with the same seed, stop \
             one of them for good, because what one sends of a channel the peers may punish when the other went on"
        ))
    }

    /// What to do where the store is an older copy, as a peer has proved or [`NodeConfig`](super::NodeConfig) says.
    pub fn older_copy(&self) -> Option<&'static str> {
        (!self.fallen.is_empty()).then_some(OLDER_COPY)
    }

    /// What keeps blocks from us.
    pub fn health(&self) -> &Arc<ChainHealth> {
        &self.health
    }

    /// What a payment costs that is mined within six blocks. As it was a minute ago at most, while bitcoind answers.
    pub fn fee_rate(&self) -> FeeRate {
        self.fees.payment()
    }

    /// What must stay in the wallet for each channel.
    pub fn reserve_per_channel(&self) -> Amount {
        self.wallet.reserve_per_channel()
    }

    /// [`NodeWallet::reserve`] for the channels that we may have to close.
    pub fn reserve(&self, holder: Holder, payer_script: &Script, shown: &[OutPoint]) -> (Vec<Coin>, Reserve) {
        self.wallet.reserve(holder, payer_script, shown, self.census.channels().total())
    }

    /// [`NodeWallet::pay`] beside the channels that we may have to close.
    ///
    /// # Errors
    /// See [`SpendError`]. No coin is locked then.
    pub fn pay_on_chain(
        &self,
        payment: PaymentId,
        output: &TxOut,
        rate: FeeRate,
    ) -> Result<Psbt, SpendError> {
        self.wallet.pay(payment, output, rate, self.census.channels().total())
    }

    /// [`NodeWallet::balance`] for the channels that we may have to close, and what is in those that are closing.
    pub fn balance(&self) -> Balance {
        let closing = self.closing_channels().iter().map(|channel| Amount::from_sat(channel.sat)).sum();
        let channels = self.census.channels();
        let reserve_closing = self.reserve_per_channel() * channels.closing as u64;
        Balance { closing, reserve_closing, ..self.wallet.balance(channels.total()) }
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
    /// before that transaction begins: see [`NodeStore`](super::NodeStore).
    pub fn manager_state(&self) -> ManagerState {
        self.manager_store.state()
    }

    /// Disconnects, saves everything and returns when all tasks have ended; at once when LDK has panicked, of which
    /// nothing can be used any more.
    pub async fn stop(&self) {
        self.peer_manager.disconnect_all_peers();
        self.switch.throw();
        if self.broken().is_some() {
            return;
        }
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

    /// Returns when the node has been stopped, or ends by itself: then with the reason, or without one when its store
    /// failed.
    pub async fn stopped(&self) -> Option<String> {
        self.switch.stop().wait().await;
        self.broken().map(str::to_owned)
    }

    /// Why LDK cannot be used any more, if it has panicked.
    pub fn broken(&self) -> Option<&str> {
        self.switch.broken()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.switch.throw();
    }
}

/// What a channel still lacks, but for its peer.
fn waits(channel: &ChannelDetails) -> Option<String> {
    if channel.is_channel_ready {
        return None;
    }
    Some(match (channel.funding_txo, channel.confirmations, channel.confirmations_required) {
        (None, ..) => "it has no funding yet".to_owned(),
        (_, Some(mined), Some(needed)) => format!("not confirmed yet: {}/{needed}", mined.min(needed)),
        _ => "its funding is not deep enough yet".to_owned(),
    })
}
