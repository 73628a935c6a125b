//! What a running node can be asked, and what it answers. Each command has a file of its own: what it takes, what it
//! gives, what it does. In JSON, amounts are satoshis and times are seconds since 1970.

mod balance;
mod bump;
mod cancel;
mod channels;
mod close;
mod coins;
pub(crate) mod commands;
mod connect;
mod events;
mod exchanges;
mod invoice;
mod open;
mod pay;
mod payments;
mod queue;
mod receive;
mod send;
mod sessions;
mod status;
mod tokens;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::error::RequestError;
use crate::rights::{Access, Guarded};

pub use balance::{Address, Balance};
pub use bump::{BumpArgs, Bumped};
pub use cancel::{CancelArgs, Cancelled};
pub use channels::{Channels, Intent, IntentStage, Slots};
pub use close::{CloseArgs, Closing};
pub use coins::{Coin, Coins};
pub use connect::{ConnectArgs, Connected, Peer, Peers};
pub use events::{CodeState, EventPage, EventsArgs, Standing, Until, WaitArgs};
pub use exchanges::{Exchanges, ExchangesArgs, ShowExchangeArgs};
pub use invoice::{Bolt11, InvoiceArgs};
pub use open::{OpenArgs, Opened};
pub use pay::{PaidInvoice, PayArgs};
pub use payments::{Direction, Kind, Outcome, PaymentList, PaymentRow, PaymentsArgs, ShowPaymentArgs};
pub use queue::{QueueArgs, Queued};
pub use receive::{Alternative, Code, OfferedChannel, ReceiveArgs, Terms};
pub use send::{Payment, PaymentStatus, SendArgs};
pub use sessions::{Session, SessionArgs, SessionCancelled, SessionState, Sessions};
pub use status::{Status, Waiting};
pub use tokens::{AddTokenArgs, AddedToken, KnownToken, RevokeTokenArgs, RevokedToken, Tokens};

pub(crate) use status::BITCOIND_PATIENCE;
pub(crate) use tokens::rights_of;

pub use crate::ways::Via;

/// What a running node can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Make a BIP 21 code.
    Receive(ReceiveArgs),
    /// Pay a BIP 21 code: by payjoin if the receiver offers it, v1 or v2, and plainly if not.
    Send(SendArgs),
    /// Channels that were asked for, and channels that exist.
    Channel(ChannelRequest),
    /// The on-chain wallet.
    Wallet(WalletRequest),
    /// Lightning peers.
    Peer(PeerRequest),
    /// Make a BOLT 11 invoice.
    Invoice(InvoiceArgs),
    /// Pay a BOLT 11 invoice and wait for the outcome.
    Pay(PayArgs),
    /// Everything that moves money, in and out.
    Payment(PaymentRequest),
    /// What happened.
    Events(EventsArgs),
    /// What became of a code, once that is known.
    Wait(WaitArgs),
    /// Payments to us, past and present.
    Exchange(ExchangeRequest),
    /// Codes that wait at directories.
    Session(SessionRequest),
    /// What the node is doing.
    Status,
    /// Who may ask over the network.
    Token(TokenRequest),
}

/// Requests about channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelRequest {
    /// Queue one; the next payment that can fund it opens it.
    Queue(QueueArgs),
    /// Open one at once, with coins of the wallet alone.
    Open(OpenArgs),
    /// Those that are wanted, and those that exist.
    List,
    /// The same with those that are closed or cancelled.
    All,
    /// Remove one from the queue, before a payment takes it.
    Cancel(CancelArgs),
    /// Close a live one.
    Close(CloseArgs),
}

/// Requests about the wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WalletRequest {
    /// A fresh address.
    Address,
    /// What it holds.
    Balance,
    /// Every confirmed coin.
    Coins,
}

/// Requests about peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerRequest {
    /// Connect to one.
    Connect(ConnectArgs),
    /// Those that are connected, and those that should be.
    List,
}

/// Requests about payments to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeRequest {
    /// The latest, newest first.
    List(ExchangesArgs),
    /// Raise the fee of one that is not mined yet, out of what it pays us (CPFP).
    Bump(BumpArgs),
    /// One of them.
    Show(ShowExchangeArgs),
}

/// Requests about everything that moves money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PaymentRequest {
    /// The latest, newest first.
    List(PaymentsArgs),
    /// One of them.
    Show(ShowPaymentArgs),
}

/// Requests about codes that wait at directories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionRequest {
    /// Open ones.
    List,
    /// One, open or ended.
    Show(SessionArgs),
    /// Cancel an open one.
    Cancel(SessionArgs),
}

/// Requests about tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenRequest {
    /// Make one.
    Add(AddTokenArgs),
    /// All of them, without themselves.
    List,
    /// End one.
    Revoke(RevokeTokenArgs),
}

/// What a node answers: one variant for each command.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To `receive`.
    Code(Box<Code>),
    /// To `send`.
    Payment(Payment),
    /// To `channel queue`.
    Queued(Queued),
    /// To `channel open`.
    Opened(Opened),
    /// To `channel list`, with `--all` and without.
    Channels(Channels),
    /// To `channel cancel`.
    Cancelled(Cancelled),
    /// To `channel close`.
    Closing(Closing),
    /// To `wallet address`.
    Address(Address),
    /// To `wallet balance`.
    Balance(Balance),
    /// To `wallet coins`.
    Coins(Coins),
    /// To `peer connect`.
    Connected(Connected),
    /// To `peer list`.
    Peers(Peers),
    /// To `invoice`.
    Bolt11(Bolt11),
    /// To `pay`.
    PaidInvoice(PaidInvoice),
    /// To `payment list`.
    PaymentList(PaymentList),
    /// To `payment show`.
    PaymentRow(Box<PaymentRow>),
    /// To `events`.
    Events(EventPage),
    /// To `wait`.
    Standing(Standing),
    /// To `exchange list`.
    Exchanges(Exchanges),
    /// To `exchange bump`.
    Bumped(Bumped),
    /// To `exchange show`.
    Exchange(Box<payjoin_core::ExchangeRecord>),
    /// To `session list`.
    Sessions(Sessions),
    /// To `session show`.
    Session(Session),
    /// To `session cancel`.
    SessionCancelled(SessionCancelled),
    /// To `status`.
    Status(Box<Status>),
    /// To `status` while the start waits for blocks.
    Waiting(Waiting),
    /// To `token add`.
    AddedToken(AddedToken),
    /// To `token list`.
    Tokens(Tokens),
    /// To `token revoke`.
    RevokedToken(RevokedToken),
}

impl Daemon {
    pub(crate) async fn answer(&self, request: Request) -> Result<Response, RequestError> {
        Ok(match request {
            Request::Receive(args) => Response::Code(Box::new(self.receive(args).await?)),
            Request::Send(args) => Response::Payment(self.send(args).await?),
            Request::Channel(request) => self.answer_channel(request).await?,
            Request::Wallet(WalletRequest::Address) => Response::Address(self.address().await?),
            Request::Wallet(WalletRequest::Balance) => Response::Balance(self.balance()),
            Request::Wallet(WalletRequest::Coins) => Response::Coins(self.coins()),
            Request::Peer(PeerRequest::Connect(args)) => Response::Connected(self.connect(args).await?),
            Request::Peer(PeerRequest::List) => Response::Peers(self.peers().await?),
            Request::Invoice(args) => Response::Bolt11(self.invoice(&args).await?),
            Request::Pay(args) => Response::PaidInvoice(self.pay(&args).await?),
            Request::Payment(PaymentRequest::List(args)) => {
                Response::PaymentList(self.payment_list(args).await?)
            }
            Request::Payment(PaymentRequest::Show(args)) => {
                Response::PaymentRow(Box::new(self.payment_row(args).await?))
            }
            Request::Events(args) => Response::Events(self.events(args).await?),
            Request::Wait(args) => Response::Standing(self.wait(args).await?),
            Request::Exchange(request) => self.answer_exchange(request).await?,
            Request::Session(request) => self.answer_session(request).await?,
            Request::Status => Response::Status(Box::new(self.status().await?)),
            Request::Token(request) => self.answer_token(request).await?,
        })
    }

    async fn answer_token(&self, request: TokenRequest) -> Result<Response, RequestError> {
        Ok(match request {
            TokenRequest::Add(args) => Response::AddedToken(self.add_token(args).await?),
            TokenRequest::List => Response::Tokens(self.tokens().await?),
            TokenRequest::Revoke(args) => Response::RevokedToken(self.revoke_token(args).await?),
        })
    }

    async fn answer_exchange(&self, request: ExchangeRequest) -> Result<Response, RequestError> {
        Ok(match request {
            ExchangeRequest::List(args) => Response::Exchanges(self.exchanges(args).await?),
            ExchangeRequest::Bump(args) => Response::Bumped(self.bump(args).await?),
            ExchangeRequest::Show(args) => Response::Exchange(Box::new(self.exchange(args).await?)),
        })
    }

    async fn answer_session(&self, request: SessionRequest) -> Result<Response, RequestError> {
        Ok(match request {
            SessionRequest::List => Response::Sessions(self.sessions().await?),
            SessionRequest::Show(args) => Response::Session(self.session(args).await?),
            SessionRequest::Cancel(args) => Response::SessionCancelled(self.cancel_session(args)?),
        })
    }

    async fn answer_channel(&self, request: ChannelRequest) -> Result<Response, RequestError> {
        Ok(match request {
            ChannelRequest::Queue(args) => Response::Queued(self.queue(args).await?),
            ChannelRequest::Open(args) => Response::Opened(self.open(args).await?),
            ChannelRequest::List => Response::Channels(self.channels(false).await?),
            ChannelRequest::All => Response::Channels(self.channels(true).await?),
            ChannelRequest::Cancel(args) => Response::Cancelled(self.cancel(args).await?),
            ChannelRequest::Close(args) => Response::Closing(self.close(args).await?),
        })
    }
}

impl Request {
    /// Who may ask for this. Each request's file says it.
    #[must_use]
    pub fn access(&self) -> Access {
        match self {
            Self::Receive(args) => args.access(),
            Self::Send(args) => args.access(),
            Self::Channel(ChannelRequest::Queue(args)) => args.access(),
            Self::Channel(ChannelRequest::Open(args)) => args.access(),
            Self::Channel(ChannelRequest::List | ChannelRequest::All) => channels::LIST,
            Self::Channel(ChannelRequest::Cancel(args)) => args.access(),
            Self::Channel(ChannelRequest::Close(args)) => args.access(),
            Self::Wallet(WalletRequest::Address) => balance::ADDRESS,
            Self::Wallet(WalletRequest::Balance) => balance::BALANCE,
            Self::Wallet(WalletRequest::Coins) => coins::LIST,
            Self::Peer(PeerRequest::Connect(args)) => args.access(),
            Self::Peer(PeerRequest::List) => connect::LIST,
            Self::Invoice(args) => args.access(),
            Self::Pay(args) => args.access(),
            Self::Payment(PaymentRequest::List(args)) => args.access(),
            Self::Payment(PaymentRequest::Show(args)) => args.access(),
            Self::Events(args) => args.access(),
            Self::Wait(args) => args.access(),
            Self::Exchange(ExchangeRequest::List(args)) => args.access(),
            Self::Exchange(ExchangeRequest::Bump(args)) => args.access(),
            Self::Exchange(ExchangeRequest::Show(args)) => args.access(),
            Self::Session(SessionRequest::List) => sessions::LIST,
            Self::Session(SessionRequest::Show(args)) => args.access(),
            Self::Session(SessionRequest::Cancel(_)) => sessions::CANCEL,
            Self::Status => status::STATUS,
            Self::Token(TokenRequest::Add(args)) => args.access(),
            Self::Token(TokenRequest::List) => tokens::LIST,
            Self::Token(TokenRequest::Revoke(args)) => args.access(),
        }
    }
}

#[cfg(test)]
mod tests;
