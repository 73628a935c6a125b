//! Payjoin receiver machines without I/O: no runtime, no socket, no file, no clock.
//!
//! The caller owns the loop. It gives a machine an input together with the time, and drains its outputs until
//! there is nothing left to do but wait:
//!
//! ```text
//! loop {
//!     match exchange.poll_output() {
//!         Output::Ask(question) => exchange.handle_input(now, answer(question))?,
//!         Output::Done(reply) => break reply,
//!     }
//! }
//! ```
//!
//! [`Exchange`] takes one Original PSBT to one reply and decides on the way whether the payment opens Lightning
//! channels. [`Session`] brings it Originals from a BIP 77 mailbox. [`Settlement`] decides what happens to a released
//! proposal until it is buried. [`Outgoing`] is the other side: a payment of ours. [`Conservation`] is the check that stands before every signature.

mod causes;
mod code;
mod coin;
mod conservation;
mod event;
mod exchange;
mod fees;
mod intent;
mod invoice;
mod label;
mod limits;
mod opening;
mod outgoing;
mod partitions;
mod peer;
mod plan;
mod policy;
mod question;
mod queue;
mod refusals;
mod reply;
mod roles;
mod session;
mod settlement;
mod spec;

mod time;
mod uri;

pub use causes::{causes, with_causes};
pub use code::{Code, CodeError};
pub use coin::{Coin, Reserve, Stock};
pub use conservation::{CheckedProposal, Conservation, ConservationError, StableProposal};
pub use event::{Event, Step};
pub use exchange::{Delivery, Exchange, ExchangeError, Output, Request};
pub use fees::{FeeTerms, MinFeeRate};
pub use intent::{ChannelAmount, ChannelEnd, ChannelWish, Closure, IntentId, IntentState, PlannedChannel};
pub use invoice::{Invoice, InvoiceId, PaymentOutput, paid_to};
pub use label::{Label, tame};
pub use limits::forewarning;
pub use opening::{OwnFunding, OwnFundingError, OwnFundingRequest};
pub use outgoing::{Outgoing, OutgoingError, OutgoingInput, OutgoingOutput, Paid};
pub use partitions::partitions;
pub use peer::{PeerAddress, PeerAddressError};
pub use plan::{InputTypes, Plan, PlanRequest, Resources, plan};
pub use policy::{MOST_CHANNELS, Policy, Unjudged};
pub use question::{
    Admission, Answer, ExchangeId, FundedChannel, OriginalId, PaymentId, Question, Release, ResourceRequest,
};
pub use queue::{Held, Openable, openable, without_busy};
pub use refusals::{REFUSALS, Refusal};
pub use reply::{ErrorCode, Reply};
pub use roles::{
    Acceptance, AdmitOutcome, Begun, Broadcast, Call, Chain, ChainError, ChannelFailure, ChannelTerms, Claim,
    Claims, ClosedChannel, Entry, EntryId, EntryKind, ExchangeRecord, ExchangeState, Exchanges,
    FORGOTTEN_AFTER, Fact, Failure, FailureKind, Funded, Funder, FunderError, Holder, Inspection,
    IntentRecord, Intents, Journal, Ledger, LedgerError, Left, LightningEnd, LightningPayment,
    LightningRecord, Moved, Movement, MovementId, Movements, NoChannels, NodeState, PayingWallet,
    PaymentRecord, Payments, PeerBook, PeerRecord, PlainPayment, SessionKey, SessionKind, Sessions,
    StateWrite, Token, Tokens, Trouble, Waiting, Wallet, WalletError, pause_after,
};
pub use session::{
    AnswerKey, Session, SessionEnd, SessionError, SessionEvent, SessionInput, SessionOutput, SessionTerms,
};
pub use settlement::{
    Fees, Kin, Obligation, Prices, Rival, Settled, Settlement, SettlementInput, SettlementOutput, Undefended,
};
pub use spec::{ChannelLimits, ChannelSpec, SpecError};
pub use time::Timestamp;
pub use uri::{UriError, bip21_v1, is_onion};
