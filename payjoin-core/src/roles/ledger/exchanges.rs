//! Invoices, and the exchanges that pay them.

use async_trait::async_trait;
use bitcoin::amount::serde::as_sat;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};

use super::{LedgerError, StateWrite};
use crate::{
    Admission, ExchangeId, Fees, FundedChannel, Holder, Invoice, InvoiceId, Obligation, OriginalId, Release,
    Settled, Timestamp,
};

/// Invoices, exchanges, seen inputs and coin locks. Look-ups take microseconds, however many there are.
#[async_trait]
pub trait Exchanges: Send + Sync {
    /// Keeps a new invoice.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when its id exists.
    async fn insert_invoice(&self, invoice: &Invoice) -> Result<(), LedgerError>;

    /// The invoice of this name.
    async fn invoice(&self, id: &InvoiceId) -> Result<Option<Invoice>, LedgerError>;

    /// The latest invoices, newest first.
    async fn invoices(&self, limit: u32) -> Result<Vec<Invoice>, LedgerError>;

    /// The proposal released for this Original, byte for byte (money rule 8).
    async fn recall(&self, original: &OriginalId) -> Result<Option<String>, LedgerError>;

    /// The number of the exchange that this Original had and that failed: to be taken over when it is sent again.
    async fn failed_exchange(&self, original: &OriginalId) -> Result<Option<ExchangeId>, LedgerError>;

    /// A number that no exchange has. Nothing is written: one that is never admitted may be given again after a restart.
    fn new_exchange(&self) -> ExchangeId;

    /// The first durable write of an exchange ("write 1" in ARCHITECTURE.md). The same Original sent again after its
    /// exchange failed takes over that exchange and its number.
    ///
    /// # Errors
    /// [`LedgerError::WrongState`] while the same Original has another number or is being served,
    /// [`LedgerError::CoinLocked`], [`LedgerError::NotQueued`], [`LedgerError::Conflict`] without the invoice.
    async fn admit(&self, exchange: ExchangeId, admission: &Admission) -> Result<AdmitOutcome, LedgerError>;

    /// The second durable write of an exchange ("write 2"): the Lightning node's state with the proposal. After it
    /// the proposal may leave (money rule 1).
    ///
    /// # Errors
    /// [`LedgerError::WrongState`] unless the exchange is admitted, [`LedgerError::CoinLocked`] for a coin it never
    /// locked, [`LedgerError::NotQueued`] for an intent it never took.
    async fn release(
        &self,
        exchange: ExchangeId,
        release: &Release,
        node: Vec<StateWrite>,
    ) -> Result<(), LedgerError>;

    /// [`Exchanges::admit`] and [`Exchanges::release`] in one, for a proposal without channels.
    ///
    /// # Errors
    /// As those two.
    async fn offer(
        &self,
        exchange: ExchangeId,
        admission: &Admission,
        release: &Release,
    ) -> Result<AdmitOutcome, LedgerError>;

    /// Ends an admitted exchange without a proposal: its coins are unlocked, its intents queued again with the reason.
    /// The Original stays an obligation.
    ///
    /// # Errors
    /// [`LedgerError::WrongState`] unless the exchange is admitted.
    async fn fail(&self, exchange: ExchangeId, reason: &str) -> Result<(), LedgerError>;

    /// Records a payment that came without payjoin as an exchange of its own: under this number, or under the one that it
    /// had when it was given up. `None` when it is on record: as what it is, or as an outcome of another exchange at this
    /// invoice, of which it spends an input.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] without the invoice.
    async fn record_plain(
        &self,
        exchange: ExchangeId,
        plain: &PlainPayment,
    ) -> Result<Option<ExchangeId>, LedgerError>;

    /// The scripts of the invoices that expire after this moment, or did.
    async fn codes(&self, since: Timestamp) -> Result<Vec<(ScriptBuf, InvoiceId)>, LedgerError>;

    /// Where an exchange stands once every write is done that was begun before, and which coins it holds; `None` when
    /// there is no such exchange.
    async fn standing(
        &self,
        exchange: ExchangeId,
    ) -> Result<Option<(ExchangeState, Vec<OutPoint>)>, LedgerError>;

    /// Ends an obligation and its locks. Intents whose payjoin lost are queued again.
    ///
    /// # Errors
    /// [`LedgerError::WrongState`] while the exchange runs or when it is settled.
    async fn settle(&self, exchange: ExchangeId, outcome: Settled, now: Timestamp)
    -> Result<(), LedgerError>;

    /// Records the transaction that spent the Original's inputs in a block, or that there is none any more.
    ///
    /// # Errors
    /// [`LedgerError::WrongState`] for an exchange that does not exist.
    async fn record_mined(
        &self,
        exchange: ExchangeId,
        mined: Option<(Transaction, u32)>,
    ) -> Result<(), LedgerError>;

    /// Records the payjoin with all signatures.
    ///
    /// # Errors
    /// [`LedgerError::WrongState`] for an exchange that does not exist.
    async fn record_signed(&self, exchange: ExchangeId, payjoin: &Transaction) -> Result<(), LedgerError>;

    /// At start: fails every exchange that was admitted but not released when the process died, and names them, so that
    /// the Lightning node can forget their channels.
    async fn recover(&self) -> Result<Vec<ExchangeId>, LedgerError>;

    /// Proposals with coins of ours that left for this invoice.
    async fn offers(&self, invoice: &InvoiceId) -> Result<u32, LedgerError>;

    /// Coins of the unsettled exchanges at this invoice: offer them first (money rule 8).
    async fn offered_coins(&self, invoice: &InvoiceId) -> Result<Vec<OutPoint>, LedgerError>;

    /// The coins of every unsettled exchange and payment that holds some.
    async fn holds(&self) -> Result<Vec<(Holder, Vec<OutPoint>)>, LedgerError>;

    /// What every unsettled exchange owes.
    async fn obligations(&self) -> Result<Vec<Obligation>, LedgerError>;

    /// What this exchange owes; `None` when it is settled.
    async fn obligation(&self, exchange: ExchangeId) -> Result<Option<Obligation>, LedgerError>;

    /// Those of these payjoins that can never be mined: another transaction was, at this height or below it.
    async fn lost(&self, payjoins: &[Txid], until: u32) -> Result<Vec<Txid>, LedgerError>;

    /// Drops the transactions of exchanges that settled before this moment, whose ids stay, and intents that were cancelled
    /// before it; at most so many of each, and as many as the answer says. Costs the same whatever else there is.
    async fn prune(&self, before: Timestamp, most: u32) -> Result<u32, LedgerError>;

    /// The latest exchanges, newest first; of those before this one, where it is given.
    async fn exchanges(
        &self,
        before: Option<ExchangeId>,
        limit: u32,
    ) -> Result<Vec<ExchangeRecord>, LedgerError>;

    /// All exchanges at this invoice, newest first.
    async fn exchanges_at(&self, invoice: &InvoiceId) -> Result<Vec<ExchangeRecord>, LedgerError>;

    /// One exchange.
    async fn exchange(&self, exchange: ExchangeId) -> Result<Option<ExchangeRecord>, LedgerError>;
}

/// A payment that an ordinary wallet made to the address of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainPayment {
    /// The invoice that is paid.
    pub invoice: InvoiceId,
    /// The transaction, as it was seen first.
    pub transaction: Transaction,
    /// When.
    pub now: Timestamp,
    /// When it is given up if it is nowhere then.
    pub gone_at: Timestamp,
}

/// What came of an [`Admission`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmitOutcome {
    /// The Original is kept and everything it needs is locked.
    Admitted,
    /// An input was offered before in another Original; nothing was written.
    Seen,
    /// The invoice was paid over Lightning ([`Claims`](crate::Claims)); nothing was written.
    Paid,
}

/// Where an exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ExchangeState {
    /// The Original is kept; the exchange runs.
    Admitted,
    /// It ended without a proposal. The Original is still owed its broadcast.
    Failed,
    /// A proposal left.
    Released,
    /// It came without payjoin, and is not buried.
    Plain,
    /// An outcome is buried.
    Settled,
}

/// An exchange, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExchangeRecord {
    /// Its number.
    pub id: ExchangeId,
    /// The invoice that is paid.
    pub invoice: InvoiceId,
    /// Where it stands.
    pub state: ExchangeState,
    /// The Original's transaction id; of a payment without payjoin, that by which it was seen first.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub original_txid: Txid,
    /// The payjoin's, once released. Where the payer's signatures change it: once it was seen.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub payjoin_txid: Option<Txid>,
    /// The transaction in the chain that spent the payer's inputs: one of the two, or another.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub mined_txid: Option<Txid>,
    /// Nobody paid: coins of ours alone open a channel. The Original is nothing then, and the payjoin what opens it.
    pub own: bool,
    /// Channels that the payjoin funds.
    pub channels: Vec<FundedChannel>,
    /// In how many ways the amounts of the payjoin can be split ([`partitions`](crate::partitions)): in one, an observer of the chain
    /// can tell payer and receiver apart. `None` without one, or when that was not counted.
    pub partitions: Option<u32>,
    /// Why it failed, or why channels that were wanted are not in it.
    pub reason: Option<String>,
    /// What a payment without payjoin pays the code; `None` for others.
    #[serde(rename = "plain_sat", with = "as_sat::opt")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"))]
    pub plain: Option<Amount>,
    /// What the payer pays the code; `None` where an earlier version did not keep it.
    #[serde(rename = "amount_sat", with = "as_sat::opt")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"))]
    pub amount: Option<Amount>,
    /// What the payjoin pays the miners beyond what the Original does: our part, and what the payer adds to it. `None`
    /// without a payjoin.
    #[serde(rename = "fee_sat", with = "as_sat::opt")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"))]
    pub fee: Option<Amount>,
    /// What the payjoin saved once it was mined: see [`Fees::saved`](crate::Fees::saved).
    #[serde(rename = "saved_sat", with = "as_sat::opt")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"))]
    pub saved: Option<Amount>,
    /// The height of the block that holds [`ExchangeRecord::mined_txid`].
    pub mined_height: Option<u32>,
    /// When the Original is to be broadcast if nothing was seen. A payment without payjoin is given up then.
    pub fallback_at: Timestamp,
    /// When it was admitted first.
    pub created: Timestamp,
    /// How it ended.
    pub settled: Option<Settled>,
}

impl ExchangeRecord {
    /// What [`ExchangeRecord::fee`] says of an exchange with these fees that `released` a payjoin and ended so.
    #[must_use]
    pub fn paid_to_miners(released: bool, fees: Fees, settled: Option<Settled>) -> Option<Amount> {
        (released && matches!(settled, None | Some(Settled::Payjoin))).then(|| fees.added())
    }

    /// What [`ExchangeRecord::reason`] says of a payment without payjoin that pays less than was asked for.
    #[must_use]
    pub fn underpaid(plain: Option<Amount>, asked: Option<Amount>) -> Option<String> {
        let lacks = plain.zip(asked).filter(|(paid, asked)| paid < asked);
        lacks.map(|(_, asked)| format!("the code asks for {} sat", asked.to_sat()))
    }

    /// What [`ExchangeRecord::payjoin_txid`] may say of a payjoin that was released with the id `released`, of which
    /// `known` was seen with all signatures: nobody reads an id that the payer's signatures may still change.
    #[must_use]
    pub fn settled_txid(
        released: Txid,
        original: &Transaction,
        known: [&Option<Transaction>; 2],
    ) -> Option<Txid> {
        if original.input.iter().all(|input| input.script_sig.is_empty()) {
            return Some(released);
        }
        let known = known.into_iter().flatten().find(|known| Txid::from(known.compute_ntxid()) == released);
        known.map(Transaction::compute_txid)
    }
}
