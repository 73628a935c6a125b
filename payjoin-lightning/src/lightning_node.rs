//! What a receiver asks of a Lightning node besides its roles in an exchange: the embedded node's answers, or those of the
//! node that the operator has.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Psbt, Transaction, TxOut};
use payjoin_core::{ChannelEnd, PayingWallet, PaymentId, PeerAddress, Wallet, WalletError};
use serde::Serialize;

use crate::ChannelFunder;

/// What a child pays, by its size in virtual bytes; `None` where there is no such sum.
pub type ChildFee<'a> = &'a (dyn Fn(u64) -> Option<Amount> + Send + Sync);

/// A Lightning node with its wallet. Its coins are offered through [`Wallet`], its channels opened through
/// [`LightningNode::funder`].
///
/// What only some nodes do has an answer of its own: [`LightningError::Elsewhere`].
#[async_trait]
pub trait LightningNode: Wallet {
    /// Our key.
    fn node_id(&self) -> PublicKey;

    /// Opens channels that a payjoin funds; give it to [`Channels`](crate::Channels).
    fn funder(&self) -> Arc<dyn ChannelFunder>;

    /// The wallet that pays others, where it can.
    fn paying(self: Arc<Self>) -> Option<Arc<dyn PayingWallet>>;

    /// What keeps us from offering anything new, and what to do. What is owed goes on.
    fn trouble(&self) -> Option<String>;

    /// What to do where the store is an older copy.
    fn older_copy(&self) -> Option<&'static str> {
        None
    }

    /// What looks as if another node ran with the same seed, and what to do.
    fn seed_elsewhere(&self) -> Option<String> {
        None
    }

    /// Where peers can connect to us, as far as it is ours to say.
    fn listening(&self) -> Option<SocketAddr> {
        None
    }

    /// What must stay in the wallet for each channel more.
    fn reserve_per_channel(&self) -> Amount;

    /// What the wallet holds. Free of cost: it is asked for each code.
    fn balance(&self) -> Balance;

    /// All confirmed coins, oldest first.
    fn coins(&self) -> Vec<CoinInfo>;

    /// A fresh address of the type that the stock of coins lacks.
    async fn new_address(&self) -> Result<Address, LightningError>;

    /// A signed payment with this output, at this fee rate; the payment holds its coins.
    async fn pay_on_chain(
        &self,
        payment: PaymentId,
        output: &TxOut,
        rate: FeeRate,
    ) -> Result<Psbt, LightningError>;

    /// A signed child of `parent` that spends its output `vout`, which must be ours, to ourselves, and pays what `fee` says of
    /// its size in virtual bytes. Not sent.
    async fn child_paying(
        &self,
        parent: &Transaction,
        vout: u32,
        fee: ChildFee<'_>,
    ) -> Result<Transaction, LightningError>;

    /// A BOLT 11 invoice.
    async fn invoice(
        &self,
        amount: Amount,
        description: &str,
        expiry: Duration,
    ) -> Result<Invoice, LightningError>;

    /// Whether a payment can be refused once it is here: what it pays may have been paid another way.
    ///
    /// # Errors
    /// Why it cannot.
    fn can_refuse(&self) -> Result<(), LightningError>;

    /// An invoice whose payment is taken only where [`PaidOnce`](crate::PaidOnce) allows it.
    async fn invoice_once(&self, amount: Amount, expiry: Duration) -> Result<Invoice, LightningError>;

    /// Pays a BOLT 11 invoice and waits for the outcome. Dropping the call does not cancel the payment; an invoice is paid
    /// once. `amount` goes with an invoice that names none, and with no other.
    async fn pay(&self, invoice: &str, amount: Option<Amount>) -> Result<PaymentOutcome, LightningError>;

    /// Connects to a peer by this address, or by another one that is known of it; one that is connected stays so.
    async fn connect(&self, peer: &PeerAddress) -> Result<Reached, LightningError>;

    /// Connected peers.
    async fn peers(&self) -> Result<Vec<PeerInfo>, LightningError>;

    /// Peers that could not be reached the last time, with the reason. Some may be connected by now.
    fn missed(&self) -> Vec<(PeerAddress, String)>;

    /// All channels that are not closed, also those that are not funded yet.
    async fn channels(&self) -> Result<Vec<ChannelInfo>, LightningError>;

    /// Closed channels of which not everything is in the wallet yet, as far as the node counts them.
    async fn closing_channels(&self) -> Result<Vec<ClosingChannel>, LightningError>;

    /// Starts closing a channel: with the peer's help, or with `force` on our own.
    async fn close(&self, channel_id: &str, force: bool) -> Result<(), LightningError>;

    /// Channels of exchanges that closed, by funding output, with how and why; until [`LightningNode::forget_closed`].
    async fn closed(&self) -> Result<Vec<(OutPoint, ChannelEnd)>, LightningError>;

    /// Whoever keeps the history has heard of this one.
    async fn forget_closed(&self, funding: &OutPoint) -> Result<(), LightningError>;

    /// Meets peers from now on.
    fn meet_peers(&self) {}

    /// Returns when the node cannot go on, or was stopped: with the reason, where there is one.
    async fn stopped(&self) -> Option<String>;

    /// Why nothing of it may be used any more, if that is so.
    fn broken(&self) -> Option<String> {
        None
    }

    /// Ends what runs in this process.
    async fn stop(&self);
}

/// Names peers to keep connected although they have no channel.
#[async_trait]
pub trait Wanted: Debug + Send + Sync {
    /// Those of this moment. It is asked every few seconds.
    async fn peers(&self) -> Vec<PeerAddress>;
}

/// Why a Lightning node did not do it, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LightningError {
    /// It did not answer: why, and what to do. Ask again later.
    #[error("{0}")]
    Away(String),
    /// It answered that it cannot.
    #[error("{0}")]
    Refused(String),
    /// The operator does this with the node's own tools.
    #[error("that is {node}'s own: {remedy}")]
    Elsewhere {
        /// The node.
        node: &'static str,
        /// How it is done there.
        remedy: &'static str,
    },
}

impl From<WalletError> for LightningError {
    fn from(error: WalletError) -> Self {
        match error {
            WalletError::Away(why) => Self::Away(why),
            WalletError::Refused(why) => Self::Refused(why),
        }
    }
}

/// A BOLT 11 invoice of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// As the payer gets it.
    pub bolt11: String,
    /// In hex.
    pub payment_hash: String,
}

/// A payment that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PaymentOutcome {
    /// The proof of payment, in hex.
    pub preimage: String,
    /// Fees paid on the way, in millisatoshis.
    pub fee_msat: u64,
}

/// What the wallet holds. All values in satoshis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// In the chain, spent by nothing we know.
    pub confirmed: Amount,
    /// In transactions we know that are not in the chain.
    pub unconfirmed: Amount,
    /// The part of `confirmed` that is offered or committed in payjoins.
    pub locked: Amount,
    /// From new blocks: ours, and not to be spent before a hundred more blocks.
    pub immature: Amount,
    /// What must stay so that channels can be closed.
    pub reserve: Amount,
    /// The part of `reserve` that is for channels that are closing now.
    pub reserve_closing: Amount,
    /// Channels that may have to be closed, those included that are closing.
    pub channels: usize,
    /// How many channels the coins could close when fees are high: each needs coins of its own, and dust pays for nothing.
    pub closable: usize,
    /// In channels that are closing: ours, and not in the wallet yet.
    pub closing: Amount,
    /// What is left of `confirmed` after `locked` and `reserve`.
    pub spendable: Amount,
}

/// One confirmed coin, for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CoinInfo {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Its value in satoshis.
    pub amount: Amount,
    /// Its address.
    pub address: String,
    /// Height of its block.
    pub height: u32,
    /// Whether it is offered or committed in a payjoin.
    pub locked: bool,
}

/// One channel, for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChannelInfo {
    /// The node's name for it, in hex. It changes once, when the funding transaction is known.
    pub channel_id: String,
    /// The other end.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub peer: PublicKey,
    /// Value of the funding output, in satoshis.
    pub capacity_sat: u64,
    /// What can be sent, in millisatoshis.
    pub outbound_msat: u64,
    /// What can be received, in millisatoshis.
    pub inbound_msat: u64,
    /// Ready, and the peer is connected.
    pub usable: bool,
    /// Why it is not, as far as the node knows.
    pub why: Option<String>,
    /// The peer has a later state of it than we: only he can close it.
    pub fallen: bool,
    /// The funding transaction is deep enough for both sides.
    pub ready: bool,
    /// The funding output, once it is known.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub funding: Option<OutPoint>,
    /// Names the exchange that opened it (see [`ChannelKey`](crate::ChannelKey)), in decimal: JSON numbers are too
    /// short for it.
    pub user_channel_id: String,
}

/// A closed channel of which not everything is in the wallet yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClosingChannel {
    /// The node's name for it, in hex.
    pub channel_id: String,
    /// The other end.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub peer: PublicKey,
    /// The funding output.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub funding: OutPoint,
    /// What of it is ours and not in the wallet, in satoshis, before fees.
    pub sat: u64,
    /// What must be deposited so that it closes as fast as it should, in satoshis; `None` while nothing is missing.
    pub needs_sat: Option<u64>,
}

/// How a peer came to be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// By the address that was asked for.
    There,
    /// By another one; why not by the one that was asked for.
    Elsewhere(PeerAddress, String),
    /// It was connected before: nothing was tried.
    Before,
}

#[cfg(any(feature = "node", feature = "cln", feature = "lnd"))]
impl Reached {
    /// By this address, after these failures, where `asked` was asked for.
    pub(crate) fn by(address: PeerAddress, asked: &PeerAddress, failures: &[String]) -> Self {
        match address == *asked {
            true => Self::There,
            false => Self::Elsewhere(address, failures.join("; ")),
        }
    }
}

/// One peer, for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerInfo {
    /// Its key.
    pub node_id: PublicKey,
    /// Where we reached it last; `None` when it always came to us.
    pub address: Option<PeerAddress>,
}
