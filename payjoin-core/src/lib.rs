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
//! proposal until it is buried. [`Conservation`] is the check that stands before every signature.

mod conservation;
mod exchange;
mod intent;
mod invoice;
mod plan;
mod policy;
mod question;
mod reply;
mod session;
mod settlement;
mod time;
mod uri;

pub use conservation::{CheckedProposal, Conservation, ConservationError, StableProposal};
pub use exchange::{Delivery, Exchange, ExchangeError, Output, Request};
pub use intent::{ChannelAmount, ChannelWish, IntentId, IntentState};
pub use invoice::{Invoice, InvoiceId};
pub use plan::{Coin, Plan, PlanRequest, PlannedChannel, Reserve, plan};
pub use policy::{MOST_CHANNELS, Policy};
pub use question::{
    Admission, Answer, ExchangeId, FundedChannel, Inspection, OriginalId, Question, Release, ResourceRequest,
    Resources,
};
pub use reply::{ErrorCode, Reply};
pub use session::{
    Session, SessionEnd, SessionError, SessionEvent, SessionInput, SessionOutput, SessionTerms,
};
pub use settlement::{Obligation, Settled, Settlement, SettlementInput, SettlementOutput};
pub use time::Timestamp;
pub use uri::{UriError, bip21_v1, requested_output};
