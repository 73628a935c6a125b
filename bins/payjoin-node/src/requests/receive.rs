//! `receive`: a code to pay.

mod forms;
mod terms;

use std::time::Duration;

use bitcoin::amount::serde::as_sat;
use bitcoin::hex::FromHex as _;
use bitcoin::secp256k1::rand::random;
use bitcoin::{Address, Amount, FeeRate, Weight};
use payjoin_core::{ChannelWish, Invoice, InvoiceId, Label, Openable, Reserve, Step, Timestamp, forewarning};
use payjoin_io::{PollError, Poller};
use payjoin_lightning::shortfall;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, RECEIVE, SPEND};
use crate::values::Lifetime;
use crate::ways::{Endpoint, Via, Way, Ways};

pub use self::forms::Alternative;
use self::forms::{code_of_ours, unified};
use self::terms::{Offer, observer};
pub use self::terms::{OfferedChannel, Terms};

/// Least payment that the network relays to our P2TR scripts.
const LEAST: Amount = Amount::from_sat(330);

/// What is to be paid to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiveArgs {
    /// How much. Default: the queued channels, the reserve the wallet lacks and our share of the fees.
    #[serde(default, with = "as_sat::opt")]
    #[schemars(with = "Option<u64>")]
    pub amount: Option<Amount>,
    /// How long the code can be paid by payjoin. Its address stays good.
    pub expires: Lifetime,
    /// How the payer reaches us. Default: the first way that is configured.
    pub via: Option<Via>,
    /// Payer and operator are the same person: this code opens channels even if the wallet has no coin of its own to
    /// add. Whoever else pays it could replace the payjoin by a transaction that pays the channel for nobody.
    #[serde(default)]
    pub payer_is_me: bool,
    /// The code can also be paid over Lightning: once, either way.
    #[serde(default)]
    pub lightning: bool,
    /// Coins of ours may make up for a payment smaller than the channels. Default: as `[policy] top_up` says.
    #[serde(default)]
    pub top_up: bool,
    /// Words of the operator's: shown wherever the code or its payments are, and to no payer.
    #[serde(default)]
    pub label: Option<Label>,
    /// The operator's own name for the code, shown as the label is.
    #[serde(default)]
    pub own_id: Option<Label>,
}

impl ReceiveArgs {
    /// Whatever the queued channels need, by the first way that is configured.
    #[must_use]
    pub fn new(expires: Lifetime) -> Self {
        Self {
            amount: None,
            expires,
            via: None,
            payer_is_me: false,
            lightning: false,
            top_up: false,
            label: None,
            own_id: None,
        }
    }
}

/// A code to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Code {
    /// The code, BIP 21.
    pub uri: String,
    /// The address in it.
    #[schemars(with = "String")]
    pub address: Address,
    /// What it is for us.
    pub invoice: InvoiceId,
    /// What it asks for.
    #[serde(rename = "amount_sat", with = "as_sat::opt")]
    #[schemars(with = "Option<u64>")]
    pub amount: Option<Amount>,
    /// How the payer reaches us.
    pub via: Via,
    /// Where.
    pub endpoint: String,
    /// Until when it can be paid by payjoin. A directory may keep a session for less time than was asked for.
    pub expires: Timestamp,
    /// Other codes for the same payment.
    pub alternatives: Vec<Alternative>,
    /// The BOLT 11 invoice in the code, if it can also be paid over Lightning.
    pub lightning: Option<String>,
    /// What its payment will do, as far as it is known now.
    pub terms: Terms,
    /// The operator's words for it.
    pub label: Option<Label>,
    /// The operator's own name for it.
    pub own_id: Option<Label>,
    /// What whoever watches the chain can tell of the payment by its amounts.
    pub observer: &'static str,
    /// Why the payment will open none of the queued channels, as far as it is known now.
    pub note: Option<String>,
}

impl Guarded for ReceiveArgs {
    const ACCESS: Access = RECEIVE;

    /// Whoever says that he is the payer lifts a money rule; whoever tops up spends coins of ours.
    fn access(&self) -> Access {
        if self.payer_is_me || self.top_up { SPEND } else { Self::ACCESS }
    }
}

impl Daemon {
    pub(super) async fn receive(&self, args: ReceiveArgs) -> Result<Code, RequestError> {
        if let Some(trouble) = self.trouble() {
            return Err(ErrorKind::State.error(format_args!("nothing is offered now: {trouble}")));
        }
        let ways = self.ways();
        let way = ways.choose(args.via).map_err(|missing| ErrorKind::Settings.error(missing))?;
        let (queue, amount) = self.asked_for(&args).await?;
        let (terms, note) = self.terms(&queue, amount, &args).await?;
        let invoice = self.new_invoice(amount, &args).await?;
        let address = Address::from_script(&invoice.script, self.settings.network);
        let address = address.map_err(|error| ErrorKind::Wallet.error(error))?;
        let (way, code, expires) = self.code(way, ways.instead(args.via), &address, &invoice).await?;
        // Only now: an invoice whose code nobody sees would stay for ever. A session alone expires.
        self.host.add_invoice(&invoice).await?;
        let lightning = match (args.lightning, amount) {
            (true, Some(amount)) => Some(self.over_lightning(&invoice, amount, expires).await?),
            _ => None,
        };
        let alternatives = ways.besides(way).map(|endpoint| code_of_ours(endpoint, &address, &invoice));
        let unified = |code: Alternative| unified(code, lightning.as_deref());
        let alternatives = alternatives.map(|code| code.map(unified)).collect::<Result<_, _>>()?;
        let (Alternative { via, uri, endpoint }, invoice) = (unified(code), invoice.id);
        self.events.tell(Step::Code { invoice: invoice.clone(), amount, uri: uri.clone() });
        Ok(Code {
            uri,
            address,
            invoice,
            amount,
            via,
            endpoint,
            expires,
            alternatives,
            lightning,
            terms,
            label: args.label,
            own_id: args.own_id,
            observer: observer(&queue.wishes),
            note,
        })
    }

    /// Which channels the payment may open, and how much it is to be.
    async fn asked_for(&self, args: &ReceiveArgs) -> Result<(Openable, Option<Amount>), RequestError> {
        let connected: Vec<_> = self.node.peers().await?.into_iter().map(|peer| peer.node_id).collect();
        self.host.look_for_room(&connected).await?;
        let queue = self.host.openable().await?;
        let amount = match args.amount {
            Some(amount) => Some(amount),
            None => self.needed(&queue.wishes)?,
        };
        payable(amount)?;
        if args.lightning {
            self.receivable(amount).await?;
        }
        Ok((queue, amount))
    }

    async fn new_invoice(&self, amount: Option<Amount>, args: &ReceiveArgs) -> Result<Invoice, RequestError> {
        let address = self.node.new_address().await.map_err(|error| ErrorKind::Wallet.error(error))?;
        let (id, script, created) = (InvoiceId::from_entropy(random()), address.script_pubkey(), now());
        let ReceiveArgs { payer_is_me, top_up, label, own_id, .. } = args.clone();
        let expires = created.plus(args.expires.seconds());
        Ok(Invoice { id, script, amount, created, expires, payer_is_me, top_up, label, own_id })
    }

    /// Refuses what our channels cannot receive, and what cannot be barred once the code is paid.
    async fn receivable(&self, amount: Option<Amount>) -> Result<(), RequestError> {
        self.node.can_refuse().map_err(|error| ErrorKind::Settings.error(error))?;
        let Some(amount) = amount else {
            return Err(ErrorKind::Request
                .error("a code to be paid over Lightning, too, names an amount: --amount SAT"));
        };
        let channels = self.node.channels().await?;
        let inbound: u64 = channels.iter().filter(|one| one.usable).map(|one| one.inbound_msat / 1_000).sum();
        match amount.to_sat() > inbound {
            true => Err(ErrorKind::State.error(format_args!(
                "our channels can receive {inbound} sat over Lightning: ask for less, or without --lightning"
            ))),
            false => Ok(()),
        }
    }

    /// A BOLT 11 invoice that bars the code once it is paid, and is barred by a payment to the code.
    async fn over_lightning(
        &self,
        invoice: &Invoice,
        amount: Amount,
        expires: Timestamp,
    ) -> Result<String, RequestError> {
        let expiry = Duration::from_secs(expires.0.saturating_sub(now().0));
        let bolt11 = self.node.invoice_once(amount, expiry).await?;
        let hash = <[u8; 32]>::from_hex(&bolt11.payment_hash);
        let hash = hash.map_err(|error| ErrorKind::Lightning.error(error))?;
        self.store.ask_over_lightning(&invoice.id, hash).await?;
        Ok(bolt11.bolt11)
    }

    /// What keeps us from offering anything new, and what to do.
    pub(crate) fn trouble(&self) -> Option<String> {
        let chain = self.chain.health().trouble();
        chain.or_else(|| self.node.older_copy().map(str::to_owned)).or_else(|| self.node.trouble())
    }

    /// The ways that payers can take to us.
    pub(crate) fn ways(&self) -> Ways {
        let own = self.tor.as_ref().map(|tor| tor.borrow().endpoint.clone());
        Ways::new(self.poller.is_some(), self.settings.http.public_endpoint.clone(), own)
    }

    /// The code by this way, or by the endpoint given `instead` when no directory answers, and until when it is good.
    async fn code<'a>(
        &self,
        way: Way<'a>,
        instead: Option<&'a Endpoint>,
        address: &Address,
        invoice: &Invoice,
    ) -> Result<(Way<'a>, Alternative, Timestamp), RequestError> {
        let ours = match way {
            Way::Ours(endpoint) => endpoint,
            Way::Directory => match (self.code_at_a_directory(self.poller()?, invoice).await, instead) {
                (Err(PollError::Directory(error)), Some(instead)) => {
                    tracing::warn!(%error, url = instead.url, "no directory answers: the code names our own server");
                    instead
                }
                (code, _) => {
                    let (code, expires) = code?;
                    return Ok((way, code, expires));
                }
            },
        };
        Ok((Way::Ours(ours), code_of_ours(ours, address, invoice)?, invoice.expires))
    }

    async fn code_at_a_directory(
        &self,
        poller: &Poller,
        invoice: &Invoice,
    ) -> Result<(Alternative, Timestamp), PollError> {
        let uri = poller.open(invoice, self.settings.network).await?;
        let session = poller.session(&invoice.id).await?;
        let (endpoint, expires) = session
            .map_or_else(|| (String::new(), invoice.expires), |session| (session.directory, session.expires));
        Ok((Alternative { via: Via::Directory, uri, endpoint }, expires))
    }

    /// What the channels need that this payment can open: their sum, the reserve the wallet lacks, our share of the fees.
    /// `None` when there is none: then any amount is welcome.
    fn needed(&self, wishes: &[ChannelWish]) -> Result<Option<Amount>, RequestError> {
        if wishes.is_empty() {
            return Ok(None);
        }
        let fees = self.fee_share(wishes.len())?;
        Ok(Some(shortfall(wishes, &self.reserve(), fees)))
    }

    /// What the payment will do, and what keeps it from opening channels.
    async fn terms(
        &self,
        queue: &Openable,
        amount: Option<Amount>,
        args: &ReceiveArgs,
    ) -> Result<(Terms, Option<String>), RequestError> {
        let mut wishes = Vec::new();
        for wish in &queue.wishes {
            if let Some(record) = self.store.intent(wish.id).await? {
                wishes.push((wish.clone(), record.spec.peer));
            }
        }
        let policy = self.host.policy();
        let fees = |count| self.fee_share(count).map_or(policy.max_fee, |fees| fees.min(policy.max_fee));
        let offer = Offer {
            payment: amount.unwrap_or_default(),
            wishes: &wishes,
            top_up: args.top_up || policy.top_up,
            reserve: self.reserve(),
            fees: &fees,
            obstacle: self.obstacle(queue).filter(|_| !args.payer_is_me),
        };
        let note = offer.obstacle.clone().or_else(|| self.limit(&queue.wishes, amount, args.top_up));
        Ok((offer.terms(), note))
    }

    /// Which limits of the operator's a payment of this amount would meet, at the fee rate of this moment.
    fn limit(&self, wishes: &[ChannelWish], amount: Option<Amount>, top_up: bool) -> Option<String> {
        let smallest = wishes.iter().map(ChannelWish::least).min()?;
        let lacking = amount.and_then(|amount| smallest.checked_sub(amount)).unwrap_or_default();
        let rate = self.chain.fee_rate();
        let mut policy = self.host.policy();
        policy.top_up |= top_up;
        forewarning(&policy, rate, rate.checked_mul_by_weight(added(1))?, lacking)
    }

    /// Why a payment now would open none of the queued channels, if that is sure.
    fn obstacle(&self, queue: &Openable) -> Option<String> {
        if let (true, Some((_, held))) = (queue.wishes.is_empty(), queue.held.first()) {
            return Some(format!("no queued channel can open now: {held}"));
        }
        if queue.wishes.is_empty() {
            return None;
        }
        let why = if self.reserve().balance == Amount::ZERO {
            "the wallet has no confirmed coin, and a channel needs one beside the payment"
        } else if self.has_no_coin_to_spare() {
            "each channel that is open keeps a coin of its own to be closed with, and the wallet has no other"
        } else {
            return None;
        };
        Some(format!("{why}: this payment arrives on chain, the next one opens channels"))
    }

    fn has_no_coin_to_spare(&self) -> bool {
        let (balance, enough) = (self.node.balance(), self.node.reserve_per_channel());
        let mut free = self.node.coins().into_iter().filter(|coin| !coin.locked);
        match balance.closable.checked_sub(balance.channels) {
            None => true,
            Some(0) => free.all(|coin| coin.amount >= enough),
            Some(_) => false,
        }
    }

    fn reserve(&self) -> Reserve {
        let balance = self.node.balance();
        Reserve {
            balance: balance.confirmed.checked_sub(balance.locked).unwrap_or_default(),
            existing: balance.reserve,
            per_channel: self.node.reserve_per_channel(),
            // What has to be split off comes out of the same sum.
            stock: None,
        }
    }

    /// Our inputs' and outputs' part of a payjoin with this many channels, a coin to close each split off, at twice the rate that confirms within six
    /// blocks: the payer chooses the rate, and what is too much comes back as change.
    fn fee_share(&self, channels: usize) -> Result<Amount, RequestError> {
        let rate = FeeRate::from_sat_per_kwu(self.chain.fee_rate().to_sat_per_kwu().saturating_mul(2));
        rate.checked_mul_by_weight(added(channels))
            .ok_or_else(|| ErrorKind::Chain.error("the fee rate cannot be right"))
    }
}

/// What a payjoin with this many channels adds to an Original: an input and change of ours, and a coin to close each that
/// is split off.
fn added(channels: usize) -> Weight {
    const INPUT: Weight = Weight::from_wu(272);
    const CHANGE: Weight = Weight::from_wu(31 * 4);
    const FUNDING: Weight = Weight::from_wu(43 * 4);
    INPUT + CHANGE + (FUNDING + CHANGE) * channels as u64
}

/// Refuses what the network would not relay.
fn payable(amount: Option<Amount>) -> Result<(), RequestError> {
    match amount {
        Some(amount) if !(LEAST..=Amount::MAX_MONEY).contains(&amount) => {
            let (sat, least, most) = (amount.to_sat(), LEAST.to_sat(), Amount::MAX_MONEY.to_sat());
            Err(ErrorKind::Request.error(format_args!(
                "nobody can pay {sat} sat: ask for at least {least} sat and at most {most} sat"
            )))
        }
        _ => Ok(()),
    }
}
