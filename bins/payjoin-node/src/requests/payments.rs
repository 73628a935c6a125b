//! `payment list` and `payment show`: everything that moves money, in and out.

use bitcoin::amount::serde::as_sat;
use bitcoin::hex::DisplayHex as _;
use bitcoin::{Amount, Txid};
use payjoin_core::{
    ClosedChannel, Code, ExchangeId, ExchangeRecord, ExchangeState, FundedChannel, IntentId, InvoiceId,
    Label, LightningEnd, LightningRecord, Moved, Movement, MovementId, PaymentRecord, Settled, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, READ};

/// Most payments in one answer.
const PAGE: u32 = 500;

/// Which payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentsArgs {
    /// So many at most, and 500 in any case: for more, ask again with `before`.
    pub limit: u32,
    /// Only such as became known before this one: the last of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<MovementId>,
}

/// Which payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShowPaymentArgs {
    /// Its number, as `payment list` shows it.
    pub payment: MovementId,
}

/// The latest payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PaymentList {
    /// Newest first.
    pub payments: Vec<PaymentRow>,
}

/// A payment, or a channel that closed. What is not known of it, or does not apply, is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PaymentRow {
    /// Its number.
    pub id: MovementId,
    /// When it became known.
    pub created: Timestamp,
    /// Whose it is.
    pub direction: Direction,
    /// How it was made.
    pub way: Kind,
    /// Where it stands.
    pub outcome: Outcome,
    /// How much was paid, without fees.
    #[serde(rename = "amount_sat", with = "as_sat::opt")]
    #[schemars(with = "Option<u64>")]
    pub amount: Option<Amount>,
    /// What it cost beside that: of a payjoin to us what it pays the miners beyond the plain payment.
    #[serde(rename = "fee_sat", with = "as_sat::opt")]
    #[schemars(with = "Option<u64>")]
    pub fee: Option<Amount>,
    /// What the payjoin saved once it was mined: see [`Fees::saved`](payjoin_core::Fees::saved).
    #[serde(rename = "saved_sat", with = "as_sat::opt")]
    #[schemars(with = "Option<u64>")]
    pub saved: Option<Amount>,
    /// The transaction: in the chain, or else the one that is expected there.
    #[schemars(with = "Option<String>")]
    pub txid: Option<Txid>,
    /// Blocks that bury it, its own included.
    pub confirmations: Option<u32>,
    /// The channels that it opened, or is about to.
    pub channels: Vec<FundedChannel>,
    /// The operator's words for the code; of a BOLT 11 invoice what it is for.
    pub label: Option<String>,
    /// The operator's own name for the code.
    pub own_id: Option<Label>,
    /// The code.
    pub invoice: Option<InvoiceId>,
    /// Its exchange.
    pub exchange: Option<ExchangeId>,
    /// The channel that closed.
    pub intent: Option<IntentId>,
    /// Over Lightning.
    pub payment_hash: Option<String>,
    /// Why it is not what it could have been.
    pub reason: Option<String>,
}

/// Whose a payment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To us.
    In,
    /// Ours.
    Out,
    /// Ours both ways: a channel's money comes back.
    Own,
}

/// How a payment is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Through a payjoin, or offered one.
    Payjoin,
    /// By an ordinary transaction.
    Plain,
    /// Over Lightning.
    Lightning,
    /// No payment: a channel closed.
    ChannelClose,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is under way, and in no block.
    Pending,
    /// It is in a block.
    Confirmed,
    /// It is buried, or arrived over Lightning.
    Settled,
    /// It failed, or was taken back.
    Failed,
}

impl PaymentRow {
    fn new(movement: &Movement, direction: Direction, way: Kind, outcome: Outcome) -> Self {
        Self {
            id: movement.id,
            created: movement.created,
            direction,
            way,
            outcome,
            amount: None,
            fee: None,
            saved: None,
            txid: None,
            confirmations: None,
            channels: Vec::new(),
            label: None,
            own_id: None,
            invoice: None,
            exchange: None,
            intent: None,
            payment_hash: None,
            reason: None,
        }
    }
}

impl Guarded for PaymentsArgs {
    const ACCESS: Access = READ;
}

impl Guarded for ShowPaymentArgs {
    const ACCESS: Access = READ;
}

impl Daemon {
    pub(super) async fn payment_list(&self, args: PaymentsArgs) -> Result<PaymentList, RequestError> {
        let mut payments = Vec::new();
        for movement in self.store.movements(args.before, args.limit.min(PAGE)).await? {
            payments.push(self.row(movement).await?);
        }
        Ok(PaymentList { payments })
    }

    pub(super) async fn payment_row(&self, args: ShowPaymentArgs) -> Result<PaymentRow, RequestError> {
        let ShowPaymentArgs { payment } = args;
        match self.store.movement(payment).await? {
            Some(movement) => self.row(movement).await,
            None => Err(ErrorKind::Missing.error(format_args!("no payment {}", payment.0))),
        }
    }

    async fn row(&self, movement: Movement) -> Result<PaymentRow, RequestError> {
        let row = match &movement.what {
            Moved::Exchange(exchange) => of_exchange(&movement, exchange, self.chain.best_block().height),
            Moved::Send(payment) => self.of_send(&movement, payment).await?,
            Moved::Lightning(payment) => of_lightning(&movement, payment),
            Moved::Close(closed) => of_close(&movement, closed),
        };
        let code = match &row.invoice {
            Some(invoice) => self.store.invoice(invoice).await?,
            None => None,
        };
        let (label, own_id) = code.map(|code| (code.label, code.own_id)).unwrap_or_default();
        Ok(PaymentRow { label: label.map(Into::into).or(row.label), own_id, ..row })
    }

    async fn of_send(
        &self,
        movement: &Movement,
        payment: &PaymentRecord,
    ) -> Result<PaymentRow, RequestError> {
        let outcome = if payment.settled { Outcome::Settled } else { Outcome::Pending };
        let way = match &payment.paid {
            Some(paid) if paid.fallback.is_none() => Kind::Payjoin,
            _ => Kind::Plain,
        };
        let output = Code::read(&payment.uri, self.settings.network).and_then(|code| code.output());
        let amount = output.ok().map(|output| output.value);
        let cost = match &payment.paid {
            Some(paid) => self.cost(&payment.original, &paid.transaction).await?,
            None => None,
        };
        let reason = payment.paid.as_ref().and_then(|paid| paid.fallback.clone());
        let txid = payment.paid.as_ref().map(|paid| paid.transaction.compute_txid());
        let fee = cost.zip(amount).and_then(|(cost, amount)| cost.checked_sub(amount));
        Ok(PaymentRow {
            amount,
            fee,
            txid,
            reason,
            ..PaymentRow::new(movement, Direction::Out, way, outcome)
        })
    }
}

fn of_exchange(movement: &Movement, exchange: &ExchangeRecord, height: u32) -> PaymentRow {
    let outcome = match (exchange.state, exchange.settled) {
        (_, Some(Settled::Conflict | Settled::Gone)) => Outcome::Failed,
        (ExchangeState::Settled, _) => Outcome::Settled,
        _ if exchange.mined_txid.is_some() => Outcome::Confirmed,
        _ => Outcome::Pending,
    };
    let is_payjoin = match (exchange.mined_txid, exchange.settled) {
        (_, Some(settled)) => settled == Settled::Payjoin,
        (Some(mined), _) => exchange.payjoin_txid == Some(mined),
        _ => exchange.state == ExchangeState::Released,
    };
    let (way, channels) = match is_payjoin {
        true => (Kind::Payjoin, exchange.channels.clone()),
        false => (Kind::Plain, Vec::new()),
    };
    let expected = if is_payjoin { exchange.payjoin_txid } else { Some(exchange.original_txid) };
    PaymentRow {
        amount: exchange.amount,
        fee: exchange.fee.filter(|_| is_payjoin),
        saved: exchange.saved,
        txid: exchange.mined_txid.or(expected),
        confirmations: exchange.mined_height.map(|mined| (height + 1).saturating_sub(mined)),
        channels,
        invoice: Some(exchange.invoice.clone()),
        exchange: Some(exchange.id),
        reason: exchange.reason.clone(),
        ..PaymentRow::new(movement, Direction::In, way, outcome)
    }
}

fn of_lightning(movement: &Movement, record: &LightningRecord) -> PaymentRow {
    let LightningRecord { payment, invoice, end } = record;
    let direction = if payment.outgoing { Direction::Out } else { Direction::In };
    let (outcome, fee, reason) = match end {
        None => (Outcome::Pending, None, None),
        Some(LightningEnd::Received(_)) => (Outcome::Settled, None, None),
        Some(LightningEnd::Sent(msat)) => {
            (Outcome::Settled, Some(Amount::from_sat(msat.div_ceil(1_000))), None)
        }
        Some(LightningEnd::Failed(why)) => (Outcome::Failed, None, Some(why.clone())),
    };
    PaymentRow {
        amount: payment.amount,
        fee,
        invoice: invoice.clone(),
        payment_hash: Some(payment.hash.to_lower_hex_string()),
        label: payment.about.clone(),
        reason,
        ..PaymentRow::new(movement, direction, Kind::Lightning, outcome)
    }
}

fn of_close(movement: &Movement, closed: &ClosedChannel) -> PaymentRow {
    let outcome = if closed.closing.is_some() { Outcome::Settled } else { Outcome::Pending };
    PaymentRow {
        txid: closed.closing,
        intent: Some(closed.intent),
        reason: Some(closed.reason.clone()),
        ..PaymentRow::new(movement, Direction::Own, Kind::ChannelClose, outcome)
    }
}
