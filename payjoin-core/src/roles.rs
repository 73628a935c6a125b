//! Who answers the questions of an [`Exchange`](crate::Exchange). Each role may be far away: every method is async and
//! can fail. Runtime, sockets and files are the implementation's.

mod chain;
mod funder;
mod ledger;
mod paying;
mod terms;
mod wallet;

pub use chain::{Acceptance, Broadcast, Chain, ChainError, Inspection};
pub use funder::{Funder, FunderError, NoChannels};
pub use ledger::{
    AdmitOutcome, Begun, Call, Claim, Claims, ClosedChannel, Entry, EntryId, EntryKind, ExchangeRecord,
    ExchangeState, Exchanges, FORGOTTEN_AFTER, Fact, IntentRecord, Intents, Journal, Ledger, LedgerError,
    LightningEnd, LightningPayment, LightningRecord, Moved, Movement, MovementId, Movements, NodeState,
    PaymentRecord, Payments, PeerBook, PeerRecord, PlainPayment, SessionKey, SessionKind, Sessions,
    StateWrite, Token, Tokens, Trouble, Waiting, pause_after,
};
pub use paying::PayingWallet;
pub use terms::{ChannelFailure, ChannelTerms, Failure, FailureKind, Funded, Left};
pub use wallet::{Holder, Wallet, WalletError};
